//! Claiming: a script takes and leases messages, we read them, a second script writes down who runs what.
//!
//! Reading is ours because Lua would be slow at it and could not tell why a message is unreadable. What dies between
//! the two scripts is leased and comes back when the lease ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::anyhow;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use tracing::{error, warn};

use crate::store::{Delivery, Ending, Error, Queue, Queues, Receipt, Result, SUSPECTED_FOR};
use crate::task::{Message, QueueName};

use super::Redis;
use super::dead::Refused;
use super::hands::Held;
use super::record::Brief;
use super::settle::{due, due_ms, expires, expires_ms};
use super::taking::{Batch, tokens};

/// The most messages that one call of the script claims, so that it never keeps others waiting for long. Until they are
/// here and have started, many milliseconds later, those of the claim before are all that there is to do.
pub(super) const MOST: usize = 896;

/// How long is waited at the most while something else lies under the key of a queue, before it is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A message that may start, and whether it is written down already that it does.
type Claimed = (Delivery, bool);

/// A message as it was taken, before anyone decided on it.
struct Candidate {
    token: u64,
    message: Message,
}

impl Candidate {
    // Nothing in it speaks against its start.
    fn is_plain(&self, now: i64) -> bool {
        due_ms(&self.message) <= now
    }

    fn start(self, now: i64) -> Claimed {
        let Self { token, message } = self;
        let receipt = Receipt { id: message.id.clone(), token };
        let expired = (1..=now).contains(&expires_ms(&message));
        let message = Arc::new(message);
        (Delivery { message, receipt, redelivered: false, deaths: 0, expired, waited: None }, false)
    }
}

/// Deliveries on their way to who claimed them; those that never arrive are put back.
struct Found {
    store: Arc<Redis>,
    deliveries: Vec<Claimed>,
}

impl Found {
    fn accept(mut self) -> Vec<Claimed> {
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        let unheard = std::mem::take(&mut self.deliveries);
        // Where this fails, or no runtime is left, they come back with the end of their lease.
        if let (false, Ok(runtime)) = (unheard.is_empty(), Handle::try_current()) {
            let store = self.store.clone();
            let unheard = unheard.into_iter().map(|(delivery, _)| delivery).collect();
            runtime.spawn(async move { store.put_back(unheard, Duration::ZERO).await });
        }
    }
}

impl Redis {
    /// As `Queue::claim`. The search is a task of its own, so that a caller who gives up half way leaves neither a
    /// wait in Redis nor messages in nobody's hands.
    pub(super) async fn claim_for(
        self: Arc<Self>,
        queues: &Queues,
        most: usize,
        patience: Duration,
    ) -> Result<Vec<Delivery>> {
        let Queues::Named(queues) = queues else {
            return Err(anyhow!("a worker over Redis names its queues: others may serve the rest").into());
        };
        let (mut answer, answered) = oneshot::channel();
        let (store, queues) = (self.clone(), queues.clone());
        tokio::spawn(async move {
            let found = store.search(&queues, most.min(MOST), patience, &mut answer).await;
            // Who is not there any more, or goes before reading it, gives it back by dropping it.
            let _ = answer.send(found.map(|deliveries| Found { store, deliveries }));
        });
        let found = answered.await.map_err(|_| Error::from(anyhow!("the store is closed")))??;
        let mut deliveries = Vec::new();
        let held = found.accept().into_iter().map(|(delivery, is_written)| {
            let held = Held::new(&delivery, is_written);
            deliveries.push(delivery);
            held
        });
        self.hands.take(held);
        Ok(deliveries)
    }

    async fn search(
        self: &Arc<Self>,
        queues: &[QueueName],
        most: usize,
        patience: Duration,
        caller: &mut oneshot::Sender<Result<Found>>,
    ) -> Result<Vec<Claimed>> {
        if most == 0 || queues.is_empty() {
            let _ = timeout(patience, caller.closed()).await;
            return Ok(Vec::new());
        }
        let end = Instant::now() + patience;
        let mut earlier = self.subscriber.due();
        loop {
            earlier.mark_unchanged();
            let left = end.saturating_duration_since(Instant::now());
            let queues = self.in_turn(queues);
            let (next_due, first, taken, closed, now, any_known, odd) =
                self.take(&queues, most, !left.is_zero() && !self.are_waited_for(&queues)).await?;
            // Nothing tells when it is mended.
            let left = if odd.is_empty() { left } else { left.min(LOOK_AGAIN) };
            self.tell_odd(odd);
            let anything = !taken.is_empty();
            let (candidates, refused) = read(&queues, first, taken).await;
            self.lay_aside(refused).await;
            let plain = candidates.iter().all(|candidate| candidate.is_plain(now));
            let deliveries = if plain && (any_known == 0 || !self.any_known(&candidates).await?) {
                candidates.into_iter().map(|candidate| candidate.start(now)).collect()
            } else {
                self.admit(candidates).await?
            };
            if !deliveries.is_empty() || left.is_zero() || caller.is_closed() {
                return Ok(deliveries);
            }
            if anything {
                continue;
            }
            let until_due = u64::try_from(next_due).map_or(left, Duration::from_millis);
            let wake = async {
                tokio::select! {
                    () = caller.closed() => {}
                    _ = earlier.changed() => {}
                }
            };
            let open = queues.iter().enumerate().filter(|(number, _)| !closed.contains(number));
            let lists: Vec<String> = open.flat_map(|(_, queue)| self.connection.keys().lists(queue)).collect();
            self.idle.wait(&lists, left.min(until_due), wake).await?;
        }
    }

