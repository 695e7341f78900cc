//! The one engine: what the language allows, and what bounds it.

use rhai::Engine;

use super::import::Importer;
use super::{Level, limit, outside};

/// The deepest that functions may call each other. rhai's default differs between debug and release builds.
///
/// A script meets this long before its thread's stack ends, which would end the process.
pub(super) const CALL_LEVELS: usize = 127;

/// The deepest that an expression may be nested at module level, and in a function. rhai's default differs too.
const EXPRESSION_DEPTH: (usize, usize) = (64, 32);

/// An engine with the limits that every script has, without native modules of ours.
///
/// Sizes of values are not limited by rhai, which would measure an array anew at each `push`, but by `memory`.
pub fn engine() -> Engine {
    let mut engine = Engine::new();
    engine
        // rhai counts the call from outside too.
        .set_max_call_levels(CALL_LEVELS + 1)
        .set_max_expr_depths(EXPRESSION_DEPTH.0, EXPRESSION_DEPTH.1)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .set_module_resolver(Importer)
        .disable_symbol("eval")
        .on_progress(limit::progress)
        .on_print(say)
        .on_debug(|text, _file, position| match position.line() {
            Some(line) => say(&format!("line {line}: {text}")),
            None => say(text),
        });
    super::parse::bound(&mut engine);
    super::guarded::register(&mut engine);
    super::import::register_task(&mut engine);
    super::kept::register(&mut engine);
    engine
}

fn say(text: &str) {
    match limit::current_host() {
        Some(host) => {
            // What the host keeps of it is not the script's to pay.
            let _ = outside(|| {
                host.log(Level::Info, text);
                Ok(())
            });
        }
        None => tracing::info!("a script says while it is loaded: {text}"),
    }
}
