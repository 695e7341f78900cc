//! What the settle script is told of each delivery, and the call of it.

use std::time::Duration;

use chrono::Utc;

use crate::store::{Ending, Result, Settlement};
use crate::task::{Message, QueueName, State, Timestamp, to_json};

use super::connection::Connection;
use super::record::{Brief, Ended};
use super::results;
use super::taking::parts;

/// One delivery as the script is told of it.
pub struct Settling {
    /// Those of one batch stand together.
    pub batch: u64,
    queue: QueueName,
    arguments: Arguments,
}

/// Arguments of a script, one behind the other.
struct Arguments {
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Arguments {
    fn push(&mut self, argument: impl AsRef<[u8]>) {
        self.text.extend_from_slice(argument.as_ref());
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// How long results are kept, and how many runs that have ended.
#[derive(Clone, Copy)]
pub struct Kept {
    pub results: Duration,
    pub runs: u64,
}

impl Settling {
    /// In bytes.
    pub fn size(&self) -> usize {
        self.arguments.text.len()
    }
}

/// What came of each: `1`, `0`, or why it is refused, as `settle.lua` says; `all` alone where all are stored.
pub async fn settle(connection: &Connection, kept: Kept, settlings: Vec<Settling>) -> Result<Vec<String>> {
    let mut call = connection.scripts().settle.prepare_invoke();
    call.arg(kept.results.as_secs().max(1)).arg(kept.runs);
    for of_batch in settlings.chunk_by(|one, next| one.batch == next.batch) {
        call.arg(of_batch[0].batch).arg(of_batch[0].queue.as_str()).arg(of_batch.len());
        for argument in of_batch.iter().flat_map(|settling| settling.arguments.iter()) {
            call.arg(argument);
        }
    }
    let bytes = settlings.iter().map(Settling::size).sum();
    connection.run_with(bytes, &call).await
}

/// One delivery in the order of `settle.lua`. Unless it is written down already that it ran, what the record is to say
/// of the message is written, and `worker` with it.
pub fn settling(settlement: &Settlement, is_written: bool, worker: &str) -> Settling {
    let now = Utc::now();
    let Settlement { delivery, ending, follow_ups, .. } = settlement;
    let (state, next) = match ending {
        Ending::Success { .. } => (State::Success, None),
        Ending::Failure(_) => (State::Failure, None),
        Ending::Revoked { .. } => (State::Revoked, None),
        Ending::Retry { next, .. } => (State::Retry, Some(next)),
    };
    let attempt = Ended::text_of_settlement(settlement, (!is_written).then_some(worker), now);
    let brief = if is_written { String::new() } else { Brief::text_of(&delivery.message) };
    let meta = results::of_settlement(settlement, now).unwrap_or_default();
    let (batch, number) = parts(delivery.receipt.token);
    let id = delivery.receipt.id.as_str();
    // With room for the numbers beside them, so that most need no other place.
    let bytes = 32 + id.len() + attempt.len() + meta.len() + brief.len();
    let mut arguments = Arguments { text: Vec::with_capacity(bytes), ends: Vec::with_capacity(8) };
    arguments.push(number.to_string());
    for argument in [id, state.as_str(), &attempt, &meta, &brief] {
        arguments.push(argument);
    }
    let log = log(settlement);
    let mut more = Vec::new();
    let waited = delivery.message.eta.is_some();
    if waited || next.is_some() || !log.is_empty() || !follow_ups.is_empty() {
        more.push(log);
        match next {
            Some(next) => more.extend([step(next), due(next), next.retries.to_string().into_bytes(), next.to_wire()]),
            None => more.extend([vec![], vec![], vec![], vec![]]),
        }
        more.extend(follow_ups.iter().flat_map(new_message));
    }
    arguments.push(more.len().to_string());
    more.iter().for_each(|argument| arguments.push(argument));
    Settling { batch, queue: delivery.message.queue.clone(), arguments }
}

/// A message that is to be stored, in the order of the scripts: id, queue, step, due time, envelope, brief.
pub fn new_message(message: &Message) -> [Vec<u8>; 6] {
    let brief = Brief::text_of(message).into_bytes();
    [message.id.as_str().into(), message.queue.as_str().into(), step(message), due(message), message.to_wire(), brief]
}

// Empty for most; an attempt that said nothing still takes the place of what an earlier one said.
fn log(settlement: &Settlement) -> Vec<u8> {
    let Settlement { delivery, attempt, .. } = settlement;
    let first = delivery.message.retries == 0 && !delivery.redelivered;
    if first && attempt.log.is_empty() { Vec::new() } else { to_json(&attempt.log).get().into() }
}

fn step(message: &Message) -> Vec<u8> {
    message.priority.step().to_string().into_bytes()
}

/// When a message is due, in whole milliseconds that are not before it; 0 is at once.
pub fn due_ms(message: &Message) -> i64 {
    message.due_at().map_or(0, |due| whole_ms(due).max(0))
}

/// The same as an argument of a script.
pub fn due(message: &Message) -> Vec<u8> {
    due_ms(message).to_string().into_bytes()
}

/// From when on a message may no longer start, in whole milliseconds that are not before it; 0 is never.
pub fn expires_ms(message: &Message) -> i64 {
    message.expires.map_or(0, |expires| whole_ms(expires.to_utc()).max(1))
}

/// The same as an argument of a script.
pub fn expires(message: &Message) -> Vec<u8> {
    expires_ms(message).to_string().into_bytes()
}

fn whole_ms(time: Timestamp) -> i64 {
    time.timestamp_micros().saturating_add(999).div_euclid(1000)
}
