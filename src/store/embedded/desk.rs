//! What the writer thread works with: its connection, what is ready, and what is to happen after the commit.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use rusqlite::{Connection, ffi, params};
use tokio::sync::broadcast;

use super::claims::{Claims, Mark};
use super::deaths;
use super::depths::{Count, Depths};
use super::file::{Fault, File, Outcome};
use super::ready::Ready;
use super::rows::micros;
use super::running::Running;
use super::tally::Tally;
use super::watchers::Watchers;
use crate::store::outage::Outage;
use crate::store::{Error, Receipt, Settings};
use crate::task::{Priority, QueueName, TaskId};

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
    /// The row of the claim says so.
    Noted(TaskId, Mark),
    /// What is known of the task is not as it was: wake who watches it.
    Changed(TaskId),
    /// Messages of the queue came or went.
    Moved(QueueName, Count),
    /// The queue is paused, or is no longer.
    Paused(QueueName, bool),
    /// Who runs it is to stop.
    Stop(TaskId),
    /// Nothing happens: bring what was written into the database itself.
    Checkpoint,
}

pub struct Desk {
    pub db: Connection,
    pub claims: Arc<Claims>,
    pub ready: Ready,
    pub depths: Arc<Depths>,
    /// When processes died while they ran the task of that row.
    pub deaths: HashMap<i64, Vec<i64>>,
    pub settings: Settings,
    file: File,
    watchers: Arc<Watchers>,
    stops: broadcast::Sender<TaskId>,
    /// The turn of the message that became ready last.
    pub turn: i64,
    pub tally: Tally,
    /// How many rows had changed when the timer came last, and when everything was brought into the database.
    pub seen: (u64, u64),
    after: Vec<After>,
    outage: Outage,
    /// The tally when this transaction began.
    before: Tally,
    /// How many rows had changed by then.
    written: u64,
    /// Why SQLite has ended this transaction by itself, once it did.
    lost: Cell<Option<ffi::Error>>,
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
        let (running, begun) = match file.beside() {
            Some(path) => Running::open(&path)?,
            None => Default::default(),
        };
        let taken_over =
            deaths::take_over(&db, &begun, &settings, Utc::now()).map_err(|error| file.explain_sql(&error))?;
        // From now on they are written down in the database.
        running.clear();
        let claims = Arc::new(Claims::new(settings.worker.clone(), taken_over.opening, running));
        let mut desk = Self {
            db,
            claims,
            ready: Ready::default(),
            depths: Arc::default(),
            deaths: taken_over.deaths,
            settings,
            file,
            watchers,
            stops,
            turn: 0,
            tally: Tally::default(),
            seen: (0, 0),
            after: Vec::new(),
            outage: Outage::default(),
            before: Tally::default(),
            written: 0,
            lost: Cell::new(None),
        };
        match desk.look_around() {
            Ok(()) => Ok(desk),
            Err(error) => Err(desk.explain_sql(&error)),
        }
    }

    fn look_around(&mut self) -> rusqlite::Result<()> {
        self.tally = Tally::count(&self.db)?;
        self.find_next_due()?;
        self.depths.count(&self.db)?;
        for queue in self.depths.queued() {
            for step in Priority::STEPS {
                let last = "SELECT max(turn) FROM task INDEXED BY task_ready \
                    WHERE state = 'QUEUED' AND queue = ?1 AND step = ?2";
                let last: Option<i64> = self.db.query_row(last, params![queue.as_str(), step], |row| row.get(0))?;
                if let Some(last) = last {
                    self.turn = self.turn.max(last);
                    self.ready.note(step, &queue, 0);
                }
            }
        }
        let returned = "SELECT max(turn) FROM task INDEXED BY task_returned WHERE due_at IS NOT NULL AND turn > 0";
        let returned: Option<i64> = self.db.query_row(returned, [], |row| row.get(0))?;
        self.turn = self.turn.max(returned.unwrap_or_default());
        Ok(())
    }

    pub fn explain(&self, fault: Fault) -> Error {
        if let Fault::Sql(rusqlite::Error::SqliteFailure(why, _)) = &fault
            && self.db.is_autocommit()
            && self.lost.get().is_none()
        {
            self.lost.set(Some(*why));
        }
        self.told(self.file.explain(fault))
    }

    pub fn explain_sql(&self, error: &rusqlite::Error) -> Error {
        self.told(self.file.explain_sql(error))
    }

    fn told(&self, error: Error) -> Error {
        if let Error::Away { reason } | Error::Full { reason } = &error {
            self.outage.begins(reason);
        }
        error
    }

    /// Succeeds when the store can be written, as far as is known: while it could not be, it is tried again, with a
    /// value that has gone already.
    pub fn ping(&self) -> Outcome<()> {
        if self.outage.lasts() {
            let attempt = "INSERT INTO kv VALUES ('ping', hex(randomblob(32768)), 0) \
                ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            self.execute(attempt, ())?;
        }
        Ok(())
    }

    /// Runs `steps` so that all of them count or none. Only for commands that can fail half-way: it costs.
    pub fn atomically<T>(&mut self, steps: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.execute("SAVEPOINT command", ())?;
        let (noted, before) = (self.after.len(), self.tally);
        let done = steps(self);
        // A full disk may have ended the whole transaction, and the savepoint with it.
        if done.is_err() && !self.db.is_autocommit() {
            let undone = self.after.split_off(noted);
            self.undo(undone);
            self.tally = before;
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
        self.before = self.tally;
        self.written = self.db.total_changes();
        self.lost.set(None);
        self.execute("BEGIN IMMEDIATE", ()).map(drop)
    }

    /// An error, that of the command which met it, when SQLite has ended the transaction by itself, as it does when the
    /// disk is full or broken.
    pub fn is_lost(&self) -> rusqlite::Result<()> {
        if !self.db.is_autocommit() {
            return Ok(());
        }
        let why = self.lost.get().unwrap_or(ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK));
        Err(rusqlite::Error::SqliteFailure(why, Some("the transaction was rolled back".to_owned())))
    }

    /// Commits, then does what had to wait for it.
    pub fn commit(&mut self) -> rusqlite::Result<()> {
        self.execute("COMMIT", ())?;
        // A commit of nothing says nothing of the disk.
        if self.db.total_changes() > self.written {
            self.outage.ends(&self.file.to_string());
        }
        for after in std::mem::take(&mut self.after) {
            match after {
                After::Settled(id) => drop(self.claims.remove(&id)),
                After::PutBack(id) => self.unclaim(&id),
                After::Noted(..) => {}
                After::Ended(id) => self.watchers.ended(&id),
                After::Changed(id) => self.watchers.changed(&id),
                After::Moved(queue, by) => self.depths.moved(&queue, by),
                After::Paused(queue, paused) => self.depths.set_paused(&queue, paused),
                // Nobody listens: nobody runs anything.
                After::Stop(id) => drop(self.stops.send(id)),
                After::Checkpoint => self.checkpoint(),
            }
        }
        Ok(())
    }

    /// The transaction did not come to its end: what is in memory is again what is in the file.
    pub fn rolled_back(&mut self) {
        if !self.db.is_autocommit() {
            let _ = self.execute("ROLLBACK", ());
        }
        let undone = std::mem::take(&mut self.after);
        self.undo(undone);
        self.tally = self.before;
        if self.something_is_due() {
            self.tally.next_due = Some(micros(Utc::now() + PAUSE));
        }
    }

    // Claims hold on, and their rows say no more than before.
    fn undo(&self, undone: Vec<After>) {
        for after in undone {
            match after {
                After::Settled(id) | After::PutBack(id) => self.claims.end(&id, false),
                After::Noted(id, mark) => drop(self.claims.note(&id, mark, false)),
                _ => {}
            }
        }
    }

    /// The row of a claim says so from now on.
    pub fn noted(&mut self, id: &TaskId, mark: Mark) {
        if self.claims.note(id, mark, true) {
            self.after.push(After::Noted(id.clone(), mark));
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
        self.tally.ended += 1;
        self.after.push(After::Ended(id.clone()));
    }

    /// Something else about a task has changed.
    pub fn has_changed(&mut self, id: &TaskId) {
        self.after.push(After::Changed(id.clone()));
    }

    /// Messages of `queue` came or went.
    pub fn moved(&mut self, queue: &QueueName, queued: i64, delayed: i64) {
        self.after.push(After::Moved(queue.clone(), Count { queued, delayed }));
    }

    pub fn paused(&mut self, queue: &QueueName, paused: bool) {
        self.after.push(After::Paused(queue.clone(), paused));
    }

    /// After this commit, see [`Self::checkpoint`].
    pub fn checkpoint_after(&mut self) {
        self.after.push(After::Checkpoint);
    }

    /// A claim was made: shows to those who watch, and to nobody else.
    pub fn was_claimed(&self, id: &TaskId) {
        self.watchers.changed(id);
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
            self.watchers.changed(id);
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
