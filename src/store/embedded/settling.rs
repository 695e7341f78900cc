//! What the writer does to end, to give back and to revoke deliveries.

use std::sync::LazyLock;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use serde_json::value::RawValue;

use super::claims::{Claim, Mark};
use super::desk::Desk;
use super::file::Outcome;
use super::rows::{self, MESSAGE, MESSAGE_COLUMNS, json, micros};
use crate::store::{Attempt, Ending, Receipt, Revoked, Settled, Settlement};
use crate::task::{Failure, Message, QueueName, State, TaskId, Timestamp};

static RETRY: LazyLock<String> = LazyLock::new(|| {
    let message =
        MESSAGE.split(", ").zip(1..).map(|(column, number)| format!("{column} = ?{number}")).collect::<Vec<_>>();
    let more = ["state", "step", "turn", "due_at", "error", "started_at", "worker", "code", "log", "children"];
    let more = more.iter().zip(MESSAGE_COLUMNS + 2..).map(|(column, number)| format!("{column} = ?{number}"));
    let columns = message.into_iter().chain(more).collect::<Vec<_>>().join(", ");
    format!("UPDATE task SET {columns}, held = 0, acknowledged = 0 WHERE seq = ?{}", MESSAGE_COLUMNS + 1)
});

/// What Celery keeps of a task that was revoked.
pub fn revoked_error(reason: &str) -> Failure {
    Failure::celery("TaskRevokedError", reason)
}

// The row of a claim.
struct Row {
    seq: i64,
    queue: QueueName,
}

impl Desk {
    /// Ends a delivery in one step, see [`Settlement`].
    pub fn settle(&mut self, settlement: &Settlement, now: Timestamp) -> Outcome<Settled> {
        let Settlement { delivery, ending, attempt, follow_ups } = settlement;
        let look = |claim: &mut Claim| (Row { seq: claim.seq, queue: claim.queue.clone() }, claim.revoked);
        let Some((row, revoked)) = self.claims.with(&delivery.receipt, look) else { return Ok(Settled::LeaseLost) };
        let id = &delivery.receipt.id;
        let instead = match ending {
            Ending::Retry { .. } if revoked => Some(Ending::Revoked { reason: "revoked" }),
            // On Celery's wire a retry is its own parent. Here it keeps the one that it had.
            Ending::Retry { next, why } => {
                let parent_id = delivery.message.parent_id.clone();
                Some(Ending::Retry { next: Box::new(Message { parent_id, ..*next.clone() }), why: why.clone() })
            }
            _ => None,
        };
        let ending = instead.as_ref().unwrap_or(ending);
        if follow_ups.is_empty() {
            self.end(&row, id, ending, attempt, now)?;
        } else {
            self.atomically(|desk| {
                follow_ups.iter().try_for_each(|message| desk.push_unless_known(message, now))?;
                desk.end(&row, id, ending, attempt, now)
            })?;
        }
        self.settled(id);
        Ok(Settled::Stored)
    }

    // One statement, so that it succeeds or changes nothing.
    fn end(&mut self, row: &Row, id: &TaskId, ending: &Ending, attempt: &Attempt, now: Timestamp) -> Outcome<()> {
        let (state, result, error) = match ending {
            Ending::Retry { next, why } => return self.retry(row, next, why, attempt, now),
            Ending::Success { result } => (State::Success, result.as_deref(), None),
            Ending::Failure(why) => (State::Failure, None, Some(json(why))),
            Ending::Revoked { reason } => (State::Revoked, None, Some(json(&revoked_error(reason)))),
        };
        let (log, children) = rows::notes(attempt);
        self.execute(
            "UPDATE task SET state = ?2, result = ?3, error = ?4, started_at = ?5, finished_at = ?6, worker = ?7, \
             code = ?8, log = ?9, children = ?10 WHERE seq = ?1",
            params![
                row.seq,
                state.as_str(),
                result.map(RawValue::get),
                error,
                attempt.started_at.map(micros),
                micros(attempt.finished_at.unwrap_or(now)),
                self.settings.worker,
                attempt.code,
                log,
                children
            ],
        )?;
        self.moved(&row.queue, -1, 0);
        self.has_ended(id);
        Ok(())
    }

