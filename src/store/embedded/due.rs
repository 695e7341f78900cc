//! Messages that wait for their time, in the store and never in a worker.
//!
//! One instant is remembered: the earliest due time. The writer thread sleeps until then at most, and the
//! transaction that follows puts what is due at the end of its step.

use std::time::Duration;

use chrono::Utc;
use rusqlite::{OptionalExtension, Row, params};

use super::desk::Desk;
use super::rows::{self, instant, micros};
use crate::task::{QueueName, TaskId};

/// How many messages become ready in one transaction.
const AT_ONCE: i64 = 1_000;

/// What has to be known of a message that is due.
struct Due {
    id: TaskId,
    step: u8,
    queue: QueueName,
}

impl Due {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: rows::name(row, 2)?, step: row.get(3)?, queue: rows::name(row, 4)? })
    }
}

impl Desk {
    /// The place at the end of its step for a message that is ready now.
    pub fn queue_up(&mut self, step: u8, queue: &QueueName) -> i64 {
        let turn = self.next_turn();
        self.ready.note(step, queue, turn);
        turn
    }

    fn next_turn(&mut self) -> i64 {
        self.turn += 1;
        self.turn
    }

    /// A message waits until `due`.
    pub fn delay(&mut self, due: i64) {
        self.tally.next_due = Some(self.tally.next_due.map_or(due, |next| next.min(due)));
    }

    pub fn something_is_due(&self) -> bool {
        self.tally.next_due.is_some_and(|due| due <= micros(Utc::now()))
    }

    /// How long until something is due; `None` when nothing is delayed.
    pub fn until_due(&self) -> Option<Duration> {
        self.tally.next_due.map(|due| (instant(due) - Utc::now()).to_std().unwrap_or_default())
    }

    /// Makes ready what is due. What was put back for a while has kept its turn.
    pub fn promote(&mut self) -> rusqlite::Result<()> {
        let due: Vec<(i64, i64, rusqlite::Result<Due>)> = self
            .db
            .prepare_cached("SELECT seq, turn, id, step, queue FROM task WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2")?
            .query_map(params![micros(Utc::now()), AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?, Due::read(row))))?
            .collect::<rusqlite::Result<_>>()?;
        for (seq, turn, due) in due {
            let turn = if turn > 0 { turn } else { self.next_turn() };
            self.execute(
                "UPDATE task SET state = 'QUEUED', due_at = NULL, turn = ?2 WHERE seq = ?1",
                params![seq, turn],
            )?;
            match due {
                Ok(Due { id, step, queue }) => {
                    self.ready.note(step, &queue, turn);
                    self.moved(&queue, 1, -1);
                    self.has_changed(&id);
                }
                // It waits no more, so that it keeps nothing else from being committed.
                Err(error) => tracing::error!(seq, %error, "a row of the store is no message; it is passed over"),
            }
        }
        self.find_next_due()
    }

    pub fn find_next_due(&mut self) -> rusqlite::Result<()> {
        let next = "SELECT due_at FROM task WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1";
        self.tally.next_due = self.db.prepare_cached(next)?.query_row([], |row| row.get(0)).optional()?;
        Ok(())
    }
}
