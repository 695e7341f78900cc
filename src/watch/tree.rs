//! What is in a tree of files, and how each file was when we last looked.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use tracing::warn;

/// A file that changed this recently may change again without its times telling (FAT counts in steps of 2 s).
const SUSPICIOUS: Duration = Duration::from_secs(3);

/// The most files and folders under one root; what is beyond is not seen.
const MAX_ENTRIES: usize = 100_000;

/// Which folder or file it is, whatever its name.
pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Something in a tree whose name ends in `.rhai` or `.toml`, whatever it is, or a link that is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub path: PathBuf,
    /// It, or a folder above it, is a link.
    pub is_linked: bool,
    /// A link that leads out of the project. What it leads to is nothing of ours: it is not looked at.
    pub leads_out: bool,
}

/// What is to be looked at under `root`, sorted; `root` itself when it is no folder; nothing when it does not exist.
///
/// Names that begin with a dot are left out (editors keep their swap files there). Links are followed as long as they
/// stay in the folder that `root` is in, or in the one that `root` leads to; each folder is entered once, by its own
/// name rather than by a link to it, so that a loop of links ends. `enter` is called with each folder before it is
/// read.
pub(super) fn walk(root: &Path, enter: &mut dyn FnMut(&Path)) -> Vec<Found> {
    // A tree is walked every few seconds.
    static SAID: Once = Once::new();
    let mut walk = Walk::of(root);
    while let Some((folder, is_linked)) = walk.folders.pop().or_else(|| walk.linked.pop()) {
        let Ok(metadata) = std::fs::metadata(&folder) else { continue };
        if !metadata.is_dir() {
            walk.found.push(Found { path: folder, is_linked, leads_out: false });
        } else if walk.entered.insert(identity(&metadata)) {
            enter(&folder);
            if walk.read(&folder, is_linked).is_none() {
                SAID.call_once(|| {
                    warn!("`{}` has more than {MAX_ENTRIES} files; the others are not seen", root.display());
                });
                break;
            }
        }
    }
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    walk.found
}

struct Walk {
    /// Where links may lead.
    inside: Vec<PathBuf>,
    folders: Vec<(PathBuf, bool)>,
    /// Folders that links lead to; they are entered last.
    linked: Vec<(PathBuf, bool)>,
    entered: HashSet<(u64, u64)>,
    entries: usize,
    found: Vec<Found>,
}

impl Walk {
    fn of(root: &Path) -> Self {
        let inside = [Some(root), root.parent()].into_iter().flatten();
        Self {
            inside: inside.filter_map(|folder| folder.canonicalize().ok()).collect(),
            folders: vec![(root.to_owned(), false)],
            linked: Vec::new(),
            entered: HashSet::new(),
            entries: 0,
            found: Vec::new(),
        }
    }

    /// `None` when there is too much.
    fn read(&mut self, folder: &Path, is_linked: bool) -> Option<()> {
        let Ok(listing) = std::fs::read_dir(folder) else { return Some(()) };
        let mut inner = Vec::new();
        for entry in listing.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return None;
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            let is_of_interest = path.extension().is_some_and(|ending| ending == "rhai" || ending == "toml");
            if kind.is_symlink() {
                let leads_out =
                    path.canonicalize().is_ok_and(|real| !self.inside.iter().any(|it| real.starts_with(it)));
                let is_folder = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir());
                match (is_folder, leads_out) {
                    (true, false) => self.linked.push((path, true)),
                    _ if is_folder || is_of_interest => {
                        self.found.push(Found { path, is_linked: true, leads_out });
                    }
                    _ => {}
                }
            } else if kind.is_dir() {
                inner.push((path, is_linked));
            } else if is_of_interest {
                self.found.push(Found { path, is_linked, leads_out: false });
            }
        }
        // The same order each time, so that of two links to one folder the same one is entered.
        inner.sort_by(|a, b| b.cmp(a));
        self.linked.sort_by(|a, b| b.cmp(a));
        self.folders.extend(inner);
        Some(())
    }
}

