//! The promises as traits, with what is asked of them and what they answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use super::{Delivery, Filter, Page, Receipt, Result, Settlement};
use crate::task::{Json, Message, Progress, QueueName, Run, State, TaskId, Timestamp};

/// Which queues a worker serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queues {
    /// Every queue that has messages; for a store that is ours alone.
    Every,
    Named(Vec<QueueName>),
}

/// What came of `push`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Stored,
    /// `unless` held, nothing was stored.
    Taken,
}

/// One due time of one entry of the timetable: it is fired at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    pub entry: String,
    pub due: Timestamp,
}

/// What a running task is at, for those who know only Celery's results.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// `STARTED`, by a process of that id and name.
    Started { pid: u32, worker: String },
    /// `PROGRESS`, the state of their own that Celery's users write.
    Progress(Progress),
}

/// What came of `settle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Stored,
    /// The lease had ended: another process has the task, and nothing was written.
    LeaseLost,
}

/// What came of `revoke`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// It had not started and never will; its state is REVOKED now or as soon as its turn comes. For one that another
    /// process claims in the same moment see [`Queue::claim`].
    BeforeStart,
    /// It runs; who runs it is told, when `terminate` was asked for.
    WhileRunning,
    /// It had ended before, in this state.
    TooLate(State),
    /// The store knows no such task. Where others send too, the revocation is remembered, because one of them may have
    /// sent it; for one that another process claims in the same moment see [`Queue::claim`]. In an exclusive store it
    /// has no effect.
    Unknown,
}

/// How many messages a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Ready to be claimed.
    pub ready: u64,
    /// Waiting for their due time (of this queue).
    pub delayed: u64,
    /// Claimed and not settled.
    pub claimed: u64,
}

/// One queue, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFacts {
    pub name: QueueName,
    pub depth: Depth,
    /// Nothing of it is claimed.
    pub paused: bool,
}

/// A message that could not be run, as it is kept for whoever looks after umbel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it was laid aside, by the store's clock.
    pub at: Timestamp,
    pub queue: QueueName,
    /// Why it cannot be run.
    pub reason: String,
    /// Its id; `None` where none can be read, so that its sender could not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<TaskId>,
    /// The name of its task; `None` where none can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// How many bytes the message had.
    pub size: usize,
    /// The message as it came; of one that is larger than 64 KiB its ends, with ` ... ` between. `None` where a whole
    /// one is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<String>,
    /// The same in base64, where it is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope_base64: Option<String>,
}

/// Messages between their sender and their worker.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Stores all of `messages` or none; they survive a crash once this returns. With `unless`, the tick is taken in
    /// the same step: when it (or a later tick of its entry) was taken before, nothing is stored.
    ///
    /// # Errors
    /// `DuplicateId` when a task of ours with such an id is known. After `Away` they may be stored all the same: the
    /// same push may then answer `DuplicateId` for what it stored itself.
    async fn push(&self, messages: Vec<Message>, unless: Option<Tick>) -> Result<Pushed>;

    /// Claims up to `max` messages that are due, most urgent priority step first, then oldest first; waits up to
    /// `patience` for the first one. Empty when none came. A message that cannot be run goes to the dead letters; where
    /// it has an id its task has failed, so that whoever waits for it is told. What is granted to a claim that is given
    /// up (its future is dropped) is put back.
    ///
    /// Who claimed sees the task as STARTED at once, with its worker; other processes do soon, if it has not ended by
    /// then: over Redis within 40 ms. A task that is revoked by another process within that time may have begun although
    /// it is told as revoked before its start: then it is stopped, and what comes of it is not kept. One that a foreign
    /// sender sent may be told as unknown although it has begun; it is stopped where `terminate` was asked for.
    async fn claim(&self, queues: &Queues, max: usize, patience: Duration) -> Result<Vec<Delivery>>;

    /// Ends a delivery in one atomic step, see [`Settlement`]. After `Away` it may be stored all the same: then the same
    /// settlement is answered with `LeaseLost`. It is shared because it is kept for another try.
    async fn settle(&self, settlement: Arc<Settlement>) -> Result<Settled>;

    /// Gives up the right of redelivery before the script starts (`acks_late: false`): whatever happens, the task is
    /// not handed out again. It must still be settled.
    async fn acknowledge(&self, receipt: &Receipt) -> Result<Settled>;

    /// Returns deliveries that did not start, to the front of their queue, without counting an attempt. They are not
    /// claimed again before `wait` is over.
    async fn put_back(&self, deliveries: Vec<Delivery>, wait: Duration) -> Result<()>;

    /// The script of this delivery begins now: if this process dies before it is settled, that is a death of the
    /// task. It is written down soon, and by the next `keep_alive` at the latest. Does not wait, except for a moment
    /// where the task came back from a dead process; called for each run, on the script's thread.
    fn started(&self, receipt: &Receipt);

    /// Renews the leases of everything this process has claimed, takes back what dead processes held, and drops
    /// what is too old to keep. Called each third of a lease by one timer per process.
    /// Returns receipts of ours that were lost meanwhile.
    async fn keep_alive(&self) -> Result<Vec<Receipt>>;

    /// Takes care that the task does not start any more; with `terminate`, also that a running one is stopped.
    async fn revoke(&self, id: &TaskId, terminate: bool) -> Result<Revoked>;

    /// Whether somebody asked that this running task ends, stopped or not. False once the receipt is void.
    async fn is_revoked(&self, receipt: &Receipt) -> Result<bool>;

    /// Ids of running tasks that are to be stopped, wherever they run. A slow reader may miss some:
    /// `Lagged` tells it so.
    fn terminations(&self) -> broadcast::Receiver<TaskId>;

    async fn depth(&self, queue: &QueueName) -> Result<Depth>;

    /// Revokes everything that waits in `queue`, for the reason `purged`, and tells how many messages that were. It
    /// takes them some at a time; what comes meanwhile may go too.
    async fn purge(&self, queue: &QueueName) -> Result<u64>;

    /// Every queue that holds messages or is paused, by name.
    async fn queues(&self) -> Result<Vec<QueueFacts>>;

    /// From now on nothing of `queue` is claimed, by any process, until it is resumed (`paused` is false). What is
    /// claimed already runs to its end. Outlives every process.
    async fn pause(&self, queue: &QueueName, paused: bool) -> Result<()>;

    /// How many messages could not be run and lie in the dead letters; beyond 10,000 the oldest go.
    async fn dead_letters(&self) -> Result<u64>;

    /// Up to `most` of them, newest first. A store that only umbel writes to has none.
    async fn read_dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>>;

    /// The store answers, and can be written as far as it knows.
    async fn ping(&self) -> Result<()>;
}

