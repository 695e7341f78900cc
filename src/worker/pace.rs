//! How many deliveries may be under way: what can start within a moment, judged by how long tasks took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is claimed should start within this.
const MOMENT: Duration = Duration::from_millis(50);

/// The most deliveries under way in one process, however short they are.
const MOST: usize = 2_000;

/// Knows the mean duration of late tasks.
pub struct Pace {
    slots: usize,
    /// Moving mean in nanoseconds; 0 before the first task has ended.
    mean: AtomicU64,
}

impl Pace {
    pub fn new(slots: usize) -> Self {
        Self { slots, mean: AtomicU64::new(0) }
    }

    /// Takes notice of a task that ran for `took`.
    ///
    /// Two threads may overwrite each other's notice: it is a mean, not a count.
    pub fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = self.mean.load(Ordering::Relaxed);
        // A task far longer than the others weighs more than one far shorter: claiming too much is the worse error. A
        // few milliseconds are no sign of such a one: the system may just have let another thread run.
        let is_far_longer = took > mean.saturating_mul(100) && took >= MOMENT.as_nanos() as u64;
        let next = if mean == 0 || is_far_longer { took } else { mean - mean / 16 + took / 16 };
        self.mean.store(next, Ordering::Relaxed);
    }

    /// How many to claim now, with `under_way` not settled; 0 when it is better to wait for an end, which is never so
    /// with nothing under way.
    pub fn room(&self, under_way: usize) -> usize {
        let target = self.target();
        let room = target.saturating_sub(under_way);
        // With many short tasks a claim for each one that ends would cost more than the tasks.
        let worthwhile = if target > 4 * self.slots { target / 4 } else { 1 };
        if room < worthwhile { 0 } else { room }
    }

    fn target(&self) -> usize {
        let mean = self.mean.load(Ordering::Relaxed);
        if mean == 0 {
            return self.slots;
        }
        let fit = MOMENT.as_nanos() as u64 / mean;
        usize::try_from(fit).unwrap_or(MOST).saturating_mul(self.slots).clamp(self.slots, MOST.max(self.slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(tasks: impl IntoIterator<Item = Duration>) -> Pace {
        let pace = Pace::new(8);
        tasks.into_iter().for_each(|took| pace.note(took));
        pace
    }

    #[test]
    fn nothing_more_than_the_slots_is_claimed_unseen() {
        assert_eq!(after([]).room(0), 8);
        assert_eq!(after([]).room(7), 1);
        assert_eq!(after([]).room(8), 0);
    }

    #[test]
    fn short_tasks_are_claimed_by_the_hundred() {
        let pace = after([Duration::from_micros(5); 10]);

        assert_eq!(pace.room(0), MOST);
        assert_eq!(pace.room(MOST - 10), 0, "not for so few");
        assert_eq!(pace.room(MOST / 2), MOST / 2);
    }

    #[test]
    fn long_tasks_are_claimed_one_a_slot() {
        let pace = after([Duration::from_secs(3); 10]);

        assert_eq!(pace.room(0), 8);
        assert_eq!(pace.room(7), 1);
    }

    #[test]
    fn there_is_always_room_where_nothing_is_under_way() {
        for slots in [1, 8, 4_096] {
            for took in [1, 5_000, 50_000_000, u64::MAX] {
                let pace = Pace::new(slots);
                pace.note(Duration::from_nanos(took));

                assert!(pace.room(0) > 0, "{slots} {took}");
            }
        }
    }

    #[test]
    fn one_long_task_after_many_short_ones_is_noticed_at_once() {
        let pace = after([Duration::from_micros(5); 1_000]);
        pace.note(Duration::from_secs(1));

        assert_eq!(pace.room(0), 8);
    }

    #[test]
    fn a_short_task_that_had_to_wait_for_a_processor_changes_little() {
        let pace = after([Duration::from_micros(5); 1_000]);
        pace.note(Duration::from_millis(4));

        assert!(pace.room(0) > MOST / 2, "{}", pace.room(0));
    }
}
