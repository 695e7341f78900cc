//! Messages that cannot be run: they are laid aside as they came, and who waits for one is answered.
//!
//! The message itself goes no second time through a script: what is kept of it is written here, and of a large one only
//! its ends are, so that what somebody sent by mistake is not in Redis twice. One that is larger than any message never
//! leaves Redis: the script that claims hands over its ends.

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::store::{DeadLetter, Result};
use crate::task::{Known, QueueName, TaskId, Unreadable, to_json};

use super::Redis;
use super::record::{Brief, Ended};
use super::results::{self, Subject};

/// The most that is kept of a message, in bytes; of a larger one it is half of that from each end.
const MAX_KEPT: usize = 64 << 10;

/// A claimed message that is no message we can run.
pub struct Refused {
    pub token: u64,
    pub queue: QueueName,
    pub why: Unreadable,
    size: usize,
    envelope: Kept,
}

/// What is kept of an envelope.
enum Kept {
    Whole(Vec<u8>),
    /// Both its ends.
    Cut(Vec<u8>),
}

/// A letter as it lies in Redis.
#[derive(Serialize, Deserialize)]
struct Letter {
    /// Milliseconds since 1970; the script puts it, by the clock of Redis.
    #[serde(default, skip_serializing)]
    at: i64,
    queue: QueueName,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    size: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    envelope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    envelope_base64: Option<String>,
}

impl Letter {
    fn of(refused: &Refused) -> Self {
        let Refused { queue, size, envelope, why, .. } = refused;
        let (text, bytes) = envelope.shown();
        Self {
            at: 0,
            queue: queue.clone(),
            reason: why.to_string(),
            id: why.known.as_ref().map(|known| known.id.clone()),
            task: why.known.as_ref().and_then(|known| known.task.clone()),
            size: *size,
            envelope: text,
            envelope_base64: bytes,
        }
    }

    fn shown(self) -> Option<DeadLetter> {
        let Self { at, queue, reason, id, task, size, envelope, envelope_base64 } = self;
        let at = DateTime::from_timestamp_millis(at)?;
        Some(DeadLetter { at, queue, reason, id, task, size, envelope, envelope_base64 })
    }
}

impl Refused {
    pub fn new(token: u64, queue: QueueName, envelope: Vec<u8>, why: Unreadable) -> Self {
        match cut(&envelope) {
            Some((size, ends)) => {
                Self { token, queue, size, why: Unreadable::oversized(ends), envelope: Kept::Cut(ends.to_vec()) }
            }
            None => Self { token, queue, size: envelope.len(), why, envelope: Kept::of(envelope) },
        }
    }
}

/// The size and the ends of a message that was too large to be handed over, as `claim.lua` tells them.
fn cut(envelope: &[u8]) -> Option<(usize, &[u8])> {
    let told = envelope.strip_prefix(b"\0cut ")?;
    let end = told.iter().position(|byte| *byte == b' ')?;
    let size = std::str::from_utf8(&told[..end]).ok()?.parse().ok()?;
    Some((size, &told[end + 1..]))
}

impl Kept {
    fn of(envelope: Vec<u8>) -> Self {
        if envelope.len() <= MAX_KEPT {
            return Self::Whole(envelope);
        }
        let (head, tail) = (&envelope[..MAX_KEPT / 2], &envelope[envelope.len() - MAX_KEPT / 2..]);
        Self::Cut([head, b" ... ", tail].concat())
    }

    /// As text, or in base64 what is whole and no text: that can be had back byte for byte.
    fn shown(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Cut(ends) => (Some(String::from_utf8_lossy(ends).into_owned()), None),
            Self::Whole(envelope) => match std::str::from_utf8(envelope) {
                Ok(text) => (Some(text.to_owned()), None),
                Err(_) => (None, Some(BASE64.encode(envelope))),
            },
        }
    }
}

