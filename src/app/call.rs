//! One task, here and now.

use std::time::Duration;

use anyhow::anyhow;
use tokio_util::sync::CancellationToken;

use super::{Plan, Role, load, name, store_settings, worker};
use crate::channels::Hub;
use crate::client::{Client, Request};
use crate::config::Settings;
use crate::plugin::{Catalogs, Loader};
use crate::store;
use crate::task::{QueueName, Run};

/// Runs one task here and now, on a store that lives in memory, with its retries, until it has ended.
///
/// # Errors
/// `SubmitError` when there is no such task or it does not take the arguments.
pub async fn call(settings: Settings, request: Request) -> anyhow::Result<Run> {
    let loader = load(&settings).await?;
    let catalogs = loader.catalogs();
    Alone { settings: &settings, loader: &loader, catalogs, hub: None, queues: Vec::new() }.run(request).await
}

/// What one task runs with.
pub(super) struct Alone<'a> {
    pub settings: &'a Settings,
    pub loader: &'a Loader,
    /// The task, and those that it may send.
    pub catalogs: Catalogs,
    pub hub: Option<Hub>,
    /// What it sends to one of these runs too; where none is named, everything.
    pub queues: Vec<QueueName>,
}

impl Alone<'_> {
    pub async fn run(self, request: Request) -> anyhow::Result<Run> {
        let Self { settings, loader, catalogs, hub, queues } = self;
        let stores = store::open("memory:", &settings.folder, store_settings(settings, loader)).await?;
        // Without routes: what is called runs here. What it sends itself goes where it would go.
        let client = Client::new(stores, catalogs, name());
        let submitted = client.submit(request).await?;
        let client = client.routed(settings.routes.clone());
        let plan = Plan { role: Role::Worker, listens: false, queues, loud: false };
        let stop = CancellationToken::new();
        let working = tokio::spawn(worker(settings, &client, loader, hub, &plan).run(stop.clone()));
        let run = loop {
            match client.wait(&submitted.id, Duration::from_secs(60)).await? {
                Some(run) if run.state.is_final() => break run,
                Some(_) => {}
                None => return Err(anyhow!("the task was lost")),
            }
        };
        stop.cancel();
        working.abort();
        // Its threads end with it, so that those of many runs do not gather.
        let _ = working.await;
        Ok(run)
    }
}
