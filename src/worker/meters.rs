//! What is counted of tasks, by the task's name.
//!
//! A worker runs tens of thousands of tasks a second, so a series is looked up once for a delivery and not for each
//! thing that happens to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::task::Verdict;

/// The most names that have series of their own; tasks of further names count as `other`, as do those that no script
/// has: anybody may send a name.
const NAMES: usize = 1_000;

const OTHER: &str = "other";

/// The series of every task.
pub struct Meters {
    by_name: RwLock<HashMap<String, Arc<Meter>>>,
    other: Arc<Meter>,
}

/// The series of the tasks of one name.
pub struct Meter {
    received: Counter,
    started: Counter,
    succeeded: Counter,
    failed: Counter,
    retried: Counter,
    revoked: Counter,
    queued: Histogram,
    duration: Histogram,
    running: Gauge,
    /// The same as `started`, for those who ask this process.
    started_here: AtomicU64,
}

impl Meters {
    pub fn new(slots: usize) -> Self {
        gauge!("umbel_slots").set(u32::try_from(slots).unwrap_or(u32::MAX));
        Self { by_name: RwLock::default(), other: Arc::new(Meter::of(OTHER)) }
    }

    /// The series of a task that exists.
    pub fn known(&self, name: &str) -> Arc<Meter> {
        if let Some(meter) = self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return meter.clone();
        }
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if by_name.len() >= NAMES && !by_name.contains_key(name) {
            return self.other.clone();
        }
        by_name.entry(name.to_owned()).or_insert_with(|| Arc::new(Meter::of(name))).clone()
    }

    /// How many runs have started, by name; those that count as `other` are left out.
    pub fn started(&self) -> BTreeMap<String, u64> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let counts = by_name.iter().map(|(name, meter)| (name.clone(), meter.started_here.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// The series of tasks that no script has.
    pub fn unknown(&self) -> Arc<Meter> {
        self.other.clone()
    }
}

impl Meter {
    fn of(task: &str) -> Self {
        let counted = |name: &'static str| counter!(name, "task" => task.to_owned());
        Self {
            received: counted("umbel_tasks_received_total"),
            started: counted("umbel_tasks_started_total"),
            succeeded: counted("umbel_tasks_succeeded_total"),
            failed: counted("umbel_tasks_failed_total"),
            retried: counted("umbel_tasks_retried_total"),
            revoked: counted("umbel_tasks_revoked_total"),
            queued: histogram!("umbel_task_queue_seconds", "task" => task.to_owned()),
            duration: histogram!("umbel_task_duration_seconds", "task" => task.to_owned()),
            running: gauge!("umbel_tasks_running"),
            started_here: AtomicU64::new(0),
        }
    }

    pub fn received(&self) {
        self.received.increment(1);
    }

    /// `waited` is from when the attempt was due; `None` when nobody knows.
    pub fn started(&self, waited: Option<Duration>) {
        self.started.increment(1);
        self.started_here.fetch_add(1, Ordering::Relaxed);
        self.running.increment(1);
        waited.into_iter().for_each(|waited| self.queued.record(waited));
    }

    /// Called once for each that had started.
    pub fn ended(&self, took: Duration) {
        self.running.decrement(1);
        self.duration.record(took);
    }

    pub fn settled(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Success(_) => &self.succeeded,
            Verdict::Failure(_) => &self.failed,
            Verdict::Retry { .. } => &self.retried,
            Verdict::Revoked { .. } => &self.revoked,
        }
        .increment(1);
    }
}

/// A call to the store failed.
pub fn store_failed() {
    counter!("umbel_store_errors_total", "part" => "worker").increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_names_have_their_own_series() {
        let meters = Meters::new(1);

        let first = meters.known("task.0");
        for n in 0..2 * NAMES {
            meters.known(&format!("task.{n}"));
        }

        assert_eq!(meters.by_name.read().unwrap().len(), NAMES);
        assert!(Arc::ptr_eq(&first, &meters.known("task.0")));
        assert!(Arc::ptr_eq(&meters.unknown(), &meters.known("task.too-many")));
    }
}
