//! What a worker has claimed, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use crate::task::{Failure, Json, LogLine, Message, TaskId, Timestamp};

/// The right to settle one delivery. It is void once its lease has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    pub id: TaskId,
    /// Differs for each claim: the fencing token.
    pub token: u64,
}

/// A message that one worker has claimed.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub message: Arc<Message>,
    pub receipt: Receipt,
    /// It was claimed before, by a process that died.
    pub redelivered: bool,
    /// How many processes died within [`SUSPECTED_FOR`] while it ran.
    pub deaths: u32,
    /// By the store's clock it was too late to start it when it was claimed; it is to be settled as expired.
    pub expired: bool,
    /// From when it could have started until it was claimed, by the store's clock; `None` when it was claimed before by
    /// a process that died, and over Redis, where it would take a question for each task.
    pub waited: Option<Duration>,
}

/// A task that was running when its process died so many times is not tried again: it fails as [`poisoned`].
pub const DEATHS: u32 = 3;

/// After so many deaths a task runs alone, so that its neighbours are not condemned with it.
pub const SUSPICIOUS_DEATHS: u32 = 2;

/// How long a death counts.
pub const SUSPECTED_FOR: Duration = Duration::from_secs(72 * 3_600);

/// How one attempt ends in the store.
#[derive(Debug, Clone)]
pub enum Ending {
    Success {
        /// `None` when the task's result is to be ignored.
        result: Option<Json>,
    },
    Failure(Failure),
    /// `revoked`, `expired`, `terminated` or `purged`.
    Revoked {
        reason: &'static str,
    },
    /// The task waits again: `next` is the same task with its new due time.
    Retry {
        next: Box<Message>,
        why: Failure,
    },
}

/// What is kept of one attempt beside its ending.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    /// `None` when the script never started.
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Hash of the code that ran.
    pub code: Option<Arc<str>>,
    pub log: Vec<LogLine>,
    pub children: Vec<TaskId>,
    /// `ignore_result`: nothing is published under Celery's result key.
    pub ignore_result: bool,
}

/// One atomic step: the receipt is checked, the outcome stored, what follows pushed, the lease ended.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub delivery: Delivery,
    pub ending: Ending,
    pub attempt: Attempt,
    /// Other tasks to send in the same step; one whose id is known already is not sent again.
    pub follow_ups: Vec<Message>,
}

/// What is kept of a task that may not be tried again and whose process died, or was stopped, while it ran.
pub fn worker_lost() -> Failure {
    Failure::new("billiard.exceptions", "WorkerLostError", "its process ended while it ran")
}

/// What is kept of a task whose process died too often while it ran.
pub fn poisoned() -> Failure {
    let message = format!("poisoned: its process ended {DEATHS} times while it ran, so it is not tried again");
    Failure::new("billiard.exceptions", "WorkerLostError", message)
}
