//! What is ready to be claimed, and who waits for it.
//!
//! The rows themselves are found by the index `task_ready`. Here is only where to begin to look: for each step of
//! each queue the turn before which everything is claimed already.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use chrono::Utc;
use rusqlite::{Row, params};
use tokio::sync::oneshot;

use super::desk::Desk;
use super::rows::{self, MESSAGE, MESSAGE_COLUMNS, instant, micros};
use super::writer::Command;
use crate::store::{Delivery, Queues, Receipt, Result, SUSPECTED_FOR};
use crate::task::{Message, Priority, QueueName, Timestamp};

/// Where ready messages may be.
#[derive(Default)]
pub struct Ready {
    /// An entry may turn out to be empty; what is not here has nothing.
    from: BTreeMap<(u8, QueueName), i64>,
}

impl Ready {
    /// There may be a message of this turn.
    pub fn note(&mut self, step: u8, queue: &QueueName, turn: i64) {
        match self.from.get_mut(&(step, queue.clone())) {
            Some(from) => *from = turn.min(*from),
            None => drop(self.from.insert((step, queue.clone()), turn)),
        }
    }

    fn of_step(&self, step: u8, queues: &Queues) -> Vec<(QueueName, i64)> {
        match queues {
            Queues::Every => self
                .from
                .iter()
                .filter(|((its, _), _)| *its == step)
                .map(|((_, queue), from)| (queue.clone(), *from))
                .collect(),
            Queues::Named(named) => named
                .iter()
                .filter_map(|queue| Some((queue.clone(), *self.from.get(&(step, queue.clone()))?)))
                .collect(),
        }
    }
}

/// Deliveries on their way to a caller. When nobody takes them, they wait again.
pub struct Handed {
    deliveries: Vec<Delivery>,
    back: Sender<Command>,
}

impl Handed {
    pub fn take(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if !self.deliveries.is_empty() {
            let receipts: Vec<Receipt> = self.deliveries.drain(..).map(|delivery| delivery.receipt).collect();
            // A writer that has ended has let go of everything.
            let _ = self.back.send(Command::Release(receipts));
        }
    }
}

/// Someone who waits for messages.
pub struct Claimer {
    pub queues: Queues,
    pub max: usize,
    pub deadline: Instant,
    /// `None` once it was answered.
    pub reply: Option<oneshot::Sender<Result<Handed>>>,
    pub back: Sender<Command>,
}

impl Claimer {
    /// Gives what is ready, or an answer when its patience is over. False when there is nothing more to do for it.
    pub fn serve(&mut self, desk: &mut Desk) -> bool {
        if self.reply.as_ref().is_none_or(oneshot::Sender::is_closed) {
            return false;
        }
        let answer = match desk.take(&self.queues, self.max) {
            Ok(deliveries) if deliveries.is_empty() && self.deadline > Instant::now() => return true,
            Ok(deliveries) => Ok(Handed { deliveries, back: self.back.clone() }),
            Err(error) => Err(desk.explain_sql(&error)),
        };
        if let Some(reply) = self.reply.take() {
            // When the caller has gone meanwhile, dropping the answer gives the deliveries back.
            let _ = reply.send(answer);
        }
        false
    }
}

struct Found {
    seq: i64,
    turn: i64,
    queue: QueueName,
}

static HAND_OUT: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {MESSAGE}, held, queued_at FROM task WHERE seq = ?1"));

impl Desk {
    /// Claims up to `max` ready messages.
    fn take(&mut self, queues: &Queues, max: usize) -> rusqlite::Result<Vec<Delivery>> {
        let mut taken = Vec::new();
        if let Err(error) = self.take_into(&mut taken, queues, max) {
            let receipts: Vec<Receipt> = taken.into_iter().map(|delivery| delivery.receipt).collect();
            self.release(&receipts);
            return Err(error);
        }
        Ok(taken)
    }

