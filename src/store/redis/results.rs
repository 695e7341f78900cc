//! The result of a task in Celery's words: the JSON under `celery-task-meta-<id>`, written and read here only.
//!
//! It follows `celery/backends/base.py` (`_get_result_meta`, `prepare_exception`) of Celery 5.

use std::borrow::Cow;
use std::slice;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::store::{Ending, Settlement, Shown};
use crate::task::{Failure, GZIP, Json, Message, Progress, State, TaskId, Timestamp, decompress};

/// What Celery says of a task.
pub struct Meta {
    pub state: State,
    /// Of a task that succeeded.
    pub result: Option<Json>,
    pub error: Option<Failure>,
    /// Of a task that runs, and tells how far it is in the words that are usual with Celery.
    pub progress: Option<Progress>,
    pub done_at: Option<Timestamp>,
}

/// Whose result it is.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub id: &'a TaskId,
    pub parent_id: Option<&'a TaskId>,
    pub group_id: Option<&'a str>,
}

impl<'a> From<&'a Message> for Subject<'a> {
    fn from(message: &'a Message) -> Self {
        Self { id: &message.id, parent_id: message.parent_id.as_ref(), group_id: message.group_id.as_deref() }
    }
}

/// Why a task was revoked, as Celery names it.
pub fn revocation(reason: &str) -> Failure {
    Failure::celery("TaskRevokedError", reason)
}

/// What Celery's own worker would write for this ending; `None` when the result is to be ignored.
pub fn of_settlement(settlement: &Settlement, now: Timestamp) -> Option<String> {
    let Settlement { delivery, ending, attempt, .. } = settlement;
    let subject = Subject::from(&*delivery.message);
    if attempt.ignore_result {
        return None;
    }
    let done_at = attempt.finished_at.unwrap_or(now);
    let children = &attempt.children;
    Some(match ending {
        Ending::Success { result } => {
            of(subject, State::Success.as_str(), &result.as_deref(), None, children, Some(done_at))
        }
        Ending::Failure(failure) => of_failure(subject, State::Failure, failure, children, Some(done_at)),
        Ending::Revoked { reason } => of_failure(subject, State::Revoked, &revocation(reason), children, Some(done_at)),
        Ending::Retry { why, .. } => {
            // Celery counts the retry among the tasks that this one sent.
            let children = [children, slice::from_ref(subject.id)].concat();
            of_failure(subject, State::Retry, why, &children, None)
        }
    })
}

/// What Celery writes for a task that was revoked before it started.
pub fn of_revocation(subject: Subject<'_>, now: Timestamp) -> String {
    of_failure(subject, State::Revoked, &revocation("revoked"), &[], Some(now))
}

/// The same for one that was purged, up to whose result it is: `purge.lua` goes on with the group, the parent and the
/// id of each.
pub fn of_purge(now: Timestamp) -> String {
    let anybody = TaskId::random();
    let subject = Subject { id: &anybody, parent_id: None, group_id: None };
    let mut meta = of_failure(subject, State::Revoked, &revocation("purged"), &[], Some(now));
    meta.truncate(meta.rfind("\"task_id\"").expect("a result says whose it is"));
    meta
}

/// What Celery's own worker would write while the task runs: for `track_started`, and by `update_state` with the fields
/// that its documentation and celery-progress use.
pub fn of_running(message: &Message, shown: &Shown) -> String {
    let (state, result) = match shown {
        Shown::Started { pid, worker } => ("STARTED", json!({"pid": pid, "hostname": worker})),
        Shown::Progress(Progress { done, total, note: None }) => {
            ("PROGRESS", json!({"current": number(*done), "total": number(*total)}))
        }
        Shown::Progress(Progress { done, total, note }) => {
            ("PROGRESS", json!({"current": number(*done), "total": number(*total), "description": note}))
        }
    };
    of(message.into(), state, &result, None, &[], None)
}

