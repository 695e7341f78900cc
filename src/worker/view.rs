//! What others may see of a worker while it works.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Floor;
use super::running::InHand;
use crate::store::Queues;
use crate::task::QueueName;

/// A look at one worker from outside. Cheap to clone; it costs the worker nothing until it is asked.
#[derive(Clone)]
pub struct View(Arc<Floor>);

impl View {
    pub(super) fn of(floor: &Arc<Floor>) -> Self {
        Self(floor.clone())
    }

    /// As kept with each run: `umbel-PID@host`.
    pub fn name(&self) -> &str {
        &self.0.settings.name
    }

    /// How many tasks it runs at the same time.
    pub fn slots(&self) -> usize {
        self.0.settings.slots
    }

    /// How many tasks it may have in hand now, running or not, by how long they took lately.
    pub fn reach(&self) -> usize {
        self.0.pace.room(0)
    }

    /// What it runs, and what it has claimed and not started; oldest start first, then by id.
    pub fn in_hand(&self) -> Vec<InHand> {
        self.0.running.in_hand()
    }

    /// The queues it serves; empty for every queue of a store that is its alone.
    pub fn queues(&self) -> Vec<QueueName> {
        match (self.0.queues)() {
            Queues::Every => Vec::new(),
            Queues::Named(queues) => queues,
        }
    }

    /// How many runs it has started, by the name of the task. Names beyond the most that are counted apart are left
    /// out.
    pub fn started(&self) -> BTreeMap<String, u64> {
        self.0.meters.started()
    }

    /// Since when it is there.
    pub fn uptime(&self) -> Duration {
        self.0.since.elapsed()
    }
}
