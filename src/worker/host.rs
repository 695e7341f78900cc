//! What a running task may ask of the worker.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::Value;

use super::Floor;
use super::meters::Meter;
use super::reporter::Reporter;
use crate::client::{Parent, Request};
use crate::plugin::Task;
use crate::script::{Host, HostError, Level, Submission, TaskFacts, wait_for};
use crate::store::{self, Attempt, Delivery, Receipt, Space};
use crate::task::{Followers, Json, LogLine, Message, Progress, TaskId, Timestamp, to_json};

/// The most lines of a run's log that are kept; of more, the last one says that there were.
const LOG_LINES: usize = 1_000;

/// The most of one line, in bytes; the rest is cut.
const LOG_LINE: usize = 4 << 10;

/// The most tasks that one attempt may send. One more is an error in the script.
const CHILDREN: usize = if cfg!(test) { 50 } else { 100_000 };

/// How long the store may take to answer a script.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The host of one attempt of one task.
pub struct TaskHost {
    floor: Arc<Floor>,
    message: Arc<Message>,
    receipt: Receipt,
    /// Whose values it shares.
    space: Space,
    ignore_result: bool,
    track_started: bool,
    meter: Arc<Meter>,
    /// How long it had waited when it was claimed.
    waited: Option<Duration>,
    claimed: Instant,
    /// Shared with those who look at the worker.
    started_at: Arc<OnceLock<Timestamp>>,
    facts: OnceLock<Arc<TaskFacts>>,
    log: Mutex<Vec<LogLine>>,
    children: Mutex<Vec<TaskId>>,
    followers: OnceLock<Followers>,
    /// Made by the first report: most tasks make none.
    reporter: OnceLock<Reporter>,
}

impl TaskHost {
    /// `claimed` is when this process got the delivery.
    pub fn new(floor: Arc<Floor>, delivery: &Delivery, task: &Task, meter: Arc<Meter>, claimed: Instant) -> Self {
        Self {
            floor,
            message: delivery.message.clone(),
            receipt: delivery.receipt.clone(),
            space: Space::of(task.plugin.as_deref()),
            ignore_result: delivery.message.ignore_result.unwrap_or(task.options.ignore_result),
            track_started: task.options.track_started,
            meter,
            waited: delivery.waited,
            claimed,
            started_at: Arc::default(),
            facts: OnceLock::new(),
            log: Mutex::default(),
            children: Mutex::default(),
            followers: OnceLock::new(),
            reporter: OnceLock::new(),
        }
    }

    pub fn message(&self) -> &Arc<Message> {
        &self.message
    }

    /// What its message says is to follow the task.
    pub fn followed_by(&self, followers: Followers) {
        // A message is read once.
        let _ = self.followers.set(followers);
    }

    /// `None` when nothing is to follow, or the message was not read.
    pub fn followers(&self) -> Option<&Followers> {
        self.followers.get()
    }

    /// Set when the script begins.
    pub fn started_at(&self) -> &Arc<OnceLock<Timestamp>> {
        &self.started_at
    }

    /// What is kept of the attempt once the script has ended.
    pub fn attempt(&self, task: &Task) -> Attempt {
        Attempt {
            started_at: self.started_at.get().copied(),
            finished_at: None,
            code: Some(task.script.hash.clone()),
            log: std::mem::take(&mut *self.log.lock().expect("no one panics while the log is locked")),
            children: std::mem::take(&mut *self.children.lock().expect("no one panics while children are locked")),
            ignore_result: self.ignore_result,
        }
    }

    fn reporter(&self) -> &Reporter {
        self.reporter.get_or_init(|| {
            let stores = self.floor.client.stores().clone();
            Reporter::new(stores, self.message.clone(), self.receipt.clone(), !self.ignore_result)
        })
    }

    /// Waits on the script's thread for the answer, until the script must end. What was asked may be done then all
    /// the same: nobody knows.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, HostError>>) -> Result<T, HostError> {
        let late = |why| HostError::new("TimeoutError", why);
        // A timer must be made within the runtime.
        let answer = async { tokio::time::timeout(ANSWER_WITHIN, answer).await };
        match wait_for(&self.floor.runtime, answer) {
            Some(Ok(answer)) => answer,
            Some(Err(_)) => Err(late("the store did not answer in time")),
            // The script ends at its next operation and says why itself.
            None => Err(late("the script must end")),
        }
    }

    fn ask<T>(&self, answer: impl Future<Output = store::Result<T>>) -> Result<T, HostError> {
        self.wait(async { answer.await.map_err(HostError::from) })
    }
}

