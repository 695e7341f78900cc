//! The files under some folders, as they stood together at one moment.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use icu_normalizer::ComposingNormalizerBorrowed;

use super::git::GitLock;
use super::tree::{Found, Stamp, read_whole, walk};

/// The largest file that is read, in bytes. Of a larger one it is only said that it is.
const MAX_FILE: u64 = 1 << 20;

/// The most files; what sorts behind them is left out.
const MAX_FILES: usize = 10_000;

/// The most that all texts may take together, in bytes. A file that is beyond has no text, and says so.
const MAX_TOTAL: usize = 256 << 20;

/// Files that go on changing for this long are taken as they are found.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same while git says that it is not done.
const PATIENCE_WITH_GIT: Duration = Duration::from_secs(10);

/// Between two looks at files that are changing.
const BREATH: Duration = Duration::from_millis(5);

/// The texts of files, or for each why it has none, as the rest of a sentence that names the file.
///
/// Paths are those by which the files were found: links are not resolved. Names that only differ in how their letters
/// are composed (`é` is one character or two) are the same name.
#[derive(Debug, Default)]
pub struct Snapshot {
    files: BTreeMap<PathBuf, Held>,
    left_out: Option<String>,
}

#[derive(Debug, Clone)]
struct Held {
    stamp: Stamp,
    text: Result<Arc<str>, String>,
    /// Where links lead; `None` when its path has none.
    real: Option<PathBuf>,
}

impl Snapshot {
    /// Reads the `*.rhai` and `*.toml` files under `roots`, folders of `project`; what surely has not changed since
    /// `before` is taken from there. Blocks.
    ///
    /// It looks until two looks in a row have found the same and git is not at work between them: then all files did
    /// stand so together. When they go on changing it takes them as they are after two seconds, and while git works
    /// after ten.
    pub fn take(project: &Path, roots: &[PathBuf], before: &Self) -> Self {
        Self::take_entering(project, roots, before, &mut |_| {})
    }

    /// The same, and calls `enter` with each folder before it is read.
    pub(super) fn take_entering(
        project: &Path,
        roots: &[PathBuf],
        before: &Self,
        enter: &mut dyn FnMut(&Path),
    ) -> Self {
        let mut last = Self::look(roots, before, enter);
        // They stood so together then, or were taken as they were: nothing is to be found by another look.
        if last.is_like(before) {
            return last;
        }
        let (began, git) = (Instant::now(), GitLock::of(project));
        loop {
            let is_locked = git.is_held();
            let next = Self::look(roots, &last, enter);
            let patience = if is_locked { PATIENCE_WITH_GIT } else { PATIENCE };
            if (!is_locked && next.is_like(&last)) || began.elapsed() >= patience {
                return next;
            }
            last = next;
            std::thread::sleep(BREATH);
        }
    }

    fn look(roots: &[PathBuf], before: &Self, enter: &mut dyn FnMut(&Path)) -> Self {
        let mut new = Self::default();
        let mut total = 0;
        let found: Vec<Found> = roots.iter().flat_map(|root| walk(root, enter)).collect();
        for found in found.iter().take(MAX_FILES) {
            let name = composed(&found.path);
            // Two files whose names are composed differently are two.
            let name = if new.files.contains_key(name.as_ref()) { found.path.clone() } else { name.into_owned() };
            let Some(held) = Held::of(found, before.files.get(&name), MAX_TOTAL - total) else { continue };
            total += held.text.as_ref().map_or(0, |text| text.len());
            new.files.insert(name, held);
        }
        new.left_out = found.get(MAX_FILES).map(|first| {
            format!("there are more than {MAX_FILES} files; `{}` and what follows is left out", first.path.display())
        });
        new
    }

    /// Nothing was written between the two.
    fn is_like(&self, other: &Self) -> bool {
        self.compare(other, Held::is_like)
    }

    /// The two hold the same texts by the same names.
    pub fn holds_the_same(&self, other: &Self) -> bool {
        self.left_out == other.left_out && self.compare(other, Held::is_same)
    }

    fn compare(&self, other: &Self, are_alike: impl Fn(&Held, &Held) -> bool) -> bool {
        let mut pairs = self.files.iter().zip(&other.files);
        self.files.len() == other.files.len() && pairs.all(|(a, b)| a.0 == b.0 && are_alike(a.1, b.1))
    }

    /// The text of the file at `path`; `None` when there was no such file.
    pub fn text(&self, path: &Path) -> Option<&Result<Arc<str>, String>> {
        Some(&self.held(path)?.text)
    }

    /// Which file that is: the same for a link to it.
    pub fn real(&self, path: &Path) -> PathBuf {
        match self.held(path) {
            Some(Held { real: Some(real), .. }) => real.clone(),
            _ => composed(path).into_owned(),
        }
    }

    fn held(&self, path: &Path) -> Option<&Held> {
        self.files.get(path).or_else(|| self.files.get(composed(path).as_ref()))
    }

