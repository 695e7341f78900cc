//! The body of a batch, part after part, within its bounds: no sender holds what others need by being slow.
//!
//! What has come of a batch stays in memory until its last line. The first MiB of each is free, as for a single task;
//! so is the time for it. Whoever sends more takes one of few turns, and then has to go on at a pace: a sender that
//! stands still loses its turn in seconds, and only other large batches have waited for it.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::Problem;
use super::body::{ONE, PATIENCE, broken_off};

/// The largest body that tells of many tasks, in bytes.
pub(super) const MANY: usize = 32 << 20;

/// How many batches of more than [`ONE`] are read at a time; more of them wait.
pub(super) const TURNS: usize = 2;

/// How long a large batch may take for each [`ONE`] once it has its turn.
const PACE: Duration = Duration::from_secs(2);

/// How long a large batch waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(30);

/// The body of one batch. It keeps its turn until it is dropped.
pub(super) struct Parts<'a> {
    stream: BodyDataStream,
    turns: &'a Semaphore,
    turn: Option<SemaphorePermit<'a>>,
    taken: usize,
    /// When the next [`ONE`] must have come.
    due: Instant,
}

impl<'a> Parts<'a> {
    pub fn of(body: Body, turns: &'a Semaphore) -> Self {
        Self { stream: body.into_data_stream(), turns, turn: None, taken: 0, due: Instant::now() + PATIENCE }
    }

    /// The next part; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.taken > ONE && self.turn.is_none() {
            let turn = timeout(TURN_WITHIN, self.turns.acquire()).await.map_err(|_| Problem::Busy {
                reason: format!(
                    "{TURNS} large batches are being read already; try again, or send fewer tasks at a time"
                ),
            })?;
            self.turn = Some(turn.expect("the semaphore is never closed"));
            self.due = Instant::now() + PACE;
        }
        let part = timeout_at(self.due, self.stream.next()).await.map_err(|_| self.too_slow())?;
        let Some(part) = part.transpose().map_err(broken_off)? else { return Ok(None) };
        let before = self.taken / ONE;
        self.taken += part.len();
        if self.taken > MANY {
            return Err(Problem::TooLarge { what: "the body", limit: MANY, unit: "bytes" });
        }
        if self.turn.is_some() && self.taken / ONE > before {
            self.due = Instant::now() + PACE;
        }
        Ok(Some(part))
    }

    fn too_slow(&self) -> Problem {
        match self.turn {
            Some(_) => Problem::TooSlow { what: "the next MiB of the batch", seconds: PACE.as_secs() },
            None => Problem::TooSlow { what: "the body", seconds: PATIENCE.as_secs() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    /// A body of so many MiB that then stands still.
    fn stalled(mebibytes: usize) -> Body {
        Body::from_stream(stream::iter(vec![part(); mebibytes]).map(Ok::<_, Infallible>).chain(stream::pending()))
    }

    fn part() -> Bytes {
        Bytes::from(vec![b' '; ONE])
    }

    async fn read(body: Body, turns: &Semaphore) -> Result<usize, Problem> {
        let mut parts = Parts::of(body, turns);
        let mut taken = 0;
        while let Some(part) = parts.next().await? {
            taken += part.len();
        }
        Ok(taken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_batch_that_stands_still_loses_its_turn() {
        let turns = Semaphore::new(TURNS);
        let began = Instant::now();
        let slow = async {
            let (one, other) = tokio::join!(read(stalled(3), &turns), read(stalled(31), &turns));
            assert!(matches!(one, Err(Problem::TooSlow { .. })) && matches!(other, Err(Problem::TooSlow { .. })));
        };

        let quick = async { read(Body::from(vec![b' '; MANY]), &turns).await.unwrap() };
        let ((), taken) = tokio::join!(slow, quick);

        assert_eq!(taken, MANY);
        assert!(began.elapsed() <= 2 * PACE, "{:?}", began.elapsed());
        assert_eq!(turns.available_permits(), TURNS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_batch_needs_no_turn() {
        let none = Semaphore::new(0);

        assert_eq!(read(Body::from(vec![b' '; ONE]), &none).await.unwrap(), ONE);
        let large = Body::from_stream(stream::iter(vec![part(); 3]).map(Ok::<_, Infallible>));
        assert!(matches!(read(large, &none).await, Err(Problem::Busy { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_one_that_stands_still_ends_too() {
        let began = Instant::now();

        assert!(matches!(read(stalled(0), &Semaphore::new(TURNS)).await, Err(Problem::TooSlow { seconds: 30, .. })));
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test]
    async fn the_whole_is_bounded() {
        let refused = read(Body::from(vec![b' '; MANY + 1]), &Semaphore::new(TURNS)).await;

        assert!(matches!(refused, Err(Problem::TooLarge { limit: MANY, .. })));
    }
}
