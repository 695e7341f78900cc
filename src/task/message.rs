//! The message of a task: Celery's protocol 2 (its document "Message Protocol"), in kombu's envelope for Redis.
//!
//! In memory a message is its columns, the raw body `[args, kwargs, embed]`, and, for one that came from outside,
//! the headers and properties as they were written. Writing such a message puts our columns over those, so that
//! fields we do not know survive a retry. A body is read only by the one who runs it.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, FixedOffset, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{Defect, Foreign, Json, Priority, QueueName, TaskId, Timestamp};

/// The largest body, in bytes, before and after decompression. A larger one is unreadable.
pub const MAX_BODY: usize = 16 << 20;

/// The largest envelope, in bytes. A larger one is unreadable, and only its ends are looked at.
pub const MAX_WIRE: usize = 32 << 20;

/// One task on its way to a worker.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: TaskId,
    pub task: String,
    pub queue: QueueName,
    pub priority: Priority,
    /// Retries so far.
    pub retries: u32,
    /// Not before this time. The offset is kept, because a sender may read its own message back.
    pub eta: Option<DateTime<FixedOffset>>,
    /// Not started after this time.
    pub expires: Option<DateTime<FixedOffset>>,
    pub time_limit: Option<Duration>,
    pub soft_time_limit: Option<Duration>,
    /// `None` leaves it to the task.
    pub ignore_result: Option<bool>,
    /// Retries allowed, over the task's own; `None` leaves it to the task. Ours: no field of Celery's.
    pub max_retries: Option<u32>,
    pub root_id: Option<TaskId>,
    pub parent_id: Option<TaskId>,
    pub group_id: Option<String>,
    pub group_index: Option<i64>,
    pub reply_to: Option<String>,
    /// Who sent it, as `name@host`.
    pub origin: Option<String>,
    /// `[args, kwargs, embed]`, compressed where `foreign` says so.
    pub body: Bytes,
    /// What another program wrote around the body; `None` for a message of ours.
    pub foreign: Option<Box<Foreign>>,
}

/// What a sender decides about a message; the rest is derived by [`NewMessage::build`].
#[derive(Debug, Clone, Default)]
pub struct NewMessage {
    pub task: String,
    /// `None` makes a random one.
    pub id: Option<TaskId>,
    /// A JSON array; `None` is `[]`.
    pub args: Option<Json>,
    /// A JSON object; `None` is `{}`.
    pub kwargs: Option<Json>,
    pub queue: QueueName,
    pub priority: Priority,
    pub eta: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    pub ignore_result: Option<bool>,
    pub max_retries: Option<u32>,
    /// The task that sends it; `None` outside of tasks.
    pub parent_id: Option<TaskId>,
    /// The first of the line; `None` makes it its own root.
    pub root_id: Option<TaskId>,
    pub origin: Option<String>,
}

/// The third part of a body: what Celery is to do after the task.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Embed {
    pub callbacks: Option<Vec<Json>>,
    pub errbacks: Option<Vec<Json>>,
    pub chain: Option<Vec<Json>>,
    pub chord: Option<Json>,
}

impl Embed {
    /// Nothing follows the task.
    pub fn is_empty(&self) -> bool {
        let none = |list: &Option<Vec<Json>>| list.as_ref().is_none_or(Vec::is_empty);
        none(&self.callbacks) && none(&self.errbacks) && none(&self.chain) && self.chord.is_none()
    }
}

impl NewMessage {
    /// The message of these decisions.
    pub fn build(self) -> Message {
        let id = self.id.unwrap_or_else(TaskId::random);
        let args = self.args.as_deref().map_or("[]", RawValue::get);
        let kwargs = self.kwargs.as_deref().map_or("{}", RawValue::get);
        let embed = r#"{"callbacks":null,"errbacks":null,"chain":null,"chord":null}"#;
        Message {
            task: self.task,
            queue: self.queue,
            priority: self.priority,
            retries: 0,
            eta: self.eta.map(|time| time.fixed_offset()),
            expires: self.expires.map(|time| time.fixed_offset()),
            time_limit: None,
            soft_time_limit: None,
            ignore_result: self.ignore_result,
            max_retries: self.max_retries,
            root_id: Some(self.root_id.unwrap_or_else(|| id.clone())),
            parent_id: self.parent_id,
            group_id: None,
            group_index: None,
            reply_to: None,
            origin: self.origin,
            body: format!("[{args},{kwargs},{embed}]").into(),
            foreign: None,
            id,
        }
    }
}

impl Message {
    /// The body as `[args, kwargs, embed]` in the types of the reader.
    pub fn read_body<A, K>(&self) -> Result<(A, K, Embed), Defect>
    where
        A: serde::de::DeserializeOwned,
        K: serde::de::DeserializeOwned,
    {
        let (args, kwargs, embed): (A, K, Option<Embed>) =
            serde_json::from_slice(&self.plain_body()?).map_err(Defect::Body)?;
        Ok((args, kwargs, embed.unwrap_or_default()))
    }

    /// The positional and the named arguments as JSON text.
    pub fn arguments(&self) -> Result<(Json, Json), Defect> {
        self.with_arguments(|args, kwargs| (args.to_owned(), kwargs.to_owned()))
    }

    /// The same without a copy of them.
    pub fn with_arguments<R>(&self, look: impl FnOnce(&RawValue, &RawValue) -> R) -> Result<R, Defect> {
        let body = self.plain_body()?;
        let (args, kwargs, _) =
            serde_json::from_slice::<(&RawValue, &RawValue, Option<IgnoredAny>)>(&body).map_err(Defect::Body)?;
        Ok(look(args, kwargs))
    }

    /// The same task once more, not before `eta`: same id, one retry more, its own parent (as Celery's `retry`).
    pub fn retry(&self, eta: Timestamp) -> Self {
        Self {
            retries: self.retries.saturating_add(1),
            eta: Some(eta.fixed_offset()),
            parent_id: Some(self.id.clone()),
            ..self.clone()
        }
    }

    /// The task that sent it; `None` when no task did, and where a retry came over Celery's wire, which has its own id
    /// in that place.
    pub fn parent(&self) -> Option<&TaskId> {
        self.parent_id.as_ref().filter(|parent| **parent != self.id)
    }

    /// When it is due; `None` is at once.
    pub fn due_at(&self) -> Option<Timestamp> {
        self.eta.map(|time| time.with_timezone(&Utc))
    }

    /// It may no longer start at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}
