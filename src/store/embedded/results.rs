//! What came of tasks, and those who wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::Notify;

use super::Embedded;
use super::claims::Claims;
use super::desk::Desk;
use super::file::Outcome;
use super::rows::{self, MESSAGE, RUN};
use crate::store::{Receipt, Result, Results};
use crate::task::{Progress, Run, TaskId};

/// Who waits for the end of which task; only as many as wait now.
#[derive(Default)]
pub struct Watchers(Mutex<HashMap<TaskId, Arc<Notify>>>);

impl Watchers {
    /// Wakes everyone who waits for `id`.
    pub fn wake(&self, id: &TaskId) {
        if let Some(bell) = self.bells().get(id) {
            bell.notify_waiters();
        }
    }

    fn watch(self: &Arc<Self>, id: &TaskId) -> Watch {
        let bell = self.bells().entry(id.clone()).or_default().clone();
        Watch { watchers: self.clone(), id: id.clone(), bell }
    }

    fn bells(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, Arc<Notify>>> {
        self.0.lock().expect("nothing panics while it holds the watchers")
    }
}

/// One who waits; the last one to go for a task clears its place.
struct Watch {
    watchers: Arc<Watchers>,
    id: TaskId,
    bell: Arc<Notify>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut bells = self.watchers.bells();
        // This one's and the map's own: nobody else waits.
        if Arc::strong_count(&self.bell) == 2 {
            bells.remove(&self.id);
        }
    }
}

#[async_trait]
impl Results for Embedded {
    async fn changes(&self, _id: &TaskId) -> Result<tokio::sync::watch::Receiver<u64>> {
        todo!("changes")
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
        self.claims.with(receipt, |claim| claim.progress = Some(progress));
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
        self.ended -= dropped as i64;
        Ok(dropped > 0)
    }
}
