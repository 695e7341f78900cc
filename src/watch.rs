//! The files of a project as they stand, again whenever they have changed, debounced.
//!
//! The operating system's events are only a bell: they get lost (a file written into a folder that was just made),
//! they end (the watched folder removed and made again), they never come (network mounts). So each ring, and every
//! two seconds the clock, makes us look at the whole tree and compare.
//! Whoever listens gets what was found, as a [`Snapshot`], and does not look for himself: a moment later he would find
//! something else, and never hear of what we had found already. Nothing here knows what the files mean.

mod git;
mod snapshot;
mod tree;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub use snapshot::Snapshot;
use tree::identity;

/// A save is many events; it is over when none came for this long.
const QUIET: Duration = Duration::from_millis(50);

/// A save every few milliseconds must not put off the look for ever.
const AT_LATEST: Duration = Duration::from_millis(250);

/// How often we look without having been told.
const POLL: Duration = Duration::from_secs(2);

/// A look at a very large tree takes its time: then we rest this many times as long before the next one without being
/// told, so that the clock alone never costs half a hundredth of a processor.
const IDLE: u32 = 200;

/// Watches until it is stopped or its receiver is dropped.
pub struct Watch {
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches the `*.rhai` and `*.toml` files under `roots`: folders of `project`, or files of any name. None needs
    /// to exist yet. What surely has not changed since `before` is taken from there. What is found has absolute paths.
    ///
    /// The receiver holds what is found before this returns, and from then on what was found last. It wakes when texts
    /// have changed, files come or gone, and not for a file that was only touched.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(
        project: PathBuf,
        roots: Vec<PathBuf>,
        before: Arc<Snapshot>,
        stop: CancellationToken,
    ) -> (Self, Receiver<Arc<Snapshot>>) {
        let bell = Arc::new(Notify::new());
        let eye = Eye::open(project, roots, before, bell.clone());
        Self::open(eye, bell, POLL, stop).await
    }

    async fn open(
        mut eye: Eye,
        bell: Arc<Notify>,
        poll: Duration,
        stop: CancellationToken,
    ) -> (Self, Receiver<Arc<Snapshot>>) {
        let looked = spawn_blocking(move || {
            eye.look();
            eye
        });
        let eye = looked.await.unwrap_or_else(|panic| resume_unwind(panic.into_panic()));
        let (sender, receiver) = watch::channel(eye.files.clone());
        (Self { task: tokio::spawn(run(eye, bell, poll, sender, stop)) }, receiver)
    }

    /// Waits until it has ended.
    pub async fn stopped(self) {
        // A panic in there was reported where it happened.
        let _ = self.task.await;
    }
}

async fn run(mut eye: Eye, bell: Arc<Notify>, poll: Duration, sender: Sender<Arc<Snapshot>>, stop: CancellationToken) {
    let mut burst: Option<Burst> = None;
    let mut poll_at = Instant::now() + poll;
    loop {
        let look_at = burst.map_or(poll_at, Burst::due);
        tokio::select! {
            // In this order, for a bell that rings all the time must starve none of the others.
            biased;
            () = stop.cancelled() => return,
            () = sender.closed() => return,
            () = sleep_until(look_at) => {
                let looked = spawn_blocking(move || {
                    let (began, has_changed) = (std::time::Instant::now(), eye.look());
                    (eye, has_changed, began.elapsed())
                });
                let Ok((again, has_changed, took)) = looked.await else {
                    if !stop.is_cancelled() {
                        error!("watching files has failed; changes are not seen until the next start");
                    }
                    return;
                };
                eye = again;
                if has_changed {
                    sender.send_replace(eye.files.clone());
                }
                // What the clock found may be half written, like anything else: look again when it is quiet.
                burst = (burst.is_none() && has_changed).then(|| Burst::begin(Instant::now()));
                poll_at = Instant::now() + poll.max(took * IDLE);
            }
            () = bell.notified() => {
                let now = Instant::now();
                burst.get_or_insert(Burst::begin(now)).last = now;
            }
        }
    }
}

