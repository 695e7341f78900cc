//! The worker claims what can start soon, runs it, and settles what came of it.
//!
//! A delivery goes through `execution` alone; this file decides how many are under way at once and how they all
//! come to an end. Nothing waits here for its due time, and nothing is claimed that could not start shortly: what
//! is not running belongs to the store, where every other process can reach it.

mod backoff;
mod execution;
mod host;
mod journal;
mod meters;
mod pace;
mod presence;
mod reporter;
mod running;
mod sources;
mod suspect;
mod view;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{error, info, warn};

use crate::channels::Hub;
use crate::client::Client;
use crate::script::{Limits, Pool};
use crate::store::{Delivery, Queues};
use crate::task::TaskId;

use backoff::Backoff;
pub use journal::Journal;
use meters::Meters;
use pace::Pace;
pub use running::InHand;
use running::Running;
pub use view::View;

/// How long one claim waits for a first message. What waits is woken by whatever concerns it, so it is long: each claim
/// asks the store anew.
const CLAIM_PATIENCE: Duration = Duration::from_secs(30);

/// What was claimed may end within this before more is asked for, where there was no more: else its outcome would wait
/// behind that question.
const MOMENT: Duration = Duration::from_millis(1);

/// The pause before leases that could not be renewed are renewed again.
const RENEW_AGAIN: Duration = Duration::from_millis(500);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name, as `umbel@host`; kept with each run.
    pub name: String,
    /// How many tasks run at the same time.
    pub slots: usize,
    /// How long a stopping worker waits for running tasks before it puts them back.
    pub grace: Duration,
    /// How long a claim lasts without renewal.
    pub lease: Duration,
    /// What each run may use.
    pub limits: Limits,
}

/// Everything the parts of a worker share.
struct Floor {
    client: Client,
    /// Where tasks send to groups; `None` where there are no sockets.
    hub: Option<Hub>,
    pool: Pool,
    settings: Settings,
    /// Which queues it serves; asked before each claim and with each new catalog, because a reload may add some.
    queues: Box<dyn Fn() -> Queues + Send + Sync>,
    journal: Journal,
    meters: Meters,
    runtime: tokio::runtime::Handle,
    pace: Pace,
    running: Running,
    since: Instant,
    /// Something ended, so there may be room.
    ended: Notify,
    /// No more starts.
    stopping: CancellationToken,
    /// No more waiting for what runs.
    hurry: CancellationToken,
}

/// One delivery under way. Its end makes room, however it comes.
struct UnderWay {
    counted: Option<TaskTrackerToken>,
    floor: Arc<Floor>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // In this order: whoever is woken counts what is still under way, and is not woken again.
        let Some(counted) = self.counted.take() else { return };
        let executions = counted.task_tracker().clone();
        drop(counted);
        // Of thousands of short tasks each end would wake who claims, and most leave no room worth a claim.
        if self.floor.pace.room(executions.len()) > 0 {
            self.floor.ended.notify_one();
        }
    }
}

/// Runs tasks until it is stopped.
pub struct Worker {
    floor: Arc<Floor>,
}

impl Worker {
    /// A worker whose scripts run on the engine of the catalog.
    pub fn new(
        client: Client,
        hub: Option<Hub>,
        engine: Arc<rhai::Engine>,
        queues: impl Fn() -> Queues + Send + Sync + 'static,
        settings: Settings,
        journal: Journal,
    ) -> Self {
        let floor = Floor {
            pool: Pool::new(engine, "task", settings.slots, settings.limits.memory),
            pace: Pace::new(settings.slots),
            meters: Meters::new(settings.slots),
            client,
            hub,
            settings,
            queues: Box::new(queues),
            journal,
            runtime: tokio::runtime::Handle::current(),
            running: Running::default(),
            since: Instant::now(),
            ended: Notify::new(),
            stopping: CancellationToken::new(),
            hurry: CancellationToken::new(),
        };
        Self { floor: Arc::new(floor) }
    }

    /// A look at it from outside.
    pub fn view(&self) -> View {
        View::of(&self.floor)
    }

