//! Which files of a folder hold tasks, and what the names of these tasks begin with.

use std::path::{Component, Path};

use crate::script::Broken;
use crate::watch::Snapshot;

/// A script in a folder of tasks.
pub(super) struct Found {
    /// Its path from the project's folder, with `/`.
    pub file: String,
    /// What it holds, or why it cannot hold tasks.
    pub kind: Result<Kind, Broken>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tasks, or tests, whose names begin with this: `chartjs.tasks`.
    Tasks(String),
    /// Something to import: the file or a folder above it begins with `_`.
    Library,
}

/// The scripts of `files` in `folder`, sorted, without tests; `shown` is the folder's path from the project's folder.
pub(super) fn scripts(files: &Snapshot, folder: &Path, shown: &str) -> Vec<Found> {
    all(files, folder, shown).filter(|found| !is_test(&found.file)).collect()
}

/// The same for the tests alone.
pub(super) fn tests(files: &Snapshot, folder: &Path, shown: &str) -> Vec<Found> {
    all(files, folder, shown).filter(|found| is_test(&found.file)).collect()
}

/// Whether `file` holds tests, which no task runs.
pub fn is_test(file: &str) -> bool {
    file.ends_with("_test.rhai")
}

fn all(files: &Snapshot, folder: &Path, shown: &str) -> impl Iterator<Item = Found> {
    files.under(folder).filter_map(move |path| found(path.strip_prefix(folder).ok()?, shown))
}

fn found(inside: &Path, shown: &str) -> Option<Found> {
    let parts: Vec<_> = inside.components().map(Component::as_os_str).map(|part| part.to_string_lossy()).collect();
    let file = format!("{shown}/{}", parts.join("/"));
    let (last, folders) = parts.split_last()?;
    // Without the ending it is a folder behind a link that is not followed, which is to be told.
    let last = match last.strip_suffix(".rhai") {
        None if last.ends_with(".toml") => return None,
        Some(name) => name,
        None => last,
    };
    let mut names = folders.iter().map(AsRef::as_ref).chain([last]);
    let kind = if names.clone().any(|name| name.starts_with('_')) && !is_test(&file) {
        Ok(Kind::Library)
    } else if let Some(name) = names.clone().find(|name| !is_part(name)) {
        let why = "which task names cannot have: use letters, digits, `_` and `-`";
        Err(Broken::whole(&file, format!("`{name}` has a character {why}")))
    } else {
        let first = names.next().unwrap_or_default().to_owned();
        Ok(Kind::Tasks(names.fold(first, |name, part| name + "." + part)))
    };
    Some(Found { file, kind })
}

/// Whether `part` may stand between the dots of a task's name.
pub(super) fn is_part(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(path: &str) -> Option<Result<Kind, String>> {
        let found = found(Path::new(path), "tasks")?;
        assert_eq!(found.file, format!("tasks/{path}"));
        Some(found.kind.map_err(|broken| broken.to_string()))
    }

    #[test]
    fn names_follow_folders() {
        let tasks = |name: &str| Some(Ok(Kind::Tasks(name.to_owned())));
        assert_eq!(kind("math.rhai"), tasks("math"));
        assert_eq!(kind("chartjs/tasks.rhai"), tasks("chartjs.tasks"));
        assert_eq!(kind("a-b/c_1/메일.rhai"), tasks("a-b.c_1.메일"));
    }

    #[test]
    fn libraries_hold_no_tasks_and_their_tests_have_names() {
        assert_eq!(kind("_lib/prices.rhai"), Some(Ok(Kind::Library)));
        assert_eq!(kind("_prices.rhai"), Some(Ok(Kind::Library)));
        assert_eq!(kind("a/_b/c d.rhai"), Some(Ok(Kind::Library)));
        assert_eq!(kind("_lib/prices_test.rhai"), Some(Ok(Kind::Tasks("_lib.prices_test".to_owned()))));
        assert_eq!(kind("settings.toml"), None);
        assert_eq!(kind("link"), Some(Ok(Kind::Tasks("link".to_owned()))));
    }

    #[test]
    fn a_name_that_a_task_cannot_have_is_refused() {
        for (path, name) in [("a.b.rhai", "a.b"), ("my tasks/x.rhai", "my tasks"), ("v1.2/x.rhai", "v1.2")] {
            let why = kind(path).unwrap().unwrap_err();
            assert!(why.starts_with(&format!("tasks/{path}: `{name}` has a character which")), "{why}");
        }
    }
}