    fn are_waited_for(&self, queues: &[QueueName]) -> bool {
        self.idle.knows(queues.iter().flat_map(|queue| self.connection.keys().lists(queue)))
    }

    // Once for each key, until it is mended.
    fn tell_odd(&self, odd: Vec<String>) {
        let mut told = self.odd.lock().expect("no one panics while holding the keys");
        for key in odd.iter().filter(|key| !told.contains(key)) {
            error!(
                key,
                "under `{key}` lies something that is not of umbel, so nothing of its queue is claimed; rename it or delete it"
            );
        }
        *told = odd;
    }

    // Another one is first each time, so that a full queue does not starve the others.
    fn in_turn(&self, queues: &[QueueName]) -> Vec<QueueName> {
        let mut queues = queues.to_vec();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % queues.len();
        queues.rotate_left(first);
        queues
    }

    pub(super) fn lease_ms(&self) -> u64 {
        u64::try_from(self.settings.lease.as_millis()).unwrap_or(u64::MAX >> 12)
    }

    // One of them was revoked, or came back from a dead process.
    async fn any_known(&self, candidates: &[Candidate]) -> Result<bool> {
        let ids: Vec<&str> = candidates.iter().map(|candidate| candidate.message.id.as_str()).collect();
        if ids.is_empty() {
            return Ok(false);
        }
        let keys = self.connection.keys();
        let mut look = redis::pipe();
        look.cmd("ZMSCORE").arg(keys.revoked()).arg(&ids).cmd("HMGET").arg(keys.redelivered()).arg(&ids);
        let (revoked, redelivered): (Vec<Option<f64>>, Vec<Option<String>>) = self.connection.ask_all(&look).await?;
        Ok(revoked.iter().any(Option::is_some) || redelivered.iter().any(Option::is_some))
    }

    // Where a decision takes more than the message itself: a script makes it, and writes down who runs what.
    async fn admit(&self, candidates: Vec<Candidate>) -> Result<Vec<Claimed>> {
        let mut call = self.connection.scripts().admit.prepare_invoke();
        call.arg(&self.settings.worker).arg(SUSPECTED_FOR.as_millis() as u64);
        let mut bytes = 0;
        for Candidate { token, message } in &candidates {
            let brief = Brief::text_of(message);
            bytes += brief.len();
            call.arg(*token).arg(message.queue.as_str()).arg(message.id.as_str());
            call.arg(due(message)).arg(expires(message)).arg(brief);
        }
        let decisions: Vec<String> = self.connection.run_with(bytes, &call).await?;
        let mut deliveries = Vec::with_capacity(candidates.len());
        for (Candidate { token, message }, decision) in candidates.into_iter().zip(decisions) {
            let receipt = Receipt { id: message.id.clone(), token };
            let (decision, deaths) = decision.split_once(' ').unwrap_or((&decision, "0"));
            let (redelivered, deaths) = (decision == "again", deaths.parse().unwrap_or(0));
            let expired = decision == "expired";
            let message = Arc::new(message);
            let delivery = Delivery { message, receipt, redelivered, deaths, expired, waited: None };
            match decision {
                "start" | "again" | "expired" => deliveries.push((delivery, true)),
                "revoked" => self.settle_revoked(delivery).await,
                _ => {}
            }
        }
        Ok(deliveries)
    }

    // What fails here goes back to its queue; the deliveries beside it must not wait for that.
    async fn settle_revoked(&self, delivery: Delivery) {
        let Receipt { id, token } = delivery.receipt.clone();
        let ending = Ending::Revoked { reason: "revoked" };
        if let Err(cause) = self.settler.settle_unrun(delivery, ending, Vec::new()).await {
            self.strayed([token]);
            if !cause.is_told() {
                warn!(task.id = %id, "cannot store that task {id} was revoked: {cause}");
            }
        }
    }
}

async fn read(queues: &[QueueName], first: u64, batches: Vec<Batch>) -> (Vec<Candidate>, Vec<Refused>) {
    let (mut candidates, mut refused) = (Vec::new(), Vec::new());
    for (batch, (queue, _, envelopes)) in (first..).zip(batches) {
        let queue = &queues[queue];
        if !candidates.is_empty() {
            // All of them take some milliseconds, in which others have to settle what has ended.
            yield_now().await;
        }
        for (token, envelope) in tokens(batch).zip(envelopes) {
            match Message::from_wire(queue.clone(), &envelope) {
                Ok(message) => candidates.push(Candidate { token, message }),
                Err(why) => refused.push(Refused::new(token, queue.clone(), envelope, why)),
            }
        }
    }
    (candidates, refused)
}