    /// Works until `stop`; then lets running tasks end within the grace, puts the rest back, and returns.
    pub async fn run(self, stop: CancellationToken) {
        let executions = TaskTracker::new();
        let leases = AbortOnDropHandle::new(tokio::spawn(self.floor.clone().keep_leases()));
        let (catalogs, store) = (self.floor.client.catalogs().clone(), self.floor.client.stores().sources.clone());
        let _keeping = AbortOnDropHandle::new(tokio::spawn(sources::keep(catalogs, store, stop.clone())));
        let terminations = self.floor.client.stores().queue.terminations();
        let _terminating = AbortOnDropHandle::new(tokio::spawn(self.floor.clone().terminate_when_told(terminations)));

        self.claim_until(&stop, &executions).await;

        executions.close();
        self.floor.stopping.cancel();
        let under_way = executions.len();
        if under_way > 0 {
            info!(tasks = under_way, grace = ?self.floor.settings.grace, "waiting for {under_way} running tasks");
        }
        if timeout(self.floor.settings.grace, executions.wait()).await.is_err() {
            warn!("the grace is over: {} running tasks are put back", executions.len());
            self.floor.hurry.cancel();
            executions.wait().await;
        }
        // A renewal on its way would announce it again.
        leases.abort();
        let _ = leases.await;
        self.floor.leave().await;
    }

    async fn claim_until(&self, stop: &CancellationToken, executions: &TaskTracker) {
        let mut backoff = Backoff::new();
        let mut catalogs = self.floor.client.catalogs().changes();
        while !stop.is_cancelled() {
            let room = self.floor.pace.room(executions.len());
            if room == 0 {
                tokio::select! {
                    () = self.floor.ended.notified() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            catalogs.mark_unchanged();
            let queues = (self.floor.queues)();
            let claimed = tokio::select! {
                claimed = self.floor.client.stores().queue.claim(&queues, room, CLAIM_PATIENCE) => claimed,
                // The store takes back what it has granted to a claim that is given up.
                () = stop.cancelled() => return,
                () = self.floor.serves_others(&queues, &mut catalogs) => continue,
            };
            match claimed {
                Ok(deliveries) => {
                    backoff = Backoff::new();
                    let were_all = (1..room).contains(&deliveries.len());
                    let (usual, suspects) = suspect::part(deliveries);
                    usual.into_iter().for_each(|delivery| self.floor.start(executions, delivery));
                    suspect::run_alone(&self.floor, executions, suspects, stop).await;
                    if were_all {
                        // Whether there is more can wait for a moment; who waits for what was claimed should not.
                        let _ = timeout(MOMENT, self.floor.ended.notified()).await;
                    }
                }
                Err(cause) => {
                    meters::store_failed();
                    if backoff.is_first() && !cause.is_told() {
                        error!("cannot claim tasks, trying again: {cause}");
                    }
                    backoff.pause(stop).await;
                }
            }
        }
    }
}

impl Floor {
    // Ready when a reload has changed the queues.
    async fn serves_others(&self, queues: &Queues, catalogs: &mut watch::Receiver<u64>) {
        // The sender lives in the client.
        while catalogs.changed().await.is_ok() {
            if (self.queues)() != *queues {
                return;
            }
        }
        std::future::pending().await
    }

    fn start(self: &Arc<Self>, executions: &TaskTracker, delivery: Delivery) {
        let floor = self.clone();
        let under_way = UnderWay { counted: Some(executions.token()), floor: floor.clone() };
        tokio::spawn(async move {
            execution::run(&floor, delivery).await;
            drop(under_way);
        });
    }

    // One timer for all leases of the process. A run whose lease is lost is stopped: it may run elsewhere by now. Where
    // nobody can tell because the store is away, it stands still: it may be another's, and it may still be ours.
    async fn keep_leases(self: Arc<Self>) {
        let stores = self.client.stores();
        let (lease, started_at) = (self.settings.lease, Utc::now());
        let (mut ends, mut held, mut told) = (Instant::now() + lease, false, false);
        let mut timer = tokio::time::interval(lease / 3);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                // Nobody but this process can take over from an exclusive store, so its leases do not run out.
                () = sleep_until(ends), if !stores.exclusive && !held => {
                    held = true;
                    let tasks = self.running.hold();
                    if tasks > 0 {
                        warn!(tasks, "{tasks} running tasks stand still until the store says whose they are");
                    }
                    continue;
                }
            }
            let asked = Instant::now();
            match stores.queue.keep_alive().await {
                Ok(lost) => {
                    ends = asked + lease;
                    lost.iter().for_each(|receipt| self.running.lost(receipt.token));
                    (held, told) = (false, false);
                    self.running.release();
                    self.announce(started_at).await;
                }
                Err(cause) => {
                    meters::store_failed();
                    if !cause.is_told() && !std::mem::replace(&mut told, true) {
                        warn!("cannot renew leases, trying again: {cause}");
                    }
                    // Once the store is back, who asks first keeps what it has.
                    timer.reset_after(RENEW_AGAIN.min(lease / 3));
                }
            }
        }
    }

    async fn terminate_when_told(self: Arc<Self>, mut terminations: broadcast::Receiver<TaskId>) {
        loop {
            match terminations.recv().await {
                Ok(id) => self.running.terminate(id),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    error!("{missed} requests to stop running tasks were missed; revoke them again");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