/// Events that belong together.
#[derive(Debug, Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Burst {
    fn begin(now: Instant) -> Self {
        Self { first: now, last: now }
    }

    fn due(self) -> Instant {
        (self.last + QUIET).min(self.first + AT_LATEST)
    }
}

/// What we know of the tree.
struct Eye {
    project: PathBuf,
    roots: Vec<PathBuf>,
    files: Arc<Snapshot>,
    ears: Ears,
}

/// The operating system's watcher, which rings when to look again.
struct Ears {
    /// `None` where the system has none for us; then only the clock makes us look.
    watcher: Option<RecommendedWatcher>,
    /// Each folder that is watched, and which one it was: another one may stand in its place.
    watched: HashMap<PathBuf, (u64, u64)>,
    /// Something was removed or renamed, and with it perhaps a watched folder.
    stale: Arc<AtomicBool>,
    /// Said once.
    warned: bool,
}

impl Eye {
    fn open(project: PathBuf, roots: Vec<PathBuf>, before: Arc<Snapshot>, bell: Arc<Notify>) -> Self {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let (project, roots) = (absolute(project), roots.into_iter().map(absolute).collect::<Vec<_>>());
        let ears = Ears::open(roots.clone(), bell);
        Self { project, roots, files: before, ears }
    }

    /// Whether something else is found than at the last look.
    fn look(&mut self) -> bool {
        let ears = &mut self.ears;
        if ears.stale.swap(false, Ordering::Relaxed) {
            ears.watched.clear();
        }
        // The parent tells when the root itself comes, goes or is replaced.
        self.roots.iter().filter_map(|root| root.parent()).for_each(|parent| ears.watch(parent));
        let files = Snapshot::take_entering(&self.project, &self.roots, &self.files, &mut |folder| ears.watch(folder));
        let has_changed = !files.holds_the_same(&self.files);
        // Also when nothing has: its times may be old enough by now to be believed.
        self.files = Arc::new(files);
        has_changed
    }
}

impl Ears {
    fn open(roots: Vec<PathBuf>, bell: Arc<Notify>) -> Self {
        let stale = Arc::new(AtomicBool::new(false));
        let ring = {
            let stale = stale.clone();
            move |event: notify::Result<notify::Event>| {
                if event.as_ref().is_ok_and(|event| !is_of_interest(event, &roots)) {
                    return;
                }
                if event.is_ok_and(|event| takes_away(event.kind)) {
                    stale.store(true, Ordering::Relaxed);
                }
                bell.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(ring)
            .inspect_err(|error| warn!("no file events ({error}); looking for changes every {POLL:?}"))
            .ok();
        Self { watcher, watched: HashMap::new(), stale, warned: false }
    }

    fn watch(&mut self, folder: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        let Ok(identity) = std::fs::metadata(folder).map(|metadata| identity(&metadata)) else { return };
        if self.watched.get(folder) == Some(&identity) {
            return;
        }
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(folder.to_owned(), identity);
            }
            Err(error) if folder.exists() && !self.warned => {
                self.warned = true;
                let place = folder.display();
                warn!(
                    "no file events for `{place}` ({error}); looking for changes every {POLL:?}. Where the limit of \
                     watches is reached, raise `fs.inotify.max_user_watches`"
                );
            }
            Err(_) => {}
        }
    }
}

// Our own reading is an event too: without this a look would ring for the next look.
fn is_of_interest(event: &notify::Event, roots: &[PathBuf]) -> bool {
    let is_reading = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
    let near = |path: &PathBuf| roots.iter().any(|root| path.starts_with(root) || root.starts_with(path));
    !is_reading && (event.paths.is_empty() || event.paths.iter().any(near))
}

// Not an overflow of the system's queue, though it may hide a removal: watching anew waits for the watcher's thread,
// which in a flood of events reads on and on. A folder that was replaced is known by its identity too.
fn takes_away(kind: EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
}

#[cfg(test)]
mod tests;
