//! What a worker says of itself in the store's roster, with each renewal of its leases.

use chrono::Utc;
use tracing::warn;

use super::Floor;
use crate::store::{Queues, WorkerFacts};
use crate::task::Timestamp;

impl Floor {
    /// Says that this worker is there, since `started_at`. Who looks may miss it until the next time when the store is
    /// away now.
    pub async fn announce(&self, started_at: Timestamp) {
        let worker = WorkerFacts {
            name: self.settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            seen_at: Utc::now(),
            slots: self.settings.slots,
            running: self.running.ids(),
            queues: match (self.queues)() {
                Queues::Every => Vec::new(),
                Queues::Named(queues) => queues,
            },
        };
        // That the store is away is told by those who need it more.
        let _ = self.client.stores().roster.announce(worker).await;
    }

    /// Says that it is there no more.
    pub async fn leave(&self) {
        let name = &self.settings.name;
        if let Err(cause) = self.client.stores().roster.leave(name).await
            && !cause.is_told()
        {
            warn!("`{name}` is among the workers until its lease is over: {cause}");
        }
    }
}
