//! Takes connections, answers on them, and ends them: axum's own server bounds none of that.
//!
//! Only HTTP/1.1 is spoken. When the door closes, nobody new is let in; a connection on which nothing is asked ends,
//! the others end with their answer, and a WebSocket when whoever serves it has closed it.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::line::{Line, Patience, Traffic, Watched};

/// The most connections, where the system allows as many open files.
const MOST: usize = 10_000;

/// Open files that are not for connections: the store, scripts, logs, what tasks open.
const RESERVED: usize = 256;

/// The largest head of a request, in bytes; 431 beyond, as beyond hyper's own 100 headers.
const HEAD: usize = 32 << 10;

/// Of each connection, for reading and for writing, in bytes: they grow so far when they are needed.
const BUFFER: usize = 64 << 10;

/// The wait before connections are taken again when the system gave none: none, then longer each time up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a server allows.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open connections, WebSockets among them. Those beyond wait in the system's queue until one ends.
    pub connections: usize,
    /// How long a connection may stay on which nothing is asked.
    pub idle: Duration,
    pub patience: Patience,
    /// How long the last answers and the farewells of WebSockets may take after the door was closed.
    pub farewells: Duration,
}

impl Bounds {
    /// The usual ones, with as many connections as the system's limit of open files has room for.
    pub fn of_this_process() -> Self {
        Self {
            connections: connections(open_files()),
            idle: Duration::from_secs(60),
            patience: Patience {
                head: Duration::from_secs(10),
                stall: Duration::from_secs(30),
                farewell: Duration::from_secs(2),
            },
            farewells: Duration::from_secs(5),
        }
    }
}

/// Raises the limit of open files as far as this process may, and returns it; `None` is no limit.
fn open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        // Some systems call a number the limit and allow less.
        Err(_) => limit.current,
    }
}

fn connections(open_files: Option<u64>) -> usize {
    let files = open_files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    // Where the limit is small, half of it is better than nothing.
    files.saturating_sub(RESERVED).max(files / 2).clamp(1, MOST)
}

/// Answers with `app` until `close`, then until each connection has ended, within `bounds`. A WebSocket ends when
/// whoever serves it ends it.
pub async fn run(listener: TcpListener, app: Router, bounds: Bounds, close: CancellationToken) {
    let seats = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let service = TowerToHyperService::new(app);
    let mut doorman = Doorman { listener, seats: seats.clone(), pause: Duration::ZERO };
    while let Some(next) = close.run_until_cancelled(doorman.next()).await {
        let Some((stream, peer, seat)) = next else { continue };
        let connection = answer(stream, peer, seat, service.clone(), bounds, close.clone());
        let cut = cut.clone();
        connections.spawn(async move { cut.run_until_cancelled(connection).await });
    }
    drop(doorman);
    connections.close();
    // A connection that became a WebSocket is none of `connections` any more, and still has its seat.
    let seats_of_all = u32::try_from(bounds.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(bounds.farewells, seats.acquire_many(seats_of_all)).await.is_err() {
        warn!("{} connections were cut before they had ended", bounds.connections - seats.available_permits());
        cut.cancel();
        connections.wait().await;
    }
}

/// Lets connections in, one seat each.
struct Doorman {
    listener: TcpListener,
    seats: Arc<Semaphore>,
    /// How long it was waited because of the last failure.
    pause: Duration,
}

impl Doorman {
    /// `None` when there was none to let in. Dropping it loses no connection.
    async fn next(&mut self) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let seat = match self.seats.clone().try_acquire_owned() {
            Ok(seat) => seat,
            Err(_) => {
                debug!("every connection is taken; the next ones wait");
                self.seats.clone().acquire_owned().await.expect("nobody closes this semaphore")
            }
        };
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                self.pause = Duration::ZERO;
                Some((stream, peer, seat))
            }
            // Its client has left already.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => None,
            // Out of open files or memory: it passes, or it will not help to end.
            Err(error) => {
                if self.pause.is_zero() {
                    warn!("no connection can be taken, trying again: {error}");
                }
                self.pause = (self.pause * 2).clamp(Duration::from_millis(10), LONGEST_PAUSE);
                tokio::time::sleep(self.pause).await;
                None
            }
        }
    }
}

async fn answer(
    stream: TcpStream,
    peer: SocketAddr,
    seat: OwnedSemaphorePermit,
    app: TowerToHyperService<Router>,
    bounds: Bounds,
    close: CancellationToken,
) {
    // Small frames are not to wait for company.
    let _ = stream.set_nodelay(true);
    let traffic = Traffic::new();
    let line = Line::new(stream, traffic.clone(), bounds.patience, seat);
    let service = service_fn(move |request: Request<Incoming>| {
        traffic.begin();
        let (app, traffic) = (app.clone(), traffic.clone());
        async move {
            let mut request = request.map(|body| Body::new(Watched { body, traffic: traffic.clone() }));
            request.extensions_mut().insert(ConnectInfo(peer));
            let response = app.call(request).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                traffic.end();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Hyper counts it from the end of the answer before.
        .header_read_timeout(bounds.idle)
        .max_header_size(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(line), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = close.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("the connection of {peer} ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_other_files() {
        assert_eq!(connections(None), MOST);
        assert_eq!(connections(Some(1 << 20)), MOST);
        assert_eq!(connections(Some(1024)), 768);
        assert_eq!(connections(Some(256)), 128);
        assert_eq!(connections(Some(0)), 1);
    }
}
