//! What is kept of a run: a hash with the message in brief, where the task stands, and the latest attempt.
//!
//! The result itself lies only under Celery's key. A task that another kind of worker ran ends only there too, until
//! `elsewhere.rs` writes it down here.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::{Ending, Settlement};
use crate::task::{Failure, Known, Message, Progress, QueueName, Run, State, TaskId, Timestamp};

use super::results::{self, Meta, Subject};

/// What is kept of a message, as one JSON text in the hash: less than half of an envelope.
#[derive(Serialize, Deserialize)]
pub struct Brief<'a> {
    task: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_default")]
    priority: u8,
    #[serde(default, skip_serializing_if = "is_default")]
    retries: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eta: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Cow<'a, RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kwargs: Option<Cow<'a, RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent_id: Option<TaskId>,
    /// `None` where it is the task itself, which has no parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root_id: Option<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    ignore_result: bool,
}

// What most messages have is not written, because it would be for each of them.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<'a> Brief<'a> {
    /// The text of it.
    pub fn text_of(message: &Message) -> String {
        let written = message.with_arguments(|args, kwargs| text(&Brief::new(message, Some((args, kwargs)))));
        // A body that cannot be read is told by who runs it.
        written.unwrap_or_else(|_| text(&Brief::new(message, None)))
    }

    fn new(message: &'a Message, arguments: Option<(&'a RawValue, &'a RawValue)>) -> Self {
        let (args, kwargs) = arguments.unzip();
        let has_parent = message.parent_id.as_ref().is_some_and(|parent| *parent != message.id);
        Self {
            task: message.task.as_str().into(),
            priority: message.priority.0,
            retries: message.retries,
            eta: message.due_at(),
            args: args.map(Cow::Borrowed),
            kwargs: kwargs.map(Cow::Borrowed),
            parent_id: message.parent_id.clone(),
            root_id: message.root_id.clone().filter(|root| *root != message.id || has_parent),
            group_id: message.group_id.as_deref().map(Into::into),
            ignore_result: message.ignore_result == Some(true),
        }
    }

    /// The text of what can be said of a message that cannot be run.
    pub fn text_of_known(known: &Known) -> String {
        let brief = Brief {
            task: known.task.as_deref().unwrap_or("unknown").into(),
            priority: 0,
            retries: 0,
            eta: None,
            args: None,
            kwargs: None,
            parent_id: known.parent_id.clone(),
            root_id: None,
            group_id: known.group_id.as_deref().map(Into::into),
            ignore_result: known.ignore_result,
        };
        text(&brief)
    }
}

/// What an attempt left, as one JSON text in the hash. Its log is a field of its own.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended<'a> {
    #[serde(with = "instant")]
    started_at: Option<Timestamp>,
    #[serde(with = "instant")]
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    children: Cow<'a, [TaskId]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, Failure>>,
    /// Who ran it, where nobody wrote down that it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<Cow<'a, str>>,
}

impl Ended<'_> {
    /// The text of it.
    pub fn text_of_settlement(settlement: &Settlement, worker: Option<&str>, now: Timestamp) -> String {
        let attempt = &settlement.attempt;
        text(&Ended {
            started_at: attempt.started_at,
            finished_at: attempt.finished_at.or(Some(now)),
            code: attempt.code.as_deref().map(Into::into),
            children: attempt.children.as_slice().into(),
            error: match &settlement.ending {
                Ending::Success { .. } => None,
                Ending::Failure(why) | Ending::Retry { why, .. } => Some(Cow::Borrowed(why)),
                Ending::Revoked { reason } => Some(Cow::Owned(results::revocation(reason))),
            },
            worker: worker.map(Into::into),
        })
    }

    /// The text of a task that could not be run.
    pub fn text_of_refusal(why: &Failure, now: Timestamp) -> String {
        text(&Ended { finished_at: Some(now), error: Some(Cow::Borrowed(why)), ..Ended::default() })
    }

    /// The text of a task that a worker of another kind ran, as far as Celery's result tells.
    pub fn text_of_run(run: &Run) -> String {
        let error = run.error.as_ref().map(Cow::Borrowed);
        text(&Ended { finished_at: run.finished_at, error, ..Ended::default() })
    }

    /// The text of a task that did not start, for this reason.
    pub fn text_of_revocation(reason: &str, now: Timestamp) -> String {
        Self::text_of_refusal(&results::revocation(reason), now)
    }
}

/// A time as microseconds, which are written faster and in less space; once it was a text.
mod instant {
    use chrono::DateTime;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::task::Timestamp;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Micros(i64),
        Text(Timestamp),
    }

    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.timestamp_micros()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(match Option::deserialize(deserializer)? {
            Some(Written::Micros(micros)) => DateTime::from_timestamp_micros(micros),
            Some(Written::Text(time)) => Some(time),
            None => None,
        })
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own values are JSON")
}

