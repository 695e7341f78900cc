//! Channels: sockets, the scripts that serve them, and the groups through which they meet.
//!
//! A socket is one actor: its script is called for one frame or event after another, never for two at once, and
//! what it keeps from turn to turn is `this`. A socket owns its memberships, so a group never holds one that is
//! gone. Nobody waits for a socket: what it is sent lies in bounded queues, and a socket that does not keep up is
//! closed.
//!
//! This room knows no HTTP: a transport brings frames in and takes frames out (`transport`). It knows no chat
//! either; that is a plugin.

mod code;
mod event;
mod group;
mod groups;
mod host;
mod link;
#[cfg(test)]
mod peer;
mod queue;
mod scope;
mod socket;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use event::MAX_EVENT;
pub use groups::MAX_GROUPS;
pub use link::MAX_SENT;
pub use scope::Scope;
pub use socket::{BAD_FRAMES_IN_A_ROW, FAILURES_IN_A_ROW};
pub use transport::{Incoming, MAX_FRAME, Opening, Outgoing};

use crate::client::Client;
use crate::plugin::Consumer;
use crate::script::{Limits, Pool};
use event::Event;
use group::GroupName;
use groups::{Groups, Memberships};
use host::SocketTurns;
use link::Link;
use socket::Socket;
use transport::FRAMES_WAITING;

/// How long one turn of a consumer may take. Longer work is a task.
pub const TURN_LIMIT: Duration = Duration::from_secs(1);
/// Threads that only `disconnect` runs on, so that it never waits for other turns.
const FAREWELL_THREADS: usize = 2;
/// How many missing handlers are remembered as reported; further ones are dropped without a word.
const MAX_REPORTED: usize = 1000;

/// Settings of the channels.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many turns of consumers run at the same time.
    pub threads: usize,
    /// How many sockets may be open; the next one is refused.
    pub sockets: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        // More than CPUs, because a turn may wait for the store.
        Self { threads: (2 * cpus).max(4), sockets: 10_000 }
    }
}

/// Why a socket was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `connect` ended without `accept()`.
    #[error("the consumer did not accept the connection")]
    NotAccepted,
    /// `connect` failed; its error is in the log.
    #[error("the consumer failed")]
    Failed,
    #[error("too many sockets are open")]
    Full,
    #[error("the server is stopping")]
    Stopping,
}

/// Why nothing was sent to a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the name of a group is empty")]
    NoName,
    #[error("an event must be a map with a string `type`")]
    NoType,
    #[error("an event of type `{kind}` {reason}")]
    BadType { kind: String, reason: &'static str },
    #[error("an event that no script can read: {reason}")]
    Unreadable { reason: String },
    #[error("an event is larger than {max} bytes")]
    TooLarge { max: usize },
}

/// All sockets of this process and the groups they are in. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    client: Client,
    settings: Settings,
    groups: Arc<Groups>,
    turns: Pool,
    threads: Semaphore,
    farewells: Pool,
    seats: Arc<Semaphore>,
    next_id: AtomicU64,
    /// Missing handlers that were reported, by the hash of their script.
    reported: Mutex<HashSet<(Arc<str>, String)>>,
    stop: CancellationToken,
    running: TaskTracker,
}

impl Hub {
    /// Starts the threads for the turns of consumers.
    pub fn new(engine: Arc<rhai::Engine>, client: Client, settings: Settings) -> Self {
        Self(Arc::new(Inner {
            client,
            groups: Arc::default(),
            turns: Pool::new(engine.clone(), "consumer", settings.threads, Limits::default().memory),
            threads: Semaphore::new(settings.threads),
            farewells: Pool::new(engine, "farewell", FAREWELL_THREADS, Limits::default().memory),
            seats: Arc::new(Semaphore::new(settings.sockets)),
            settings,
            next_id: AtomicU64::new(1),
            reported: Mutex::default(),
            stop: CancellationToken::new(),
            running: TaskTracker::new(),
        }))
    }

    /// Runs `connect` of `consumer`, before the handshake is answered. A socket lives on with the version of the
    /// script that it begins with. Dropping the future is the client's vanishing.
    ///
    /// # Errors
    /// Tells why the handshake is to be refused.
    pub async fn open(&self, consumer: Arc<Consumer>, scope: Scope) -> Result<Opening, Refused> {
        let hub = &self.0;
        if hub.stop.is_cancelled() {
            return Err(Refused::Stopping);
        }
        let seat = hub.seats.clone().try_acquire_owned().map_err(|_| Refused::Full)?;
        let id = hub.next_id.fetch_add(1, Ordering::Relaxed);
        let link = Arc::new(Link::new(id, seat, &hub.stop));
        let memberships = Memberships::new(hub.groups.clone(), link.clone());
        let host = SocketTurns::new(self.clone(), hub.client.clone(), link.clone(), memberships, &consumer);
        let (sender, frames) = mpsc::channel(FRAMES_WAITING);
        let opening = Opening::new(link, sender, hub.running.token());
        let (decided, decision) = oneshot::channel();
        hub.running.spawn(Socket::new(consumer, scope, host, frames).run(decided));
        decision.await.unwrap_or(Err(Refused::Failed))?;
        Ok(opening)
    }

    /// Hands `event` to every socket in `group` at this moment; never waits for one. All of them get the events of
    /// a group in the same order.
    ///
    /// # Errors
    /// When `group` is empty, or `event` is not a map with a `type` that an event may have.
    pub fn group_send(&self, group: &str, event: &serde_json::Value) -> Result<(), GroupError> {
        let group = GroupName::of(group)?;
        self.0.groups.send(&group, &Arc::new(Event::read(event)?));
        Ok(())
    }

    /// How many sockets are open.
    pub fn sockets(&self) -> usize {
        self.0.settings.sockets - self.0.seats.available_permits()
    }

    /// Closes every socket with 1001, refuses new ones, and waits at most `grace` until all have run `disconnect`
    /// and their transports have ended. False when some had not.
    pub async fn close_all(&self, grace: Duration) -> bool {
        self.0.stop.cancel();
        self.0.running.close();
        tokio::time::timeout(grace, self.0.running.wait()).await.is_ok()
    }

    /// Waits until a thread is free for a turn.
    async fn thread(&self) -> SemaphorePermit<'_> {
        self.0.threads.acquire().await.expect("nobody closes this semaphore")
    }

    /// Whether it was not asked before for `handler` of this version of the script.
    fn is_news(&self, consumer: &Consumer, handler: &str) -> bool {
        let mut reported = self.0.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.len() < MAX_REPORTED && reported.insert((consumer.script.hash.clone(), handler.to_owned()))
    }
}
