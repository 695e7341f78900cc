//! Reading headers and properties: by their types, or field by field where a sender wrote something odd.
//!
//! What decides about the run (`eta`, `expires`, `retries`, `timelimit`) must be readable. Anything else of a type that
//! Celery never writes is kept as it is and not understood; a priority is one of 0 to 255, as kombu bends it.

use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::Fields;
use super::times;
use super::unreadable::Defect;
use crate::task::TaskId;

/// The headers of protocol 2 that we understand.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Headers {
    pub task: Option<String>,
    pub id: Option<String>,
    pub retries: Option<u32>,
    #[serde(deserialize_with = "times::deserialize")]
    pub eta: Option<DateTime<FixedOffset>>,
    #[serde(deserialize_with = "times::deserialize")]
    pub expires: Option<DateTime<FixedOffset>>,
    pub timelimit: Option<(Option<f64>, Option<f64>)>,
    pub ignore_result: Option<bool>,
    pub umbel_max_retries: Option<u32>,
    pub root_id: Option<TaskId>,
    pub parent_id: Option<TaskId>,
    pub group: Option<String>,
    pub group_index: Option<i64>,
    pub origin: Option<String>,
    pub compression: Option<String>,
}

impl Headers {
    /// # Errors
    /// `Headers` when they are no JSON object, `Header` for one that cannot be read and decides about the run.
    pub fn read(raw: &RawValue) -> Result<Self, Defect> {
        match by_type(raw) {
            Some(headers) => Ok(headers),
            None => Self::of(&Fields::read(raw.get()).map_err(Defect::Headers)?),
        }
    }

    fn of(fields: &Fields) -> Result<Self, Defect> {
        Ok(Self {
            task: fields.get("task"),
            id: fields.get("id"),
            retries: count(fields, "retries")?,
            eta: time(fields, "eta")?,
            expires: time(fields, "expires")?,
            timelimit: required(fields, "timelimit", |text| serde_json::from_str(text).ok())?,
            ignore_result: fields.get("ignore_result"),
            umbel_max_retries: fields.get("umbel_max_retries"),
            root_id: fields.get("root_id"),
            parent_id: fields.get("parent_id"),
            group: fields.get("group"),
            group_index: fields.get("group_index"),
            origin: fields.get("origin"),
            compression: required(fields, "compression", |text| serde_json::from_str(text).ok())?,
        })
    }

    /// The hard and the soft limit; one that is no time to wait is none.
    pub fn limits(&self) -> (Option<Duration>, Option<Duration>) {
        let (hard, soft) = self.timelimit.unwrap_or_default();
        (hard.and_then(seconds), soft.and_then(seconds))
    }
}

// An array would pass for the fields in their order.
fn by_type<T: serde::de::DeserializeOwned>(raw: &RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok())?
}

/// So many seconds as a time to wait; `None` when they are none.
pub(in crate::task) fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}

fn required<T>(fields: &Fields, name: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Defect> {
    let Some(value) = fields.raw(name) else { return Ok(None) };
    read(value.get()).map(Some).ok_or_else(|| Defect::header(name, value.get()))
}

fn time(fields: &Fields, name: &'static str) -> Result<Option<DateTime<FixedOffset>>, Defect> {
    let read = |text: &str| times::deserialize(&mut serde_json::Deserializer::from_str(text)).ok();
    required(fields, name, read).map(Option::flatten)
}

// Fewer than none are none, and more than we count are as many as we count.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float beyond the range saturates")]
fn count(fields: &Fields, name: &'static str) -> Result<Option<u32>, Defect> {
    required(fields, name, |text| serde_json::from_str::<f64>(text).ok().map(|number| number as u32))
}

/// The properties of an envelope that we understand.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Properties {
    pub priority: Option<u8>,
    pub reply_to: Option<String>,
    pub body_encoding: Option<String>,
}

impl Properties {
    /// # Errors
    /// `Headers` when they are no JSON object.
    pub fn read(raw: &RawValue) -> Result<Self, Defect> {
        if let Some(properties) = by_type(raw) {
            return Ok(properties);
        }
        let fields = Fields::read(raw.get()).map_err(Defect::Headers)?;
        Ok(Self {
            priority: fields.get("priority").and_then(priority),
            reply_to: fields.get("reply_to"),
            body_encoding: fields.get("body_encoding"),
        })
    }
}

// As `Channel._get_message_priority` of kombu: `int()` of it, within the bounds, else the default.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float beyond the range saturates")]
fn priority(value: Value) -> Option<u8> {
    match value {
        Value::Number(number) => number.as_f64().map(|number| number as u8),
        Value::String(text) => text.trim().parse::<i64>().ok().map(|number| number.clamp(0, 255) as u8),
        _ => None,
    }
}