    fn take_into(&mut self, taken: &mut Vec<Delivery>, queues: &Queues, max: usize) -> rusqlite::Result<()> {
        for step in Priority::STEPS {
            let mut found = self.find(step, queues, max - taken.len())?.into_iter();
            while let Some(next) = found.next() {
                match self.hand_out(&next) {
                    Ok(delivery) => taken.extend(delivery),
                    Err(error) => {
                        std::iter::once(next).chain(found).for_each(|it| self.ready.note(step, &it.queue, it.turn));
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    // The oldest of a step over all `queues`, regarded as claimed from now on.
    fn find(&mut self, step: u8, queues: &Queues, max: usize) -> rusqlite::Result<Vec<Found>> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut looked = self.ready.of_step(step, queues);
        self.depths.retain_claimable(&mut looked);
        for (queue, from) in &looked {
            self.find_in(step, queue, *from, max, &mut found)?;
        }
        found.sort_unstable_by_key(|found| found.turn);
        let left = found.split_off(max.min(found.len()));
        for (queue, _) in looked {
            // Where fewer were found than asked for, nothing is left.
            let of_queue = |found: &&Found| found.queue == queue;
            let all = found.iter().chain(&left).filter(of_queue).count() < max;
            let next = left.iter().find(of_queue).map(|left| left.turn);
            let after_last = found.iter().rfind(of_queue).map(|last| last.turn + 1).filter(|_| !all);
            match next.or(after_last) {
                Some(turn) => drop(self.ready.from.insert((step, queue), turn)),
                None => drop(self.ready.from.remove(&(step, queue))),
            }
        }
        Ok(found)
    }

    fn find_in(
        &self,
        step: u8,
        queue: &QueueName,
        from: i64,
        max: usize,
        found: &mut Vec<Found>,
    ) -> rusqlite::Result<()> {
        let mut look = self.db.prepare_cached(
            "SELECT turn, seq FROM task INDEXED BY task_ready \
             WHERE state = 'QUEUED' AND queue = ?1 AND step = ?2 AND turn >= ?3 ORDER BY turn",
        )?;
        let mut rows = look.query(params![queue.as_str(), step, from])?;
        let enough = found.len() + max;
        while found.len() < enough
            && let Some(row) = rows.next()?
        {
            let (turn, seq) = (row.get(0)?, row.get(1)?);
            if !self.claims.has(seq) {
                found.push(Found { seq, turn, queue: queue.clone() });
            }
        }
        Ok(())
    }

    fn deaths_of(&self, seq: i64, now: Timestamp) -> u32 {
        let counts_from = micros(now - SUSPECTED_FOR);
        self.deaths.get(&seq).map_or(0, |deaths| deaths.iter().filter(|at| **at > counts_from).count() as u32)
    }

    // `None` for a row that cannot be read: someone else wrote it.
    fn hand_out(&self, found: &Found) -> rusqlite::Result<Option<Delivery>> {
        let mut row = self.db.prepare_cached(&HAND_OUT)?;
        let read = |row: &Row<'_>| {
            Ok((rows::message(row)?, row.get::<_, bool>(MESSAGE_COLUMNS)?, instant(row.get(MESSAGE_COLUMNS + 1)?)))
        };
        match row.query_row([found.seq], read) {
            Ok((message, redelivered, queued_at)) => {
                let now = Utc::now();
                let waited = (!redelivered).then(|| waited(&message, queued_at, now));
                let receipt = self.claims.add(&message, found.seq, found.turn, redelivered, now);
                self.was_claimed(&message.id);
                let (deaths, expired) = (self.deaths_of(found.seq, now), message.is_expired(now));
                let message = Arc::new(message);
                Ok(Some(Delivery { message, receipt, redelivered, deaths, expired, waited }))
            }
            Err(error @ rusqlite::Error::FromSqlConversionFailure(..)) => {
                tracing::error!(seq = found.seq, %error, "a row of the store is no message; it is left where it is");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// How long `message` could have started before `now`; nothing where the clock was set back meanwhile.
fn waited(message: &Message, queued_at: Timestamp, now: Timestamp) -> Duration {
    let ready_at = message.due_at().map_or(queued_at, |due| due.max(queued_at));
    (now - ready_at).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::NewMessage;

    #[test]
    fn a_task_waits_from_when_it_could_start() {
        let at = |seconds: i64| Timestamp::UNIX_EPOCH + chrono::Duration::seconds(seconds);
        for (eta, seconds) in [(None, 10), (Some(at(50)), 10), (Some(at(107)), 3), (Some(at(111)), 0)] {
            let message = NewMessage { eta, ..NewMessage::default() }.build();

            assert_eq!(waited(&message, at(100), at(110)), Duration::from_secs(seconds), "{eta:?}");
        }
    }
}