// Whole ones as integers, as their sender wrote them.
fn number(number: f64) -> Value {
    let whole = number as i64;
    if whole as f64 == number { json!(whole) } else { json!(number) }
}

/// What Celery is told of a message that cannot be run.
pub fn of_refusal(subject: Subject<'_>, failure: &Failure, now: Timestamp) -> String {
    of_failure(subject, State::Failure, failure, &[], Some(now))
}

fn of_failure(
    subject: Subject<'_>,
    state: State,
    failure: &Failure,
    children: &[TaskId],
    done_at: Option<Timestamp>,
) -> String {
    let arguments = match &failure.arguments {
        Some(arguments) => json!(arguments),
        None if failure.exc_message.is_empty() => json!([]),
        None => json!([failure.exc_message]),
    };
    let exception = json!({"exc_type": failure.exc_type, "exc_message": arguments, "exc_module": failure.exc_module});
    of(subject, state.as_str(), &exception, failure.traceback.as_deref(), children, done_at)
}

fn of(
    subject: Subject<'_>,
    status: &str,
    result: &impl Serialize,
    traceback: Option<&str>,
    children: &[TaskId],
    done_at: Option<Timestamp>,
) -> String {
    #[derive(Serialize)]
    struct MetaOut<'a, R> {
        status: &'a str,
        result: &'a R,
        traceback: Option<&'a str>,
        children: Vec<Value>,
        date_done: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        group_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_id: Option<&'a TaskId>,
        task_id: &'a TaskId,
    }
    let meta = MetaOut {
        status,
        result,
        traceback,
        children: children.iter().map(|child| json!([[child, null], null])).collect(),
        date_done: done_at.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, false)),
        group_id: subject.group_id,
        parent_id: subject.parent_id,
        task_id: subject.id,
    };
    serde_json::to_string(&meta).expect("our own values are JSON")
}

/// States of Celery's that say nothing about the task itself, or nothing new.
const SILENT: [&str; 4] = ["PENDING", "RECEIVED", "REJECTED", "IGNORED"];

/// What stands in front of a result that Celery's `result_compression` packed; the kind of packing follows, and a zero.
const PACKED: &[u8] = b"\0celery-compressed\0";

// `None` for what is packed in a way that is not read here.
fn unpacked(meta: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(packed) = meta.strip_prefix(PACKED) else { return Some(meta.into()) };
    let packed = packed.strip_prefix(GZIP.as_bytes())?.strip_prefix(b"\0")?;
    decompress(packed).ok().map(Cow::Owned)
}

/// Reads what anybody's worker wrote. A state of somebody's own (`PROGRESS`) is that of a task that runs. `None` when it
/// is no such JSON or says nothing of the task.
pub fn read(meta: &[u8]) -> Option<Meta> {
    #[derive(Deserialize)]
    struct MetaIn<'a> {
        status: String,
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
        #[serde(default)]
        traceback: Option<String>,
        #[serde(default)]
        date_done: Option<Timestamp>,
    }
    #[derive(Deserialize)]
    struct Exception {
        exc_type: String,
        #[serde(default)]
        exc_message: Value,
        #[serde(default)]
        exc_module: Option<String>,
    }
    let meta = unpacked(meta)?;
    let meta: MetaIn = serde_json::from_slice(&meta).ok()?;
    let state = match State::parse(&meta.status) {
        Some(state) => state,
        None if SILENT.contains(&meta.status.as_str()) => return None,
        None => State::Started,
    };
    let empty = Meta { state, result: None, error: None, progress: None, done_at: meta.date_done };
    match state {
        State::Success => return Some(Meta { result: meta.result.map(ToOwned::to_owned), ..empty }),
        State::Started => return Some(Meta { progress: meta.result.and_then(progress), ..empty }),
        _ => {}
    }
    let exception: Option<Exception> = meta.result.and_then(|result| serde_json::from_str(result.get()).ok());
    let error = exception.map(|exception| Failure {
        traceback: meta.traceback,
        ..Failure::new(
            exception.exc_module.as_deref().unwrap_or("builtins"),
            &exception.exc_type,
            words(&exception.exc_message),
        )
    });
    Some(Meta { error, ..empty })
}

