//! What runs here now, and how to stop it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::script::{Stop, StopReason};
use crate::store::Receipt;
use crate::task::TaskId;

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
    stops: HashMap<Receipt, Stop>,
    /// Terminations of what does not run here, or not yet.
    early: VecDeque<(TaskId, Instant)>,
    /// Everything stands still.
    held: bool,
}

impl Running {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no one panics while the list of running tasks is locked")
    }

    /// From now on `stop` is told.
    pub fn begin(&self, receipt: Receipt, stop: Stop) {
        let mut inner = self.inner();
        if inner.early.iter().any(|(id, heard)| *id == receipt.id && heard.elapsed() < ON_THE_WAY) {
            stop.stop(StopReason::Revoked);
        }
        if inner.held {
            stop.hold();
        }
        inner.stops.insert(receipt, stop);
    }

    pub fn end(&self, receipt: &Receipt) {
        self.inner().stops.remove(receipt);
    }

    /// What runs now.
    pub fn ids(&self) -> Vec<TaskId> {
        let mut ids: Vec<TaskId> = self.inner().stops.keys().map(|receipt| receipt.id.clone()).collect();
        ids.sort();
        ids
    }

    /// The lease of `receipt` is lost.
    pub fn lost(&self, receipt: &Receipt) {
        if let Some(stop) = self.inner().stops.get(receipt) {
            stop.stop(StopReason::LeaseLost);
        }
    }

    /// Nobody knows whether the leases are lost: everything stands still, also what begins, until it is released. Tells
    /// how much that is.
    pub fn hold(&self) -> usize {
        let mut inner = self.inner();
        inner.held = true;
        inner.stops.values().for_each(Stop::hold);
        inner.stops.len()
    }

    #[cfg(test)]
    pub fn is_held(&self) -> bool {
        self.inner().held
    }

    /// What stands still goes on.
    pub fn release(&self) {
        let mut inner = self.inner();
        if std::mem::take(&mut inner.held) {
            inner.stops.values().for_each(Stop::release);
        }
    }

    /// Someone wants `id` stopped, wherever it runs.
    pub fn terminate(&self, id: TaskId) {
        let mut inner = self.inner();
        let mut found = false;
        for (_, stop) in inner.stops.iter().filter(|(receipt, _)| receipt.id == id) {
            stop.stop(StopReason::Revoked);
            found = true;
        }
        if !found {
            inner.early.truncate(REMEMBERED - 1);
            inner.early.push_front((id, Instant::now()));
        }
    }
}
