//! What stays of a module level when it was evaluated: its constants, and what it exports.
//!
//! They live as long as the script, and whoever drops it last stands on a small stack. They are the same for every
//! run, none of which may change them. So they are plain values: not nested too deeply, and nothing that a function
//! has captured, which the runs would share.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use rhai::{AST, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, Module, Position, Stmt};

use super::HostError;
use super::import::Load;
use super::value::MAX_DEPTH;

/// The constants that all functions of a file see, as rhai shares them.
pub(super) type Constants = Arc<RwLock<BTreeMap<ImmutableString, Dynamic>>>;

/// Notes the constants of a file while its module level is evaluated: rhai gives them to its functions, and to nobody
/// else.
pub(super) fn register(engine: &mut Engine) {
    #[expect(deprecated, reason = "rhai calls so what a later version may change; ours is pinned")]
    engine.on_def_var(|running, defined, mut context| {
        if running
            && defined.is_const()
            // A function of an import would name those of the import.
            && defined.nesting_level() == 0
            && let Some(load) = context.tag().read_lock::<Load>().map(|load| load.clone())
        {
            load.note(context.global_runtime_state_mut().constants.get_or_insert_default().clone());
        }
        Ok(true)
    });
}

/// Looks at what stays of `ast`: what its `module` exports, and its `constants`.
///
/// # Errors
/// Names the first that is no plain value, and why.
pub(super) fn check(ast: &AST, module: &Module, constants: Option<Constants>) -> Result<(), Box<EvalAltResult>> {
    let constants = constants.unwrap_or_default();
    let Ok(constants) = constants.read() else { return Ok(()) };
    let constants = constants.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in module.iter_var().chain(constants) {
        if let Err(why) = plain(value, MAX_DEPTH) {
            let mut error: Box<EvalAltResult> = HostError::new("TypeError", format!("`{name}` {why}")).into();
            error.set_position(place(ast, name));
            return Err(error);
        }
    }
    Ok(())
}

fn plain(value: &Dynamic, levels: usize) -> Result<(), String> {
    if value.is_shared() {
        return Err("holds a variable that a function has captured: what stays when the file is loaded must be the \
                    same for every run; use a copy of it in the function"
            .to_owned());
    }
    let inner = || levels.checked_sub(1).ok_or_else(|| format!("is nested more than {MAX_DEPTH} levels deep"));
    if let Ok(array) = value.as_array_ref() {
        let levels = inner()?;
        return array.iter().try_for_each(|item| plain(item, levels));
    }
    if let Ok(map) = value.as_map_ref() {
        let levels = inner()?;
        return map.values().try_for_each(|item| plain(item, levels));
    }
    match value.read_lock::<FnPtr>() {
        Some(function) if !function.curry().is_empty() => {
            Err("holds a function that has captured a variable: what stays when the file is loaded must be the same \
                 for every run; give the function what it needs as an argument"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// The line that declares or exports `name`.
fn place(ast: &AST, name: &str) -> Position {
    let places = ast.statements().iter().rev().filter_map(|line| match line {
        Stmt::Var(declared, _, at) if declared.0.as_str() == name => Some(*at),
        Stmt::Export(exported, at) if [exported.0.as_str(), exported.1.as_str()].contains(&name) => Some(*at),
        _ => None,
    });
    places.into_iter().next().unwrap_or(Position::NONE)
}

#[cfg(test)]
mod tests {
    use crate::script::{Broken, Roots, Script, engine};

    fn load(source: &str) -> Result<Script, Broken> {
        Script::load(&engine(), &Roots::default(), "tasks/a.rhai", source)
    }

    // More levels take more of the stack than whoever drops a script may have.
    const NESTED: &str = "let v = 1; for _i in 0..1000 { v = Fn(\"f\").curry(take(v)); }\n";
    const MAPS: &str = "let v = 1; for _i in 0..200 { v = #{ v: take(v) }; }\n";

    #[test]
    fn what_is_no_plain_value_is_not_kept() {
        let captured = "holds a function that has captured a variable";
        for (source, message) in [
            (format!("{NESTED}const X = v;\nfn f() {{ 1 }}"), captured),
            (format!("{NESTED}export v as X;"), captured),
            (
                format!("{NESTED}const X = v; f(); return; \nfn f() {{ const Y = 1; if Y > 0 {{ const Z = Y; }} }}"),
                captured,
            ),
            (format!("{MAPS}const X = v;\nfn f() {{ 1 }}"), "is nested more than 127 levels deep"),
            (format!("{MAPS}export v as X;\nfn f() {{ 1 }}"), "is nested more than 127 levels deep"),
            ("let l = []; let f = |x| l.push(x);\nconst X = f;\nfn f() { global::X.call(1) }".to_owned(), captured),
            ("let l = []; let f = |x| l.push(x);\nconst X = [#{ f: f }];\nfn f() { 1 }".to_owned(), captured),
            (
                "let l = []; let f = |x| l.push(x);\nexport l as X;".to_owned(),
                "holds a variable that a function has captured",
            ),
        ] {
            let broken = load(&source).unwrap_err();
            assert!(broken.message.starts_with(&format!("`X` {message}")), "{source}: {broken}");
            assert_eq!(broken.line, Some(2), "{source}");
        }
    }

    #[test]
    fn plain_values_and_functions_of_the_file_are_kept() {
        for source in [
            "const X = [1, #{ a: \"b\" }, 2.5]; fn f() { global::X }",
            "const X = |a| a + 1; const Y = Fn(\"f\"); fn f() { global::X.call(1) }",
            "let n = 0; [1].for_each(|x| n += x); const X = n; export const Y = [n]; fn f() { global::X }",
        ] {
            assert!(load(source).is_ok(), "{source}: {:?}", load(source));
        }
    }

    #[test]
    fn options_are_read_and_dropped_where_they_are_made() {
        for value in [NESTED, MAPS] {
            let script = load(&format!("{value}task(\"f\", #{{ queue: v }}); fn f() {{ 1 }}")).unwrap();

            let broken = script.options(&script.declarations[0]).unwrap_err();

            assert!(broken.message.starts_with("options of `f`: `queue` must be a string, not `"), "{broken}");
        }
    }
}
