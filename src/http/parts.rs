//! The body of a request, part after part, within its bounds: no sender holds what others need by being slow, and all
//! bodies together hold no more memory than is there for them.
//!
//! What has come of a body stays in memory until its request was understood. A small one is free: there are only as many
//! as connections. Whoever sends more takes one of some places; whoever sends more than 1 MiB takes one of few turns.
//! Both have to go on at a pace then: a sender that stands still loses what it holds in seconds, sooner than those that
//! wait for it give up.

use std::ops::Deref;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::Problem;
use super::body::ONE;

/// The largest body that tells of many tasks, in bytes.
const MANY: usize = 32 << 20;

/// What a body may have without a place, in bytes, and one part more.
const SMALL: usize = 16 << 10;

/// How many bodies of more than [`SMALL`] are in memory at a time; more of them wait.
const PLACES: usize = 64;

/// How many batches of more than [`ONE`] are read at a time; more of them wait.
const TURNS: usize = 2;

/// How long a client may take to send its first [`SMALL`].
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take for the rest of the first [`ONE`] once it has its place.
const PLACED: Duration = Duration::from_secs(10);

/// How long a large batch may take for each [`ONE`] once it has its turn.
const PACE: Duration = Duration::from_secs(2);

/// How long a body waits for its place, and a large batch for its turn.
const ROOM_WITHIN: Duration = Duration::from_secs(30);

/// The room that there is for the bodies of all requests.
pub(super) struct Room {
    places: Semaphore,
    turns: Semaphore,
}

impl Room {
    pub fn new() -> Self {
        Self { places: Semaphore::new(PLACES), turns: Semaphore::new(TURNS) }
    }
}

/// The body of one request. It keeps its room until it is dropped.
pub(super) struct Parts<'a> {
    stream: BodyDataStream,
    room: &'a Room,
    most: usize,
    held: Held<'a>,
    taken: usize,
    /// When what is waited for must have come.
    due: Instant,
}

enum Held<'a> {
    Nothing,
    Place { _permit: SemaphorePermit<'a> },
    Turn { _permit: SemaphorePermit<'a> },
}

/// A body that has come, in its room.
pub(super) struct Whole<'a> {
    bytes: Vec<u8>,
    _held: Held<'a>,
}

impl Deref for Whole<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<'a> Parts<'a> {
    /// Of a body that tells of one task at most.
    pub fn of_one(body: Body, room: &'a Room) -> Self {
        Self::new(body, room, ONE)
    }

    /// Of a body that tells of many.
    pub fn of_many(body: Body, room: &'a Room) -> Self {
        Self::new(body, room, MANY)
    }

    fn new(body: Body, room: &'a Room, most: usize) -> Self {
        let due = Instant::now() + PATIENCE;
        Self { stream: body.into_data_stream(), room, most, held: Held::Nothing, taken: 0, due }
    }

    /// All that comes.
    pub async fn gather(mut self) -> Result<Whole<'a>, Problem> {
        let mut bytes = Vec::new();
        while let Some(part) = self.next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(Whole { bytes, _held: self.held })
    }

    /// The next part; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        self.find_room().await?;
        let part = timeout_at(self.due, self.stream.next()).await.map_err(|_| self.too_slow())?;
        let Some(part) = part.transpose().map_err(broken_off)? else { return Ok(None) };
        let before = self.taken / ONE;
        self.taken += part.len();
        if self.taken > self.most {
            return Err(Problem::TooLarge { what: "the body", limit: self.most, unit: "bytes" });
        }
        if matches!(self.held, Held::Turn { .. }) && self.taken / ONE > before {
            self.due = Instant::now() + PACE;
        }
        Ok(Some(part))
    }

    // For what has come, before more does.
    async fn find_room(&mut self) -> Result<(), Problem> {
        match self.held {
            Held::Nothing | Held::Place { .. } if self.taken > ONE => {
                let busy =
                    format!("{TURNS} large batches are being read already; try again, or send fewer tasks at a time");
                self.held = Held::Turn { _permit: free(&self.room.turns, busy).await? };
                self.due = Instant::now() + PACE;
            }
            Held::Nothing if self.taken > SMALL => {
                let busy =
                    format!("{PLACES} bodies of more than {} KiB are being read already; try again", SMALL >> 10);
                self.held = Held::Place { _permit: free(&self.room.places, busy).await? };
                self.due = Instant::now() + PLACED;
            }
            _ => {}
        }
        Ok(())
    }

    fn too_slow(&self) -> Problem {
        match self.held {
            Held::Turn { .. } => Problem::TooSlow { what: "the next MiB of the batch", seconds: PACE.as_secs() },
            Held::Place { .. } => Problem::TooSlow { what: "the rest of the body", seconds: PLACED.as_secs() },
            Held::Nothing => Problem::TooSlow { what: "the body", seconds: PATIENCE.as_secs() },
        }
    }
}

