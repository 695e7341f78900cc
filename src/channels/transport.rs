//! Where a socket meets its transport: frames in, frames out, keep-alive, the end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::code;
use super::link::Link;
use super::socket::Frame;

/// The largest frame a client may send, in bytes. A larger one closes its socket with 1009.
pub const MAX_FRAME: usize = 64 * 1024;
/// How many frames of a client may wait for their turn. Then its transport is not read until there is room.
pub(super) const FRAMES_WAITING: usize = 16;
/// How often a client is pinged.
const PING_EVERY: Duration = Duration::from_secs(25);
/// After so long without any frame, pongs too, a client counts as vanished.
const DEAD_AFTER: Duration = Duration::from_secs(35);
/// How long an ended socket waits for its last frames to go out and the client's close frame to come in.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What a transport brings from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Text(String),
    /// A binary frame; consumers read none.
    Binary,
    /// A ping or pong: the client lives.
    Alive,
    /// A frame above [`MAX_FRAME`] that the transport did not read.
    TooBig,
    /// The client's close frame, with its code if it gave one.
    Closed(Option<u16>),
}

/// What a transport brings to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    Text(String),
    /// A ping frame with an empty body.
    Ping,
    /// The close frame; nothing follows it.
    Close {
        code: u16,
        reason: &'static str,
    },
}

/// A socket whose consumer accepted it, before its handshake is answered.
///
/// What the consumer sends meanwhile waits here. Dropping it is the client's vanishing: `disconnect` runs with 1006.
pub struct Opening {
    link: Arc<Link>,
    /// `None` when the transport took it over.
    frames: Option<mpsc::Sender<Frame>>,
    _tracked: TaskTrackerToken,
}

impl Opening {
    pub(super) fn new(link: Arc<Link>, frames: mpsc::Sender<Frame>, tracked: TaskTrackerToken) -> Self {
        Self { link, frames: Some(frames), _tracked: tracked }
    }

