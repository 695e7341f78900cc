//! The queue's promises: pushing, giving back, renewing, revoking, counting.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::broadcast;
use tracing::warn;

use crate::store::{
    DEATHS, DeadLetter, Delivery, Depth, Ending, Error, Pushed, Queue, QueueFacts, Queues, Receipt, Result, Revoked,
    SUSPECTED_FOR, Settled, Settlement, Tick, errbacks, poisoned, recovered, worker_lost,
};
use crate::task::{Message, QueueName, State, TaskId};

use super::Redis;
use super::record::Ended;
use super::results;
use super::settle::new_message;
use super::taking::parts;

/// How many messages one call of the purging script removes, so that it never keeps others waiting for long.
const PURGED: u64 = 1000;

/// A message whose process died and that is not handed out again: the token, the queue, the envelope and why.
type Orphan = (u64, String, Vec<u8>, String);

/// The tokens that were lost, what is to be settled, how many messages are handed out again, which tasks may have ended
/// elsewhere, and in how many of our inboxes there was something.
type Swept = (Vec<u64>, Vec<Orphan>, u64, Vec<String>, u64);

/// How often a task that is being revoked is looked for while the store says that it is there.
const LOOKS: u32 = 3;

const POISONED: &str = "poisoned";

impl Redis {
    // What fails here is somebody's orphan again once the lease has ended.
    async fn bury(&self, (token, queue, envelope, why): Orphan) {
        let Ok(queue) = QueueName::parse(&queue) else { return };
        // It was read before it was acknowledged or begun.
        let Ok(message) = Message::from_wire(queue, &envelope) else { return };
        let (id, follow_ups) = (message.id.clone(), errbacks::of(&message, &self.settings));
        let receipt = Receipt { id: id.clone(), token };
        let message = Arc::new(message);
        let delivery = Delivery { message, receipt, redelivered: true, deaths: 0, expired: false, waited: None };
        let failure = if why == POISONED { poisoned() } else { worker_lost() };
        if let Err(cause) = self.settler.settle_unrun(delivery, Ending::Failure(failure), follow_ups).await
            && !cause.is_told()
        {
            warn!(task.id = %id, "cannot store that the process of task {id} died: {cause}");
        }
    }

    async fn sweep(&self) -> Result<Vec<Receipt>> {
        // So that others know soon what runs here. Who writes it says what fails; leases are renewed all the same.
        let _ = self.hands.write().await;
        // Their leases would be renewed with those of their batches. What fails here is tried with the next sweep.
        let _ = self.return_strays().await;
        let mut call = self.connection.scripts().sweep.prepare_invoke();
        call.arg(self.lease_ms()).arg(ms(self.settings.history_keep)).arg(self.settings.history);
        call.arg(ms(SUSPECTED_FOR)).arg(DEATHS);
        let inboxes = self.idle.inboxes();
        call.arg(inboxes.len());
        for inbox in inboxes {
            call.arg(inbox);
        }
        for token in self.hands.tokens() {
            call.arg(token);
        }
        let (lost, orphans, again, elsewhere, found): Swept = self.connection.run(&call).await?;
        if found > 0 {
            self.idle.begin_anew();
        }
        recovered::tell(again, orphans.iter().filter(|(.., why)| why == POISONED).count() as u64);
        for orphan in orphans {
            self.bury(orphan).await;
        }
        let elsewhere: Vec<TaskId> = elsewhere.iter().filter_map(|id| TaskId::parse(id).ok()).collect();
        // What fails here is met again. The leases are renewed.
        let _ = self.look_at_all(&elsewhere).await;
        // What was settled while the script ran is not lost: it is not held any more.
        Ok(lost.iter().filter_map(|token| self.hands.let_go(*token)).map(|held| held.receipt()).collect())
    }
}

#[async_trait]
impl Queue for Arc<Redis> {
    async fn push(&self, messages: Vec<Message>, unless: Option<Tick>) -> Result<Pushed> {
        let mut bytes = 0;
        let mut call = self.connection.scripts().push.prepare_invoke();
        match &unless {
            Some(tick) => call.arg(&tick.entry).arg(tick.due.timestamp_micros()),
            None => call.arg("").arg(""),
        };
        for message in &messages {
            for part in new_message(message) {
                bytes += part.len();
                call.arg(part);
            }
        }
        match self.connection.run_with(bytes, &call).await? {
            0 => Ok(Pushed::Stored),
            -1 => Ok(Pushed::Taken),
            known => {
                let known = usize::try_from(known - 1).ok().and_then(|index| messages.get(index));
                Err(match known {
                    Some(message) => Error::DuplicateId { id: message.id.clone() },
                    None => anyhow::anyhow!("the push script gave no sense").into(),
                })
            }
        }
    }

