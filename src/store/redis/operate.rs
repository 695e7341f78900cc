//! What operators ask of the queues: which there are, and that one stands still.

use std::sync::Arc;

use crate::store::{Depth, QueueFacts, Result};
use crate::task::QueueName;

use super::Redis;

/// Of a queue: its name, how much is ready, delayed and claimed, and whether it is paused.
type Facts = (String, u64, u64, u64, u8);

impl Redis {
    /// As `Queue::queues`. A queue that only others fill is known once it was claimed from, or when Celery bound it to
    /// its default exchange.
    pub(super) async fn queue_facts(&self) -> Result<Vec<QueueFacts>> {
        let found: Vec<Facts> = self.connection.run(&self.connection.scripts().queues.prepare_invoke()).await?;
        let mut facts: Vec<QueueFacts> = found.into_iter().filter_map(facts).collect();
        facts.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(facts)
    }

    /// As `Queue::pause`. The script that claims looks for itself; the notice ends the waits of those who wait already,
    /// so that an idle process neither takes from a paused queue nor sleeps on when it is resumed.
    pub(super) async fn pause_queue(self: &Arc<Self>, queue: &QueueName, paused: bool) -> Result<()> {
        let mut both = redis::pipe();
        if paused {
            both.sadd(self.connection.keys().paused(), queue.as_str());
        } else {
            both.srem(self.connection.keys().paused(), queue.as_str());
        }
        both.atomic().publish(self.connection.keys().earlier_due(), "");
        self.connection.ask_all(&both).await
    }
}

// `None` for a name that no queue of ours can have.
fn facts((name, ready, delayed, claimed, paused): Facts) -> Option<QueueFacts> {
    let name = QueueName::parse(&name).ok()?;
    Some(QueueFacts { name, depth: Depth { ready, delayed, claimed }, paused: paused == 1 })
}
