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
use tracing::warn;

use crate::store::Result;
use crate::task::QueueName;

use super::Redis;
use super::fault::{PATIENCE, silent};

/// How long somebody listens for a batch that Redis grants too late, to give it back.
const LATE: Duration = Duration::from_secs(600);

/// The pause before what was granted and not heard of is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// The wait until the next due time in ms (-1 for none), the first token, the queue and the envelope of each, the
/// queues of which nothing is claimed, the time in ms, 1 when something is known of some ids, and the keys where
/// somebody laid something else.
pub(super) type Taken = (i64, u64, Vec<(usize, Vec<u8>)>, Vec<usize>, i64, u8, Vec<String>);

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
                Ok(Ok((_, first, taken, ..))) = timeout(LATE, taken) => self.give_up(queues, first, &taken).await,
                // One that did not may have done so before its answer was lost.
                true = self.take_back(&granted, queues) => {}
                else => drop(self.take_back(&granted, queues).await),
            }
            return;
        };
        match taken {
            Ok(taken) => {
                if let Err(Ok((_, first, taken, ..))) = answer.send(Ok(taken)) {
                    self.give_up(queues, first, &taken).await;
                }
            }
            Err(error) => {
                let _ = answer.send(Err(self.connection.doubt(number, error.into())));
                self.take_back(&granted, queues).await;
            }
        }
    }

    // Gives back what is noted as granted, as soon as Redis answers; whether there was such a note. After the end of the
    // lease there is nothing to give back.
    async fn take_back(&self, granted: &str, queues: &[QueueName]) -> bool {
        let mut call = self.connection.scripts().take_back.prepare_invoke();
        call.key(granted);
        for queue in queues {
            call.arg(queue.as_str());
        }
        let end = Instant::now() + self.settings.lease;
        loop {
            match self.connection.run::<u8>(&call).await {
                Ok(found) => return found == 1,
                Err(_) if Instant::now() < end => sleep(PAUSE).await,
                Err(_) => return false,
            }
        }
    }

    // Where this fails, they come back with the end of their lease.
    async fn give_up(&self, queues: &[QueueName], first: u64, taken: &[(usize, Vec<u8>)]) {
        if taken.is_empty() {
            return;
        }
        let mut call = self.connection.scripts().put_back.prepare_invoke();
        call.arg(0);
        for (token, (queue, _)) in (first..).zip(taken).collect::<Vec<_>>().into_iter().rev() {
            // Nobody was told that it runs, so that its record does not change: no id.
            call.arg(token).arg(queues[*queue].as_str()).arg("");
        }
        if let Err(cause) = self.connection.run::<()>(&call).await
            && !cause.is_told()
        {
            warn!("cannot give {} tasks back, the end of their lease will: {cause}", taken.len());
        }
    }
}
