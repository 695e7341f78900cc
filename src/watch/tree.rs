//! What is in a tree of files, and how each file was when we last looked.

use std::collections::HashSet;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use tracing::warn;

/// A file that changed this recently may change again without its times telling (FAT counts in steps of 2 s).
const SUSPICIOUS: Duration = Duration::from_secs(3);

/// The most files and folders under one root; what is beyond is not seen.
const MAX_ENTRIES: usize = 100_000;

/// Larger files are compared by their times alone.
const MAX_READ: u64 = 16 << 20;

/// Which folder or file it is, whatever its name.
pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The `*.rhai` and `*.toml` files under `root`, sorted by folder; `root` itself when it is a file; nothing when it
/// does not exist.
///
/// Names that begin with a dot are left out (editors keep their swap files there), links are followed and each
/// folder is entered once, so that a loop of links ends. `enter` is called with each folder before it is read.
pub fn walk(root: &Path, enter: &mut dyn FnMut(&Path)) -> Vec<PathBuf> {
    // A tree is walked every few seconds.
    static SAID: Once = Once::new();
    let mut files = Vec::new();
    let mut entered = HashSet::new();
    let mut folders = vec![root.to_owned()];
    let mut entries = 0;
    while let Some(folder) = folders.pop() {
        let Ok(metadata) = std::fs::metadata(&folder) else { continue };
        if metadata.is_file() {
            files.push(folder);
            continue;
        }
        if !metadata.is_dir() || !entered.insert(identity(&metadata)) {
            continue;
        }
        enter(&folder);
        let Ok(listing) = std::fs::read_dir(&folder) else { continue };
        let mut inner = Vec::new();
        for entry in listing.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            entries += 1;
            if entries > MAX_ENTRIES {
                SAID.call_once(|| {
                    warn!("`{}` has more than {MAX_ENTRIES} files; the others are not seen", root.display());
                });
                files.sort();
                return files;
            }
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if metadata.is_dir() => inner.push(path),
                Some("rhai" | "toml") if metadata.is_file() => files.push(path),
                _ => {}
            }
        }
        // The same order each time, so that of two links to one folder the same one is entered.
        inner.sort_by(|a, b| b.cmp(a));
        folders.extend(inner);
    }
    files.sort();
    files
}

/// How a file was when we last looked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    stamp: Stamp,
    /// Of its content.
    pub(super) digest: u64,
    /// Its times are old enough to be believed.
    settled: bool,
}

/// Changes with the file, as far as its times are fine enough to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    /// `None` when the file is gone.
    pub(super) fn of(path: &Path, before: Option<&Self>) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let stamp = Stamp {
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        if let Some(before) = before
            && before.settled
            && before.stamp == stamp
        {
            return Some(*before);
        }
        let mut hasher = DefaultHasher::new();
        match (stamp.len <= MAX_READ).then(|| std::fs::read(path)) {
            Some(Ok(content)) => content.hash(&mut hasher),
            _ => stamp.hash(&mut hasher),
        }
        // A time in the future never settles: then the content decides each time.
        let settled = [stamp.modified.0, stamp.changed.0].into_iter().all(is_old);
        Some(Self { stamp, digest: hasher.finish(), settled })
    }
}

fn is_old(seconds: i64) -> bool {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    seconds < (since_epoch.saturating_sub(SUSPICIOUS)).as_secs() as i64
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_that_the_times_do_not_show_is_found_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rhai");
        fs::write(&path, "one").unwrap();
        let before = Seen::of(&path, None).unwrap();
        fs::write(&path, "two").unwrap();
        let same_times = Seen { stamp: Seen::of(&path, None).unwrap().stamp, ..before };

        let after = Seen::of(&path, Some(&same_times)).unwrap();

        assert!(!before.settled);
        assert_ne!(after.digest, before.digest);
    }

    #[test]
    fn a_walk_finds_scripts_and_settings_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/.hidden")).unwrap();
        for name in ["z.rhai", "b/a.toml", "b/.hidden/x.rhai", ".x.rhai", "b/x.rhai~", "메일.rhai", "x.txt"] {
            fs::write(root.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("b/loop")).unwrap();

        let found = walk(root, &mut |_| {});

        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["b/a.toml", "z.rhai", "메일.rhai"]);
        assert_eq!(walk(&root.join("x.txt"), &mut |_| {}), [root.join("x.txt")]);
        assert_eq!(walk(&root.join("nothing"), &mut |_| {}), Vec::<PathBuf>::new());
    }
}
