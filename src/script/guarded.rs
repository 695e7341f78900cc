//! Native functions of rhai that ask before they take much, in place of its own.
//!
//! The memory of a script is looked at between its operations, so one call of a native function may overshoot. The
//! rule: what makes at most a few times as much of what is held already (`+`, `append`, `to_upper`, `mixin`) stays
//! rhai's. Replaced is what makes any amount of little (`pad`, `blob`, `replace`, `split`, showing a text that is
//! in a list a thousand times), and what could work for seconds in one call or for each level of nesting needs much
//! of the stack (comparing, showing). Their loops [`step`] as the script's own do.

mod blobs;
mod equality;
mod lists;
mod parts;
mod showing;
mod texts;

use rhai::{Dynamic, Engine, FuncRegistration, Module, RhaiNativeFunc, Variant};

pub use equality::same;
pub use showing::{brief, literal};

use super::limit::step;
use super::{Native, from_json, to_json};

/// The deepest nesting that is shown and compared: each level of it takes several KiB of stack.
const LEVELS: usize = super::value::MAX_DEPTH;

/// Puts them before those of rhai.
pub(super) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    texts::functions(&mut module);
    parts::functions(&mut module);
    lists::functions(&mut module);
    blobs::functions(&mut module);
    equality::functions(&mut module);
    showing::functions(&mut module);
    put(&mut module, "to_json", "Writes a map as JSON, as `json::stringify` does: `m.to_json()`.", {
        |map: &mut rhai::Map| -> Native<String> { Ok(to_json(&Dynamic::from(map.clone()))?.get().to_owned()) }
    });
    put(&mut module, "parse_json", "Reads JSON, as `json::parse` does: `parse_json(\"[1]\")`.", parse_json);
    engine.register_global_module(module.into());
}

fn parse_json(text: &str) -> Native<Dynamic> {
    Ok(from_json(text)?)
}

fn put<A: 'static, const N: usize, const X: bool, R, const F: bool, FUNC>(
    module: &mut Module,
    name: &str,
    doc: &str,
    function: FUNC,
) where
    R: Variant + Clone,
    FUNC: RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
{
    FuncRegistration::new(name)
        .with_comments([format!("/// {doc}")])
        // The optimizer must never ask them: it has nobody to stop, and no bound on what it makes.
        .with_volatility(true)
        // They change nothing but what is theirs, so a constant may be their `this`; whether it is, rhai looks at.
        .with_purity(!CHANGES.contains(&name))
        .set_into_module(module, function);
}

/// What changes its first argument, which no constant may be.
const CHANGES: [&str; 4] = ["crop", "dedup", "pad", "replace"];

/// A list of what `items` yields, made step by step.
fn collect<T: Into<Dynamic>>(items: impl Iterator<Item = T>) -> Native<rhai::Array> {
    let mut list = rhai::Array::new();
    for item in items {
        step()?;
        list.push(item.into());
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