fn progress(meta: &RawValue) -> Option<Progress> {
    #[derive(Deserialize)]
    struct ProgressIn {
        current: f64,
        total: f64,
        #[serde(default)]
        description: Option<String>,
    }
    let ProgressIn { current, total, description } = serde_json::from_str(meta.get()).ok()?;
    Some(Progress { done: current, total, note: description.filter(|note| !note.is_empty()) })
}

// An exception's arguments as people read them.
fn words(arguments: &Value) -> String {
    match arguments {
        Value::Array(arguments) => arguments.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Attempt, Delivery, Receipt};
    use crate::task::{NewMessage, to_json};

    // What Celery 5.7.0's worker published for the task of one captured file, oldest first.
    fn captured(name: &str) -> Vec<Value> {
        let path = format!("{}/tests/celery/captured/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let sample: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let published = sample["pubsub"].as_array().unwrap().iter();
        let metas = published.filter(|it| it["channel"].as_str().unwrap().starts_with("celery-task-meta-"));
        metas.map(|it| it["data"].clone()).collect()
    }

    fn delivery(message: Message) -> Delivery {
        let receipt = Receipt { id: message.id.clone(), token: 1 };
        Delivery { receipt, message: message.into(), redelivered: false, deaths: 0, expired: false, waited: None }
    }

    fn check(theirs: &Value, ending: Ending, children: &[&str]) {
        let id = |text: &str| TaskId::parse(text).unwrap();
        let message = NewMessage {
            id: theirs["task_id"].as_str().map(id),
            parent_id: theirs["parent_id"].as_str().map(id),
            ..NewMessage::default()
        }
        .build();
        let settlement = Settlement {
            delivery: delivery(message),
            ending,
            attempt: Attempt {
                finished_at: theirs["date_done"].as_str().map(|time| time.parse().unwrap()),
                children: children.iter().map(|child| id(child)).collect(),
                ..Attempt::default()
            },
            follow_ups: Vec::new(),
        };

        let ours: Value = serde_json::from_str(&of_settlement(&settlement, chrono::Utc::now()).unwrap()).unwrap();

        assert_eq!(&ours, theirs);
        assert!(ours.as_object().unwrap().keys().eq(theirs.as_object().unwrap().keys()), "the order differs");
    }

    fn failure_of(theirs: &Value) -> Failure {
        let read = read(theirs.to_string().as_bytes()).unwrap();
        assert_eq!(read.state.as_str(), theirs["status"]);
        read.error.unwrap()
    }

    #[test]
    fn a_success_is_celerys() {
        let theirs = &captured("wrk-02-success")[0];

        check(theirs, Ending::Success { result: Some(to_json(&5)) }, &[]);
        assert_eq!(read(theirs.to_string().as_bytes()).unwrap().result.unwrap().get(), "5");
    }

    #[test]
    fn a_failure_is_celerys() {
        let theirs = &captured("wrk-03-failure")[0];
        let failure = failure_of(theirs);

        assert_eq!((failure.exc_type.as_str(), failure.exc_message.as_str()), ("ValueError", "kaboom"));
        assert!(failure.traceback.as_ref().unwrap().starts_with("Traceback"));
        check(theirs, Ending::Failure(failure), &[]);
    }

    #[test]
    fn retries_are_celerys() {
        let theirs = captured("wrk-15-retry");
        assert_eq!(theirs.len(), 3);

        for meta in &theirs[..2] {
            let next = Box::new(NewMessage::default().build());
            check(meta, Ending::Retry { next, why: failure_of(meta) }, &[]);
        }
        check(&theirs[2], Ending::Success { result: Some(to_json(&"ok after 2")) }, &[]);
    }

    #[test]
    fn a_revocation_is_celerys() {
        let theirs = &captured("wrk-19-expired")[0];

        check(theirs, Ending::Revoked { reason: "expired" }, &[]);
        assert_eq!(failure_of(theirs), revocation("expired"));
    }

    #[test]
    fn children_are_celerys() {
        let theirs = captured("wrk-25-parent-child");
        let parent = theirs.iter().find(|meta| meta["result"] == "parent").unwrap();
        let child = parent["children"][0][0][0].as_str().unwrap();

        check(parent, Ending::Success { result: Some(to_json(&"parent")) }, &[child]);
    }

    #[test]
    fn what_runs_is_celerys() {
        let message = |theirs: &Value| {
            let id = theirs["task_id"].as_str().and_then(|id| TaskId::parse(id).ok());
            NewMessage { id, ..NewMessage::default() }.build()
        };
        let started = &captured("wrk-22-track_started")[0];
        let progress = captured("wrk-23-progress");
        let shown = Shown::Started { pid: 1491, worker: "w1@demo".to_owned() };

        assert_eq!(of_running(&message(started), &shown), to_json(started).get());
        for (done, theirs) in (1..=3).zip(&progress) {
            let shown = Progress { done: done.into(), total: 3.0, note: None };
            assert_eq!(of_running(&message(theirs), &Shown::Progress(shown.clone())), to_json(theirs).get());
            assert_eq!(read(theirs.to_string().as_bytes()).unwrap().progress, Some(shown));
        }
    }

    #[test]
    fn an_exception_of_several_arguments_is_celerys() {
        let theirs = &captured("wrk-04-failure-custom-exception")[0];
        let arguments = theirs["result"]["exc_message"].as_array().cloned();

        let read = failure_of(theirs);

        assert_eq!(read.exc_message, "a, 1, {\"k\":\"v\"}");
        check(theirs, Ending::Failure(Failure { arguments, ..read }), &[]);
    }

    #[test]
    fn an_ignored_result_is_not_written() {
        let message = NewMessage::default().build();
        let settlement = Settlement {
            delivery: delivery(message),
            ending: Ending::Success { result: None },
            attempt: Attempt { ignore_result: true, ..Attempt::default() },
            follow_ups: Vec::new(),
        };

        assert_eq!(of_settlement(&settlement, chrono::Utc::now()), None);
    }

    #[test]
    fn a_state_of_somebodys_own_is_that_of_a_task_that_runs() {
        let meta =
            |status, result| read(json!({"status": status, "result": result, "task_id": "i"}).to_string().as_bytes());

        for result in [json!({"current": 1}), json!("half"), json!(null)] {
            let meta = meta("HALFWAY", result).unwrap();
            assert_eq!((meta.state, meta.progress), (State::Started, None));
        }
        let noted = meta("PROGRESS", json!({"current": 1.5, "total": 3, "description": "reading"})).unwrap();
        assert_eq!(noted.progress, Some(Progress { done: 1.5, total: 3.0, note: Some("reading".to_owned()) }));
        assert!(meta("PENDING", json!(null)).is_none());
        assert!(read(b"not json").is_none());
    }

    #[test]
    fn a_result_that_celery_packed_is_read() {
        let packed = |kind: &str, plain: &[u8]| {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut zlib, plain).unwrap();
            [PACKED, kind.as_bytes(), b"\0", &zlib.finish().unwrap()].concat()
        };
        let meta = br#"{"status": "SUCCESS", "result": [7], "traceback": null, "children": []}"#;

        assert_eq!(read(&packed(GZIP, meta)).unwrap().result.unwrap().get(), "[7]");
        assert!(read(&packed("application/x-bz2", meta)).is_none());
        assert!(read(PACKED).is_none());
    }
}
