//! The pieces put together, and the order in which they stop.
//!
//! Starting: scripts, store, doers, door; so that nothing is promised before it can be kept. Stopping, at the first
//! signal: no new claims and no new ticks, HTTP ends what it answers, sockets close with 1001, running tasks have
//! the grace to end and the rest is put back. At the second signal: at once, as after a crash.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::beat;
use crate::channels::{self, Hub};
use crate::client::{Client, Request};
use crate::config::Settings;
use crate::http::{self, AppState, Metrics};
use crate::plugin::Loader;
use crate::store::{self, Lock, Queues, Stores};
use crate::task::{QueueName, Run};
use crate::worker::{self, Journal, Worker};

/// Runs everything in one process until a signal ends it. `loud` shows each task in the log, for a terminal.
///
/// # Errors
/// When it cannot start: the store is held or away, or the address is taken. When a part of it ends by itself.
pub async fn up(settings: Settings, loud: bool) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    // First of all: what is counted before goes nowhere.
    let metrics = Metrics::install();
    let loader = load(&settings).await?;
    let stores = store::open(&settings.store, &settings.folder, store_settings(&settings)).await?;
    let lock = lock(&settings, &stores)?;
    let client = Client::new(stores.clone(), loader.catalogs(), name()).routed(settings.routes.clone());
    let hub = Hub::new(loader.engine(), client.clone(), channels::Settings::default());
    let worker = worker(&settings, &client, &loader, Some(hub.clone()), Journal::new(loud));
    let (listener, address) = listen(&settings).await?;
    if let Some(lock) = &lock {
        lock.announce(&address)?;
    }
    let (version, folder, slots) = (env!("CARGO_PKG_VERSION"), settings.folder.display(), settings.slots);
    let store = store::without_password(&settings.store);
    info!("umbel {version} serves `{folder}` on http://{address}, keeps tasks in `{store}`, runs {slots} at a time");

    let stop = CancellationToken::new();
    let board = beat::Board::default();
    let beating = beat::run(client.clone(), settings.folder.join(beat::FILE), board.clone(), stop.clone());
    let door = AppState {
        client,
        hub: hub.clone(),
        hosts: settings.hosts.clone(),
        board,
        tokens: settings.tokens.clone(),
        local_token: lock.as_ref().map(|lock| lock.token().to_owned()),
        metrics,
    };
    let mut parts = JoinSet::new();
    parts.spawn(http::serve(listener, door, stop.clone()).map(|()| ("HTTP", Ok(()))));
    parts.spawn(loader.keep_fresh(stop.clone()).map(|()| ("the watcher", Ok(()))));
    parts.spawn(beating.map(|()| ("beat", Ok(()))));
    parts.spawn(worker.run(stop.clone()).map(|()| ("the worker", Ok(()))));

    // Whoever starts umbel again after a failure shall hear of one: a part alone is no umbel.
    let failed = tokio::select! {
        () = signals.next() => None,
        Some(ended) = parts.join_next() => Some(end_of(ended)),
    };
    info!("stopping; a second signal stops at once");
    tokio::spawn(async move {
        signals.next().await;
        warn!("stopped at once; what was running is tried again");
        std::process::exit(130);
    });
    stop.cancel();
    hub.close_all(settings.grace).await;
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = ended.map_err(anyhow::Error::from).and_then(|(_, result)| result) {
            warn!("a part ended badly: {error:#}");
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    info!("stopped");
    Ok(())
}

fn end_of(ended: Result<(&'static str, anyhow::Result<()>), JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("{name} has ended by itself"),
        Ok((name, Err(error))) => error.context(format!("{name} has failed")),
        Err(error) => anyhow::Error::new(error).context("a part has failed"),
    }
}

/// Runs one task here and now, on a store that lives in memory, with its retries, until it has ended.
///
/// # Errors
/// `SubmitError` when there is no such task or it does not take the arguments.
pub async fn call(settings: Settings, request: Request) -> anyhow::Result<Run> {
    let loader = load(&settings).await?;
    let stores = store::open("memory:", &settings.folder, store_settings(&settings)).await?;
    // Without routes: what is called runs here. What it sends itself goes where it would go.
    let client = Client::new(stores, loader.catalogs(), name());
    let submitted = client.submit(request).await?;
    let client = client.routed(settings.routes.clone());
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker(&settings, &client, &loader, None, Journal::new(false)).run(stop.clone()));
    let run = loop {
        match client.wait(&submitted.id, Duration::from_secs(60)).await? {
            Some(run) if run.state.is_final() => break run,
            Some(_) => {}
            None => return Err(anyhow!("the task was lost")),
        }
    };
    stop.cancel();
    working.abort();
    Ok(run)
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

fn worker(settings: &Settings, client: &Client, loader: &Loader, hub: Option<Hub>, journal: Journal) -> Worker {
    let (sender, named) = (client.clone(), settings.queues.clone());
    let queues = move || if sender.stores().exclusive { Queues::Every } else { served(sender.queues(), &named) };
    let settings = worker::Settings {
        name: name(),
        slots: settings.slots,
        grace: settings.grace,
        lease: store_settings(settings).lease,
        limits: settings.limits,
    };
    Worker::new(client.clone(), hub, loader.engine(), queues, settings, journal)
}

// Over a shared store only our own queues: others may belong to workers in Python.
fn served(mut queues: Vec<QueueName>, named: &[QueueName]) -> Queues {
    queues.extend(named.iter().cloned());
    queues.push(QueueName::default());
    queues.sort();
    queues.dedup();
    Queues::Named(queues)
}

fn store_settings(settings: &Settings) -> store::Settings {
    store::Settings {
        keep: settings.keep,
        history: settings.history,
        history_keep: settings.history_keep,
        redis: settings.redis.clone(),
        durability: settings.durability,
        worker: name(),
        ..store::Settings::default()
    }
}

// An embedded store brings its lock. Over Redis any number of processes may serve the folder; commands find the
// first of them.
fn lock(settings: &Settings, stores: &Stores) -> store::Result<Option<Arc<Lock>>> {
    if let Some(lock) = &stores.lock {
        return Ok(Some(lock.clone()));
    }
    match Lock::take(&store::lock_path(&settings.store, &settings.folder)) {
        Ok(lock) => Ok(Some(Arc::new(lock))),
        Err(store::Error::Held(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn listen(settings: &Settings) -> anyhow::Result<(TcpListener, String)> {
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on `{}`; choose another with `--listen`", settings.listen))?;
    let address = listener.local_addr()?.to_string();
    if !settings.listen.ip().is_loopback() && settings.hosts.is_empty() {
        warn!("requests from other machines are refused until `hosts` names under what names they reach {address}");
    }
    Ok((listener, address))
}

/// Who this process is, in messages it sends and in runs it makes; one machine may run several.
fn name() -> String {
    format!("umbel-{}@{}", std::process::id(), gethostname::gethostname().to_string_lossy())
}

/// The signals that ask for an end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
