//! "These paths changed", debounced.
//!
//! The operating system's events are only a bell: they get lost (a file written into a folder that was just made),
//! they end (the watched folder removed and made again), they never come (network mounts). So each ring, and every
//! two seconds the clock, makes us look at the whole tree and compare; what differs is what changed.
//! Whoever listens gets sets of paths and looks for himself, best by a [`Snapshot`]: what several files hold together
//! means something only when they stood together. Nothing here knows what the files mean.

mod git;
mod snapshot;
mod tree;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub use snapshot::Snapshot;
use tree::{Seen, identity, walk};

/// The absolute paths of files that were made, changed or removed.
pub type Changed = BTreeSet<PathBuf>;

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
    /// Watches the `*.rhai` and `*.toml` files under `roots`: folders, or files of any name. None needs to exist yet.
    /// Looks once before it returns, so that every later change is reported.
    ///
    /// The channel holds one set; what changes until it is taken is collected into the next. A file that changed
    /// and changed back in between may be in a set.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(roots: Vec<PathBuf>, stop: CancellationToken) -> (Self, mpsc::Receiver<Changed>) {
        let bell = Arc::new(Notify::new());
        let eye = Eye::open(roots, bell.clone());
        Self::open(eye, bell, POLL, stop)
    }

    fn open(
        mut eye: Eye,
        bell: Arc<Notify>,
        poll: Duration,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<Changed>) {
        eye.look();
        let (sender, receiver) = mpsc::channel(1);
        (Self { task: tokio::spawn(run(eye, bell, poll, sender, stop)) }, receiver)
    }

    /// Waits until it has ended.
    pub async fn stopped(self) {
        // A panic in there was reported where it happened.
        let _ = self.task.await;
    }
}

async fn run(mut eye: Eye, bell: Arc<Notify>, poll: Duration, sender: mpsc::Sender<Changed>, stop: CancellationToken) {
    let mut burst: Option<Burst> = None;
    let mut changed = Changed::new();
    let mut poll_at = Instant::now() + poll;
    loop {
        let look_at = burst.map_or(poll_at, Burst::due);
        tokio::select! {
            // In this order, for a bell that rings all the time must starve none of the others.
            biased;
            () = stop.cancelled() => return,
            () = sender.closed() => return,
            permit = sender.reserve(), if burst.is_none() && !changed.is_empty() => {
                let Ok(permit) = permit else { return };
                permit.send(std::mem::take(&mut changed));
            }
            () = sleep_until(look_at) => {
                let looked = tokio::task::spawn_blocking(move || {
                    let (began, found) = (std::time::Instant::now(), eye.look());
                    (eye, found, began.elapsed())
                });
                let Ok((again, found, took)) = looked.await else {
                    if !stop.is_cancelled() {
                        error!("watching files has failed; changes are not seen until the next start");
                    }
                    return;
                };
                eye = again;
                // What the clock found may be half written, like anything else: look again when it is quiet.
                burst = if burst.is_none() && !found.is_empty() { Some(Burst::begin(Instant::now())) } else { None };
                changed.extend(found);
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

/// What we know of the tree, and the operating system's watcher that rings when to look again.
struct Eye {
    roots: Vec<PathBuf>,
    /// `None` where the system has none for us; then only the clock makes us look.
    watcher: Option<RecommendedWatcher>,
    /// Each folder that is watched, and which one it was: another one may stand in its place.
    watched: HashMap<PathBuf, (u64, u64)>,
    /// Something was removed or renamed, and with it perhaps a watched folder.
    stale: Arc<AtomicBool>,
    /// Said once.
    warned: bool,
    files: BTreeMap<PathBuf, Seen>,
}

impl Eye {
    fn open(roots: Vec<PathBuf>, bell: Arc<Notify>) -> Self {
        let roots: Vec<PathBuf> = roots.into_iter().map(|root| std::path::absolute(&root).unwrap_or(root)).collect();
        let stale = Arc::new(AtomicBool::new(false));
        let ring = {
            let (roots, stale) = (roots.clone(), stale.clone());
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
        Self { roots, watcher, watched: HashMap::new(), stale, warned: false, files: BTreeMap::new() }
    }

    /// Compares the tree with how it was at the last look.
    fn look(&mut self) -> Changed {
        if self.stale.swap(false, Ordering::Relaxed) {
            self.watched.clear();
        }
        let mut files = BTreeMap::new();
        for root in self.roots.clone() {
            // The parent tells when the root itself comes, goes or is replaced.
            if let Some(parent) = root.parent() {
                self.watch(parent);
            }
            for found in walk(&root, &mut |folder| self.watch(folder)) {
                if let Some(seen) = Seen::of(&found, self.files.get(&found.path)) {
                    files.insert(found.path, seen);
                }
            }
        }
        let before = std::mem::replace(&mut self.files, files);
        let differs = |path: &&PathBuf| before.get(*path).map(|seen| seen.digest) != self.digest(path);
        before.keys().chain(self.files.keys()).filter(differs).cloned().collect()
    }

    fn digest(&self, path: &Path) -> Option<u64> {
        self.files.get(path).map(|seen| seen.digest)
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