    /// The files under `folder`, sorted, those without a text too.
    pub fn under(&self, folder: &Path) -> impl Iterator<Item = &Path> {
        let folder = composed(folder).into_owned();
        let rest = self.files.range(folder.clone()..).map(|(path, _)| path.as_path());
        rest.take_while(move |path| path.starts_with(&folder))
    }

    /// Says what was left out because there was too much; `None` when nothing was.
    pub fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }
}

impl Held {
    /// `None` when the file is gone. There is `room` for so many bytes of text.
    fn of(found: &Found, before: Option<&Self>, room: usize) -> Option<Self> {
        let stamp = Stamp::of(found)?;
        let real = if found.is_linked { found.path.canonicalize().ok() } else { None };
        if let Some(before) = before.filter(|before| stamp.is_surely(&before.stamp) && before.fits(room)) {
            return Some(Self { real, ..before.clone() });
        }
        let (stamp, text) = if found.leads_out {
            (stamp, Err("leads out of the project: a link may lead to a place inside of it".to_owned()))
        } else {
            match read(&found.path) {
                Ok((stamp, content)) => (stamp, text(&content)),
                Err(why) => (stamp.unsettled(), Err(why)),
            }
        };
        let mut held = Self { stamp, text, real };
        if !held.fits(room) {
            held.text = Err(format!("is not read: all files together are larger than {} MiB", MAX_TOTAL >> 20));
        }
        // One text, not two, for as long as it stays the same.
        if let Some(before) = before.filter(|before| before.text == held.text) {
            held.text = before.text.clone();
        }
        Some(held)
    }

    fn fits(&self, room: usize) -> bool {
        self.text.as_ref().map_or(0, |text| text.len()) <= room
    }

    // The stamp too: it may have changed and changed back.
    fn is_like(&self, other: &Self) -> bool {
        self.stamp.is_like(&other.stamp) && self.is_same(other)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.text == other.text && self.real == other.real
    }
}

/// The content of a file, one byte more than it may have where it has more, or why there is none.
fn read(path: &Path) -> Result<(Stamp, Vec<u8>), String> {
    let cannot = |error: std::io::Error| match std::fs::read_link(path) {
        Ok(target) => format!("is a link to `{}`, which cannot be read: {error}", target.display()),
        Err(_) => format!("cannot be read: {error}"),
    };
    // A pipe would never be read to its end, nor opened.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a file".to_owned());
    }
    read_whole(path, MAX_FILE + 1).map_err(cannot)
}

/// The text of a file without the mark that some editors begin it with, or why it has none.
fn text(content: &[u8]) -> Result<Arc<str>, String> {
    if content.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {} MiB", MAX_FILE >> 20));
    }
    let text = str::from_utf8(content).map_err(|_| "is not UTF-8 text".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).into())
}

