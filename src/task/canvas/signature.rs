//! One call that is made later: Celery's signature of a task, read and made a message.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Sender, not_built};
use crate::task::envelope::seconds;
use crate::task::{
    Failure, Json, Message, NewMessage, Priority, QueueName, TaskId, Timestamp, check_name, parse_time, to_json,
};

/// What waits longer than this waits this long: a thousand years, so that every time has a year of four digits.
const FOR_EVER: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// A call that is made later.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    task: String,
    args: Vec<Json>,
    kwargs: Json,
    /// It is called with its own arguments alone.
    immutable: bool,
    wanted: Wanted,
    stamps: Map<String, Value>,
}

/// What a signature says about its sending, under the names of `Task.apply_async`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    task_id: Option<TaskId>,
    queue: Option<QueueName>,
    /// The name of the queue where none is given: kombu binds a queue by its own name.
    routing_key: Option<QueueName>,
    priority: Option<u8>,
    countdown: Option<f64>,
    #[serde(deserialize_with = "time")]
    eta: Option<DateTime<FixedOffset>>,
    expires: Option<Expires>,
    retries: Option<u32>,
    time_limit: Option<f64>,
    soft_time_limit: Option<f64>,
    ignore_result: Option<bool>,
    reply_to: Option<String>,
    shadow: Option<String>,
    group_id: Option<String>,
    group_index: Option<i64>,
    headers: Option<Map<String, Value>>,
    stamped_headers: Option<Vec<String>>,
    link: Option<Json>,
    link_error: Option<Json>,
    chain: Option<Json>,
    chord: Option<Json>,
}

#[derive(Debug, Clone, Copy)]
enum Expires {
    After(f64),
    At(DateTime<FixedOffset>),
}

/// A signature as it is written. Its further fields say nothing about one task.
#[derive(Deserialize)]
struct SignatureIn {
    task: String,
    #[serde(default)]
    args: Option<Vec<Json>>,
    #[serde(default)]
    kwargs: Option<Json>,
    #[serde(default)]
    options: Option<Json>,
    #[serde(default)]
    subtask_type: Option<String>,
    #[serde(default)]
    immutable: Option<bool>,
}

impl Signature {
    /// # Errors
    /// When it is none, or a workflow of several.
    pub fn read(written: &Json) -> Result<Self, Failure> {
        let bad = |why: String| Failure::builtin("ValueError", why);
        let read: SignatureIn = serde_json::from_str(written.get()).map_err(|why| bad(why.to_string()))?;
        if let Some(kind) = read.subtask_type {
            return Err(not_built(&format!("a {kind}")));
        }
        check_name(&read.task).map_err(|why| bad(format!("its task {why}")))?;
        let options = read.options.unwrap_or_else(|| to_json(&Map::new()));
        let wanted: Wanted =
            serde_json::from_str(options.get()).map_err(|why| bad(format!("in its options: {why}")))?;
        for (name, linked) in [("link", &wanted.link), ("link_error", &wanted.link_error)] {
            if linked.as_ref().is_some_and(|linked| !linked.get().starts_with(['{', '['])) {
                return Err(bad(format!("its `{name}` is neither a signature nor a list of them")));
            }
        }
        let kwargs = read.kwargs.unwrap_or_else(|| to_json(&Map::new()));
        if !kwargs.get().starts_with('{') {
            return Err(bad("its kwargs are no JSON object".to_owned()));
        }
        Ok(Self {
            task: read.task,
            args: read.args.unwrap_or_default(),
            kwargs,
            immutable: read.immutable.unwrap_or(false),
            stamps: stamps(&wanted, &options),
            wanted,
        })
    }

