//! Looking at what became of tasks: their records, beside Celery's results.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::store::{Receipt, Result, Results, Shown};
use crate::task::{Message, Progress, Run, TaskId, to_json};

use super::Redis;
use super::record::Record;
use super::results;

impl Redis {
    /// The record of one task; `None` when it is unknown.
    pub(super) async fn record(&self, id: &TaskId) -> Result<Option<Record>> {
        let fields = self.connection.ask(redis::cmd("HGETALL").arg(self.connection.keys().run(id))).await?;
        Ok(Record::new(fields))
    }
}

#[async_trait]
impl Results for Redis {
    async fn load(&self, id: &TaskId) -> Result<Option<Run>> {
        self.hands.write_of(id).await?;
        self.look_at(id).await
    }

    async fn wait(&self, id: &TaskId, patience: Duration) -> Result<Option<Run>> {
        let end = Instant::now() + patience;
        // Listen before looking: what ends between the two would otherwise wake nobody.
        let mut listening =
            self.subscriber.listen([self.connection.keys().meta(id), self.connection.keys().changed(id)]).await?;
        loop {
            let run = self.load(id).await?;
            if run.as_ref().is_some_and(|run| run.state.is_final()) {
                return Ok(run);
            }
            if timeout_at(end, listening.heard()).await.is_err() {
                return self.load(id).await;
            }
        }
    }

    async fn forget(&self, id: &TaskId) -> Result<bool> {
        // First of all it is written down if it ended elsewhere.
        self.look_at(id).await?;
        let forgotten: u64 =
            self.connection.run(self.connection.scripts().forget.prepare_invoke().arg(id.as_str())).await?;
        Ok(forgotten > 0)
    }

    async fn progress(&self, receipt: &Receipt, progress: Progress) -> Result<()> {
        self.hands.write_of(&receipt.id).await?;
        let mut call = self.connection.scripts().progress.prepare_invoke();
        call.arg(receipt.id.as_str()).arg(receipt.token).arg(to_json(&progress).get());
        self.connection.run(&call).await
    }

    async fn show(&self, receipt: &Receipt, message: &Message, shown: Shown) -> Result<()> {
        // The script shows only what is known to run.
        self.hands.write_of(&receipt.id).await?;
        let mut call = self.connection.scripts().show.prepare_invoke();
        call.arg(receipt.id.as_str()).arg(receipt.token).arg(results::of_running(message, &shown));
        call.arg(self.settings.keep.as_secs().max(1));
        self.connection.run(&call).await
    }

    async fn changes(&self, id: &TaskId) -> Result<watch::Receiver<u64>> {
        self.watch(id).await
    }
}