/// macOS takes the letters of file names apart; nobody types them so.
fn composed(path: &Path) -> Cow<'_, Path> {
    match path.to_str() {
        Some(text) if !text.is_ascii() => match ComposingNormalizerBorrowed::new_nfc().normalize(text) {
            Cow::Borrowed(_) => path.into(),
            Cow::Owned(text) => PathBuf::from(text).into(),
        },
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join("tasks").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn take(folder: &TempDir, before: &Snapshot) -> Snapshot {
        Snapshot::take(folder.path(), &[folder.path().join("tasks")], before)
    }

    fn text(folder: &TempDir, snapshot: &Snapshot, name: &str) -> Result<String, String> {
        let text = snapshot.text(&folder.path().join("tasks").join(name)).expect("it is there").clone();
        text.map(|text| text.to_string())
    }

    #[test]
    fn texts_are_held_and_what_is_no_text_says_why() {
        let large = vec![b' '; MAX_FILE as usize + 1];
        let folder = folder(&[
            ("a.rhai", b"\xef\xbb\xbffn f() {}\r\n"),
            ("bytes.rhai", b"\xff"),
            ("large.rhai", &large),
            ("folder.rhai/x.rhai", b""),
        ]);
        let tasks = folder.path().join("tasks");
        assert!(Command::new("mkfifo").arg(tasks.join("pipe.rhai")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(tasks.join("socket.rhai")).unwrap();
        symlink("nowhere", tasks.join("dangling.rhai")).unwrap();
        symlink("circle.rhai", tasks.join("circle.rhai")).unwrap();
        symlink("/dev/zero", tasks.join("zero.rhai")).unwrap();
        symlink("a.rhai", tasks.join("link.rhai")).unwrap();

        let snapshot = take(&folder, &Snapshot::default());

        let text = |name: &str| text(&folder, &snapshot, name);
        assert_eq!(text("a.rhai").unwrap(), "fn f() {}\r\n");
        assert_eq!(text("link.rhai").unwrap(), "fn f() {}\r\n");
        assert_eq!(snapshot.real(&tasks.join("link.rhai")), tasks.canonicalize().unwrap().join("a.rhai"));
        for (name, why) in [
            ("bytes.rhai", "is not UTF-8 text"),
            ("large.rhai", "is larger than 1 MiB"),
            ("pipe.rhai", "is not a file"),
            ("socket.rhai", "is not a file"),
            ("dangling.rhai", "is a link to `nowhere`, which cannot be read: "),
            ("circle.rhai", "is a link to `circle.rhai`, which cannot be read: "),
            ("zero.rhai", "leads out of the project"),
        ] {
            assert!(text(name).unwrap_err().starts_with(why), "{name}: {:?}", text(name));
        }
        assert!(snapshot.text(&tasks.join("folder.rhai")).is_none());
        assert_eq!(snapshot.under(&tasks.join("folder.rhai")).count(), 1);
    }

    #[test]
    fn a_text_that_stays_is_the_same_one() {
        let folder = folder(&[("a.rhai", b"1"), ("b.rhai", b"1")]);
        let before = take(&folder, &Snapshot::default());
        fs::write(folder.path().join("tasks/b.rhai"), "2").unwrap();

        let after = take(&folder, &before);

        let held = |snapshot: &Snapshot, name: &str| {
            snapshot.text(&folder.path().join("tasks").join(name)).unwrap().clone().unwrap()
        };
        assert!(Arc::ptr_eq(&held(&before, "a.rhai"), &held(&after, "a.rhai")));
        assert_eq!(&*held(&after, "b.rhai"), "2");
    }

    #[test]
    fn a_change_that_the_times_do_not_show_is_found_by_content() {
        let folder = folder(&[("a.rhai", b"one")]);
        let found = Found { path: folder.path().join("tasks/a.rhai"), is_linked: false, leads_out: false };
        let before = Held::of(&found, None, MAX_TOTAL).unwrap();
        fs::write(&found.path, "two").unwrap();
        let same_times = Held { stamp: Stamp::of(&found).unwrap(), ..before };

        let after = Held::of(&found, Some(&same_times), MAX_TOTAL).unwrap();

        assert_eq!(after.text.as_deref(), Ok("two"));
    }

    #[test]
    fn a_touched_file_is_the_same() {
        let folder = folder(&[("a.rhai", b"1")]);
        let before = take(&folder, &Snapshot::default());
        let file = fs::File::options().write(true).open(folder.path().join("tasks/a.rhai")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();

        let after = take(&folder, &before);

        assert!(after.holds_the_same(&before) && !after.is_like(&before));
        fs::write(folder.path().join("tasks/b.rhai"), "2").unwrap();
        assert!(!take(&folder, &after).holds_the_same(&after));
    }

    #[test]
    fn names_are_found_however_their_letters_are_composed() {
        let folder = folder(&[("caf\u{65}\u{301}.rhai", b"1")]);

        let snapshot = take(&folder, &Snapshot::default());

        assert_eq!(text(&folder, &snapshot, "caf\u{e9}.rhai").unwrap(), "1");
        assert_eq!(text(&folder, &snapshot, "caf\u{65}\u{301}.rhai").unwrap(), "1");
        let shown = snapshot.under(folder.path()).next().unwrap();
        assert!(shown.ends_with("caf\u{e9}.rhai"), "{shown:?}");
    }

    #[test]
    fn folders_that_are_swapped_are_never_seen_mixed() {
        let folder = folder(&[]);
        for version in ["1", "2"] {
            let place = folder.path().join(version);
            fs::create_dir(&place).unwrap();
            for name in 0..30 {
                fs::write(place.join(format!("{name}.rhai")), version).unwrap();
            }
        }
        symlink("1", folder.path().join("tasks")).unwrap();
        let done = Arc::new(());
        let swapping = std::thread::spawn({
            let (running, folder) = (Arc::downgrade(&done), folder.path().to_owned());
            move || {
                for version in ["2", "1"].into_iter().cycle() {
                    if running.upgrade().is_none() {
                        return;
                    }
                    symlink(version, folder.join("next")).unwrap();
                    fs::rename(folder.join("next"), folder.join("tasks")).unwrap();
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });

        let mut before = Snapshot::default();
        for _ in 0..50 {
            before = take(&folder, &before);
            let texts: Vec<_> = before.files.values().map(|held| held.text.clone().unwrap()).collect();
            assert!(texts.len() == 30 && texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        }

        drop(done);
        swapping.join().unwrap();
    }

    #[test]
    fn what_git_is_writing_is_waited_for() {
        let folder = folder(&[("a.rhai", b"1"), ("b.rhai", b"1")]);
        fs::create_dir(folder.path().join(".git")).unwrap();
        let lock = folder.path().join(".git/index.lock");
        fs::write(&lock, "").unwrap();
        fs::write(folder.path().join("tasks/a.rhai"), "2").unwrap();

        let snapshot = std::thread::scope(|scope| {
            let taking = scope.spawn(|| take(&folder, &Snapshot::default()));
            fs::write(folder.path().join("tasks/b.rhai"), "2").unwrap();
            fs::remove_file(&lock).unwrap();
            taking.join().unwrap()
        });

        assert_eq!(text(&folder, &snapshot, "a.rhai").unwrap(), "2");
        assert_eq!(text(&folder, &snapshot, "b.rhai").unwrap(), "2");
    }
}
