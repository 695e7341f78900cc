//! The pieces put together, and the order in which they stop.
//!
//! Starting: scripts, store, doers, door; so that nothing is promised before it can be kept. Stopping, at the first
//! signal: `/readyz` is red, no new claims and no new ticks, running tasks have the grace to end and the rest is put
//! back. Until then the door is open, because somebody waits for those tasks, and what is sent meanwhile is kept by the
//! store; then it closes, and sockets with it. At the second signal: at once, as after a crash.

mod call;
mod door;
mod role;
mod signals;
mod test;

use std::collections::BTreeSet;

use anyhow::{Context, anyhow};
use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::beat;
use crate::celery;
use crate::channels::Hub;
use crate::client::Client;
use crate::config::Settings;
use crate::http::Metrics;
use crate::plugin::Loader;
use crate::store::{self, Declared, Queues};
use crate::task::QueueName;
use crate::worker::{self, Journal, Worker};

pub use call::call;
use door::Door;
pub use role::{Role, Unshared};
use signals::Signals;
pub use test::Tests;

/// What one process is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    pub role: Role,
    /// It answers HTTP though its role alone would not make it.
    pub listens: bool,
    /// The only queues that its worker serves; empty is all that the catalog and the settings name.
    pub queues: Vec<QueueName>,
    /// Shows each task in the log, for a terminal.
    pub loud: bool,
}

/// Does what `plan` says until a signal ends it.
///
/// # Errors
/// When it cannot start: the store is none for such a role, held or away, or the address is taken. When a part of it
/// ends by itself.
pub async fn run(plan: Plan, settings: Settings) -> anyhow::Result<()> {
    plan.role.check(&settings)?;
    let mut signals = Signals::new()?;
    // First of all: what is counted before goes nowhere.
    let metrics = Metrics::install();
    let loader = load(&settings).await?;
    let stores = store::open(&settings.store, &settings.folder, store_settings(&settings, &loader)).await?;
    let client = Client::new(stores, loader.catalogs(), name()).routed(settings.routes.clone());
    let door = Door::open(&plan, &settings, &client, &loader).await?;
    let hub = door.as_ref().map(|door| door.hub.clone());
    tell(&plan, &settings, door.as_ref());

    let ends = Ends::default();
    let stop = &ends.stop;
    let (mut doers, mut doors) = (Parts::new(), Parts::new());
    if plan.role.runs_tasks() {
        let worker = worker(&settings, &client, &loader, hub, &plan);
        let (client, view) = (client.clone(), worker.view());
        let work = worker.run(stop.clone());
        doers.spawn("the worker", async move { celery::beside(&client, view, work).await });
    }
    let (board, timetable) = (beat::Board::default(), settings.folder.join(beat::FILE));
    if plan.role.sends_ticks() {
        doers.spawn("beat", beat::run(client, timetable, board.clone(), stop.clone()));
    } else if door.is_some() {
        doers.spawn("the timetable", beat::look(client, timetable, board.clone(), stop.clone()));
    }
    doers.spawn("the watcher", loader.keep_fresh(stop.clone()));
    if let Some(door) = door {
        doors.spawn("HTTP", door.serve(&settings, board, metrics, ends.clone()));
    }

    // Whoever starts umbel again after a failure shall hear of one: a part alone is no umbel.
    let failed = tokio::select! {
        () = signals.next() => None,
        failed = doers.first_end() => Some(failed),
        failed = doors.first_end() => Some(failed),
    };
    info!("stopping; a second signal stops at once");
    tokio::spawn(async move {
        signals.next().await;
        warn!("stopped at once; what was running is tried again");
        std::process::exit(130);
    });
    ends.stop.cancel();
    doers.end().await;
    ends.close.cancel();
    doors.end().await;
    if let Some(error) = failed {
        return Err(error);
    }
    info!("stopped");
    Ok(())
}

/// Says what this process is, once it is.
fn tell(plan: &Plan, settings: &Settings, door: Option<&Door>) {
    let (version, folder, slots) = (env!("CARGO_PKG_VERSION"), settings.folder.display(), settings.slots);
    let store = store::without_password(&settings.store);
    let address = door.map_or(String::new(), |door| format!(" on http://{}", door.address));
    let does = match plan.role {
        Role::Up | Role::Serve => "serves",
        Role::Worker => "runs the tasks of",
        Role::Beat => "keeps the timetable of",
    };
    let running = if plan.role.runs_tasks() { format!(", runs {slots} at a time") } else { String::new() };
    info!("umbel {version} {does} `{folder}`{address}, keeps tasks in `{store}`{running}");
}

/// The two steps of stopping.
#[derive(Debug, Clone, Default)]
struct Ends {
    /// Nothing new is begun.
    stop: CancellationToken,
    /// What was begun has ended, so the door closes.
    close: CancellationToken,
}

/// The parts of a process that run beside each other until it stops.
struct Parts(JoinSet<&'static str>);

impl Parts {
    fn new() -> Self {
        Self(JoinSet::new())
    }

    fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(part.map(move |()| name));
    }

    /// Waits until one of them ends though nobody stopped it, and says so. Where there is none, none ends.
    async fn first_end(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            Some(Ok(name)) => anyhow!("{name} has ended by itself"),
            Some(Err(error)) => anyhow::Error::new(error).context("a part has failed"),
            None => std::future::pending().await,
        }
    }

    /// Waits until all of them have ended.
    async fn end(&mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended {
                warn!("a part ended badly: {error:#}");
            }
        }
    }
}

async fn load(settings: &Settings) -> anyhow::Result<Loader> {
    let folder = settings.folder.clone();
    let loader = tokio::task::spawn_blocking(move || {
        let mut loader = Loader::new(folder);
        loader.load();
        loader
    });
    loader.await.context("the scripts could not be loaded")
}

fn worker(settings: &Settings, client: &Client, loader: &Loader, hub: Option<Hub>, plan: &Plan) -> Worker {
    let (sender, named, only) = (client.clone(), settings.queues.clone(), plan.queues.clone());
    let queues = move || match only.as_slice() {
        [] if sender.stores().exclusive => Queues::Every,
        [] => served(sender.queues().into_iter().chain(named.iter().cloned()).chain([QueueName::default()])),
        only => served(only.iter().cloned()),
    };
    let settings = worker::Settings {
        name: name(),
        slots: settings.slots,
        grace: settings.grace,
        lease: store_settings(settings, loader).lease,
        limits: settings.limits,
    };
    Worker::new(client.clone(), hub, loader.engine(), queues, settings, Journal::new(plan.loud))
}

// Over a shared store only our own queues: others may belong to workers in Python.
fn served(queues: impl Iterator<Item = QueueName>) -> Queues {
    let queues: BTreeSet<QueueName> = queues.collect();
    Queues::Named(queues.into_iter().collect())
}

fn store_settings(settings: &Settings, loader: &Loader) -> store::Settings {
    let (routes, catalogs) = (settings.routes.clone(), loader.catalogs());
    store::Settings {
        declared: Declared::by(move |task| routes.declared(&catalogs, task)),
        keep: settings.keep,
        history: settings.history,
        history_keep: settings.history_keep,
        redis: settings.redis.clone(),
        durability: settings.durability,
        worker: name(),
        ..store::Settings::default()
    }
}

/// Who this process is, in messages it sends and in runs it makes; one machine may run several.
fn name() -> String {
    format!("umbel-{}@{}", std::process::id(), gethostname::gethostname().to_string_lossy())
}
