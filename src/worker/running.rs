//! What runs here now, and how to stop it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use crate::script::{Stop, StopReason};
use crate::task::{Message, TaskId, Timestamp};

/// A task is known as running before its worker has its delivery in hand; a termination that is heard between the
/// two is remembered for so long.
const ON_THE_WAY: Duration = Duration::from_secs(5);
/// The most terminations that are remembered; the oldest is forgotten first, and its task runs to its end.
const REMEMBERED: usize = 64;

/// The running tasks of one process.
#[derive(Default)]
pub struct Running(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// By the token of the delivery.
    entries: HashMap<u64, Entry>,
    /// Terminations of what does not run here, or not yet.
    early: VecDeque<(TaskId, Instant)>,
    /// Everything stands still.
    held: bool,
}

/// One delivery on its way through this worker.
pub struct Entry {
    pub stop: Stop,
    pub message: Arc<Message>,
    pub redelivered: bool,
    /// Whatever happens, it is not handed out again.
    pub acknowledged: bool,
    /// Set when its script begins.
    pub started_at: Arc<OnceLock<Timestamp>>,
}

/// What others may know of such a delivery.
#[derive(Debug, Clone)]
pub struct InHand {
    pub message: Arc<Message>,
    /// It was claimed before, by a process that died.
    pub redelivered: bool,
    /// Whatever happens, it is not handed out again.
    pub acknowledged: bool,
    /// `None` when its script has not begun.
    pub started_at: Option<Timestamp>,
}

impl Running {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no one panics while the list of running tasks is locked")
    }

    /// From now on the entry is known, and its script stopped when it is to be.
    pub fn begin(&self, token: u64, entry: Entry) {
        let mut inner = self.inner();
        if inner.early.iter().any(|(id, heard)| *id == entry.message.id && heard.elapsed() < ON_THE_WAY) {
            entry.stop.stop(StopReason::Revoked);
        }
        if inner.held {
            entry.stop.hold();
        }
        inner.entries.insert(token, entry);
    }

    pub fn end(&self, token: u64) {
        self.inner().entries.remove(&token);
    }

    /// What runs now.
    pub fn ids(&self) -> Vec<TaskId> {
        let mut ids: Vec<TaskId> = self.inner().entries.values().map(|entry| entry.message.id.clone()).collect();
        ids.sort();
        ids
    }

    /// What runs and what waits to, oldest start first, then by id.
    pub fn in_hand(&self) -> Vec<InHand> {
        let shown = |entry: &Entry| InHand {
            message: entry.message.clone(),
            redelivered: entry.redelivered,
            acknowledged: entry.acknowledged,
            started_at: entry.started_at.get().copied(),
        };
        let mut in_hand: Vec<InHand> = self.inner().entries.values().map(shown).collect();
        in_hand.sort_by_cached_key(|one| (one.started_at.is_none(), one.started_at, one.message.id.clone()));
        in_hand
    }

    /// The lease of this delivery is lost.
    pub fn lost(&self, token: u64) {
        if let Some(entry) = self.inner().entries.get(&token) {
            entry.stop.stop(StopReason::LeaseLost);
        }
    }

    /// Nobody knows whether the leases are lost: everything stands still, also what begins, until it is released. Tells
    /// how much that is.
    pub fn hold(&self) -> usize {
        let mut inner = self.inner();
        inner.held = true;
        inner.entries.values().for_each(|entry| entry.stop.hold());
        inner.entries.len()
    }

    #[cfg(test)]
    pub fn is_held(&self) -> bool {
        self.inner().held
    }

    /// What stands still goes on.
    pub fn release(&self) {
        let mut inner = self.inner();
        if std::mem::take(&mut inner.held) {
            inner.entries.values().for_each(|entry| entry.stop.release());
        }
    }

    /// Someone wants `id` stopped, wherever it runs.
    pub fn terminate(&self, id: TaskId) {
        let mut inner = self.inner();
        let mut found = false;
        for entry in inner.entries.values().filter(|entry| entry.message.id == id) {
            entry.stop.stop(StopReason::Revoked);
            found = true;
        }
        if !found {
            inner.early.truncate(REMEMBERED - 1);
            inner.early.push_front((id, Instant::now()));
        }
    }
}