/// The fields of a run's hash that are shown where many runs are: all but its log.
pub const LISTED: [&str; 11] =
    ["brief", "queue", "state", "queued_at", "eta", "started_at", "retries", "worker", "token", "progress", "attempt"];

/// The hash of one run, as Redis gave it.
pub struct Record {
    brief: Brief<'static>,
    fields: HashMap<String, Vec<u8>>,
}

impl Record {
    /// `None` when there is none.
    pub fn of_listed(values: Vec<Option<Vec<u8>>>) -> Option<Self> {
        let fields = LISTED.into_iter().zip(values);
        Self::new(fields.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }

    /// `None` when there is none.
    pub fn new(fields: HashMap<String, Vec<u8>>) -> Option<Self> {
        let brief = serde_json::from_slice(fields.get("brief")?).ok()?;
        Some(Self { brief, fields })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        self.text(name)?.parse().ok().and_then(DateTime::from_timestamp_millis)
    }

    /// It says itself how the task ended.
    pub fn is_final(&self) -> bool {
        self.text("state").and_then(State::parse).is_some_and(State::is_final)
    }

    /// What Celery is told when the task is revoked before it starts; `None` when its result is to be ignored.
    pub fn revocation(&self, id: &TaskId, now: Timestamp) -> Option<String> {
        let Brief { parent_id, group_id, ignore_result, .. } = &self.brief;
        let subject = Subject { id, parent_id: parent_id.as_ref(), group_id: group_id.as_deref() };
        (!ignore_result).then(|| results::of_revocation(subject, now))
    }

    /// The run, with what Celery's result key says where that is newer.
    pub fn run(self, id: &TaskId, meta: Option<&[u8]>) -> Option<Run> {
        // Of what one of us has claimed, the record knows best.
        let ours = self.text("token").is_some();
        let mut run = self.own_run(id)?;
        if let Some(meta) = meta.and_then(results::read) {
            complete(&mut run, meta, ours);
        }
        Some(run)
    }

    fn own_run(self, id: &TaskId) -> Option<Run> {
        let state = State::parse(self.text("state")?)?;
        let running = state == State::Started;
        // On Celery's wire a retry is its own parent.
        let parent_id = self.brief.parent_id.clone().filter(|parent| parent != id);
        let own_root = parent_id.is_none().then(|| id.clone());
        let ended: Ended = self.text("attempt").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Some(Run {
            id: id.clone(),
            state,
            queue: QueueName::parse(self.text("queue")?).ok()?,
            priority: self.brief.priority,
            result: None,
            error: ended.error.filter(|_| !running).map(Cow::into_owned),
            progress: self.progress().filter(|_| running),
            retries: self.text("retries").and_then(|retries| retries.parse().ok()).unwrap_or(self.brief.retries),
            queued_at: self.time("queued_at"),
            eta: self.time("eta").or(self.brief.eta),
            started_at: if running { self.time("started_at") } else { ended.started_at },
            finished_at: ended.finished_at.filter(|_| !running),
            worker: ended
                .worker
                .filter(|_| !running)
                .or_else(|| self.text("worker").map(Cow::from))
                .map(Cow::into_owned),
            code: ended.code.map(Cow::into_owned),
            children: ended.children.into_owned(),
            log: self.text("log").and_then(|log| serde_json::from_str(log).ok()).unwrap_or_default(),
            task: self.brief.task.into_owned(),
            args: self.brief.args.map(Cow::into_owned),
            kwargs: self.brief.kwargs.map(Cow::into_owned),
            parent_id,
            root_id: self.brief.root_id.or(own_root),
        })
    }

    // It stands behind the token of the attempt that it belongs to.
    fn progress(&self) -> Option<Progress> {
        let (token, progress) = self.text("progress")?.split_once(' ')?;
        (self.text("token") == Some(token)).then(|| serde_json::from_str(progress).ok())?
    }
}

fn complete(run: &mut Run, meta: Meta, ours: bool) {
    if run.state == State::Success && meta.state == State::Success {
        run.result = meta.result;
    } else if !run.state.is_final() && meta.state.is_final() {
        *run = Run {
            state: meta.state,
            result: meta.result,
            error: meta.error,
            finished_at: meta.done_at,
            progress: None,
            ..run.clone()
        };
    } else if !run.state.is_final() && !ours {
        // A worker of another kind has it.
        *run = Run { state: meta.state, error: meta.error, progress: meta.progress, ..run.clone() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_numbers_and_as_the_texts_that_they_once_were() {
        let time: Timestamp = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        let attempt = Ended { started_at: Some(time), ..Ended::default() };

        let written = text(&attempt);

        assert_eq!(written, r#"{"started_at":1767323045678901,"finished_at":null}"#);
        for text in [written.as_str(), r#"{"started_at":"2026-01-02T03:04:05.678901Z"}"#] {
            assert_eq!(serde_json::from_str::<Ended>(text).unwrap().started_at, Some(time), "{text}");
        }
    }
}
