//! Messages between their sender and their worker; the work is in `sending`, `ready` and `settling`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::{broadcast, oneshot};

use super::Embedded;
use super::purge::From;
use super::ready::Claimer;
use super::writer::Command;
use crate::store::{
    DeadLetter, Delivery, Depth, Pushed, Queue, QueueFacts, Queues, Receipt, Result, Revoked, Settled, Settlement, Tick,
};
use crate::task::{Message, QueueName, TaskId};

/// How long old things are dropped at a time; the rest waits for the next time.
const TIDYING: Duration = Duration::from_secs(2);
/// So far away that nobody lives to see it.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Embedded {
    async fn tidy(&self) -> Result<()> {
        let began = Instant::now();
        while self.writer.write(|desk| desk.tidy(Utc::now())).await? && began.elapsed() < TIDYING {}
        Ok(())
    }
}

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

    async fn settle(&self, settlement: Arc<Settlement>) -> Result<Settled> {
        self.writer.write(move |desk| desk.settle(&settlement, Utc::now())).await
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<Settled> {
        let receipt = receipt.clone();
        self.writer.write(move |desk| desk.acknowledge(&receipt)).await
    }

    async fn put_back(&self, deliveries: Vec<Delivery>, wait: Duration) -> Result<()> {
        let receipts: Vec<Receipt> = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
        receipts.iter().for_each(|receipt| self.claims.has_stopped(receipt));
        self.writer.write(move |desk| desk.atomically(|desk| desk.return_all(&receipts, wait, Utc::now()))).await
    }

    fn started(&self, receipt: &Receipt) {
        self.claims.started(receipt);
    }

    // Nobody else can take a claim, so that no receipt is ever lost here. Others go between two steps.
    async fn keep_alive(&self) -> Result<Vec<Receipt>> {
        self.writer.write(|desk| desk.mark_claimed(Utc::now())).await?;
        // Who tidies later is alive all the same.
        if let Err(error) = self.tidy().await
            && !error.is_told()
        {
            tracing::warn!(%error, "what is too old cannot be dropped; it is tried again");
        }
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
        Ok(self.depths.depth(queue, &self.claims))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        let mut purged = 0;
        let mut from = From::default();
        loop {
            let queue = queue.clone();
            let (some, next) =
                self.writer.write(move |desk| desk.atomically(|desk| desk.purge(&queue, from, Utc::now()))).await?;
            purged += some;
            match next {
                Some(next) => from = next,
                None => return Ok(purged),
            }
        }
    }

    async fn queues(&self) -> Result<Vec<QueueFacts>> {
        Ok(self.depths.facts(&self.claims))
    }

    async fn pause(&self, queue: &QueueName, paused: bool) -> Result<()> {
        let queue = queue.clone();
        self.writer.write(move |desk| desk.pause(&queue, paused)).await
    }

    // Every row was a message when it was stored.
    async fn dead_letters(&self) -> Result<u64> {
        Ok(0)
    }

    async fn read_dead_letters(&self, _most: usize) -> Result<Vec<DeadLetter>> {
        Ok(Vec::new())
    }

    async fn ping(&self) -> Result<()> {
        self.writer.write(|desk| desk.ping()).await
    }
}