impl Host for TaskHost {
    fn started(&self) {
        if self.started_at.set(Utc::now()).is_ok() {
            self.meter.started(self.waited.map(|waited| waited + self.claimed.elapsed()));
            self.floor.client.stores().queue.started(&self.receipt);
            if self.track_started {
                self.reporter().started(&self.floor.runtime, std::process::id(), &self.floor.settings.name);
            }
        }
    }

    fn place(&self) -> &'static str {
        "a task"
    }

    fn task(&self) -> Option<Arc<TaskFacts>> {
        let facts = self.facts.get_or_init(|| {
            let message = &self.message;
            let (args, kwargs) = message
                .arguments()
                .unwrap_or_else(|_| (to_json(&Value::Array(Vec::new())), to_json(&Value::Object(Default::default()))));
            Arc::new(TaskFacts {
                id: message.id.clone(),
                name: message.task.clone(),
                retries: message.retries,
                args,
                kwargs,
                root_id: message.root_id.clone(),
                parent_id: message.parent().cloned(),
                group_id: message.group_id.clone(),
            })
        });
        Some(facts.clone())
    }

    fn may_sleep(&self) -> bool {
        true
    }

    fn is_revoked(&self) -> Result<bool, HostError> {
        self.wait(async {
            match self.floor.client.stores().queue.is_revoked(&self.receipt).await {
                // What runs goes on meanwhile: to ask for its end must not be what ends it.
                Err(error) if error.is_told() => Ok(false),
                answer => Ok(answer?),
            }
        })
    }

    fn log(&self, level: Level, text: &str) {
        let text = &text[..text.floor_char_boundary(LOG_LINE)];
        self.floor.journal.said(&self.message, level, text);
        let mut log = self.log.lock().expect("no one panics while the log is locked");
        let text = match log.len() {
            LOG_LINES.. => return,
            last if last == LOG_LINES - 1 => "… more lines were written and are not kept",
            _ => text,
        };
        log.push(LogLine { at: Utc::now(), level: level.as_str().to_owned(), text: text.to_owned() });
    }

    fn progress(&self, done: f64, total: f64, note: Option<String>) -> Result<(), HostError> {
        self.reporter().progress(&self.floor.runtime, Progress { done, total, note });
        Ok(())
    }

    fn submit(&self, submission: Submission) -> Result<TaskId, HostError> {
        let mut children = self.children.lock().expect("no one panics while children are locked");
        if children.len() == CHILDREN {
            return Err(HostError::new("OverflowError", format!("one task may send {CHILDREN} tasks at the most")));
        }
        let parent = Parent { id: self.message.id.clone(), root_id: self.message.root_id.clone() };
        let request = Request { parent: Some(parent), ..submission.into() };
        let submitted = self.wait(async { Ok(self.floor.client.submit(request).await?) })?;
        children.push(submitted.id.clone());
        Ok(submitted.id)
    }

    fn group_send(&self, group: &str, event: Value) -> Result<(), HostError> {
        let Some(hub) = &self.floor.hub else {
            return Err(HostError::not_here("channel::group_send", "a task that runs without sockets"));
        };
        Ok(hub.group_send(group, &event)?)
    }

    fn kv_get(&self, key: &str) -> Result<Option<Json>, HostError> {
        self.ask(self.floor.client.stores().kv.get(&self.space.key(key)))
    }

    fn kv_set(&self, key: &str, value: Json, ttl: Option<Duration>, only_new: bool) -> Result<bool, HostError> {
        self.ask(self.floor.client.stores().kv.set(&self.space.key(key), value, ttl, only_new))
    }

    fn kv_incr(&self, key: &str, by: i64) -> Result<i64, HostError> {
        self.ask(self.floor.client.stores().kv.incr(&self.space.key(key), by))
    }

    fn kv_delete(&self, key: &str, expected: Option<Json>) -> Result<bool, HostError> {
        self.ask(self.floor.client.stores().kv.delete(&self.space.key(key), expected))
    }
}
