//! What a reload changed, as lines for the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Catalog, Task};
use crate::script::Script;
use crate::task::Options;

/// The most names that a line shows after one verb.
const NAMES_SHOWN: usize = 20;

/// The most files that are told one by one.
const FILES_SHOWN: usize = 50;

/// One line for each file whose tasks or consumers differ: `tasks/math.rhai: added math.sub, changed math.add`.
///
/// A task has changed when its own lines or its options have. Where only something else has that its file is made of,
/// the line says what: `tasks/math.rhai: changed through tasks/_lib/numbers.rhai`.
pub(super) fn difference(before: &Catalog, after: &Catalog) -> Vec<String> {
    let (old, new) = (items(before), items(after));
    let mut files: BTreeMap<&str, Changes> = BTreeMap::new();
    for ((file, name), item) in &new {
        match old.get(&(*file, *name)) {
            Some(old) if Arc::ptr_eq(old.script, item.script) && item.options() == old.options() => {}
            Some(old) => {
                let changes = files.entry(file).or_default();
                changes.scripts = Some((old.script, item.script));
                if !item.is_like(old) {
                    changes.changed.push(name);
                }
            }
            None => files.entry(file).or_default().added.push(name),
        }
    }
    for (file, name) in old.keys().filter(|item| !new.contains_key(*item)) {
        files.entry(file).or_default().removed.push(name);
    }
    let more = files.len().saturating_sub(FILES_SHOWN);
    let shown = files.iter().take(FILES_SHOWN).map(|(file, changes)| changes.line(file));
    shown.chain((more > 0).then(|| format!("and {more} files more have changed"))).collect()
}

/// Something that can be run.
struct Item<'a> {
    script: &'a Arc<Script>,
    /// `None` for a consumer, which is its whole script.
    task: Option<&'a Task>,
}

/// Everything that can be run, by the file it is in and its name.
fn items(catalog: &Catalog) -> BTreeMap<(&str, &str), Item<'_>> {
    let tasks =
        catalog.tasks.values().map(|task| (task.name.as_str(), Item { script: &task.script, task: Some(task) }));
    let consumers = &catalog.consumers;
    let consumers = consumers.iter().map(|it| (it.path.as_str(), Item { script: &it.script, task: None }));
    tasks.chain(consumers).map(|(name, item)| ((item.script.file.as_str(), name), item)).collect()
}

impl Item<'_> {
    // Also what a manifest says, which no script knows of.
    fn options(&self) -> Option<&Options> {
        self.task.map(|task| &task.options)
    }

    fn is_like(&self, other: &Self) -> bool {
        let (Some(task), Some(other)) = (self.task, other.task) else { return false };
        task.options == other.options && task.doc == other.doc && lines(task) == lines(other)
    }
}

/// The lines that the functions of a task are on.
fn lines(task: &Task) -> Vec<&str> {
    let source = task.script.sources().find(|(file, _)| *file == task.script.file).map_or("", |(_, source)| source);
    let all: Vec<&str> = source.lines().collect();
    let functions = task.script.functions.iter().filter(|function| function.name == task.function);
    let lines = functions.map(|function| function.line.saturating_sub(1) as usize..function.last_line as usize);
    lines.filter_map(|lines| all.get(lines)).flatten().copied().collect()
}

/// What is different in one file.
#[derive(Default)]
struct Changes<'a> {
    added: Vec<&'a str>,
    changed: Vec<&'a str>,
    removed: Vec<&'a str>,
    /// The old and the new one, when there are both.
    scripts: Option<(&'a Script, &'a Script)>,
}

impl Changes<'_> {
    fn line(&self, file: &str) -> String {
        let named = [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        let named = named.into_iter().filter(|(_, names)| !names.is_empty());
        let mut parts: Vec<String> = named.map(|(verb, names)| part(verb, names)).collect();
        let through = self.through();
        if !through.is_empty() {
            parts.push(part("changed through", &through));
        }
        if parts.is_empty() {
            parts.push("changed outside of its tasks".to_owned());
        }
        format!("{file}: {}", parts.join(", "))
    }

    /// The imports that are others, or have another text.
    fn through(&self) -> Vec<&str> {
        let Some((old, new)) = self.scripts else { return Vec::new() };
        let (old, new) = (imports(old), imports(new));
        let differs = |file: &&str| old.get(file) != new.get(file);
        let mut through: Vec<&str> = old.keys().chain(new.keys()).copied().filter(differs).collect();
        through.sort_unstable();
        through.dedup();
        through
    }
}

fn imports(script: &Script) -> BTreeMap<&str, &str> {
    script.sources().filter(|(file, _)| *file != script.file).collect()
}

fn part(verb: &str, names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMES_SHOWN)].join(" ");
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => format!("{verb} {shown}"),
        more => format!("{verb} {shown} and {more} more"),
    }
}

/// The files that were broken and are whole again. One that is not there any more does not work.
pub(super) fn mended<'a>(
    before: &'a Catalog,
    after: &Catalog,
    is_there: impl Fn(&str) -> bool,
) -> impl Iterator<Item = &'a str> {
    let is_wrong = |file: &str| after.broken.iter().any(|broken| broken.file == file);
    let files: BTreeSet<&str> = before.broken.iter().map(|broken| broken.file.as_str()).collect();
    files.into_iter().filter(move |file| !is_wrong(file) && is_there(file))
}
