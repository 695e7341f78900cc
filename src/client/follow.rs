//! What a worker asks in order to send what follows a task.

use super::{Client, Routes};
use crate::plugin::Catalogs;
use crate::task::Options;

impl Routes {
    /// As [`Client::declared`].
    pub fn declared(&self, catalogs: &Catalogs, task: &str) -> Options {
        let route = self.of(task);
        let ours = catalogs.current().task(task).filter(|_| !route.is_some_and(|route| route.remote)).cloned();
        let options = ours.map(|task| task.options.clone()).unwrap_or_default();
        Options { queue: route.map_or(options.queue, |route| route.queue.clone()), ..options }
    }
}

impl Client {
    /// What the current catalog declares of `task`, with the queue where its route goes; the defaults for a task that
    /// others have.
    pub fn declared(&self, task: &str) -> Options {
        self.routes.declared(&self.catalogs, task)
    }

    /// Who is written into each message as its sender.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}