    /// About how many bytes the body is when it is called with `first`.
    pub fn size(&self, first: &Json) -> usize {
        let raw = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.get().len());
        let Wanted { link, link_error, chain, chord, .. } = &self.wanted;
        let linked: usize = [link, link_error, chain, chord].into_iter().map(raw).sum();
        let first = (!self.immutable).then_some(first);
        let args: usize = first.into_iter().chain(&self.args).map(|argument| argument.get().len()).sum();
        args + self.kwargs.get().len() + linked
    }

    /// Its message, called with `first` before its own arguments. `id` is for one that says none.
    pub fn message(&self, parent: &Message, id: impl Fn() -> TaskId, first: &Json, sender: Sender<'_>) -> Message {
        let Sender { origin, now, declared } = sender;
        let (wanted, declared) = (&self.wanted, declared(&self.task));
        let after = |wait: Duration| {
            let wait = chrono::Duration::from_std(wait.min(FOR_EVER)).unwrap_or_default();
            now.checked_add_signed(wait).unwrap_or(Timestamp::MAX_UTC).fixed_offset()
        };
        let message = NewMessage {
            task: self.task.clone(),
            id: Some(wanted.task_id.clone().unwrap_or_else(id)),
            queue: wanted.queue.clone().or_else(|| wanted.routing_key.clone()).unwrap_or(declared.queue),
            priority: wanted.priority.map_or(declared.priority, Priority),
            ignore_result: wanted.ignore_result.or(Some(declared.ignore_result)),
            parent_id: Some(parent.id.clone()),
            root_id: Some(parent.root_id.clone().unwrap_or_else(|| parent.id.clone())),
            origin: Some(origin.to_owned()),
            ..NewMessage::default()
        }
        .build();
        let message = Message {
            retries: wanted.retries.unwrap_or(0),
            eta: wanted.eta.or_else(|| wanted.countdown.and_then(seconds).filter(|wait| !wait.is_zero()).map(after)),
            expires: match wanted.expires {
                Some(Expires::At(time)) => Some(time),
                Some(Expires::After(wait)) => Some(after(seconds(wait).unwrap_or_default())),
                None => declared.expires.map(after),
            },
            time_limit: wanted.time_limit.and_then(seconds),
            soft_time_limit: wanted.soft_time_limit.and_then(seconds),
            group_id: wanted.group_id.clone(),
            group_index: wanted.group_index,
            reply_to: wanted.reply_to.clone(),
            body: self.body((!self.immutable).then_some(first)).into(),
            ..message
        };
        message.with_headers(self.headers())
    }

    fn body(&self, first: Option<&Json>) -> String {
        let args = first.into_iter().chain(&self.args).map(|argument| argument.get()).collect::<Vec<_>>().join(",");
        let Wanted { link, link_error, chain, chord, .. } = &self.wanted;
        let as_it_is = |json: &Option<Json>| json.as_deref().map_or("null", RawValue::get).to_owned();
        // Celery's senders take one alone for a list of one; who reads a message finds a list.
        let list = |json: &Option<Json>| match json {
            Some(one) if one.get().starts_with('{') => format!("[{}]", one.get()),
            other => as_it_is(other),
        };
        format!(
            r#"[[{args}],{},{{"callbacks":{},"errbacks":{},"chain":{},"chord":{}}}]"#,
            self.kwargs.get(),
            list(link),
            list(link_error),
            as_it_is(chain),
            as_it_is(chord)
        )
    }

    // Those that are columns of the message are not among them.
    fn headers(&self) -> Map<String, Value> {
        let mut headers = self.wanted.headers.clone().unwrap_or_default();
        // It would say of our body what is not so.
        headers.remove("compression");
        if let Some(shadow) = &self.wanted.shadow {
            headers.insert("shadow".to_owned(), json!(shadow));
        }
        if let Some(names) = &self.wanted.stamped_headers {
            headers.insert("stamped_headers".to_owned(), json!(names));
            headers.insert("stamps".to_owned(), Value::Object(self.stamps.clone()));
        }
        headers
    }
}

// Celery keeps the stamps among the options, each under its own name.
fn stamps(wanted: &Wanted, options: &Json) -> Map<String, Value> {
    let Some(names) = &wanted.stamped_headers else { return Map::new() };
    let mut options: BTreeMap<String, Value> = serde_json::from_str(options.get()).unwrap_or_default();
    names.iter().filter_map(|name| Some((name.clone(), options.remove(name)?))).collect()
}

// As text, or as kombu's JSON writes a `datetime`.
fn read_time(value: &Value) -> Option<DateTime<FixedOffset>> {
    match value {
        Value::String(text) => parse_time(text),
        Value::Object(typed) if typed.get("__type__").is_some_and(|kind| kind == "datetime") => {
            parse_time(typed.get("__value__")?.as_str()?)
        }
        _ => None,
    }
}

fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<DateTime<FixedOffset>>, D::Error> {
    let value = Value::deserialize(input)?;
    if value.is_null() {
        return Ok(None);
    }
    read_time(&value).map(Some).ok_or_else(|| serde::de::Error::custom(format!("`{value}` is no time")))
}

impl<'de> Deserialize<'de> for Expires {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(input)?;
        let read = value.as_f64().map(Self::After).or_else(|| read_time(&value).map(Self::At));
        read.ok_or_else(|| serde::de::Error::custom(format!("`{value}` is neither seconds nor a time")))
    }
}
