//! What is no message that we can run: why, and who waits for it all the same.

use serde::Deserialize;

use super::body::{self, GZIP};
use super::fields::Fields;
use super::protocol_1;
use crate::task::{Failure, MAX_BODY, MAX_WIRE, TaskId};

/// How much of a value that cannot be read is shown, in bytes.
const MAX_SHOWN: usize = 100;

/// A message that we cannot run. It goes to the dead letters, and whoever waits for it is answered.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unreadable {
    pub why: Defect,
    /// `None` when it has no id that could be read, so that nobody can be told.
    pub known: Option<Box<Known>>,
}

/// What could be read of a message that cannot be run: enough to answer its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub id: TaskId,
    pub task: Option<String>,
    pub parent_id: Option<TaskId>,
    pub group_id: Option<String>,
    pub ignore_result: bool,
}

/// Why bytes are no message that we can run.
#[derive(Debug, thiserror::Error)]
pub enum Defect {
    #[error("the envelope is not kombu's JSON: {0}")]
    Envelope(serde_json::Error),
    #[error("the headers are not those of a task: {0}")]
    Headers(serde_json::Error),
    #[error("its `{name}` cannot be read: `{value}`")]
    Header { name: &'static str, value: String },
    #[error("it has no `task`, neither in its headers (protocol 2) nor in its body (protocol 1)")]
    NotATask,
    #[error("it has no id")]
    NoId,
    #[error("its content type is `{0}`; only `application/json` is read")]
    ContentType(String),
    #[error("its body is not base64: {0}")]
    Base64(base64::DecodeError),
    #[error("its body is not `[args, kwargs, embed]`: {0}")]
    Body(serde_json::Error),
    #[error("its body is compressed as `{0}`; only `{GZIP}` (zlib) is read")]
    Compression(String),
    #[error("its body cannot be decompressed: {0}")]
    Inflate(std::io::Error),
    #[error("its body is larger than {MAX_BODY} bytes")]
    TooLarge,
    #[error("it is larger than {MAX_WIRE} bytes")]
    Oversized,
}

impl Unreadable {
    /// A message that is too large to be looked at whole. Its ends tell whose it is: kombu writes the headers behind the
    /// body, others before it.
    pub fn oversized(ends: &[u8]) -> Self {
        Self { why: Defect::Oversized, known: Known::glimpse(ends).map(Box::new) }
    }
}

impl Defect {
    pub(super) fn header(name: &'static str, value: &str) -> Self {
        Self::Header { name, value: value[..value.floor_char_boundary(MAX_SHOWN)].to_owned() }
    }

    /// What the sender is told, in the classes that Celery's own worker has for it.
    pub fn failure(&self) -> Failure {
        let told = self.to_string();
        match self {
            Self::ContentType(_) => Failure::new("kombu.exceptions", "ContentDisallowed", told),
            Self::Headers(_) | Self::Header { .. } | Self::NotATask | Self::NoId => {
                Failure::celery("InvalidTaskError", told)
            }
            Self::Body(error) if error.is_data() => Failure::celery("InvalidTaskError", told),
            _ => Failure::new("kombu.exceptions", "DecodeError", told),
        }
    }
}

impl Known {
    /// Searches what cannot be read for who sent it; `None` when there is no id.
    pub(super) fn search(wire: &[u8]) -> Option<Self> {
        let envelope = Fields::read(&String::from_utf8_lossy(wire)).ok()?;
        let headers = envelope.raw("headers").and_then(|headers| Fields::read(headers.get()).ok()).unwrap_or_default();
        Self::of(&headers).or_else(|| Self::of(&protocol_1::fields(&body::of(&envelope)?).ok()?))
    }

    fn glimpse(ends: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(ends);
        let (_, rest) = text.split_once("\"headers\"")?;
        let mut headers = serde_json::Deserializer::from_str(rest.trim_start().strip_prefix(':')?);
        Self::of(&Fields::deserialize(&mut headers).ok()?)
    }

    fn of(fields: &Fields) -> Option<Self> {
        Some(Self {
            id: fields.get("id")?,
            task: fields.get("task"),
            parent_id: fields.get("parent_id"),
            group_id: fields.get::<String>("group").or_else(|| fields.get("taskset")),
            ignore_result: fields.get("ignore_result").unwrap_or(false),
        })
    }
}