fn broken_off(error: axum::Error) -> Problem {
    Problem::Unreadable { reason: format!("the body did not come whole: {error}") }
}

async fn free(semaphore: &Semaphore, busy: String) -> Result<SemaphorePermit<'_>, Problem> {
    let permit = timeout(ROOM_WITHIN, semaphore.acquire()).await.map_err(|_| Problem::Busy { reason: busy })?;
    Ok(permit.expect("the semaphore is never closed"))
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

    fn room(places: usize, turns: usize) -> Room {
        Room { places: Semaphore::new(places), turns: Semaphore::new(turns) }
    }

    async fn read(body: Body, room: &Room) -> Result<usize, Problem> {
        let mut parts = Parts::of_many(body, room);
        let mut taken = 0;
        while let Some(part) = parts.next().await? {
            taken += part.len();
        }
        Ok(taken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_batch_that_stands_still_loses_its_turn() {
        let room = Room::new();
        let began = Instant::now();
        let slow = async {
            let (one, other) = tokio::join!(read(stalled(3), &room), read(stalled(31), &room));
            assert!(matches!(one, Err(Problem::TooSlow { .. })) && matches!(other, Err(Problem::TooSlow { .. })));
        };

        let quick = async { read(Body::from(vec![b' '; MANY]), &room).await.unwrap() };
        let ((), taken) = tokio::join!(slow, quick);

        assert_eq!(taken, MANY);
        assert!(began.elapsed() <= 2 * PACE, "{:?}", began.elapsed());
        assert_eq!((room.turns.available_permits(), room.places.available_permits()), (TURNS, PLACES));
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_batch_needs_no_turn() {
        let none = room(1, 0);

        assert_eq!(read(Body::from(vec![b' '; ONE]), &none).await.unwrap(), ONE);
        let large = Body::from_stream(stream::iter(vec![part(); 3]).map(Ok::<_, Infallible>));
        assert!(matches!(read(large, &none).await, Err(Problem::Busy { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_small_waits_for_a_place_and_is_not_late_because_of_that() {
        let room = room(1, 0);
        let middling = || Body::from_stream(stream::iter([vec![b' '; SMALL + 1], vec![b' ']]).map(Ok::<_, Infallible>));
        let first = Parts::of_one(middling(), &room).gather().await.unwrap();

        assert_eq!(read(Body::from(vec![b' '; SMALL]), &room).await.unwrap(), SMALL);
        let (second, ()) = tokio::join!(Parts::of_one(middling(), &room).gather(), async {
            tokio::time::sleep(ROOM_WITHIN - PACE).await;
            drop(first);
        });
        assert_eq!(second.unwrap().len(), SMALL + 2);
        let _third = Parts::of_one(middling(), &room).gather().await.unwrap();
        assert!(matches!(Parts::of_one(middling(), &room).gather().await, Err(Problem::Busy { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_stand_still_keep_no_other_one_out() {
        let room = Room::new();
        let began = Instant::now();
        let standing = (0..PLACES).map(|_| read(stalled(1), &room));

        let quick = async { read(Body::from(vec![b' '; SMALL + 1]), &room).await.unwrap() };
        let (stood, taken) = tokio::join!(futures_util::future::join_all(standing), quick);

        assert!(stood.iter().all(|stood| matches!(stood, Err(Problem::TooSlow { .. }))));
        assert_eq!((taken, began.elapsed()), (SMALL + 1, PLACED));
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_one_that_stands_still_ends_too() {
        let began = Instant::now();

        assert!(matches!(read(stalled(0), &Room::new()).await, Err(Problem::TooSlow { seconds: 30, .. })));
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test]
    async fn the_whole_is_bounded() {
        let refused = read(Body::from(vec![b' '; MANY + 1]), &Room::new()).await;

        assert!(matches!(refused, Err(Problem::TooLarge { limit: MANY, .. })));
    }
}
