//! Messages that cannot be run: they are laid aside as they came, and who waits for one is answered.
//!
//! The message itself goes no second time through a script: what is kept of it is written here. A large one is kept
//! as its beginning, so that what somebody sent by mistake is not in Redis twice.

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

/// The most that is kept of a message, in bytes; of a larger one it is the beginning.
const MAX_KEPT: usize = 64 << 10;

/// A claimed message that is no message we can run.
pub struct Refused {
    pub token: u64,
    pub queue: QueueName,
    pub envelope: Vec<u8>,
    pub why: Unreadable,
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
        let Refused { queue, envelope, why, .. } = refused;
        let (text, bytes) = kept(envelope);
        Self {
            at: 0,
            queue: queue.clone(),
            reason: why.to_string(),
            id: why.known.as_ref().map(|known| known.id.clone()),
            task: why.known.as_ref().and_then(|known| known.task.clone()),
            size: envelope.len(),
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

// As text where it is some, else in base64: what was sent can be had back byte for byte.
fn kept(envelope: &[u8]) -> (Option<String>, Option<String>) {
    let beginning = &envelope[..envelope.len().min(MAX_KEPT)];
    match std::str::from_utf8(beginning) {
        Ok(text) => (Some(text.to_owned()), None),
        // Cut within a letter.
        Err(error) if envelope.len() > MAX_KEPT && error.error_len().is_none() => {
            (Some(String::from_utf8_lossy(&beginning[..error.valid_up_to()]).into_owned()), None)
        }
        Err(_) => (None, Some(BASE64.encode(beginning))),
    }
}

impl Redis {
    /// Puts them with the dead letters, and ends the tasks of those whose sender can be told. What fails here comes
    /// back with the end of its lease.
    pub(super) async fn lay_aside(&self, refused: Vec<Refused>) {
        if refused.is_empty() {
            return;
        }
        let mut call = self.connection.scripts().dead.prepare_invoke();
        call.arg(self.settings.keep.as_secs().max(1)).arg(self.settings.history);
        for message in &refused {
            let Refused { token, queue, why, .. } = message;
            warn!(queue = %queue, "a message of queue `{queue}` cannot be run: {why}");
            call.arg(*token).arg(queue.as_str()).arg(to_json(&Letter::of(message)).get());
            for part in answer(why) {
                call.arg(part);
            }
        }
        if let Err(cause) = self.connection.run::<()>(&call).await {
            warn!("cannot lay {} messages aside, the end of their lease brings them back: {cause}", refused.len());
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
    let attempt = to_json(&Ended::of_refusal(failure, now)).get().to_owned();
    [id.to_string(), Brief::of_known(known).to_text(), attempt, meta]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_message_is_kept_whole_and_of_a_large_one_its_beginning() {
        assert_eq!(kept("한".as_bytes()), (Some("한".to_owned()), None));
        assert_eq!(kept(b"\xff\x00"), (None, Some("/wA=".to_owned())));
        assert_eq!(kept(b""), (Some(String::new()), None));

        // A letter of three bytes does not end where it is cut.
        let (text, bytes) = kept("한".repeat(MAX_KEPT).as_bytes());
        assert_eq!((text.unwrap().len(), bytes), (MAX_KEPT / 3 * 3, None));
        assert_eq!(kept(&vec![0xff; MAX_KEPT + 1]).1.unwrap().len(), MAX_KEPT.div_ceil(3) * 4);
    }
}
