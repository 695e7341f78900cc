//! One call of the claim script, and what becomes of a grant that nobody hears of.
//!
//! An answer that is lost on its way costs no lease: the script notes what it grants to which claim, and who has not
//! heard that gives it back.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::store::Result;
use crate::task::QueueName;

use super::Redis;
#[cfg(test)]
use super::claim::MOST;
use super::fault::{PATIENCE, silent};

/// How long somebody listens for a batch that Redis grants too late, to give it back.
const LATE: Duration = Duration::from_secs(600);

/// The pause before what was granted and not heard of is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// The most strays that one call gives back, so that it never keeps others waiting for long.
const RETURNED: usize = 500;

/// What was taken of one list: its queue, how many messages, and their envelopes, the oldest first.
pub(super) type Batch = (usize, usize, Vec<Vec<u8>>);

/// The wait until the next due time in ms (-1 for none), the number of the first batch, the batches, the queues of which
/// nothing is claimed, the time in ms, 1 when something is known of some ids, and the lists where somebody laid
/// something else.
pub(super) type Taken = (i64, u64, Vec<Batch>, Vec<usize>, i64, u8, Vec<String>);

/// The tokens of a batch, that of its oldest message first, as `keys.lua` has them.
pub(super) fn tokens(batch: u64) -> impl Iterator<Item = u64> {
    (100..1000).map(move |number| batch * 1000 + number)
}

/// The batch of a token, and its number there.
pub(super) fn parts(token: u64) -> (u64, u64) {
    (token / 1000, token % 1000)
}

impl Redis {
    pub(super) async fn take(self: &Arc<Self>, queues: &[QueueName], most: usize, will_wait: bool) -> Result<Taken> {
        let (answer, answered) = oneshot::channel();
        let (store, queues) = (self.clone(), queues.to_vec());
        tokio::spawn(async move { store.take_or_return(&queues, most, will_wait, answer).await });
        answered.await.unwrap_or_else(|_| Err(anyhow!("the store is closed").into()))
    }

    async fn take_or_return(
        &self,
        queues: &[QueueName],
        most: usize,
        will_wait: bool,
        answer: oneshot::Sender<Result<Taken>>,
    ) {
        let granted = self.connection.keys().granted(&self.process, self.claims.fetch_add(1, Ordering::Relaxed));
        let mut call = self.connection.scripts().claim.prepare_invoke();
        call.key(&granted).arg(&self.process).arg(most).arg(self.lease_ms()).arg(u8::from(will_wait));
        for queue in queues {
            call.arg(queue.as_str());
        }
        let (number, road) = match self.connection.shared().await {
            Ok(shared) => shared,
            // Who asked and went away does not need the answer, here and below.
            Err(cause) => return drop(answer.send(Err(cause))),
        };
        let mut connection = road.connection.clone();
        let mut taken = pin!(call.invoke_async::<Taken>(&mut connection));
        let heard = road.hear(PATIENCE, &mut taken).await;
        let Some(taken) = heard else {
            let _ = answer.send(Err(self.connection.doubt(number, silent(PATIENCE))));
            tokio::select! {
                // A Redis that stood still grants what nobody waits for any more.
                Ok(Ok(_)) = timeout(LATE, taken) => drop(self.take_back(&granted).await),
                // One that did not may have done so before its answer was lost.
                true = self.take_back(&granted) => {}
                else => drop(self.take_back(&granted).await),
            }
            return;
        };
        let whole = match taken {
            Ok(taken) => self.fetch(taken).await,
            Err(error) => Err(self.connection.doubt(number, error.into())),
        };
        let failed = whole.is_err();
        if answer.send(whole).is_err() || failed {
            self.take_back(&granted).await;
        }
    }

    // Of many messages the script hands over no envelopes: they are got here.
    async fn fetch(&self, mut taken: Taken) -> Result<Taken> {
        let (_, first, batches, ..) = &mut taken;
        let mut look = redis::pipe();
        let mut empty = Vec::new();
        for (batch, (_, size, envelopes)) in (*first..).zip(batches) {
            if envelopes.len() < *size {
                look.lrange(self.connection.keys().claimed(batch), 0, -1);
                empty.push(envelopes);
            }
        }
        if !empty.is_empty() {
            let found: Vec<Vec<Vec<u8>>> = self.connection.ask_all(&look).await?;
            empty.into_iter().zip(found).for_each(|(envelopes, found)| *envelopes = found);
        }
        Ok(taken)
    }

    // Gives back what is noted as granted, as soon as Redis answers; whether there was such a note. After the end of the
    // lease there is nothing to give back.
    async fn take_back(&self, granted: &str) -> bool {
        let mut call = self.connection.scripts().take_back.prepare_invoke();
        call.key(granted);
        let end = Instant::now() + self.settings.lease;
        loop {
            match self.connection.run::<u8>(&call).await {
                Ok(found) => return found == 1,
                Err(_) if Instant::now() < end => sleep(PAUSE).await,
                Err(_) => return false,
            }
        }
    }

    /// These are in nobody's hands, and their leases are renewed as long as others of their batches are.
    pub(super) fn strayed(&self, tokens: impl IntoIterator<Item = u64>) {
        self.strays.lock().expect("no one panics while holding the strays").extend(tokens);
    }

    pub(super) async fn return_strays(&self) -> Result<()> {
        let mut strays = std::mem::take(&mut *self.strays.lock().expect("no one panics while holding the strays"));
        while !strays.is_empty() {
            let some = strays.split_off(strays.len().saturating_sub(RETURNED));
            if let Err(cause) = self.return_unheard(&some).await {
                self.strayed(strays);
                self.strayed(some);
                return Err(cause);
            }
        }
        Ok(())
    }

    /// Gives back what nobody was told of, so that its record does not change.
    async fn return_unheard(&self, tokens: &[u64]) -> Result<()> {
        if tokens.is_empty() {
            return Ok(());
        }
        let mut call = self.connection.scripts().put_back.prepare_invoke();
        call.arg(0);
        for token in tokens.iter().rev() {
            call.arg(*token).arg("");
        }
        self.connection.run(&call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_count_as_we_do() {
        assert!(include_str!("keys.lua").contains("\nlocal FIRST = 100\n"));
        assert!(tokens(7).count() >= MOST, "one claim takes no more from a list than have numbers");
        assert!(tokens(7).take(MOST).all(|token| parts(token).0 == 7 && (100..1000).contains(&parts(token).1)));
    }
}
