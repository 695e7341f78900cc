//! What a running script may ask of whoever runs it.
//!
//! The rooms above implement [`Host`]: the worker for tasks, channels for consumers. The script room keeps the host
//! of a call on the call's thread, where native functions find it by [`host`](super::host()) (and `print`, to which
//! rhai gives no context, finds it too). There is none while a module level is evaluated, and then every native
//! function that wants one refuses.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::task::{Json, Priority, QueueName, TaskId, Timestamp};

/// Why a host refused; the script gets it as a catchable error of that class.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// A class of Python's builtins or of `celery.exceptions`, such as `TypeError` or `NotRegistered`.
    pub exc_type: &'static str,
    pub message: String,
}

impl HostError {
    pub fn new(exc_type: &'static str, message: impl Into<String>) -> Self {
        Self { exc_type, message: message.into() }
    }

    /// `what` is not for this kind of script.
    pub fn not_here(what: &str, place: &str) -> Self {
        Self::new("RuntimeError", format!("`{what}` is not available in {place}"))
    }
}

/// The level of a line that a script logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What a script knows of the task it runs for.
#[derive(Debug, Clone)]
pub struct TaskFacts {
    pub id: TaskId,
    pub name: String,
    pub retries: u32,
    pub args: Json,
    pub kwargs: Json,
    pub root_id: Option<TaskId>,
    pub parent_id: Option<TaskId>,
    pub group_id: Option<String>,
}

/// A task that a script sends.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    pub task: String,
    pub args: Vec<Value>,
    pub kwargs: serde_json::Map<String, Value>,
    pub countdown: Option<Duration>,
    pub eta: Option<Timestamp>,
    pub expires: Option<Duration>,
    pub queue: Option<QueueName>,
    pub priority: Option<Priority>,
    pub id: Option<TaskId>,
    pub max_retries: Option<u32>,
}

/// What a consumer's script may do with its socket and with groups.
pub trait SocketHost: Send + Sync {
    /// Accepts the handshake; without it the socket is refused with 403.
    fn accept(&self) -> Result<(), HostError>;
    /// Closes with this code (1000, or 3000 to 4999).
    fn close(&self, code: u16) -> Result<(), HostError>;
    /// Sends one text frame.
    fn send(&self, frame: String) -> Result<(), HostError>;
    fn group_add(&self, group: &str) -> Result<(), HostError>;
    fn group_discard(&self, group: &str) -> Result<(), HostError>;
}

/// What any running script may ask. Calls may block the script's thread, never longer than its deadline. What a host
/// does not say it can do, it refuses.
pub trait Host: Send + Sync {
    /// The script begins on its thread now.
    fn started(&self) {}
    /// Who is asking, for error texts: "a task", "a consumer".
    fn place(&self) -> &'static str;
    /// The task it runs for; `None` for a consumer.
    fn task(&self) -> Option<Arc<TaskFacts>> {
        None
    }
    /// The socket it runs for; `None` for a task.
    fn socket(&self) -> Option<&dyn SocketHost> {
        None
    }
    /// Whether it may sleep: consumers must not hold their threads.
    fn may_sleep(&self) -> bool {
        false
    }
    /// Somebody asked that the task ends. It need not: it is stopped only when that was asked for too.
    fn is_revoked(&self) -> Result<bool, HostError> {
        Ok(false)
    }
    fn log(&self, level: Level, text: &str);
    fn progress(&self, _done: f64, _total: f64, _note: Option<String>) -> Result<(), HostError> {
        Err(HostError::not_here("task::progress", self.place()))
    }
    /// Sends a task and returns its id at once.
    fn submit(&self, _submission: Submission) -> Result<TaskId, HostError> {
        Err(HostError::not_here("delay", self.place()))
    }
    /// Sends `event`, a map with a `type`, to every socket of `group`.
    fn group_send(&self, _group: &str, _event: Value) -> Result<(), HostError> {
        Err(HostError::not_here("group_send", self.place()))
    }
    fn kv_get(&self, _key: &str) -> Result<Option<Json>, HostError> {
        Err(HostError::not_here("kv::get", self.place()))
    }
    #[expect(clippy::boxed_local, reason = "those that keep it want it as it is")]
    fn kv_set(&self, _key: &str, _value: Json, _ttl: Option<Duration>, _only_new: bool) -> Result<bool, HostError> {
        Err(HostError::not_here("kv::set", self.place()))
    }
    fn kv_incr(&self, _key: &str, _by: i64) -> Result<i64, HostError> {
        Err(HostError::not_here("kv::incr", self.place()))
    }
    fn kv_delete(&self, _key: &str, _expected: Option<Json>) -> Result<bool, HostError> {
        Err(HostError::not_here("kv::delete", self.place()))
    }
}
