//! The tasks of a script: its public functions under their names, with the options declared for them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Task;
use super::scripts::Scripts;
use super::tree::{Found, Kind, is_part};
use crate::script::{Broken, Declaration, Function, Script};
use crate::task::{Caps, Options, nearest};

/// The plugin that a task belongs to.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub name: &'a str,
    pub caps: Caps,
}

/// Loads the script that was `found`, and gives its tasks; its imports start from `folder`.
pub(super) fn load(
    scripts: &mut Scripts,
    found: Found,
    folder: &Path,
    plugin: Option<Owner<'_>>,
) -> Result<Vec<Arc<Task>>, Vec<Broken>> {
    let kind = found.kind.map_err(|why| vec![why])?;
    let script = scripts.load(&found.file, folder).map_err(|why| vec![why])?;
    match (kind, plugin) {
        (Kind::Library, _) => Ok(Vec::new()),
        (Kind::Tasks(module), None) => tasks(&script, &module, None),
        (Kind::Tasks(module), Some(plugin)) => tasks(&script, &format!("{}.{module}", plugin.name), Some(plugin)),
    }
}

/// The tasks that `script` holds; `module` is what their names begin with, such as `math`.
///
/// # Errors
/// Each declaration that cannot be meant so.
fn tasks(script: &Arc<Script>, module: &str, plugin: Option<Owner<'_>>) -> Result<Vec<Arc<Task>>, Vec<Broken>> {
    let functions = public_functions(script);
    let mut tasks = BTreeMap::new();
    let mut broken = Vec::new();
    for declaration in &script.declarations {
        match declared(script, declaration, &functions, module, plugin.map(|plugin| plugin.name)) {
            Ok((name, ..)) if tasks.contains_key(&name) => {
                broken.push(wrong(script, declaration, format!("task `{name}` is declared twice")));
            }
            Ok((name, function, options)) => {
                tasks.insert(name, (function, options));
            }
            Err(why) => broken.push(why),
        }
    }
    let has_a_name = |function: &str| tasks.values().any(|(named, _)| *named == function);
    let plain: Vec<&str> = functions.keys().copied().filter(|function| !has_a_name(function)).collect();
    for function in plain {
        tasks.insert(format!("{module}.{function}"), (function, Options::default()));
    }
    if !broken.is_empty() {
        return Err(broken);
    }
    let task = |(name, (function, options)): (String, (&str, Options))| {
        let overloads = &functions[function];
        Arc::new(Task {
            name,
            function: function.to_owned(),
            overloads: overloads.iter().map(|overload| overload.params.clone()).collect(),
            doc: overloads
                .iter()
                .map(|overload| overload.doc.as_str())
                .find(|doc| !doc.is_empty())
                .unwrap_or_default()
                .to_owned(),
            line: overloads.iter().map(|overload| overload.line).min().unwrap_or_default(),
            options: Options { caps: plugin.map(|plugin| plugin.caps).unwrap_or_default(), ..options },
            script: script.clone(),
            plugin: plugin.map(|plugin| plugin.name.to_owned()),
        })
    };
    Ok(tasks.into_iter().map(task).collect())
}

/// By name, the overloads of each with the fewest parameters first.
fn public_functions(script: &Script) -> BTreeMap<&str, Vec<&Function>> {
    let mut functions: BTreeMap<&str, Vec<&Function>> = BTreeMap::new();
    for function in script.functions.iter().filter(|function| !function.private) {
        functions.entry(&function.name).or_default().push(function);
    }
    for overloads in functions.values_mut() {
        overloads.sort_by_key(|overload| overload.params.len());
    }
    functions
}

/// The task's name, its function and its options.
fn declared<'a>(
    script: &Script,
    declaration: &Declaration,
    functions: &BTreeMap<&'a str, Vec<&Function>>,
    module: &str,
    plugin: Option<&str>,
) -> Result<(String, &'a str, Options), Broken> {
    let (options, run) = script.options(declaration)?;
    let name = match run {
        None => format!("{module}.{}", declaration.name),
        Some(_) => {
            check_name(&declaration.name, plugin).map_err(|why| wrong(script, declaration, why))?;
            declaration.name.clone()
        }
    };
    let function = run.as_ref().unwrap_or(&declaration.name).as_str();
    if let Some((function, _)) = functions.get_key_value(function) {
        return Ok((name, function, options));
    }
    let why = match nearest(function, functions.keys().copied()) {
        Some(near) => format!("this file has no public function `{function}`; did you mean `{near}`?"),
        None => format!("this file has no public function `{function}`"),
    };
    Err(wrong(script, declaration, why))
}

fn wrong(script: &Script, declaration: &Declaration, message: String) -> Broken {
    script.broken(declaration.line, Some(declaration.column), message)
}

// A name becomes part of paths and patterns: `/api/tasks/{name}`, `[routes]`.
fn check_name(name: &str, plugin: Option<&str>) -> Result<(), String> {
    if !name.split('.').all(is_part) {
        return Err(format!("`{name}` is no name of a task; use letters, digits, `_` and `-`, parted by dots"));
    }
    match plugin {
        Some(plugin) if name.split('.').next() != Some(plugin) || !name.contains('.') => {
            Err(format!("the tasks of plugin `{plugin}` begin with `{plugin}.`, and `{name}` does not"))
        }
        _ => Ok(()),
    }
}
