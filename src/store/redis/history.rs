//! Looking at what became of tasks: their records, beside Celery's results.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::Pipeline;
use tokio::time::{Instant, timeout_at};

use crate::store::{Filter, History, Page, Receipt, Result, Results};
use crate::task::{Progress, Run, TaskId, to_json};

use super::record::Record;
use super::{Redis, keys, script};

/// How many runs are looked at in one go.
const AT_ONCE: usize = 200;

type Found = (HashMap<String, Vec<u8>>, Option<Vec<u8>>);

impl Redis {
    /// The record of one task; `None` when it is unknown.
    pub(super) async fn record(&self, id: &TaskId) -> Result<Option<Record>> {
        let fields = self.connection.ask(redis::cmd("HGETALL").arg(keys::run(id))).await?;
        Ok(Record::new(fields))
    }

    async fn runs(&self, ids: &[TaskId]) -> Result<Vec<Run>> {
        let mut look = Pipeline::new();
        for id in ids {
            look.hgetall(keys::run(id)).get(keys::meta(id));
        }
        let found: Vec<redis::Value> = self.connection.ask_all(&look).await?;
        let mut runs = Vec::with_capacity(ids.len());
        for (id, pair) in ids.iter().zip(found.chunks_exact(2)) {
            let (fields, meta): Found = redis::from_redis_value(redis::Value::Array(pair.to_vec()))
                .map_err(|error| anyhow::anyhow!("the record of a run is not a hash: {error}"))?;
            runs.extend(Record::new(fields).and_then(|record| record.run(id, meta.as_deref())));
        }
        Ok(runs)
    }
}

#[async_trait]
impl Results for Redis {
    async fn load(&self, id: &TaskId) -> Result<Option<Run>> {
        Ok(self.runs(std::slice::from_ref(id)).await?.pop())
    }

    async fn wait(&self, id: &TaskId, patience: Duration) -> Result<Option<Run>> {
        let end = Instant::now() + patience;
        // Listen before looking: what ends between the two would otherwise wake nobody.
        let mut listening = self.subscriber.listen([keys::meta(id), keys::ended(id)]).await?;
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
        let forgotten: u64 = self.connection.run(script::FORGET.prepare_invoke().arg(id.as_str())).await?;
        Ok(forgotten > 0)
    }

    async fn progress(&self, receipt: &Receipt, progress: Progress) -> Result<()> {
        let mut call = script::PROGRESS.prepare_invoke();
        call.arg(receipt.id.as_str()).arg(receipt.token).arg(to_json(&progress).get());
        self.connection.run(&call).await
    }

    async fn changes(&self, _id: &TaskId) -> Result<tokio::sync::watch::Receiver<u64>> {
        todo!("changes")
    }
}

#[async_trait]
impl crate::store::Sources for Redis {
    async fn keep(&self, _sources: Vec<crate::store::Source>) -> Result<()> {
        todo!("sources")
    }

    async fn source(&self, _hash: &str) -> Result<Option<crate::store::Source>> {
        todo!("sources")
    }
}

#[async_trait]
impl crate::store::Roster for Redis {
    async fn announce(&self, _worker: crate::store::WorkerFacts) -> Result<()> {
        todo!("roster")
    }

    async fn leave(&self, _name: &str) -> Result<()> {
        todo!("roster")
    }

    async fn workers(&self) -> Result<Vec<crate::store::WorkerFacts>> {
        todo!("roster")
    }
}

#[async_trait]
impl History for Redis {
    async fn search(&self, filter: &Filter) -> Result<Page> {
        let fits = |run: &Run| {
            filter.name.as_ref().is_none_or(|name| *name == run.task)
                && filter.state.is_none_or(|state| state == run.state)
        };
        let mut found = Vec::new();
        let mut seen = 0;
        while found.len() < filter.limit {
            let mut page = redis::cmd("ZREVRANGE");
            page.arg(keys::HISTORY).arg(seen).arg(seen + AT_ONCE - 1);
            let ids: Vec<String> = self.connection.ask(&page).await?;
            if ids.is_empty() {
                break;
            }
            seen += ids.len();
            let ids: Vec<TaskId> = ids.iter().filter_map(|id| TaskId::parse(id).ok()).collect();
            found.extend(self.runs(&ids).await?.into_iter().filter(fits));
        }
        found.truncate(filter.limit);
        Ok(Page { runs: found, next: None })
    }
}
