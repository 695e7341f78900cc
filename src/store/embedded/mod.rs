//! The store in one SQLite file, for one process.
//!
//! One thread writes: it commits everything that waits in one transaction (`writer`), so that each command is on
//! the disk before its caller hears of it, and many of them share the price. Other threads read (`readers`). A row
//! of `task` is the message, then the run, then the history of one task. Claims are in memory only (`claims`): the
//! lock file makes this process the only one, so after a crash whatever was not settled is waiting again.
//!
//! Nothing here may block a runtime's thread, and nothing may be answered before it is committed.

mod claims;
mod desk;
mod due;
mod file;
mod history;
mod kv;
mod queue;
mod readers;
mod ready;
mod results;
mod rows;
mod sending;
mod settling;
mod ticks;
mod writer;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::store::{Lock, Result, Settings, Stores};
use crate::task::TaskId;
use claims::Claims;
use desk::Desk;
use file::File;
use readers::Readers;
use results::Watchers;
use writer::Writer;

/// How many terminations a slow reader may be behind before it misses some.
const STOPS_KEPT: usize = 1_024;

struct Embedded {
    // Dropped in this order: the file is closed before the lock is given back.
    writer: Writer,
    readers: Readers,
    claims: Arc<Claims>,
    watchers: Arc<Watchers>,
    stops: broadcast::Sender<TaskId>,
    lock: Option<Arc<Lock>>,
}

/// Opens the store in the file `database`, made when needed, for as long as this process holds `lock`.
///
/// # Errors
/// `Held` when another process holds the lock; otherwise what is wrong with the file, and where it is.
pub fn open(database: &Path, lock: &Path, settings: Settings) -> Result<Stores> {
    let lock = Arc::new(Lock::take(lock)?);
    if let Some(folder) = database.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| anyhow::anyhow!("cannot make the folder `{}`: {error}", folder.display()))?;
    }
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
        let desk = Desk::open(file.clone(), file.open()?, settings, watchers.clone(), stops.clone())?;
        let claims = desk.claims.clone();
        let readers = Readers::start(file)?;
        let writer = Writer::start(desk)?;
        Ok(Arc::new(Self { writer, readers, claims, watchers, stops, lock }))
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
            exclusive: true,
            lock: self.lock.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