/// Up to `most` bytes of the file at `path`, and the stamp of that very file: a moment before and after, another one
/// may be at `path`, and its times would be believed of this content.
pub(super) fn read_whole(path: &Path, most: u64) -> std::io::Result<(Stamp, Vec<u8>)> {
    let file = File::open(path)?;
    let stamp = Stamp::new(&file.metadata()?);
    let mut content = Vec::new();
    (&file).take(most).read_to_end(&mut content)?;
    let is_same = Stamp::new(&file.metadata()?).is_like(&stamp);
    Ok((if is_same { stamp } else { stamp.unsettled() }, content))
}

/// Changes with the file, as far as its times are fine enough to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Its times were old enough to be believed when we looked.
    is_settled: bool,
}

impl Stamp {
    /// `None` when there is nothing. A link that leads nowhere, or where we do not look, stands for itself.
    pub(super) fn of(found: &Found) -> Option<Self> {
        let itself = || std::fs::symlink_metadata(&found.path).ok();
        let target = if found.leads_out { None } else { std::fs::metadata(&found.path).ok() };
        target.or_else(itself).map(|metadata| Self::new(&metadata))
    }

    fn new(metadata: &Metadata) -> Self {
        let (modified, changed) =
            ((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()));
        Self {
            inode: metadata.ino(),
            len: metadata.len(),
            modified,
            changed,
            // A time in the future never settles: then the content decides each time.
            is_settled: is_old(modified.0) && is_old(changed.0),
        }
    }

    /// The same, not to be believed at the next look.
    pub(super) fn unsettled(self) -> Self {
        Self { is_settled: false, ..self }
    }

    /// The file is certainly as it was at `before`.
    pub(super) fn is_surely(&self, before: &Self) -> bool {
        before.is_settled && self == before
    }

    /// The file was not written between the two, as far as its times tell.
    pub(super) fn is_like(&self, before: &Self) -> bool {
        Self { is_settled: true, ..*self } == Self { is_settled: true, ..*before }
    }
}

fn is_old(seconds: i64) -> bool {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    seconds < (since_epoch.saturating_sub(SUSPICIOUS)).as_secs() as i64
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn of(path: &Path) -> Found {
        Found { path: path.to_owned(), is_linked: false, leads_out: false }
    }

    fn names(root: &Path) -> Vec<String> {
        let found = walk(root, &mut |_| {});
        found.iter().map(|found| found.path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_walk_finds_scripts_and_settings_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/.hidden")).unwrap();
        for name in ["z.rhai", "b/a.toml", "b/.hidden/x.rhai", ".x.rhai", "b/x.rhai~", "메일.rhai", "x.txt"] {
            fs::write(root.join(name), "").unwrap();
        }
        symlink(root, root.join("b/loop")).unwrap();

        assert_eq!(names(root), ["b/a.toml", "z.rhai", "메일.rhai"]);
        assert_eq!(walk(&root.join("x.txt"), &mut |_| {}), [of(&root.join("x.txt"))]);
        assert_eq!(walk(&root.join("nothing"), &mut |_| {}), []);
    }

    #[test]
    fn a_folder_is_entered_by_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/x.rhai"), "").unwrap();
        symlink("real", root.join("alias")).unwrap();

        assert_eq!(names(root), ["real/x.rhai"]);
    }

    #[test]
    fn a_link_that_leads_out_is_found_and_not_followed() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = folder.path().join("tasks");
        fs::create_dir(&root).unwrap();
        fs::create_dir(folder.path().join("shared")).unwrap();
        for place in [outside.path(), &folder.path().join("shared")] {
            fs::write(place.join("x.rhai"), "").unwrap();
        }
        symlink(outside.path(), root.join("out")).unwrap();
        symlink(outside.path().join("x.rhai"), root.join("out.rhai")).unwrap();
        symlink("../shared", root.join("near")).unwrap();
        symlink("nowhere", root.join("dangling.rhai")).unwrap();

        let found = walk(&root, &mut |_| {});

        let shown: Vec<_> =
            found.iter().map(|it| (it.path.strip_prefix(&root).unwrap().to_str().unwrap(), it.leads_out)).collect();
        assert_eq!(shown, [("dangling.rhai", false), ("near/x.rhai", false), ("out", true), ("out.rhai", true)]);
    }
}
