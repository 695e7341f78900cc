//! The store in one SQLite file, for one process.
//!
//! One thread writes: it commits everything that waits in one transaction (`writer`), so that each command is on
//! the disk before its caller hears of it, and many of them share the price. Other threads read (`readers`). A row
//! of `task` is the message, then the run, then the history of one task. Claims are in memory only (`claims`): the
//! lock file makes this process the only one, so after a crash whatever was not settled is waiting again.
//!
//! Nothing here may block a runtime's thread, and nothing may be answered before it is committed.

mod backup;
mod claims;
mod cursor;
mod deaths;
mod depths;
mod desk;
mod due;
mod file;
mod history;
mod kv;
mod purge;
mod queue;
mod readers;
mod ready;
mod results;
mod roster;
mod rows;
mod running;
mod sending;
mod settling;
mod sources;
mod tally;
mod ticks;
mod tidying;
mod watchers;
mod way;
mod writer;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::store::{Lock, Result, Settings, Stores};
use crate::task::TaskId;
use claims::Claims;
use depths::Depths;
use desk::Desk;
use file::File;
use readers::Readers;
use roster::Present;
use watchers::Watchers;
use writer::Writer;

pub use backup::backup;

/// How many terminations a slow reader may be behind before it misses some.
const STOPS_KEPT: usize = 1_024;

struct Embedded {
    // Dropped in this order: the file is closed before the lock is given back.
    writer: Writer,
    readers: Readers,
    claims: Arc<Claims>,
    depths: Arc<Depths>,
    watchers: Arc<Watchers>,
    present: Present,
    /// How long a worker is there that was not heard of again.
    lease: Duration,
    stops: broadcast::Sender<TaskId>,
    lock: Option<Arc<Lock>>,
}

/// Opens the store in the file `database`, made when needed, for as long as this process holds `lock`.
///
/// # Errors
/// `Held` when another process holds the lock; otherwise what is wrong with the file, and where it is.
pub fn open(database: &Path, lock: &Path, settings: Settings) -> Result<Stores> {
    let lock = Arc::new(Lock::take(lock)?);
    // A new file is for its owner alone, and SQLite makes the ones beside it alike. Where it cannot be made SQLite says
    // why, in its own words.
    drop(OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(database));
    Embedded::start(&File::On(database.to_owned()), Some(lock), settings).map(Embedded::stores)
}

/// Opens an empty store that is gone with its last clone.
pub fn open_in_memory(settings: Settings) -> Result<Stores> {
    Embedded::start(&File::in_memory(), None, settings).map(Embedded::stores)
}

impl Embedded {
    fn start(file: &File, lock: Option<Arc<Lock>>, settings: Settings) -> Result<Arc<Self>> {
        let watchers = Arc::new(Watchers::default());
        let stops = broadcast::Sender::new(STOPS_KEPT);
        let (db, lease) = (file.open(settings.durability)?, settings.lease);
        let desk = Desk::open(file.clone(), db, settings, watchers.clone(), stops.clone())?;
        let (claims, depths) = (desk.claims.clone(), desk.depths.clone());
        let readers = Readers::start(file)?;
        let writer = Writer::start(desk)?;
        let present = Present::default();
        Ok(Arc::new(Self { writer, readers, claims, depths, watchers, present, lease, stops, lock }))
    }

    fn stores(self: Arc<Self>) -> Stores {
        Stores {
            queue: self.clone(),
            results: self.clone(),
            history: self.clone(),
            ticks: self.clone(),
            kv: self.clone(),
            sources: self.clone(),
            roster: self.clone(),
            control: None,
            exclusive: true,
            lock: self.lock.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
