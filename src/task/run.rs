//! What is kept of a task: its state, its times, its result, its log.

use serde::{Deserialize, Serialize};

use super::{Failure, Json, QueueName, TaskId, Timestamp};

/// Where a task stands. The names are Celery's, with `QUEUED` and `SCHEDULED` for what Celery calls `PENDING`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Waits for its due time.
    Scheduled,
    /// Waits for a worker.
    Queued,
    /// A worker has it.
    Started,
    /// Failed or asked for it, and waits to be tried again.
    Retry,
    Success,
    Failure,
    Revoked,
}

impl State {
    pub const ALL: [State; 7] =
        [Self::Scheduled, Self::Queued, Self::Started, Self::Retry, Self::Success, Self::Failure, Self::Revoked];

    /// Nothing will change any more (Celery: `READY_STATES`).
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Queued => "QUEUED",
            Self::Started => "STARTED",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
        }
    }

    /// The state of that name, in capitals; `None` when there is none.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// How far a running task says it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub done: f64,
    pub total: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One line that a script wrote while it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    pub at: Timestamp,
    /// `info`, `warn` or `error`.
    pub level: String,
    pub text: String,
}

/// Everything kept of one task; the answer of `GET /api/tasks/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub id: TaskId,
    pub task: String,
    pub state: State,
    pub queue: QueueName,
    pub priority: u8,
    /// Positional arguments as JSON; `None` when the store does not keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Json>,
    /// Named arguments as JSON; `None` when the store does not keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kwargs: Option<Json>,
    /// What the script returned; `None` until it succeeded, and for `ignore_result`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// Why it failed, was revoked, or is tried again; `None` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Retries so far.
    pub retries: u32,
    /// When the store took it; `None` for a foreign sender's message.
    pub queued_at: Option<Timestamp>,
    /// When it is due, for a delayed task or a retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<Timestamp>,
    /// When its latest attempt started.
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Who ran it, as `name@host`.
    pub worker: Option<String>,
    /// Hash of the script that its latest attempt ran.
    pub code: Option<String>,
    /// The task that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_id: Option<TaskId>,
    /// The tasks it sent.
    #[serde(default)]
    pub children: Vec<TaskId>,
    #[serde(default)]
    pub log: Vec<LogLine>,
}
