//! What came of tasks.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;

use super::Embedded;
use super::claims::Claims;
use super::desk::Desk;
use super::file::Outcome;
use super::rows::{self, MESSAGE, RUN};
use crate::store::{Receipt, Result, Results};
use crate::task::{Progress, Run, TaskId};

#[async_trait]
impl Results for Embedded {
    async fn changes(&self, id: &TaskId) -> Result<watch::Receiver<u64>> {
        Ok(self.watchers.changes(id))
    }

    async fn load(&self, id: &TaskId) -> Result<Option<Run>> {
        let (claims, id) = (self.claims.clone(), id.clone());
        self.readers.read(move |db| Ok(load(db, &claims, &id)?)).await
    }

    async fn wait(&self, id: &TaskId, patience: Duration) -> Result<Option<Run>> {
        let watch = self.watchers.watch(id);
        let over = tokio::time::sleep(patience);
        tokio::pin!(over);
        loop {
            // Listen before looking: an end between the two would otherwise wake nobody.
            let ended = watch.bell.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let run = self.load(id).await?;
            if run.as_ref().is_some_and(|run| run.state.is_final()) {
                return Ok(run);
            }
            tokio::select! {
                () = ended => {}
                () = &mut over => return self.load(id).await,
            }
        }
    }

    async fn forget(&self, id: &TaskId) -> Result<bool> {
        let id = id.clone();
        self.writer.write(move |desk| desk.forget(&id)).await
    }

    async fn progress(&self, receipt: &Receipt, progress: Progress) -> Result<()> {
        // A void receipt belongs to an attempt that nobody watches any more.
        if self.claims.with(receipt, |claim| claim.progress = Some(progress)).is_some() {
            self.watchers.changed(&receipt.id);
        }
        Ok(())
    }
}

fn load(db: &Connection, claims: &Claims, id: &TaskId) -> rusqlite::Result<Option<Run>> {
    let seen = claims.seen(id);
    let sql = format!("SELECT {MESSAGE}, {RUN} FROM task WHERE id = ?1");
    let mut run = db.prepare_cached(&sql)?.query_row([id.as_str()], rows::run).optional()?;
    if let (Some(run), Some(seen)) = (&mut run, seen) {
        seen.show(run);
    }
    Ok(run)
}

impl Desk {
    fn forget(&mut self, id: &TaskId) -> Outcome<bool> {
        let sql = "DELETE FROM task WHERE id = ?1 AND finished_at IS NOT NULL";
        let dropped = self.execute(sql, [id.as_str()])?;
        self.tally.ended -= dropped as i64;
        self.has_changed(id);
        Ok(dropped > 0)
    }
}
