//! Purging a queue: what waits in it is revoked, some at a time: others go between.

use rusqlite::params;

use super::desk::Desk;
use super::file::Outcome;
use super::rows::{self, json, micros};
use super::settling::revoked_error;
use crate::task::{Priority, QueueName, TaskId, Timestamp};

/// How many messages one step looks at.
const AT_ONCE: usize = 1_000;

/// Where the next step goes on.
#[derive(Debug, Clone, Copy)]
pub enum From {
    /// Behind this turn of this step among those that are ready.
    Ready(u8, i64),
    /// Behind this row, which is due at that time.
    Delayed(i64, i64),
}

impl Default for From {
    fn default() -> Self {
        Self::Ready(Priority::STEPS[0], i64::MIN)
    }
}

impl Desk {
    /// Revokes some of what waits in `queue`. Tells how many, and where to go on; `None` at the end.
    pub fn purge(&mut self, queue: &QueueName, from: From, now: Timestamp) -> Outcome<(u64, Option<From>)> {
        let (sql, a, b) = match from {
            From::Ready(step, turn) => (
                "SELECT seq, id, turn FROM task INDEXED BY task_ready \
                 WHERE state = 'QUEUED' AND queue = ?1 AND step = ?2 AND turn > ?3 ORDER BY turn LIMIT ?4",
                i64::from(step),
                turn,
            ),
            From::Delayed(due, seq) => (
                "SELECT seq, id, due_at FROM task INDEXED BY task_due \
                 WHERE due_at IS NOT NULL AND queue = ?1 AND (due_at > ?2 OR due_at = ?2 AND seq > ?3) \
                 AND due_at >= ?2 ORDER BY due_at, seq LIMIT ?4",
                due,
                seq,
            ),
        };
        let found: Vec<(i64, TaskId, i64)> = self
            .db
            .prepare_cached(sql)?
            .query_map(params![queue.as_str(), a, b, AT_ONCE as i64], |row| {
                Ok((row.get(0)?, rows::name(row, 1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let why = json(&revoked_error("purged"));
        let mut removed = 0;
        for (seq, id, _) in found.iter().filter(|(seq, ..)| !self.claims.has(*seq)).collect::<Vec<_>>() {
            self.execute(
                "UPDATE task SET state = 'REVOKED', due_at = NULL, error = ?2, finished_at = ?3 WHERE seq = ?1",
                params![seq, why, micros(now)],
            )?;
            self.has_ended(id);
            removed += 1;
        }
        self.drop_oldest(removed)?;
        match from {
            From::Ready(..) => self.moved(queue, -removed, 0),
            From::Delayed(..) => self.moved(queue, 0, -removed),
        }
        let last = found.last().filter(|_| found.len() == AT_ONCE);
        let next = match (from, last) {
            (From::Ready(step, _), Some((_, _, turn))) => Some(From::Ready(step, *turn)),
            (From::Ready(step, _), None) => Some(
                Priority::STEPS
                    .into_iter()
                    .find(|next| *next > step)
                    .map_or(From::Delayed(i64::MIN, i64::MIN), |next| From::Ready(next, i64::MIN)),
            ),
            (From::Delayed(..), Some((seq, _, due))) => Some(From::Delayed(*due, *seq)),
            (From::Delayed(..), None) => None,
        };
        Ok((removed.unsigned_abs(), next))
    }
}
