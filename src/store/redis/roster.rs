//! Who runs tasks: one key a worker, which ends with the lease that it was said for.

use async_trait::async_trait;

use crate::store::{Result, Roster, WorkerFacts};
use crate::task::to_json;

use super::Redis;

#[async_trait]
impl Roster for Redis {
    async fn announce(&self, worker: WorkerFacts) -> Result<()> {
        let mut call = self.connection.scripts().announce.prepare_invoke();
        call.arg(&worker.name).arg(self.lease_ms()).arg(to_json(&worker).get());
        self.connection.run(&call).await
    }

    async fn leave(&self, name: &str) -> Result<()> {
        let mut both = redis::pipe();
        both.del(self.connection.keys().worker(name)).zrem(self.connection.keys().workers(), name).atomic();
        self.connection.ask_all(&both).await
    }

    async fn workers(&self) -> Result<Vec<WorkerFacts>> {
        let said: Vec<Vec<u8>> = self.connection.run(&self.connection.scripts().workers.prepare_invoke()).await?;
        // What a newer version says in other words is left out.
        let mut workers: Vec<WorkerFacts> = said.iter().filter_map(|said| serde_json::from_slice(said).ok()).collect();
        workers.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(workers)
    }
}