    /// Joins the socket with its transport until one of both ends; the transport is to be dropped then.
    ///
    /// `incoming` ends where the connection does; an error of the transport is its end too. Frames to the client are
    /// fed as they come and flushed when there are no more. The socket pings by itself.
    pub async fn run<In, Out>(mut self, incoming: In, outgoing: Out)
    where
        In: Stream<Item = Incoming> + Send,
        Out: Sink<Outgoing> + Send,
    {
        let Some(frames) = self.frames.take() else { return };
        let link = &self.link;
        let overdue = async {
            link.cut.cancelled().await;
            sleep(CLOSE_PATIENCE).await;
        };
        let mut reading = pin!(read(link, incoming, frames));
        let mut writing = pin!(write(link, outgoing));
        // Whichever ends first, the other one has something left to do: the last frames, or the client's farewell.
        tokio::select! {
            () = &mut reading => drop(timeout(CLOSE_PATIENCE, writing).await),
            // A sink that fails says nothing new: the stream of the same connection ends too.
            _ = &mut writing => drop(timeout(CLOSE_PATIENCE, reading).await),
            () = overdue => {}
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if self.frames.is_some() {
            self.link.abandon();
        }
    }
}

/// Brings what the client sends to its socket, until there is no more. Dropping `frames` tells the socket.
async fn read(link: &Link, incoming: impl Stream<Item = Incoming>, frames: mpsc::Sender<Frame>) {
    let mut incoming = pin!(incoming);
    let mut frames = Some(frames);
    while let Ok(Some(item)) = timeout(DEAD_AFTER, incoming.next()).await {
        let frame = match item {
            Incoming::Text(text) if text.len() <= MAX_FRAME => Frame::Text(text),
            Incoming::Text(_) | Incoming::TooBig => {
                link.close(code::TOO_BIG);
                continue;
            }
            Incoming::Binary => Frame::Binary,
            Incoming::Alive => continue,
            Incoming::Closed(code) => {
                let _ = link.hung_up.set(code.unwrap_or(code::NO_CODE));
                frames = None;
                continue;
            }
        };
        // What comes after an end is read, so that the close frame behind it is found, and dropped.
        if let Some(open) = &frames
            && open.send(frame).await.is_err()
        {
            frames = None;
        }
    }
}

/// Brings what the socket sends to its client, up to and with the close frame.
async fn write<Out: Sink<Outgoing>>(link: &Link, outgoing: Out) -> Result<(), Out::Error> {
    let mut outgoing = pin!(outgoing);
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    loop {
        let first = tokio::select! {
            frame = link.outbox.next() => frame,
            _ = pings.tick() => Some(Outgoing::Ping),
        };
        let Some(first) = first else { return outgoing.close().await };
        outgoing.feed(first).await?;
        while let Some(next) = link.outbox.pop() {
            outgoing.feed(next).await?;
        }
        outgoing.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::super::peer::Peer;
    use super::*;

    /// A socket without its actor: its link, and the frames it would get.
    fn opening() -> (Arc<Link>, mpsc::Receiver<Frame>, Opening) {
        let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let link = Arc::new(Link::new(1, seat, &CancellationToken::new()));
        let (sender, frames) = mpsc::channel(FRAMES_WAITING);
        (link.clone(), frames, Opening::new(link, sender, TaskTracker::new().token()))
    }

    fn text(text: &str) -> Outgoing {
        Outgoing::Text(text.to_owned())
    }

    #[tokio::test]
    async fn what_was_sent_before_the_join_goes_out_first() {
        let (link, _frames, opening) = opening();
        link.send("before".to_owned());

        let mut peer = Peer::join(opening, 9);
        link.send("after".to_owned());

        assert_eq!(peer.hears().await, Some(text("before")));
        assert_eq!(peer.hears().await, Some(text("after")));
    }

    #[tokio::test]
    async fn frames_come_in_their_order_and_end_with_the_close_frame() {
        let (link, mut frames, opening) = opening();
        let peer = Peer::join(opening, 9);

        peer.says_text("1");
        peer.says(Incoming::Alive);
        peer.says(Incoming::Binary);
        peer.says(Incoming::Closed(Some(1000)));
        peer.says_text("too late");

        assert!(matches!(frames.recv().await, Some(Frame::Text(text)) if text == "1"));
        assert!(matches!(frames.recv().await, Some(Frame::Binary)));
        assert!(frames.recv().await.is_none());
        assert_eq!(link.hung_up.get(), Some(&1000));
    }

    #[tokio::test]
    async fn a_vanished_client_ends_the_frames_without_a_code() {
        let (link, mut frames, opening) = opening();
        let peer = Peer::join(opening, 9);

        drop(peer);

        assert!(frames.recv().await.is_none());
        assert_eq!(link.hung_up.get(), None);
    }

    #[tokio::test]
    async fn an_opening_that_is_dropped_is_a_vanished_client() {
        let (link, mut frames, opening) = opening();

        drop(opening);

        assert!(frames.recv().await.is_none());
        assert_eq!(link.closed(), Some(code::VANISHED));
    }

    #[tokio::test]
    async fn the_last_frames_go_out_before_the_close_frame() {
        let (link, _frames, opening) = opening();
        let mut peer = Peer::join(opening, 9);

        link.send("last".to_owned());
        link.close(code::GOING_AWAY);
        link.send("never".to_owned());

        assert_eq!(peer.hears().await, Some(text("last")));
        assert_eq!(peer.hears_close().await, code::GOING_AWAY);
    }

    #[tokio::test]
    async fn a_frame_that_is_too_big_closes_the_socket() {
        for frame in [Incoming::TooBig, Incoming::Text("x".repeat(MAX_FRAME + 1))] {
            let (_link, _frames, opening) = opening();
            let mut peer = Peer::join(opening, 9);

            peer.says(frame);

            assert_eq!(peer.hears_close().await, code::TOO_BIG);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_pings_stays() {
        let (_link, mut frames, opening) = opening();
        let mut peer = Peer::join(opening, 9);

        for _ in 0..10 {
            assert_eq!(peer.hears().await, Some(Outgoing::Ping));
            peer.says(Incoming::Alive);
        }

        assert!(frames.try_recv().is_err_and(|why| why == mpsc::error::TryRecvError::Empty));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_nothing_has_vanished() {
        let (link, mut frames, opening) = opening();
        let began = Instant::now();
        let _peer = Peer::join(opening, 9);

        assert!(frames.recv().await.is_none());

        assert_eq!(began.elapsed().as_secs(), DEAD_AFTER.as_secs());
        assert_eq!(link.hung_up.get(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_transport_until_let_go_although_its_client_reads_nothing() {
        let (link, _frames, opening) = opening();
        let peer = Peer::join(opening, 1);
        for _ in 0..3 {
            link.send("x".to_owned());
        }

        let began = Instant::now();
        link.close(code::SLOW);
        peer.until_let_go().await;

        assert_eq!(began.elapsed(), CLOSE_PATIENCE);
    }

    #[tokio::test]
    async fn a_client_that_reads_too_slowly_is_closed_and_told_so() {
        let (link, _frames, opening) = opening();
        let mut peer = Peer::join(opening, 1);

        while link.closed().is_none() {
            link.send("x".repeat(100_000));
        }

        assert_eq!(link.closed(), Some(code::SLOW));
        while let Some(Outgoing::Text(_)) = peer.hears().await {}
        assert!(link.outbox.pop().is_none());
    }
}
