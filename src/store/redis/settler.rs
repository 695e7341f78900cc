//! Settling: everything that waits to be settled goes into one call of the script.
//!
//! While a call is on its way the next settlements gather, so the busier the process the more are in a call, and a lone
//! settlement does not wait. Once there are enough for it they go in a second call, so that Redis has something to do
//! while we read what came of the first.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use crate::store::{Attempt, Delivery, Ending, Error, Result, Settings, Settled, Settlement};
use crate::task::Message;

use super::connection::Connection;
use super::settle::{Kept, Settling, settle, settling};

/// The most deliveries that one call of the script settles, so that it never keeps others waiting for long: a claim
/// waits behind two calls, and so do the messages that it has granted.
const MOST: usize = 128;

/// Nor has one call more bytes than this, but for a single delivery that alone has more: others wait behind it.
pub const ENOUGH: usize = 1 << 20;

/// How many calls of the script are on their way at once: Redis works on one while the next is made.
const LANES: usize = 2;

/// So many are worth a call of their own while another is on its way.
const WORTHWHILE: usize = MOST / 2;

/// Nor do any wait longer than this for others: the call that is on its way may be a large one.
const MOMENT: Duration = Duration::from_millis(5);

/// What the script answers where all of a call are stored.
const ALL: &str = "all";

type Answer = oneshot::Sender<Result<Settled>>;

/// Hands settlements over in calls of many.
pub struct Settler {
    waiting: mpsc::Sender<(Settling, Answer)>,
    /// Kept with the runs of which nothing else was written down.
    worker: String,
    _lanes: JoinSet<()>,
}

impl Settler {
    pub fn start(connection: Connection, settings: &Settings) -> Self {
        let kept = Kept { results: settings.keep, runs: settings.history };
        // A sender that finds it full waits: each of them holds a claimed task, and those are bounded by the slots.
        let (waiting, arrivals) = mpsc::channel(LANES * MOST);
        let calls = watch::Sender::new(0);
        let arrivals = Arc::new(Mutex::new(Arrivals { waiting: arrivals, under_way: calls.subscribe() }));
        let lane = |_| settle_always(connection.clone(), kept, arrivals.clone(), calls.clone());
        let lanes = (0..LANES).map(lane).collect();
        Self { waiting, worker: settings.worker.clone(), _lanes: lanes }
    }

    /// `is_written` when it is written down already that it ran.
    pub async fn settle(&self, settlement: &Settlement, is_written: bool) -> Result<Settled> {
        let (answer, answered) = oneshot::channel();
        let stopped = || Error::from(anyhow!("the store is closed"));
        self.waiting.send((settling(settlement, is_written, &self.worker), answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Settles what did not run here, and sends what follows it.
    pub async fn settle_unrun(&self, delivery: Delivery, ending: Ending, follow_ups: Vec<Message>) -> Result<Settled> {
        let attempt = Attempt { ignore_result: delivery.message.ignore_result == Some(true), ..Attempt::default() };
        self.settle(&Settlement { delivery, ending, attempt, follow_ups }, false).await
    }
}

/// What the lanes take their calls from, one lane at a time.
struct Arrivals {
    waiting: mpsc::Receiver<(Settling, Answer)>,
    /// How many calls are on their way.
    under_way: watch::Receiver<usize>,
}

impl Arrivals {
    /// What goes into the next call; nothing when there will be none.
    async fn gather(&mut self) -> Vec<(Settling, Answer)> {
        let mut gathered = Vec::with_capacity(MOST);
        if self.waiting.recv_many(&mut gathered, MOST).await == 0 {
            return gathered;
        }
        // The first one wakes us before others that end in the same moment have come.
        yield_now().await;
        let mut long_enough = pin!(sleep(MOMENT));
        while gathered.len() < WORTHWHILE {
            let room = MOST - gathered.len();
            tokio::select! {
                biased;
                more = self.waiting.recv_many(&mut gathered, room) => {
                    if more == 0 {
                        break;
                    }
                }
                _ = self.under_way.wait_for(|calls| *calls == 0) => break,
                () = &mut long_enough => break,
            }
        }
        gathered
    }
}

async fn settle_always(
    connection: Connection,
    kept: Kept,
    arrivals: Arc<Mutex<Arrivals>>,
    calls: watch::Sender<usize>,
) {
    loop {
        let mut waiting = {
            let mut arrivals = arrivals.lock().await;
            let gathered = arrivals.gather().await;
            calls.send_modify(|calls| *calls += 1);
            gathered
        };
        if waiting.is_empty() {
            return;
        }
        waiting.sort_by_key(|(settling, _)| settling.batch);
        while !waiting.is_empty() {
            let part = fitting(waiting.iter().map(|(settling, _)| settling.size()));
            let (settlings, answers): (Vec<Settling>, Vec<Answer>) = waiting.drain(..part).unzip();
            tell(answers, settle(&connection, kept, settlings).await);
        }
        calls.send_modify(|calls| *calls -= 1);
    }
}

/// How many of the first go into one call by their sizes in bytes; one does in any case.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0usize;
    let fit = sizes.take_while(|size| {
        bytes = bytes.saturating_add(*size);
        bytes <= ENOUGH
    });
    fit.count().max(1)
}

// Who asked and went away does not need the answer.
fn tell(answers: Vec<Answer>, settled: Result<Vec<String>>) {
    match settled {
        Ok(settled) if settled == [ALL] => {
            for answer in answers {
                let _ = answer.send(Ok(Settled::Stored));
            }
        }
        Ok(settled) => {
            for (answer, came_of_it) in answers.into_iter().zip(settled) {
                let _ = answer.send(match came_of_it.as_str() {
                    "1" => Ok(Settled::Stored),
                    "0" => Ok(Settled::LeaseLost),
                    // It concerns this one alone; the others of the call are settled.
                    refused => Err(anyhow!("{refused}").into()),
                });
            }
        }
        Err(Error::Away { reason }) => {
            for answer in answers {
                let _ = answer.send(Err(Error::Away { reason: reason.clone() }));
            }
        }
        Err(Error::Full { reason }) => {
            for answer in answers {
                let _ = answer.send(Err(Error::Full { reason: reason.clone() }));
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(anyhow!("{error:#}").into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_takes_what_fits_and_one_in_any_case() {
        assert_eq!(fitting([1, 2, 3].into_iter()), 3);
        assert_eq!(fitting([ENOUGH - 1, 1, 1].into_iter()), 2);
        assert_eq!(fitting([ENOUGH + 1, 1].into_iter()), 1);
    }
}
