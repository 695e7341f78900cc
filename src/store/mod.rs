//! Where things are kept: the promises of a store, fulfilled by SQLite (`embedded`) and by Redis (`redis`).
//!
//! The rooms above know only the traits of `promises.rs`. What they may lean on is written in their doc sentences and
//! held by one suite, `tests/stores/`, against both stores. A store batches by itself: calls that wait at the same
//! time share a transaction or a pipeline, so callers simply await one call a task.
//!
//! A claim is a lease. Its receipt is the right to settle; whoever lost the lease cannot write a result.

mod control;
mod delivery;
pub mod embedded;
mod errbacks;
mod lock;
mod outage;
mod promises;
mod recovered;
pub mod redis;
mod search;
mod secret;
mod settings;
mod space;
mod url;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::task::TaskId;

pub use control::{Addressees, Broker, Command, Control, ReplyTo};
pub use delivery::{
    Attempt, DEATHS, Delivery, Ending, Receipt, SUSPECTED_FOR, SUSPICIOUS_DEATHS, Settlement, poisoned, worker_lost,
};
pub use errbacks::Declared;
pub use lock::{Held, Holder, Lock};
pub use promises::{
    DeadLetter, Depth, History, KeyValue, Pushed, Queue, QueueFacts, Queues, Results, Revoked, Roster, Settled, Shown,
    Source, Sources, Tick, Ticks, WorkerFacts,
};
pub use redis::check as check_redis;
use search::Weight;
pub use search::{Filter, LIGHT, Page};
pub use secret::Secret;
pub use settings::{Durability, RedisSettings, Settings};
pub use space::Space;
pub use url::{check_url, is_shared, without_password};

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a task with the id `{id}` exists already")]
    DuplicateId { id: TaskId },
    #[error(transparent)]
    Held(#[from] Held),
    /// The store cannot be reached now; the same call may succeed later. The store tells of it in the log, see
    /// [`is_told`](Self::is_told).
    #[error("the store is away: {reason}")]
    Away { reason: String },
    /// There is no room to write; nothing is lost, and the same call succeeds once there is.
    #[error("{reason}")]
    Full { reason: String },
    /// The cursor of a search is none that this store gave for such a filter.
    #[error("`{cursor}` is no cursor of this search; leave it out to begin with the newest")]
    BadCursor { cursor: String },
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Error {
    /// The store has said in the log that it cannot be used, and will say when it can: whoever meets the error need
    /// not.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Full { .. })
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Why no copy is made of what was named, or none there: nothing was done. Who asked may ask otherwise.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoCopy(String);

/// The promises of one opened store. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    pub queue: Arc<dyn Queue>,
    pub results: Arc<dyn Results>,
    pub history: Arc<dyn History>,
    pub ticks: Arc<dyn Ticks>,
    pub kv: Arc<dyn KeyValue>,
    pub sources: Arc<dyn Sources>,
    pub roster: Arc<dyn Roster>,
    /// How workers are asked and told things from outside; `None` where nobody but this process is.
    pub control: Option<Arc<dyn Control>>,
    /// Only this process can use the store, so that every queue in it is its to serve.
    pub exclusive: bool,
    /// The lock that an embedded store holds; `None` for Redis and in memory.
    pub lock: Option<Arc<Lock>>,
}

/// Opens the store at `url`: `sqlite:PATH` (PATH relative to `folder`), `memory:` or one of
/// Redis, see [`redis::open`].
///
/// # Errors
/// `Held` names the process that uses an embedded store already; `Away` when Redis does not answer.
pub async fn open(url: &str, folder: &Path, settings: Settings) -> Result<Stores> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        return embedded::open(&folder.join(path), &lock_path(url, folder), settings);
    }
    if url == "memory:" {
        return embedded::open_in_memory(settings);
    }
    if redis::is_url(url) {
        return redis::open(url, folder, settings).await;
    }
    Err(check_url(url).expect_err("every store there is was tried above").into())
}

/// Copies the embedded store at `url` into the new file `to`, whoever uses it meanwhile, and tells how many bytes that
/// were. The copy is one moment of the store; what was running then runs again where the copy is opened.
///
/// # Errors
/// [`NoCopy`] when the store is none in a file or `to` exists already; others when one of them cannot be read or
/// written. Nothing is left of a copy that failed.
pub fn backup(url: &str, folder: &Path, to: &Path) -> Result<u64> {
    check_url(url)?;
    match url.strip_prefix("sqlite:") {
        Some(path) => embedded::backup(&folder.join(path), to),
        None => {
            let of_redis = "a store in Redis is copied by Redis: see `redis-cli --rdb FILE`";
            let why = if url == "memory:" { "a store in memory cannot be copied" } else { of_redis };
            Err(anyhow::Error::new(NoCopy(why.to_owned())).into())
        }
    }
}

/// Where the lock file of a project is: beside its embedded database, else in `data/`.
pub fn lock_path(url: &str, folder: &Path) -> PathBuf {
    let database = folder.join(url.strip_prefix("sqlite:").unwrap_or("data/umbel.db"));
    database.with_file_name("umbel.lock")
}
