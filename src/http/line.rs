//! One connection, bounded in time: what a client may keep waiting is nothing but itself.
//!
//! It sits between hyper and the system. Hyper bounds the time between two requests; here are bounded the time that
//! the head of a request takes from its first byte, the time that a client does not read what is written to it, and
//! the farewell to a client that still sends.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the head of a request, from its first byte; for the first one, from the beginning of the connection.
    pub head: Duration,
    /// Without reading anything of what waits to be written to it.
    pub stall: Duration,
    /// To read its last answer, while it still sends what nobody reads.
    pub farewell: Duration,
}

/// What the server knows of a connection and its [`Line`] does not.
#[derive(Debug)]
pub struct Traffic {
    stage: AtomicU8,
    /// Some of a request's body was left unread.
    unread: AtomicBool,
}

const BETWEEN: u8 = 0;
const HEAD: u8 = 1;
const ANSWERING: u8 = 2;

impl Traffic {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { stage: AtomicU8::new(HEAD), unread: AtomicBool::new(false) })
    }

    /// The head of a request has come.
    pub fn begin(&self) {
        self.stage.store(ANSWERING, Ordering::Relaxed);
    }

    /// Its answer is known. Not called for one that makes the connection a WebSocket, which has no heads any more.
    pub fn end(&self) {
        self.stage.store(BETWEEN, Ordering::Relaxed);
    }
}

/// A connection whose waits are bounded. Its seat is free once it is dropped.
#[derive(Debug)]
pub struct Line<S> {
    stream: S,
    traffic: Arc<Traffic>,
    patience: Patience,
    head: Option<Pin<Box<Sleep>>>,
    stall: Option<Pin<Box<Sleep>>>,
    farewell: Option<Pin<Box<Sleep>>>,
    _seat: OwnedSemaphorePermit,
}

impl<S> Line<S> {
    pub fn new(stream: S, traffic: Arc<Traffic>, patience: Patience, seat: OwnedSemaphorePermit) -> Self {
        Self { stream, traffic, patience, head: None, stall: None, farewell: None, _seat: seat }
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stall = None;
            return polled;
        }
        ready!(elapse(&mut self.stall, self.patience.stall, cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

/// Ready once `after` is over, from the first call on.
fn elapse(timer: &mut Option<Pin<Box<Sleep>>>, after: Duration, cx: &mut Context<'_>) -> Poll<()> {
    timer.get_or_insert_with(|| Box::pin(sleep(after))).as_mut().poll(cx)
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let line = &mut *self;
        let filled = buffer.filled().len();
        let polled = Pin::new(&mut line.stream).poll_read(cx, buffer);
        let stage = &line.traffic.stage;
        if polled.is_ready() {
            if buffer.filled().len() > filled {
                let _ = stage.compare_exchange(BETWEEN, HEAD, Ordering::Relaxed, Ordering::Relaxed);
            }
            return polled;
        }
        if stage.load(Ordering::Relaxed) != HEAD {
            line.head = None;
            return Poll::Pending;
        }
        ready!(elapse(&mut line.head, line.patience.head, cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of a request did not come")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    // A system that closes a connection with unread bytes in it resets it, and the client may lose the answer that
    // it was just sent, such as that its body is too large. So what it still sends is read and dropped for a while.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = &mut *self;
        if line.farewell.is_none() {
            ready!(Pin::new(&mut line.stream).poll_shutdown(cx))?;
            line.farewell = Some(Box::pin(sleep(line.patience.farewell)));
        }
        let mut scrap = [MaybeUninit::uninit(); 4096];
        loop {
            let mut buffer = ReadBuf::uninit(&mut scrap);
            match Pin::new(&mut line.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    line.traffic.unread.store(true, Ordering::Relaxed);
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending if line.traffic.unread.load(Ordering::Relaxed) => break,
                Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
        elapse(&mut line.farewell, line.patience.farewell, cx).map(Ok)
    }
}

/// The body of a request, which tells its connection when it was not read to its end.
#[derive(Debug)]
pub struct Watched {
    pub body: Incoming,
    pub traffic: Arc<Traffic>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            self.traffic.unread.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::Semaphore;
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Patience =
        Patience { head: Duration::from_secs(10), stall: Duration::from_secs(30), farewell: Duration::from_secs(2) };

    /// A line whose client is the other value; 64 bytes fit between them.
    fn line() -> (Line<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(64);
        let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (Line::new(ours, Traffic::new(), PATIENCE, seat), theirs)
    }

    async fn timed_out(reading: impl Future<Output = io::Result<usize>>) -> u64 {
        let began = Instant::now();
        assert_eq!(reading.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_has_the_time_of_one_head() {
        let (mut line, _client) = line();

        assert_eq!(timed_out(line.read(&mut [0; 8])).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_drop_by_drop_has_no_more_time() {
        let (mut line, mut client) = line();
        let dripping = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(3)).await;
                client.write_all(b"x").await.unwrap();
            }
        });

        let mut all = Vec::new();
        assert_eq!(timed_out(line.read_to_end(&mut all)).await, 10);

        assert_eq!(all, b"xxx");
        dripping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_and_while_one_is_answered_no_head_is_late() {
        for stage in [Traffic::begin, Traffic::end] {
            let (mut line, _client) = line();
            stage(&line.traffic);

            let read = tokio::time::timeout(Duration::from_secs(3600), line.read(&mut [0; 8])).await;

            assert!(read.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_head_is_timed_from_its_first_byte() {
        let (mut line, mut client) = line();
        line.traffic.begin();
        line.traffic.end();
        client.write_all(b"G").await.unwrap();

        assert_eq!(line.read(&mut [0; 8]).await.unwrap(), 1);
        assert_eq!(timed_out(line.read(&mut [0; 8])).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut() {
        let (mut line, _client) = line();

        assert_eq!(timed_out(async { line.write_all(&[0; 65]).await.map(|()| 0) }).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_now_and_then_is_not() {
        let (mut line, mut client) = line();
        let reading = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                client.read_exact(&mut [0; 64]).await.unwrap();
            }
        });

        line.write_all(&[0; 640]).await.unwrap();

        reading.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_farewell_reads_what_still_comes_but_not_for_ever() {
        let (mut line, mut client) = line();
        let sending = tokio::spawn(async move {
            while client.write_all(&[0; 64]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        tokio::task::yield_now().await;
        let began = Instant::now();

        line.shutdown().await.unwrap();

        assert_eq!(began.elapsed().as_secs(), 2);
        drop(line);
        sending.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_farewell_to_a_client_that_sends_nothing_takes_no_time() {
        let (mut line, _client) = line();
        let began = Instant::now();

        line.shutdown().await.unwrap();

        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
