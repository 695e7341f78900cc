//! Whether git is writing files just now: a `git checkout` of many files is one change.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A lock older than this is taken for one that was left behind, or for a commit whose message is being written.
const BELIEVED: Duration = Duration::from_secs(10);

/// The lock that git holds while it brings the files of a repository to another version.
#[derive(Debug, Clone)]
pub(super) struct GitLock(Option<PathBuf>);

impl GitLock {
    /// That of the repository which `folder` is in. Outside of one it is never held.
    pub fn of(folder: &Path) -> Self {
        Self(folder.ancestors().find_map(|folder| repository(&folder.join(".git"))).map(|it| it.join("index.lock")))
    }

    pub fn is_held(&self) -> bool {
        let metadata = self.0.as_ref().and_then(|lock| std::fs::metadata(lock).ok());
        // From the future, by a clock that is wrong, is recent too.
        metadata.is_some_and(|it| it.modified().is_ok_and(|at| at.elapsed().unwrap_or_default() < BELIEVED))
    }
}

/// Where the repository keeps its own files; in a worktree or a submodule `.git` is a file that says so.
fn repository(git: &Path) -> Option<PathBuf> {
    if git.is_dir() {
        return Some(git.to_owned());
    }
    let text = std::fs::read_to_string(git).ok()?;
    Some(git.parent()?.join(text.strip_prefix("gitdir:")?.trim()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_lock_is_believed_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("a/b");
        fs::create_dir_all(&project).unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        let (lock, path) = (GitLock::of(&project), folder.path().join(".git/index.lock"));
        assert!(!lock.is_held());

        let file = fs::File::create(&path).unwrap();
        assert!(lock.is_held());
        file.set_modified(SystemTime::now() - 2 * BELIEVED).unwrap();

        assert!(!lock.is_held());
        assert!(!GitLock::of(Path::new("/")).is_held());
    }

    #[test]
    fn the_lock_of_a_worktree_lies_where_its_file_says() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("main/worktrees/here")).unwrap();
        fs::create_dir(folder.path().join("here")).unwrap();
        fs::write(folder.path().join("here/.git"), "gitdir: ../main/worktrees/here\n").unwrap();
        fs::write(folder.path().join("main/worktrees/here/index.lock"), "").unwrap();

        assert!(GitLock::of(&folder.path().join("here")).is_held());
    }
}
