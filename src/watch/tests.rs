//! Trees that are edited under the eyes of a watch.

use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct Room {
    folder: TempDir,
    watch: Watch,
    receiver: Receiver<Arc<Snapshot>>,
    stop: CancellationToken,
}

/// Watched by events alone: the clock would hide that one is missed.
async fn watch(prepare: impl FnOnce(&Path)) -> Room {
    watch_polling(Duration::from_secs(3600), prepare).await
}

async fn watch_polling(poll: Duration, prepare: impl FnOnce(&Path)) -> Room {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let (bell, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let project = folder.path().to_owned();
    let roots = vec![project.join("tasks"), project.join("schedules.toml")];
    let mut eye = Eye::open(project, roots, Arc::default(), bell.clone());
    if poll < POLL {
        eye.ears.watcher = None;
    }
    let (watch, receiver) = Watch::open(eye, bell, poll, stop.clone()).await;
    Room { folder, watch, receiver, stop }
}

fn with_tasks(folder: &Path) {
    fs::create_dir(folder.join("tasks")).unwrap();
    fs::write(folder.join("tasks/math.rhai"), "1").unwrap();
}

impl Room {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until `name` is found to hold `text`; `None` when it is to be gone.
    async fn finds(&mut self, name: &str, text: Option<&str>) {
        self.finds_what(|room, files| {
            let found = files.text(&room.join(name)).cloned();
            found == text.map(|text| Ok(text.into()))
        })
        .await;
    }

    /// Waits until what is found `is` so.
    async fn finds_what(&mut self, is: impl Fn(&Path, &Snapshot) -> bool) {
        let waiting = async {
            while !is(self.folder.path(), &self.receiver.borrow_and_update().clone()) {
                self.receiver.changed().await.expect("it watches");
            }
        };
        timeout(PATIENCE, waiting).await.expect("it is found");
    }

    /// The names of all that was found last.
    fn found(&self) -> Vec<String> {
        let (files, root) = (self.receiver.borrow().clone(), self.folder.path());
        let shown = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        files.under(root).map(shown).collect()
    }
}

#[tokio::test]
async fn what_is_there_is_found_before_anything_changes() {
    let room = watch(with_tasks).await;

    assert_eq!(room.found(), ["tasks/math.rhai"]);
    assert!(!room.receiver.has_changed().unwrap());
}

#[tokio::test]
async fn a_save_in_place_is_found() {
    let mut room = watch(with_tasks).await;

    fs::write(room.path("tasks/math.rhai"), "2").unwrap();

    room.finds("tasks/math.rhai", Some("2")).await;
}

#[tokio::test]
async fn a_save_by_rename_shows_the_target_and_no_temporary_file() {
    let mut room = watch(with_tasks).await;

    fs::write(room.path("tasks/.math.rhai.swp"), "x").unwrap();
    fs::write(room.path("tasks/math.rhai~"), "x").unwrap();
    fs::write(room.path("tasks/4913"), "x").unwrap();
    fs::write(room.path("tasks/math.rhai.tmp"), "2").unwrap();
    fs::rename(room.path("tasks/math.rhai.tmp"), room.path("tasks/math.rhai")).unwrap();

    room.finds("tasks/math.rhai", Some("2")).await;
    assert_eq!(room.found(), ["tasks/math.rhai"]);
}

#[tokio::test]
async fn a_file_in_a_folder_made_just_before_is_found() {
    let mut room = watch(with_tasks).await;

    fs::create_dir_all(room.path("tasks/a/b")).unwrap();
    fs::write(room.path("tasks/a/b/new.rhai"), "1").unwrap();
    room.finds("tasks/a/b/new.rhai", Some("1")).await;
    fs::write(room.path("tasks/a/b/new.rhai"), "2").unwrap();

    room.finds("tasks/a/b/new.rhai", Some("2")).await;
}

#[tokio::test]
async fn a_removed_file_is_found_no_more() {
    let mut room = watch(with_tasks).await;

    fs::remove_file(room.path("tasks/math.rhai")).unwrap();

    room.finds("tasks/math.rhai", None).await;
}

#[tokio::test]
async fn a_root_that_is_removed_and_made_again_is_still_watched() {
    let mut room = watch(with_tasks).await;

    for round in 0..3 {
        let (again, changed) = (format!("again {round}"), format!("changed {round}"));
        fs::remove_dir_all(room.path("tasks")).unwrap();
        fs::create_dir(room.path("tasks")).unwrap();
        fs::write(room.path("tasks/math.rhai"), &again).unwrap();
        room.finds("tasks/math.rhai", Some(&again)).await;
        fs::write(room.path("tasks/math.rhai"), &changed).unwrap();
        room.finds("tasks/math.rhai", Some(&changed)).await;
    }
}

#[tokio::test]
async fn roots_may_come_later() {
    let mut room = watch(|_| {}).await;

    fs::write(room.path("schedules.toml"), "a").unwrap();
    room.finds("schedules.toml", Some("a")).await;
    fs::create_dir(room.path("tasks")).unwrap();
    fs::write(room.path("tasks/math.rhai"), "1").unwrap();

    room.finds("tasks/math.rhai", Some("1")).await;
}

#[tokio::test]
async fn what_is_not_looked_at_is_not_found() {
    let mut room = watch(with_tasks).await;

    fs::write(room.path("tasks/notes.txt"), "x").unwrap();
    fs::create_dir(room.path("tasks/.git")).unwrap();
    fs::write(room.path("tasks/.git/config.toml"), "x").unwrap();
    fs::write(room.path("other.toml"), "x").unwrap();
    fs::write(room.path("schedules.toml"), "last").unwrap();

    room.finds("schedules.toml", Some("last")).await;
    assert_eq!(room.found(), ["schedules.toml", "tasks/math.rhai"]);
}

#[tokio::test]
async fn whoever_listens_knows_the_last_of_many_swaps() {
    let mut room = watch(|folder| {
        for version in ["0", "1"] {
            fs::create_dir_all(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("math.rhai"), version).unwrap();
        }
        symlink("0", folder.join("tasks")).unwrap();
    })
    .await;

    for round in 0..20 {
        let last = if round % 2 == 0 { "1" } else { "0" };
        for version in ["1", "0", "1", "0", last] {
            symlink(version, room.path("next")).unwrap();
            fs::rename(room.path("next"), room.path("tasks")).unwrap();
            // Gives way to the looks, so that they come between two swaps.
            tokio::task::yield_now().await;
        }
        room.finds("tasks/math.rhai", Some(last)).await;
    }
}

#[tokio::test]
async fn saves_without_a_pause_starve_nobody() {
    let mut room = watch(with_tasks).await;
    let done = CancellationToken::new();
    let saving = std::thread::spawn({
        let (path, done) = (room.path("tasks/math.rhai"), done.clone());
        move || {
            // Without cutting it off first: whoever reads it then finds nothing in it, again and again.
            let mut file = fs::File::options().write(true).open(path).unwrap();
            for number in (0..).take_while(|_| !done.is_cancelled()) {
                file.rewind().unwrap();
                file.write_all(format!("version {number:020}").as_bytes()).unwrap();
            }
        }
    });

    let number = |files: &Snapshot, room: &Path| {
        let text = files.text(&room.join("tasks/math.rhai")).unwrap().clone().unwrap();
        text.strip_prefix("version ").and_then(|number| number.parse::<u64>().ok())
    };
    for most in [0, 1000] {
        room.finds_what(|room, files| number(files, room) > Some(most)).await;
    }

    done.cancel();
    saving.join().unwrap();
}

#[tokio::test]
async fn links_that_go_in_circles_end() {
    let mut room = watch(|folder| {
        with_tasks(folder);
        symlink("..", folder.join("tasks/up")).unwrap();
        symlink(".", folder.join("tasks/here")).unwrap();
    })
    .await;

    fs::write(room.path("tasks/math.rhai"), "2").unwrap();

    room.finds("tasks/math.rhai", Some("2")).await;
}

#[tokio::test]
async fn a_stopped_watch_ends_its_channel() {
    let mut room = watch(with_tasks).await;

    room.stop.cancel();
    timeout(PATIENCE, room.watch.stopped()).await.unwrap();

    assert!(room.receiver.changed().await.is_err());
}

#[tokio::test]
async fn without_events_the_clock_finds_everything() {
    let mut room = watch_polling(Duration::from_millis(20), |_| {}).await;

    fs::create_dir(room.path("tasks")).unwrap();
    fs::write(room.path("tasks/math.rhai"), "1").unwrap();
    room.finds("tasks/math.rhai", Some("1")).await;
    fs::write(room.path("tasks/math.rhai"), "2").unwrap();

    room.finds("tasks/math.rhai", Some("2")).await;
}

#[test]
fn our_own_reading_does_not_ring() {
    let roots = [PathBuf::from("/project/tasks")];
    let rings = |kind, path: &str| is_of_interest(&notify::Event::new(kind).add_path(path.into()), &roots);
    let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));

    assert!(!rings(opened, "/project/tasks/math.rhai"));
    assert!(rings(written, "/project/tasks/math.rhai"));
    assert!(!rings(written, "/project/data/umbel.db"));
    assert!(rings(EventKind::Any, "/project"));
}

#[test]
fn a_burst_is_over_when_it_is_quiet_or_has_lasted() {
    let now = Instant::now();
    let after = |ms| Burst { first: now, last: now + Duration::from_millis(ms) }.due() - now;

    assert_eq!(after(0), Duration::from_millis(50));
    assert_eq!(after(100), Duration::from_millis(150));
    assert_eq!(after(240), Duration::from_millis(250));
}
