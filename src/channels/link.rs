//! What a socket shares with whoever reaches it from outside: the groups, its script's thread, its transport.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::code;
use super::event::{Event, MAX_EVENT};
use super::queue::{Queue, Weight};
use super::transport::Outgoing;

/// How many events may wait for a socket. One more closes it with 4410.
const EVENTS_WAITING: usize = 1024;
/// How many bytes of events, as JSON, may wait for a socket. More close it with 4410. The largest event has room
/// behind others, or who keeps up would be closed by a burst of two.
const EVENT_BYTES_WAITING: usize = 2 * MAX_EVENT;
/// How many frames may wait for a client. One more closes its socket with 4410.
const SENT_WAITING: usize = 16 * 1024;
/// How many bytes may wait for a client. More close its socket with 4410. The largest frame has room behind others.
const SENT_BYTES_WAITING: usize = 2 * MAX_SENT;
/// The largest frame that a consumer may send, in bytes. `send` refuses a larger one.
pub const MAX_SENT: usize = 1024 * 1024;

/// How far the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Open,
    Accepted,
    Refused,
}

pub struct Link {
    /// Unique in this process.
    pub id: u64,
    pub inbox: Queue<Arc<Event>>,
    pub outbox: Queue<Outgoing>,
    /// Cancelled when we end the socket, and when all sockets are to end.
    pub cut: CancellationToken,
    /// The code of the client's close frame.
    pub hung_up: OnceLock<u16>,
    code: OnceLock<u16>,
    handshake: Mutex<Handshake>,
    _seat: OwnedSemaphorePermit,
}

impl Link {
    /// `seat` is this socket's right to be open; `stop` ends it with 1001.
    pub fn new(id: u64, seat: OwnedSemaphorePermit, stop: &CancellationToken) -> Self {
        Self {
            id,
            inbox: Queue::new(EVENTS_WAITING, EVENT_BYTES_WAITING),
            outbox: Queue::new(SENT_WAITING, SENT_BYTES_WAITING),
            cut: stop.child_token(),
            hung_up: OnceLock::new(),
            code: OnceLock::new(),
            handshake: Mutex::new(Handshake::Open),
            _seat: seat,
        }
    }

    /// Hands over `event`. A socket that does not keep up is closed.
    pub fn deliver(&self, event: &Arc<Event>) {
        if self.inbox.push(event.clone()).is_err() {
            self.close(code::SLOW);
        }
    }

    /// Hands `text` to the client. A client that does not keep up is closed.
    pub fn send(&self, text: String) {
        if self.outbox.push(Outgoing::Text(text)).is_err() {
            self.close(code::SLOW);
        }
    }

    /// Ends the socket from our side. The first code counts.
    pub fn close(&self, code: u16) {
        if self.code.set(code).is_err() {
            return;
        }
        self.inbox.close(None);
        self.inbox.clear();
        if code == code::SLOW {
            self.outbox.clear();
        }
        self.outbox.close(Some(Outgoing::Close { code, reason: code::reason(code) }));
        self.cut.cancel();
    }

    /// Ends the socket because its client is not there any more.
    pub fn abandon(&self) {
        let _ = self.code.set(code::VANISHED);
        self.end();
        self.cut.cancel();
    }

    /// Takes nothing more in either direction; what waits for the client still goes out.
    pub fn end(&self) {
        self.inbox.close(None);
        self.inbox.clear();
        self.outbox.close(None);
    }

    /// The code that we ended it with; `None` as long as we have not.
    pub fn closed(&self) -> Option<u16> {
        self.code.get().copied()
    }

    pub fn handshake(&self) -> Handshake {
        *self.handshake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides the handshake; the first decision counts. Returns what it is then.
    pub fn decide(&self, decision: Handshake) -> Handshake {
        let mut handshake = self.handshake.lock().unwrap_or_else(PoisonError::into_inner);
        if *handshake == Handshake::Open {
            *handshake = decision;
        }
        *handshake
    }
}

impl Weight for Outgoing {
    fn weight(&self) -> usize {
        match self {
            Outgoing::Text(text) => text.len(),
            Outgoing::Ping | Outgoing::Close { .. } => 0,
        }
    }
}