    async fn claim(&self, queues: &Queues, max: usize, patience: Duration) -> Result<Vec<Delivery>> {
        self.clone().claim_for(queues, max, patience).await
    }

    async fn settle(&self, settlement: Arc<Settlement>) -> Result<Settled> {
        let token = settlement.delivery.receipt.token;
        let is_written = self.hands.settling(token);
        let settled = self.settler.settle(&settlement, is_written).await?;
        self.hands.let_go(token);
        Ok(settled)
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<Settled> {
        let done: u8 =
            self.connection.run(self.connection.scripts().acknowledge.prepare_invoke().arg(receipt.token)).await?;
        if done == 1 {
            return Ok(Settled::Stored);
        }
        self.hands.let_go(receipt.token);
        Ok(Settled::LeaseLost)
    }

    async fn put_back(&self, deliveries: Vec<Delivery>, wait: Duration) -> Result<()> {
        if deliveries.is_empty() {
            return Ok(());
        }
        // What is given back waits again, which is said of what is known to run.
        self.hands.write().await?;
        let mut call = self.connection.scripts().put_back.prepare_invoke();
        call.arg(ms(wait));
        for Delivery { receipt, .. } in deliveries.iter().rev() {
            self.hands.let_go(receipt.token);
            call.arg(receipt.token).arg(receipt.id.as_str());
        }
        self.connection.run(&call).await
    }

    async fn keep_alive(&self) -> Result<Vec<Receipt>> {
        let kept = self.sweep().await;
        self.idle.heard(kept.is_ok());
        kept
    }

    async fn revoke(&self, id: &TaskId, terminate: bool) -> Result<Revoked> {
        self.hands.write_of(id).await?;
        let mut looks = 0;
        let came_of_it = loop {
            let now = Utc::now();
            let record = self.record(id).await?;
            looks += 1;
            // What a newer version writes cannot be read however often it is looked at.
            let known = record.is_some() || looks == LOOKS;
            let told = record.and_then(|record| record.revocation(id, now));
            let mut call = self.connection.scripts().revoke.prepare_invoke();
            call.arg(id.as_str())
                .arg(u8::from(terminate))
                .arg(Ended::text_of_revocation("revoked", now))
                .arg(told.unwrap_or_default())
                .arg(self.settings.keep.as_secs().max(1))
                .arg(u8::from(known))
                .arg(self.settings.history);
            let came_of_it: String = self.connection.run(&call).await?;
            // Another process claimed it since it was looked for: now there is more to tell.
            if came_of_it != "again" {
                break came_of_it;
            }
        };
        Ok(match came_of_it.as_str() {
            "before" => Revoked::BeforeStart,
            "running" => Revoked::WhileRunning,
            state => State::parse(state).map_or(Revoked::Unknown, Revoked::TooLate),
        })
    }

    async fn is_revoked(&self, receipt: &Receipt) -> Result<bool> {
        let keys = self.connection.keys();
        let mut look = redis::pipe();
        let (batch, number) = parts(receipt.token);
        look.zscore(keys.revoked(), receipt.id.as_str()).sismember(keys.open(batch), number);
        let (revoked, held): (Option<f64>, bool) = self.connection.ask_all(&look).await?;
        Ok(revoked.is_some() && held)
    }

    fn terminations(&self) -> broadcast::Receiver<TaskId> {
        self.subscriber.terminations()
    }

    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        let mut look = self.connection.scripts().depth.prepare_invoke();
        let (ready, delayed, claimed) = self.connection.run(look.arg(queue.as_str())).await?;
        Ok(Depth { ready, delayed, claimed })
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        let mut total = 0;
        loop {
            let now = Utc::now();
            let mut call = self.connection.scripts().purge.prepare_invoke();
            call.arg(queue.as_str())
                .arg(PURGED)
                .arg(Ended::text_of_revocation("purged", now))
                .arg(results::of_purge(now))
                .arg(self.settings.keep.as_secs().max(1))
                .arg(self.settings.history);
            let removed: u64 = self.connection.run(&call).await?;
            total += removed;
            if removed == 0 {
                return Ok(total);
            }
        }
    }

    fn started(&self, receipt: &Receipt) {
        self.hands.begun(receipt.token);
    }

    async fn queues(&self) -> Result<Vec<QueueFacts>> {
        self.queue_facts().await
    }

    async fn pause(&self, queue: &QueueName, paused: bool) -> Result<()> {
        self.pause_queue(queue, paused).await
    }

    async fn dead_letters(&self) -> Result<u64> {
        self.connection.ask(redis::cmd("LLEN").arg(self.connection.keys().dead())).await
    }

    async fn read_dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>> {
        self.letters(most).await
    }

    async fn ping(&self) -> Result<()> {
        self.connection.probe().await
    }
}

fn ms(time: Duration) -> u64 {
    // As much as Lua counts exactly, and more than anybody waits.
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(u64::MAX >> 12)
}
