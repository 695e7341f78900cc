//! What waits to be read by clients: all large answers together hold no more memory than is there for them.
//!
//! A small one is free: there are only as many as connections. Whoever asks for more takes room for it, which is free
//! again once the system has it all; where there is none, the answer is dropped and its client is told so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Problem;

/// What an answer may have without room, in bytes.
const SMALL: usize = 16 << 10;

/// What all others may have together, in bytes.
const ROOM: usize = 128 << 20;

/// Room is given by so many bytes.
const UNIT: usize = 1 << 10;

/// The room that there is for answers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Answers(Arc<Semaphore>);

/// The room of one answer, until it is dropped; a small one has none.
pub(super) type Place = Option<Arc<OwnedSemaphorePermit>>;

impl Answers {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM / UNIT)))
    }

    /// Room for so many bytes. Nobody waits for it: what waits has to be somewhere too.
    pub fn place(&self, bytes: usize) -> Result<Place, Problem> {
        if bytes <= SMALL {
            return Ok(None);
        }
        let units = u32::try_from(bytes.min(ROOM).div_ceil(UNIT)).unwrap_or(u32::MAX);
        let place = self.0.clone().try_acquire_many_owned(units).map_err(|_| Problem::Busy {
            reason: format!("answers of {} MiB wait for their clients to read them; try again", ROOM >> 20),
        })?;
        Ok(Some(Arc::new(place)))
    }

    /// `response`, which has room from now on until its last byte is written.
    pub fn hold(&self, response: Response) -> Result<Response, Problem> {
        let length = response.body().size_hint().exact();
        let Some(length) = length.map(|length| usize::try_from(length).unwrap_or(usize::MAX)) else {
            // A stream has room piece by piece. Where it breaks off, its client comes back and goes on.
            let answers = self.clone();
            return Ok(response.map(|body| {
                Body::from_stream(body.into_data_stream().map(move |piece| {
                    let bytes = piece?;
                    let place = answers.place(bytes.len()).map_err(axum::Error::new)?;
                    Ok::<_, axum::Error>(kept(bytes, &place))
                }))
            }));
        };
        let place = self.place(length)?;
        Ok(response.map(|body| if place.is_some() { Body::new(Held { body, place }) } else { body }))
    }
}

/// The body of an answer with its room.
struct Held {
    body: Body,
    place: Place,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map_ok(|frame| frame.map_data(|bytes| kept(bytes, &self.place)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// `bytes`, which keep `place` wherever they go.
fn kept(bytes: Bytes, place: &Place) -> Bytes {
    struct Kept {
        bytes: Bytes,
        _place: Arc<OwnedSemaphorePermit>,
    }
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    match place {
        None => bytes,
        Some(place) => Bytes::from_owner(Kept { bytes, _place: place.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use futures_util::stream;

    use super::*;

    fn room(bytes: usize) -> Answers {
        Answers(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    fn answer(bytes: usize) -> Response {
        Response::new(vec![b' '; bytes].into())
    }

    #[tokio::test]
    async fn what_is_read_makes_room_for_the_next() {
        let answers = room(100 << 10);
        let first = answers.hold(answer(60 << 10)).unwrap();
        assert!(matches!(answers.hold(answer(60 << 10)), Err(Problem::Busy { .. })));

        let length = first.body().size_hint().exact();
        let bytes = to_bytes(first.into_body(), usize::MAX).await.unwrap();

        assert_eq!((length, bytes.len()), (Some(60 << 10), 60 << 10));
        assert!(answers.hold(answer(60 << 10)).is_err(), "nobody has read it yet");
        drop(bytes);
        assert!(answers.hold(answer(60 << 10)).is_ok());
    }

    #[test]
    fn a_small_one_needs_no_room_and_the_largest_has_room_alone() {
        let full = room(0);
        assert!(full.hold(answer(SMALL)).is_ok() && full.hold(answer(SMALL + 1)).is_err());

        let answers = Answers::new();
        let all = answers.place(2 * ROOM).unwrap();
        assert!(answers.place(SMALL + 1).is_err());
        drop(all);
        assert!(answers.place(SMALL + 1).is_ok());
    }

    #[tokio::test]
    async fn a_stream_ends_at_the_piece_for_which_there_is_no_room() {
        let pieces = [10, 40, 40].map(|kib| Ok::<_, axum::Error>(Bytes::from(vec![b' '; kib << 10])));
        let stream = Response::new(Body::from_stream(stream::iter(pieces)));

        let mut held = room(60 << 10).hold(stream).unwrap().into_body().into_data_stream();

        let heard = [held.next().await, held.next().await, held.next().await].map(|piece| piece.unwrap());
        assert_eq!(heard.map(|piece| piece.is_ok()), [true, true, false]);
    }
}