    fn retry(&mut self, row: &Row, next: &Message, why: &Failure, attempt: &Attempt, now: Timestamp) -> Outcome<()> {
        // Shown as RETRY until it becomes ready, even if that is at once.
        let due = micros(next.due_at().unwrap_or(now));
        let (log, children) = rows::notes(attempt);
        let mut update = self.db.prepare_cached(&RETRY)?;
        rows::bind_message(&mut update, next)?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 1, row.seq)?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 2, State::Retry.as_str())?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 3, next.priority.step())?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 4, 0)?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 5, due)?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 6, json(why))?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 7, attempt.started_at.map(micros))?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 8, &self.settings.worker)?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 9, &attempt.code)?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 10, log)?;
        update.raw_bind_parameter(MESSAGE_COLUMNS + 11, children)?;
        update.raw_execute()?;
        drop(update);
        self.moved(&row.queue, -1, 0);
        self.moved(&next.queue, 0, 1);
        self.has_changed(&next.id);
        self.delay(due);
        Ok(())
    }

    /// See [`crate::store::Queue::acknowledge`].
    pub fn acknowledge(&mut self, receipt: &Receipt) -> Outcome<Settled> {
        let Some(seq) = self.claims.with(receipt, |claim| claim.seq) else { return Ok(Settled::LeaseLost) };
        self.execute("UPDATE task SET acknowledged = 1 WHERE seq = ?1", [seq])?;
        self.noted(&receipt.id, Mark::Acknowledged);
        Ok(Settled::Stored)
    }

    /// See [`crate::store::Queue::put_back`]. Receipts that are void are passed over.
    pub fn return_all(&mut self, receipts: &[Receipt], wait: Duration, now: Timestamp) -> Outcome<()> {
        for receipt in receipts {
            let look = |claim: &mut Claim| {
                let row = Row { seq: claim.seq, queue: claim.queue.clone() };
                (row, claim.revoked, claim.marked || claim.acknowledged, claim.redelivered)
            };
            let Some((row, revoked, written, redelivered)) = self.claims.with(receipt, look) else { continue };
            if revoked {
                self.end(&row, &receipt.id, &Ending::Revoked { reason: "revoked" }, &Attempt::default(), now)?;
                self.settled(&receipt.id);
                continue;
            }
            if written {
                let sql = "UPDATE task SET held = ?2, acknowledged = 0 WHERE seq = ?1";
                self.execute(sql, params![row.seq, redelivered])?;
            }
            match now.checked_add_signed(chrono::Duration::from_std(wait).unwrap_or(chrono::Duration::MAX)) {
                _ if wait.is_zero() => self.put_back(&receipt.id),
                due => self.put_back_until(&row, &receipt.id, micros(due.unwrap_or(Timestamp::MAX_UTC)))?,
            }
        }
        Ok(())
    }

    // It keeps its turn, so that it is among the first once it is ready.
    fn put_back_until(&mut self, row: &Row, id: &TaskId, due: i64) -> Outcome<()> {
        self.execute("UPDATE task SET state = 'SCHEDULED', due_at = ?2 WHERE seq = ?1", params![row.seq, due])?;
        self.moved(&row.queue, -1, 1);
        self.has_changed(id);
        self.settled(id);
        self.delay(due);
        Ok(())
    }

    /// See [`crate::store::Queue::revoke`].
    pub fn revoke(&mut self, id: &TaskId, terminate: bool, now: Timestamp) -> Outcome<Revoked> {
        if let Some(seq) = self.claims.with_id(id, |claim| claim.seq) {
            // Written down, so that it is not redelivered after a crash either.
            self.execute("UPDATE task SET revoked = 1 WHERE seq = ?1", [seq])?;
            self.noted(id, Mark::Revoked);
            self.has_changed(id);
            if terminate {
                self.stop(id);
            }
            return Ok(Revoked::WhileRunning);
        }
        let known = self
            .db
            .prepare_cached("SELECT state, queue FROM task WHERE id = ?1")?
            .query_row([id.as_str()], |row| Ok((rows::state(row, 0)?, rows::name(row, 1)?)))
            .optional()?;
        match known {
            Some((state, _)) if state.is_final() => Ok(Revoked::TooLate(state)),
            Some((state, queue)) => {
                self.execute(
                    "UPDATE task SET state = 'REVOKED', due_at = NULL, error = ?2, finished_at = ?3 WHERE id = ?1",
                    params![id.as_str(), json(&revoked_error("revoked")), micros(now)],
                )?;
                let queued = i64::from(state == State::Queued);
                self.moved(&queue, -queued, queued - 1);
                self.has_ended(id);
                Ok(Revoked::BeforeStart)
            }
            // Nobody else sends here: there is nothing that could come later.
            None => Ok(Revoked::Unknown),
        }
    }
}
