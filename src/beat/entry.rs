//! One entry of the timetable: what to run, when, and with what care.

use std::time::Duration;

use chrono::SecondsFormat;
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::{Map, Value as JsonValue};
use sha2::{Digest, Sha256};

use super::notation::read_schedule;
use super::schedule::Schedule;
use super::table::{Problem, Table};
use crate::client::{Expires, Request};
use crate::task::{Priority, QueueName, TaskId, Timestamp, to_json};

/// What is done about ticks that were missed: while no beat ran, or while the store was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// Nothing.
    Skip,
    /// One run for all of them.
    #[default]
    Once,
    /// One run for each.
    All,
}

/// What is done about a tick while the run of the last one has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It runs too.
    #[default]
    Allow,
    /// It does not run.
    Skip,
}

/// One entry of the timetable.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: String,
    pub task: String,
    pub schedule: Schedule,
    pub enabled: bool,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
    args: Vec<JsonValue>,
    kwargs: Map<String, JsonValue>,
    options: Options,
}

/// How its tasks are sent; `None` is what the task declares.
#[derive(Debug, Clone, PartialEq, Default)]
struct Options {
    queue: Option<QueueName>,
    priority: Option<Priority>,
    expires: Option<Duration>,
    countdown: Option<Duration>,
}

/// The longest name of an entry, in bytes.
const MAX_NAME: usize = 200;

const FIELDS: [&str; 9] =
    ["task", "schedule", "args", "kwargs", "options", "timezone", "enabled", "catch_up", "overlap"];

impl Entry {
    /// Reads an entry. `zone` is the timetable's; what is allowed but probably not meant is added to `warnings`.
    pub(super) fn read(name: &str, table: &Table, zone: Tz, warnings: &mut Vec<Problem>) -> Result<Self, Problem> {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let message = format!("the name of an entry has 1 to {MAX_NAME} bytes and no control characters");
            return Err(table.whole(message));
        }
        table.only(&FIELDS)?;
        let task = table.text("task")?.filter(|task| !task.is_empty());
        let task = task.ok_or_else(|| table.whole("has no task: write `task = \"math.add\"`"))?;
        let zone = table.zone("timezone")?.unwrap_or(zone);
        let args = match table.json("args")? {
            None => Vec::new(),
            Some(JsonValue::Array(args)) => args,
            Some(_) => return Err(table.problem("args", "must be an array, as in `[16, 16]`")),
        };
        let kwargs = match table.json("kwargs")? {
            None => Map::new(),
            Some(JsonValue::Object(kwargs)) => kwargs,
            Some(_) => return Err(table.problem("kwargs", "must be a table, as in `{ x = 16 }`")),
        };
        let catch_ups = [("skip", CatchUp::Skip), ("once", CatchUp::Once), ("all", CatchUp::All)];
        let overlaps = [("allow", Overlap::Allow), ("skip", Overlap::Skip)];
        Ok(Self {
            name: name.to_owned(),
            task: task.to_owned(),
            schedule: read_schedule(table, zone, warnings)?,
            enabled: table.flag("enabled")?.unwrap_or(true),
            catch_up: table.choice("catch_up", &catch_ups)?.unwrap_or_default(),
            overlap: table.choice("overlap", &overlaps)?.unwrap_or_default(),
            args,
            kwargs,
            options: table.table("options")?.map_or(Ok(Options::default()), |table| Options::read(&table))?,
        })
    }

    /// The first `count` ticks after `now`, fewer when no more come. Those of an interval count from `now`.
    pub fn next_after(&self, now: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.schedule.next(now), |tick| self.schedule.next(*tick)).take(count).collect()
    }

    /// The first `count` ticks after `now`, fewer when no more come; they count from `watermark`.
    pub fn next_since(&self, watermark: Timestamp, now: Timestamp, count: usize) -> Vec<Timestamp> {
        let last = self.schedule.last(1, watermark, now).pop().unwrap_or(watermark);
        std::iter::successors(self.schedule.next(last), |tick| self.schedule.next(*tick)).take(count).collect()
    }

    /// When it runs next after `now`, in a few words; its ticks count from `watermark`.
    pub(super) fn outlook(&self, watermark: Timestamp, now: Timestamp) -> String {
        if !self.enabled {
            return "which is not enabled".to_owned();
        }
        match self.next_since(watermark, now, 1).pop() {
            None => "which never runs again".to_owned(),
            Some(tick) => {
                let zone = self.schedule.zone().unwrap_or(Tz::UTC);
                format!("next run {}", tick.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Secs, true))
            }
        }
    }

    /// Differs when earlier ticks are no longer its own: after a change of when it is due, or a pause.
    pub(super) fn fingerprint(&self) -> String {
        let zone = self.schedule.zone().map_or("elapsed", |zone| zone.name());
        let enabled = if self.enabled { "enabled" } else { "paused" };
        format!("{} {zone} {enabled}", self.schedule.text())
    }

    /// The task to send for the tick at `due`.
    pub fn request(&self, due: Timestamp) -> Request {
        Request {
            task: self.task.clone(),
            args: Some(to_json(&self.args)),
            kwargs: Some(to_json(&self.kwargs)),
            countdown: self.options.countdown,
            expires: self.options.expires.map(Expires::After),
            queue: self.options.queue.clone(),
            priority: self.options.priority,
            id: Some(self.run_of(due)),
            ..Request::default()
        }
    }

    /// The id of the run for the tick at `due`.
    ///
    /// It follows from the tick, so that any beat knows the last run of an entry, also one that was just started.
    pub(super) fn run_of(&self, due: Timestamp) -> TaskId {
        let hash = Sha256::digest(format!("umbel tick\n{}\n{}", self.name, due.timestamp_millis()));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string().try_into().expect("a UUID is an id")
    }
}

impl Options {
    fn read(table: &Table) -> Result<Self, Problem> {
        table.only(&["queue", "priority", "expires", "countdown"])?;
        let queue = match table.text("queue")? {
            Some(name) => Some(QueueName::parse(name).map_err(|why| table.problem("queue", why.to_string()))?),
            None => None,
        };
        let priority = match table.get("priority").map(|item| (item, item.as_integer())) {
            None => None,
            Some((_, Some(number @ 0..=9))) => Some(Priority(number as u8)),
            Some((item, None)) => return Err(table.wrong("priority", "a number from 0 (first) to 9", item)),
            Some((_, Some(number))) => {
                return Err(table.problem("priority", format!("`{number}` is not within 0 (first) to 9")));
            }
        };
        let expires = table.duration("expires")?;
        if expires.is_some_and(|expires| expires.is_zero()) {
            return Err(
                table.problem("expires", "would expire at once: leave it out, or write a duration such as \"1h\"")
            );
        }
        Ok(Self { queue, priority, expires, countdown: table.duration("countdown")? })
    }
}
