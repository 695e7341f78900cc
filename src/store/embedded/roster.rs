//! Who runs tasks: in memory, because nobody but this process can be there.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use async_trait::async_trait;

use super::Embedded;
use crate::store::{Result, Roster, WorkerFacts};

/// The workers of this process, and when each was heard of last.
#[derive(Default)]
pub struct Present(Mutex<BTreeMap<String, (Instant, WorkerFacts)>>);

impl Embedded {
    fn present(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Instant, WorkerFacts)>> {
        let mut present = self.present.0.lock().expect("nothing panics while it holds the roster");
        present.retain(|_, (heard, _)| heard.elapsed() < self.lease);
        present
    }
}

#[async_trait]
impl Roster for Embedded {
    async fn announce(&self, worker: WorkerFacts) -> Result<()> {
        self.present().insert(worker.name.clone(), (Instant::now(), worker));
        Ok(())
    }

    async fn leave(&self, name: &str) -> Result<()> {
        self.present().remove(name);
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<WorkerFacts>> {
        Ok(self.present().values().map(|(_, worker)| worker.clone()).collect())
    }
}
