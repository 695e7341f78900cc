//! Whether a folder is a project at all: who begins in the wrong one sees nothing run, and no reason.

use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use crate::config::FILE;
use crate::watch::Watch;
use tokio_util::sync::CancellationToken;

/// What is said of a folder without scripts, with the one below it that may have been meant; `None` where there are
/// some.
pub(super) fn emptiness(folder: &Path) -> Option<String> {
    let has_scripts = |folder: &Path| folder.join("tasks").is_dir() || folder.join("plugins").is_dir();
    if has_scripts(folder) {
        return None;
    }
    let mut below: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
    below.sort();
    let hint = match below.iter().find(|below| has_scripts(below)) {
        Some(meant) => format!("did you mean `--dir {}`?", meant.strip_prefix("./").unwrap_or(meant).display()),
        None => "`umbel new FOLDER` makes a folder that has them, and `--dir FOLDER` names one".to_owned(),
    };
    Some(format!("there is no folder `tasks/` in `{}`, so that nothing can run; {hint}", folder.display()))
}

/// Says each time that the settings file of `folder` changed: they are read once. Ends never.
pub(super) async fn tell_of_changes(folder: &Path) -> std::convert::Infallible {
    let (path, stop) = (folder.join(FILE), CancellationToken::new());
    let (_watch, mut changes) = Watch::start(folder.to_owned(), vec![path], Arc::default(), stop).await;
    while changes.changed().await.is_ok() {
        warn!("{FILE} changed; it counts after a restart");
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_scripts_names_the_one_that_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let empty = emptiness(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("mine/tasks")).unwrap();

        let meant = emptiness(folder.path()).unwrap();

        assert!(empty.contains("no folder `tasks/`") && empty.contains("umbel new"), "{empty}");
        assert!(meant.ends_with(&format!("did you mean `--dir {}`?", folder.path().join("mine").display())), "{meant}");
        assert_eq!(emptiness(&folder.path().join("mine")), None);
    }
}
