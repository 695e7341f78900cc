//! The project's own tests, each here and now on a store of its own.

use std::sync::Arc;

use anyhow::Context;

use super::call::Alone;
use super::name;
use crate::channels::{self, Hub};
use crate::client::{Client, Request};
use crate::config::Settings;
use crate::plugin::{Catalog, Catalogs, Loader, Task};
use crate::script::Broken;
use crate::store;
use crate::task::{QueueName, Run};

/// The tests of a folder.
pub struct Tests {
    settings: Settings,
    loader: Loader,
    /// Tasks, which tests may send, and the tests.
    catalogs: Catalogs,
    /// Has no sockets: what is sent to a group reaches nobody.
    hub: Hub,
    /// By name.
    pub tests: Vec<Arc<Task>>,
    /// The files that cannot be loaded, of tests or not.
    pub broken: Vec<Broken>,
}

impl Tests {
    /// Reads the folder of `settings`.
    ///
    /// # Errors
    /// When there is no thread to read it on.
    pub async fn load(settings: Settings) -> anyhow::Result<Self> {
        let folder = settings.folder.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let mut loader = Loader::for_tests(folder);
            loader.load();
            let tests = loader.tests();
            (loader, tests)
        });
        let (loader, tests) = loading.await.context("the scripts could not be loaded")?;
        let catalog = loader.catalogs().current();
        let catalogs = Catalogs::default();
        catalogs.swap(Catalog {
            tasks: catalog.tasks.iter().chain(&tests.tasks).map(|(name, task)| (name.clone(), task.clone())).collect(),
            broken: catalog.broken.clone(),
            ..Catalog::default()
        });
        let broken = [catalog.broken.clone(), tests.broken].concat();
        let stores = store::open("memory:", &settings.folder, store::Settings::default()).await?;
        let without_sockets = channels::Settings { threads: 1, sockets: 0 };
        let hub = Hub::new(loader.engine(), Client::new(stores, catalogs.clone(), name()), without_sockets);
        // One test at a time needs no more.
        let settings = Settings { slots: 1, ..settings };
        Ok(Self { settings, loader, catalogs, hub, tests: tests.tasks.into_values().collect(), broken })
    }

    /// Runs `test` as a task would run that has used up its retries.
    ///
    /// # Errors
    /// When it cannot be begun, or is lost.
    pub async fn run(&self, test: &Task) -> anyhow::Result<Run> {
        // Of a queue of its own, so that what it sends is not run.
        let queue = QueueName::parse("umbel.test").context("it is a name")?;
        let request =
            Request { task: test.name.clone(), queue: Some(queue.clone()), max_retries: Some(0), ..Request::default() };
        Alone {
            settings: &self.settings,
            loader: &self.loader,
            catalogs: self.catalogs.clone(),
            hub: Some(self.hub.clone()),
            queues: vec![queue],
        }
        .run(request)
        .await
    }
}
