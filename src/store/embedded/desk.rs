//! What the writer thread works with: its connection, what is ready, and what is to happen after the commit.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use rusqlite::Connection;
use tokio::sync::broadcast;

use super::claims::Claims;
use super::file::{Fault, File, Outcome};
use super::ready::Ready;
use super::results::Watchers;
use super::rows::micros;
use crate::store::{Error, Receipt, Settings};
use crate::task::{QueueName, TaskId};

/// How long a store that cannot be written is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Something that counts only once it is committed.
enum After {
    /// The claim has ended, and its message does not wait.
    Settled(TaskId),
    /// The claim has ended, and its message waits again.
    PutBack(TaskId),
    /// The state is final: wake who waits for it.
    Ended(TaskId),
    /// Who runs it is to stop.
    Stop(TaskId),
}

pub struct Desk {
    pub db: Connection,
    pub claims: Arc<Claims>,
    pub ready: Ready,
    pub settings: Settings,
    file: File,
    watchers: Arc<Watchers>,
    stops: broadcast::Sender<TaskId>,
    /// The turn of the message that became ready last.
    pub turn: i64,
    /// When to look for delayed messages that are due; `None` when nothing is delayed.
    pub next_due: Option<i64>,
    /// How many rows are final.
    pub ended: i64,
    /// How many revocations of unknown tasks are kept.
    pub revocations: i64,
    /// Results up to this row (when it finished, which it is) were dropped for their age.
    pub dropped: (i64, i64),
    after: Vec<After>,
}

impl Desk {
    /// Takes over a file that was just opened: what its last process left behind is settled or waiting again.
    pub fn open(
        file: File,
        db: Connection,
        settings: Settings,
        watchers: Arc<Watchers>,
        stops: broadcast::Sender<TaskId>,
    ) -> Result<Self, Error> {
        let opening = |db: &Connection| -> rusqlite::Result<i64> {
            db.query_row("UPDATE meta SET value = value + 1 WHERE name = 'openings' RETURNING value", [], |row| {
                row.get(0)
            })
        };
        let opening = opening(&db).map_err(|error| file.explain_sql(&error))?;
        let claims = Arc::new(Claims::new(settings.worker.clone(), opening.unsigned_abs()));
        let mut desk = Self {
            db,
            claims,
            ready: Ready::default(),
            settings,
            file,
            watchers,
            stops,
            turn: 0,
            next_due: None,
            ended: 0,
            revocations: 0,
            dropped: (0, 0),
            after: Vec::new(),
        };
        match desk.take_over() {
            Ok(()) => Ok(desk),
            Err(fault) => Err(desk.explain(fault)),
        }
    }

    fn take_over(&mut self) -> Outcome<()> {
        self.begin()?;
        self.bury_the_dead()?;
        self.commit()?;
        self.count()?;
        let mut queues = self.db.prepare(
            "SELECT step, queue, max(turn) FROM task INDEXED BY task_ready WHERE state = 'QUEUED' GROUP BY queue, step",
        )?;
        let mut rows = queues.query([])?;
        while let Some(row) = rows.next()? {
            self.turn = self.turn.max(row.get(2)?);
            if let Ok(queue) = QueueName::parse(&row.get::<_, String>(1)?) {
                self.ready.note(row.get(0)?, &queue, 0);
            }
        }
        Ok(())
    }

    fn count(&mut self) -> rusqlite::Result<()> {
        let ended = "SELECT count(*) FROM task WHERE finished_at IS NOT NULL";
        self.ended = self.db.query_row(ended, [], |row| row.get(0))?;
        self.revocations = self.db.query_row("SELECT count(*) FROM revocation", [], |row| row.get(0))?;
        self.find_next_due()
    }

    pub fn explain(&self, fault: Fault) -> Error {
        self.file.explain(fault)
    }

    pub fn explain_sql(&self, error: &rusqlite::Error) -> Error {
        self.file.explain_sql(error)
    }

    /// Runs `steps` so that all of them count or none. Only for commands that can fail half-way: it costs.
    pub fn atomically<T>(&mut self, steps: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.execute("SAVEPOINT command", ())?;
        let (noted, ended) = (self.after.len(), self.ended);
        let done = steps(self);
        // A full disk may have ended the whole transaction, and the savepoint with it.
        if done.is_err() && !self.db.is_autocommit() {
            self.after.truncate(noted);
            self.ended = ended;
            self.execute("ROLLBACK TO command", ())?;
        }
        if !self.db.is_autocommit() {
            self.execute("RELEASE command", ())?;
        }
        done
    }

    pub fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute(parameters)
    }

    pub fn begin(&mut self) -> rusqlite::Result<()> {
        self.execute("BEGIN IMMEDIATE", ()).map(drop)
    }

    /// An error when SQLite has ended the transaction by itself, as it does when the disk is full.
    pub fn is_lost(&self) -> rusqlite::Result<()> {
        if !self.db.is_autocommit() {
            return Ok(());
        }
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        Err(rusqlite::Error::SqliteFailure(full, Some("the transaction was rolled back".to_owned())))
    }

    /// Commits, then does what had to wait for it.
    pub fn commit(&mut self) -> rusqlite::Result<()> {
        self.execute("COMMIT", ())?;
        for after in std::mem::take(&mut self.after) {
            match after {
                After::Settled(id) => drop(self.claims.remove(&id)),
                After::PutBack(id) => self.unclaim(&id),
                After::Ended(id) => self.watchers.wake(&id),
                // Nobody listens: nobody runs anything.
                After::Stop(id) => drop(self.stops.send(id)),
            }
        }
        Ok(())
    }

    /// The transaction did not come to its end: claims hold on.
    pub fn rolled_back(&mut self) {
        if !self.db.is_autocommit() {
            let _ = self.execute("ROLLBACK", ());
        }
        for after in std::mem::take(&mut self.after) {
            if let After::Settled(id) | After::PutBack(id) = after {
                self.claims.end(&id, false);
            }
        }
        if self.count().is_err() || self.something_is_due() {
            self.next_due = Some(micros(Utc::now() + PAUSE));
        }
    }

    pub fn settled(&mut self, id: &TaskId) {
        self.claims.end(id, true);
        self.after.push(After::Settled(id.clone()));
    }

    pub fn put_back(&mut self, id: &TaskId) {
        self.claims.end(id, true);
        self.after.push(After::PutBack(id.clone()));
    }

    /// A row has become final.
    pub fn has_ended(&mut self, id: &TaskId) {
        self.ended += 1;
        self.after.push(After::Ended(id.clone()));
    }

    pub fn stop(&mut self, id: &TaskId) {
        self.after.push(After::Stop(id.clone()));
    }

    /// Claims that were made for nobody.
    pub fn release(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            if self.claims.with(receipt, |_| ()).is_some() {
                self.unclaim(&receipt.id);
            }
        }
    }

    fn unclaim(&mut self, id: &TaskId) {
        if let Some(claim) = self.claims.remove(id) {
            self.ready.note(claim.step, &claim.queue, claim.turn);
        }
    }

    /// What every transaction does beside its commands: due messages become ready, and the history stays bounded
    /// however fast it grows.
    pub fn housekeep(&mut self, commands: usize) -> rusqlite::Result<()> {
        if self.something_is_due() {
            self.promote()?;
        }
        self.drop_oldest(2 * commands as i64)
    }
}