impl Redis {
    /// Puts them with the dead letters, and ends the tasks of those whose sender can be told. What fails here goes back
    /// to its queue.
    pub(super) async fn lay_aside(&self, refused: Vec<Refused>) {
        if refused.is_empty() {
            return;
        }
        let mut call = self.connection.scripts().dead.prepare_invoke();
        call.arg(self.settings.keep.as_secs().max(1)).arg(self.settings.history);
        let mut bytes = 0;
        for message in &refused {
            let Refused { token, queue, why, .. } = message;
            warn!(queue = %queue, "a message of queue `{queue}` cannot be run: {why}");
            let letter = to_json(&Letter::of(message));
            bytes += letter.get().len();
            call.arg(*token).arg(queue.as_str()).arg(letter.get());
            for part in answer(why) {
                call.arg(part);
            }
        }
        if let Err(cause) = self.connection.run_with::<()>(bytes, &call).await {
            self.strayed(refused.iter().map(|message| message.token));
            if !cause.is_told() {
                warn!("cannot lay {} messages aside, they go back to their queues: {cause}", refused.len());
            }
        }
    }

    /// As `Queue::read_dead_letters`.
    pub(super) async fn letters(&self, most: usize) -> Result<Vec<DeadLetter>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let look = redis::Cmd::lrange(self.connection.keys().dead(), 0, isize::try_from(most - 1).unwrap_or(-1));
        let letters: Vec<Vec<u8>> = self.connection.ask(&look).await?;
        let read = |letter: &Vec<u8>| serde_json::from_slice(letter).ok().and_then(Letter::shown);
        let place = || anyhow!("`{}` holds something that is no dead letter of umbel", self.connection.keys().dead());
        letters.iter().map(|letter| read(letter).ok_or_else(|| place().into())).collect()
    }
}

/// Id, brief, attempt and Celery's result: what the sender is told. All empty where nobody can be.
fn answer(why: &Unreadable) -> [String; 4] {
    let Some(known) = why.known.as_deref() else { return Default::default() };
    let Known { id, parent_id, group_id, ignore_result, .. } = known;
    let (now, failure) = (Utc::now(), why.why.failure());
    let subject = Subject { id, parent_id: parent_id.as_ref(), group_id: group_id.as_deref() };
    let meta = if *ignore_result { String::new() } else { results::of_refusal(subject, &failure, now) };
    let attempt = Ended::text_of_refusal(&failure, now);
    [id.to_string(), Brief::text_of_known(known), attempt, meta]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{MAX_WIRE, Message};

    fn shown(envelope: impl AsRef<[u8]>) -> (Option<String>, Option<String>) {
        Kept::of(envelope.as_ref().to_vec()).shown()
    }

    #[test]
    fn a_small_message_is_kept_whole_and_of_a_large_one_its_ends() {
        assert_eq!(shown("한"), (Some("한".to_owned()), None));
        assert_eq!(shown(b"\xff\x00"), (None, Some("/wA=".to_owned())));
        assert_eq!(shown(""), (Some(String::new()), None));

        let (text, bytes) = shown(format!("a{}z", "한".repeat(MAX_KEPT)));
        let text = text.unwrap();
        assert!(text.starts_with("a한") && text.ends_with("한z") && text.contains(" ... ") && bytes.is_none());
        assert!(text.len() < MAX_KEPT + 20, "{}", text.len());
    }

    #[test]
    fn what_the_script_cut_is_told_by_its_ends() {
        let why = || Message::from_wire(QueueName::default(), b"").unwrap_err();
        let told =
            [b"\0cut 100000000 {\"body\": \"AA".as_slice(), b" ... AA\", \"headers\": {\"id\": \"i\"}, "].concat();

        let refused = Refused::new(1, QueueName::default(), told, why());

        assert_eq!(
            (refused.size, refused.why.to_string()),
            (100_000_000, format!("it is larger than {MAX_WIRE} bytes"))
        );
        assert_eq!(refused.why.known.as_ref().unwrap().id.as_str(), "i");
        assert!(refused.envelope.shown().0.unwrap().starts_with("{\"body\""));
        let script = include_str!("claim.lua");
        assert!(script.contains(&format!("local MAX_WIRE, END = {MAX_WIRE}, {}", MAX_KEPT / 2)));
    }
}
