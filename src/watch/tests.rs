//! Trees that are edited under the eyes of a watch.

use std::fs;
use std::time::SystemTime;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct Room {
    folder: TempDir,
    watch: Watch,
    receiver: mpsc::Receiver<Changed>,
    stop: CancellationToken,
}

/// Watched by events alone: the clock would hide that one is missed.
fn watch(prepare: impl FnOnce(&Path)) -> Room {
    watch_polling(Duration::from_secs(3600), prepare)
}

fn watch_polling(poll: Duration, prepare: impl FnOnce(&Path)) -> Room {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let (bell, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let mut eye = Eye::open(vec![folder.path().join("tasks"), folder.path().join("schedules.toml")], bell.clone());
    if poll < POLL {
        eye.watcher = None;
    }
    let (watch, receiver) = Watch::open(eye, bell, poll, stop.clone());
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

    /// Waits until `name` is reported, and gives all that was reported with and before it.
    async fn reports(&mut self, name: &str) -> Changed {
        let path = self.path(name);
        let mut all = Changed::new();
        while !all.contains(&path) {
            let next = timeout(PATIENCE, self.receiver.recv()).await;
            all.extend(next.unwrap_or_else(|_| panic!("`{name}` is not reported")).expect("it watches"));
        }
        all
    }
}

#[tokio::test]
async fn a_save_in_place_is_reported() {
    let mut room = watch(with_tasks);

    fs::write(room.path("tasks/math.rhai"), "2").unwrap();

    assert_eq!(room.reports("tasks/math.rhai").await.len(), 1);
}

#[tokio::test]
async fn a_save_by_rename_reports_the_target_and_no_temporary_file() {
    let mut room = watch(with_tasks);

    fs::write(room.path("tasks/.math.rhai.swp"), "x").unwrap();
    fs::write(room.path("tasks/math.rhai~"), "x").unwrap();
    fs::write(room.path("tasks/4913"), "x").unwrap();
    fs::write(room.path("tasks/math.rhai.tmp"), "2").unwrap();
    fs::rename(room.path("tasks/math.rhai.tmp"), room.path("tasks/math.rhai")).unwrap();

    assert_eq!(room.reports("tasks/math.rhai").await, [room.path("tasks/math.rhai")].into());
}

#[tokio::test]
async fn a_file_in_a_folder_made_just_before_is_reported() {
    let mut room = watch(with_tasks);

    fs::create_dir_all(room.path("tasks/a/b")).unwrap();
    fs::write(room.path("tasks/a/b/new.rhai"), "1").unwrap();
    room.reports("tasks/a/b/new.rhai").await;
    fs::write(room.path("tasks/a/b/new.rhai"), "2").unwrap();

    room.reports("tasks/a/b/new.rhai").await;
}

#[tokio::test]
async fn a_removed_file_is_reported() {
    let mut room = watch(with_tasks);

    fs::remove_file(room.path("tasks/math.rhai")).unwrap();

    room.reports("tasks/math.rhai").await;
}

#[tokio::test]
async fn a_root_that_is_removed_and_made_again_is_still_watched() {
    let mut room = watch(with_tasks);

    for round in 0..3 {
        fs::remove_dir_all(room.path("tasks")).unwrap();
        fs::create_dir(room.path("tasks")).unwrap();
        fs::write(room.path("tasks/math.rhai"), format!("again {round}")).unwrap();
        room.reports("tasks/math.rhai").await;
        fs::write(room.path("tasks/math.rhai"), format!("changed {round}")).unwrap();
        room.reports("tasks/math.rhai").await;
    }
}

#[tokio::test]
async fn roots_may_come_later() {
    let mut room = watch(|_| {});

    fs::write(room.path("schedules.toml"), "a").unwrap();
    room.reports("schedules.toml").await;
    fs::create_dir(room.path("tasks")).unwrap();
    fs::write(room.path("tasks/math.rhai"), "1").unwrap();

    room.reports("tasks/math.rhai").await;
}

#[tokio::test]
async fn what_is_not_looked_at_is_not_reported() {
    let mut room = watch(with_tasks);

    fs::write(room.path("tasks/notes.txt"), "x").unwrap();
    fs::create_dir(room.path("tasks/.git")).unwrap();
    fs::write(room.path("tasks/.git/config.toml"), "x").unwrap();
    fs::write(room.path("other.toml"), "x").unwrap();
    fs::write(room.path("tasks/math.rhai"), "1").unwrap();
    fs::write(room.path("schedules.toml"), "last").unwrap();

    assert_eq!(room.reports("schedules.toml").await, [room.path("schedules.toml")].into());
}

#[tokio::test]
async fn saves_without_a_pause_starve_nobody() {
    let mut room = watch(with_tasks);
    let path = room.path("tasks/math.rhai");
    let done = CancellationToken::new();
    let saving = std::thread::spawn({
        let (path, done) = (path.clone(), done.clone());
        move || {
            for number in 0.. {
                if done.is_cancelled() {
                    return number;
                }
                fs::write(&path, format!("version {number}")).unwrap();
            }
            unreachable!("it is told to end")
        }
    });

    room.reports("tasks/math.rhai").await;
    room.reports("tasks/math.rhai").await;

    done.cancel();
    saving.join().unwrap();
}

#[tokio::test]
async fn links_that_go_in_circles_end() {
    let mut room = watch(|folder| {
        with_tasks(folder);
        std::os::unix::fs::symlink("..", folder.join("tasks/up")).unwrap();
        std::os::unix::fs::symlink(".", folder.join("tasks/here")).unwrap();
    });

    fs::write(room.path("tasks/math.rhai"), "2").unwrap();

    room.reports("tasks/math.rhai").await;
}

#[tokio::test]
async fn a_stopped_watch_ends_its_channel() {
    let mut room = watch(with_tasks);

    room.stop.cancel();
    timeout(PATIENCE, room.watch.stopped()).await.unwrap();

    assert_eq!(room.receiver.recv().await, None);
}

#[test]
fn a_touched_file_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rhai");
    fs::write(&path, "one").unwrap();
    let mut eye = Eye::open(vec![folder.path().to_owned()], Arc::default());
    eye.look();

    fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();

    assert_eq!(eye.look(), Changed::new());
}

#[tokio::test]
async fn without_events_the_clock_finds_everything() {
    let mut room = watch_polling(Duration::from_millis(20), |_| {});

    fs::create_dir(room.path("tasks")).unwrap();
    fs::write(room.path("tasks/math.rhai"), "1").unwrap();
    room.reports("tasks/math.rhai").await;
    fs::write(room.path("tasks/math.rhai"), "2").unwrap();

    room.reports("tasks/math.rhai").await;
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
