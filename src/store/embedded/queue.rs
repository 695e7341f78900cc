//! Messages between their sender and their worker; the work is in `sending`, `ready` and `settling`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use rusqlite::{Connection, params};
use tokio::sync::{broadcast, oneshot};

use super::Embedded;
use super::desk::Desk;
use super::file::Outcome;
use super::ready::Claimer;
use super::writer::Command;
use crate::store::{
    Delivery, Depth, Pushed, Queue, QueueFacts, Queues, Receipt, Result, Revoked, Settled, Settlement, Tick,
};
use crate::task::{Message, QueueName, TaskId};

/// How many messages one transaction of a purge removes: others may go between.
const PURGE: usize = 1_000;
/// So far away that nobody lives to see it.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

#[async_trait]
impl Queue for Embedded {
    async fn push(&self, messages: Vec<Message>, unless: Option<Tick>) -> Result<Pushed> {
        self.writer.write(move |desk| desk.push(&messages, unless.as_ref(), Utc::now())).await
    }

    async fn claim(&self, queues: &Queues, max: usize, patience: Duration) -> Result<Vec<Delivery>> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(Command::Claim(Claimer {
            queues: queues.clone(),
            max,
            deadline: Instant::now() + patience.min(FOR_EVER),
            reply: Some(reply),
            back: self.writer.sender(),
        }))?;
        let handed = answer.await.map_err(|_| anyhow::anyhow!("the store's writer has ended; start again"))?;
        handed.map(|handed| handed.take())
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled> {
        self.writer.write(move |desk| desk.settle(settlement, Utc::now())).await
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<Settled> {
        let receipt = receipt.clone();
        self.writer.write(move |desk| desk.acknowledge(&receipt)).await
    }

    async fn put_back(&self, deliveries: Vec<Delivery>, _wait: Duration) -> Result<()> {
        let receipts: Vec<Receipt> = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
        self.writer.write(move |desk| desk.return_all(&receipts, Utc::now())).await
    }

    // Nobody else can take a claim, so that no receipt is ever lost here.
    async fn keep_alive(&self) -> Result<Vec<Receipt>> {
        self.writer.write(|desk| desk.sweep(Utc::now())).await?;
        Ok(Vec::new())
    }

    async fn revoke(&self, id: &TaskId, terminate: bool) -> Result<Revoked> {
        let id = id.clone();
        self.writer.write(move |desk| desk.revoke(&id, terminate, Utc::now())).await
    }

    async fn is_revoked(&self, receipt: &Receipt) -> Result<bool> {
        Ok(self.claims.with(receipt, |claim| claim.revoked).unwrap_or(false))
    }

    fn terminations(&self) -> broadcast::Receiver<TaskId> {
        self.stops.subscribe()
    }

    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        let (claims, queue) = (self.claims.clone(), queue.clone());
        self.readers
            .read(move |db| {
                let claimed = claims.count(&queue);
                let (queued, delayed) = count(db, &queue)?;
                let ready = queued.unsigned_abs().saturating_sub(claimed);
                Ok(Depth { ready, delayed: delayed.unsigned_abs(), claimed })
            })
            .await
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        let mut purged = 0;
        loop {
            let queue = queue.clone();
            let some = self.writer.write(move |desk| desk.purge(&queue)).await?;
            purged += some as u64;
            if some < PURGE {
                return Ok(purged);
            }
        }
    }

    fn started(&self, _receipt: &Receipt) {
        todo!("deaths")
    }

    async fn queues(&self) -> Result<Vec<QueueFacts>> {
        todo!("queues")
    }

    async fn pause(&self, _queue: &QueueName, _paused: bool) -> Result<()> {
        todo!("pause")
    }

    // Every row was a message when it was stored.
    async fn dead_letters(&self) -> Result<u64> {
        Ok(0)
    }

    async fn ping(&self) -> Result<()> {
        self.writer.write(|_| Ok(())).await
    }
}

fn count(db: &Connection, queue: &QueueName) -> rusqlite::Result<(i64, i64)> {
    let count = |sql: &str| db.prepare_cached(sql)?.query_row([queue.as_str()], |row| row.get(0));
    Ok((
        count("SELECT count(*) FROM task INDEXED BY task_ready WHERE state = 'QUEUED' AND queue = ?1")?,
        count("SELECT count(*) FROM task WHERE due_at IS NOT NULL AND queue = ?1")?,
    ))
}

impl Desk {
    fn purge(&self, queue: &QueueName) -> Outcome<usize> {
        let mut doomed = Vec::new();
        for waiting in ["INDEXED BY task_ready WHERE state = 'QUEUED'", "WHERE due_at IS NOT NULL"] {
            let mut look = self.db.prepare_cached(&format!("SELECT seq FROM task {waiting} AND queue = ?1"))?;
            let mut rows = look.query([queue.as_str()])?;
            while doomed.len() < PURGE
                && let Some(row) = rows.next()?
            {
                let seq = row.get(0)?;
                if !self.claims.has(seq) {
                    doomed.push(seq);
                }
            }
        }
        for seq in &doomed {
            self.execute("DELETE FROM task WHERE seq = ?1", params![seq])?;
        }
        Ok(doomed.len())
    }
}
