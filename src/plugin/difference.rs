//! What a reload changed, as lines for the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Catalog;
use crate::script::Script;

/// The most names that a line shows after one verb.
const SHOWN: usize = 20;

/// One line for each file whose tasks or consumers differ: `tasks/math.rhai: added math.sub, changed math.add`.
///
/// They have changed when their file has, or one that it imports.
pub(super) fn difference(before: &Catalog, after: &Catalog) -> Vec<String> {
    let (old, new) = (items(before), items(after));
    let mut files: BTreeMap<&str, [Vec<&str>; 3]> = BTreeMap::new();
    let [added, changed, removed] = [0, 1, 2];
    for (item, script) in &new {
        match old.get(item) {
            Some(old) if Arc::ptr_eq(old, script) => {}
            Some(_) => files.entry(item.0).or_default()[changed].push(item.1),
            None => files.entry(item.0).or_default()[added].push(item.1),
        }
    }
    for item in old.keys().filter(|item| !new.contains_key(*item)) {
        files.entry(item.0).or_default()[removed].push(item.1);
    }
    files.into_iter().map(line).collect()
}

/// Everything that can be run, by the file it is in and its name.
fn items(catalog: &Catalog) -> BTreeMap<(&str, &str), &Arc<Script>> {
    let tasks = catalog.tasks.values().map(|task| (task.name.as_str(), &task.script));
    let consumers = catalog.consumers.iter().map(|consumer| (consumer.path.as_str(), &consumer.script));
    tasks.chain(consumers).map(|(name, script)| ((script.file.as_str(), name), script)).collect()
}

fn line((file, names): (&str, [Vec<&str>; 3])) -> String {
    let verbs = ["added", "changed", "removed"].into_iter().zip(names);
    let parts: Vec<String> = verbs.filter(|(_, names)| !names.is_empty()).map(part).collect();
    format!("{file}: {}", parts.join(", "))
}

fn part((verb, names): (&str, Vec<&str>)) -> String {
    let shown = names[..names.len().min(SHOWN)].join(" ");
    match names.len().saturating_sub(SHOWN) {
        0 => format!("{verb} {shown}"),
        more => format!("{verb} {shown} and {more} more"),
    }
}