/// What came of tasks.
#[async_trait]
pub trait Results: Send + Sync {
    /// Everything kept of a task; `None` when it is unknown or was forgotten.
    async fn load(&self, id: &TaskId) -> Result<Option<Run>>;

    /// The same, as soon as the task has ended or `patience` is over. A task that is not known yet is waited for.
    async fn wait(&self, id: &TaskId, patience: Duration) -> Result<Option<Run>>;

    /// Drops what is kept of an ended task. False when there was none.
    async fn forget(&self, id: &TaskId) -> Result<bool>;

    /// How far a claimed task is. It is gone with the attempt.
    async fn progress(&self, receipt: &Receipt, progress: Progress) -> Result<()>;

    /// Shows to Celery's clients what a running task is at; nothing once the receipt is void, or where no such client
    /// looks. It is theirs alone: [`load`](Self::load) tells of a claim and its progress by itself.
    async fn show(&self, _receipt: &Receipt, _message: &Message, _shown: Shown) -> Result<()> {
        Ok(())
    }

    /// Changes its value whenever what [`load`](Self::load) answers may have changed: claimed, progress, retried,
    /// ended. Many changes may show as one, so that a slow reader costs nothing. The task need not be known yet.
    async fn changes(&self, id: &TaskId) -> Result<watch::Receiver<u64>>;
}

/// What happened to tasks.
#[async_trait]
pub trait History: Send + Sync {
    /// The runs that match, newest first. Between two pages none comes twice and none that was there is left out,
    /// except those whose state has changed meanwhile.
    ///
    /// # Errors
    /// When the cursor is none that this gave.
    async fn search(&self, filter: &Filter) -> Result<Page>;
}

/// One version of the code of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The hash that runs keep as their `code`.
    pub hash: String,
    /// The text of the script and of everything it imports, by path from the project's folder.
    pub files: BTreeMap<String, String>,
}

/// The code that runs ran, so that it can be read after the file has changed.
#[async_trait]
pub trait Sources: Send + Sync {
    /// Keeps those that are not kept yet. Bounded by number and size: the oldest that are no longer used go.
    async fn keep(&self, sources: Vec<Source>) -> Result<()>;

    /// `None` when none of that hash is kept.
    async fn source(&self, hash: &str) -> Result<Option<Source>>;
}

/// What a process that runs tasks says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerFacts {
    /// As kept with each run: `umbel-PID@host`.
    pub name: String,
    pub version: String,
    pub started_at: Timestamp,
    /// When it said so last.
    pub seen_at: Timestamp,
    pub slots: usize,
    /// The tasks it runs now.
    pub running: Vec<TaskId>,
    /// The queues it serves; empty for every queue of a store that is its alone.
    pub queues: Vec<QueueName>,
}

/// Who runs tasks.
#[async_trait]
pub trait Roster: Send + Sync {
    /// Said again with each renewal of the leases; who has not said so for a lease is gone.
    async fn announce(&self, worker: WorkerFacts) -> Result<()>;

    /// It stops.
    async fn leave(&self, name: &str) -> Result<()>;

    /// Everybody who is there, by name.
    async fn workers(&self) -> Result<Vec<WorkerFacts>>;
}

/// When entries of the timetable fired last.
#[async_trait]
pub trait Ticks: Send + Sync {
    /// The due time of the last tick of each of `entries` (name, fingerprint). An entry that is new here, or whose
    /// fingerprint differs from the one kept, begins at `now`: its earlier ticks are nobody's.
    async fn watermarks(&self, entries: &[(String, String)], now: Timestamp) -> Result<HashMap<String, Timestamp>>;
}

/// Small values that scripts share; a [`Space`](super::Space) says whose they are.
#[async_trait]
pub trait KeyValue: Send + Sync {
    /// `None` when there is none or it has expired.
    async fn get(&self, key: &str) -> Result<Option<Json>>;
    /// Sets, for as long as `ttl` says (`None`: for good). With `only_new`, only where there is none.
    /// False when `only_new` kept it from setting.
    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>, only_new: bool) -> Result<bool>;
    /// Adds to an integer (0 where there is none) and returns the sum.
    ///
    /// # Errors
    /// When the value is no integer, or the sum does not fit 64 bits.
    async fn incr(&self, key: &str, by: i64) -> Result<i64>;
    /// Deletes; with `expected`, only that value. False when there was none.
    async fn delete(&self, key: &str, expected: Option<Json>) -> Result<bool>;
}
