//! Running a suspect alone: whoever ran beside a task that kills its process would be condemned with it.
//!
//! While it is its turn nothing more is claimed, and it begins when everything else here has ended. Where that takes
//! too long it goes back to the store for a while, because others must not starve for it: a process whose tasks are
//! all long leaves its suspects to one that has a quiet moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{Backoff, Floor, meters};
use crate::store::{Delivery, SUSPICIOUS_DEATHS};
use crate::task::Message;

/// How long a suspect waits here for the others to end.
const QUIET_WITHIN: Duration = Duration::from_secs(3);

/// How long one that could not run alone stays in the store.
const COME_BACK_AFTER: Duration = Duration::from_secs(60);

/// Those that may start at once, and the suspects.
pub fn part(deliveries: Vec<Delivery>) -> (Vec<Delivery>, Vec<Delivery>) {
    deliveries.into_iter().partition(|delivery| delivery.deaths < SUSPICIOUS_DEATHS)
}

/// Runs the first of `suspects` once nothing else is under way, and returns when it has ended or `stop` came. The
/// others go back to the front of their queue.
pub async fn run_alone(
    floor: &Arc<Floor>,
    executions: &TaskTracker,
    suspects: Vec<Delivery>,
    stop: &CancellationToken,
) {
    let mut suspects = suspects.into_iter();
    let Some(suspect) = suspects.next() else { return };
    if suspects.len() > 0 {
        floor.give_back(suspects.collect(), Duration::ZERO, stop).await;
    }

    let Message { id, task, .. } = &*suspect.message;
    let deaths = suspect.deaths;
    tokio::select! {
        quiet = timeout(QUIET_WITHIN, floor.quiet(executions)) => if quiet.is_err() {
            warn!(task.id = %id, deaths, "{task}[{id}] is to run alone, and others run on; it is tried again in a minute");
            return floor.give_back(vec![suspect], COME_BACK_AFTER, stop).await;
        },
        () = stop.cancelled() => return floor.give_back(vec![suspect], Duration::ZERO, stop).await,
    }
    warn!(task.id = %id, deaths, "{deaths} processes died while {task}[{id}] ran, so it runs alone");
    floor.start(executions, suspect);
    tokio::select! {
        () = floor.quiet(executions) => {}
        () = stop.cancelled() => {}
    }
}

impl Floor {
    // Nothing is under way. Only who claims may wait so: an end that leaves room is told to one, and the last one always
    // does.
    async fn quiet(&self, executions: &TaskTracker) {
        while !executions.is_empty() {
            self.ended.notified().await;
        }
    }

    /// Returns what did not run to the store. While the store is away it tries again, until `end`: an embedded store
    /// has no leases that run out, and would keep it for this process as long as that lives.
    pub(super) async fn give_back(&self, deliveries: Vec<Delivery>, wait: Duration, end: &CancellationToken) {
        let mut backoff = Backoff::new();
        while let Err(cause) = self.client.stores().queue.put_back(deliveries.clone(), wait).await {
            meters::store_failed();
            if backoff.is_first() && !cause.is_told() {
                warn!("cannot give a task back, trying again: {cause}");
            }
            if !backoff.pause(end).await {
                // It comes back with the end of its lease, or with the next start.
                return;
            }
        }
    }
}
