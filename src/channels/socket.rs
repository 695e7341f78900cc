//! One socket: its consumer is called for one thing after another, from `connect` to `disconnect`.

use std::sync::Arc;

use rhai::Dynamic;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::event::Event;
use super::host::SocketTurns;
use super::link::{Handshake, Link};
use super::{Hub, Refused, Scope, TURN_LIMIT, code};
use crate::plugin::Consumer;
use crate::script::{Arguments, Call, Limits, Pool, from_json};
use crate::task::{Failure, Outcome};

/// How many frames in a row may be no JSON objects. They are ignored; one more closes the socket with 4400.
pub const BAD_FRAMES_IN_A_ROW: u32 = 20;
/// How many times in a row `receive` may fail. The last of them closes the socket with 1011.
// Only what this client sent counts: a bad event must not close a room.
pub const FAILURES_IN_A_ROW: u32 = 20;

const STATE_LOST: &str = "`this` became larger than 1 MiB or too deeply nested to be kept; it begins anew, empty";

/// A frame of the client, in its order.
#[derive(Debug)]
pub enum Frame {
    Text(String),
    Binary,
}

/// The actor of one socket.
pub struct Socket {
    hub: Hub,
    consumer: Arc<Consumer>,
    scope: Arc<Dynamic>,
    link: Arc<Link>,
    host: Arc<SocketTurns>,
    /// Ends where the client's frames end.
    frames: mpsc::Receiver<Frame>,
    /// `this` between turns.
    state: Dynamic,
    bad_frames: u32,
    /// It was said that a frame was none.
    told_bad_frame: bool,
    failures: u32,
}

/// Why a turn did not come to its end.
enum Ended {
    /// The socket was closed before a thread was free for it.
    Cut,
    Failed(Failure),
}

impl Socket {
    pub fn new(consumer: Arc<Consumer>, scope: Scope, host: SocketTurns, frames: mpsc::Receiver<Frame>) -> Self {
        Self {
            hub: host.hub.clone(),
            link: host.link.clone(),
            host: Arc::new(host),
            consumer,
            scope: Arc::new(scope.into_dynamic()),
            frames,
            state: empty_state(),
            bad_frames: 0,
            told_bad_frame: false,
            failures: 0,
        }
    }

    /// Lives the whole life of the socket; tells `decided` what becomes of the handshake.
    pub async fn run(mut self, decided: oneshot::Sender<Result<(), Refused>>) {
        let decision = self.connect().await;
        let opened = decision.is_ok();
        // Nobody hears it when the client has gone meanwhile; the end of the frames tells us then.
        let _ = decided.send(decision);
        let code = if opened { self.serve().await } else { code::SCRIPT_ERRORS };
        self.link.end();
        self.host.memberships.end();
        if self.link.handshake() == Handshake::Accepted {
            self.disconnect(code).await;
        }
    }

    async fn connect(&mut self) -> Result<(), Refused> {
        if !self.handles("connect") {
            self.link.decide(Handshake::Accepted);
            return Ok(());
        }
        let scope = self.scope.clone();
        match self.turn("connect", Box::new(move || Ok(vec![scope.as_ref().clone()]))).await {
            Ok(()) if self.link.decide(Handshake::Refused) == Handshake::Accepted => Ok(()),
            Ok(()) => Err(Refused::NotAccepted),
            Err(Ended::Cut) => Err(Refused::Stopping),
            Err(Ended::Failed(failure)) => {
                self.report("connect", &failure);
                Err(Refused::Failed)
            }
        }
    }

    /// Handles frames and events until the socket ends; returns the code it ends with.
    async fn serve(&mut self) -> u16 {
        loop {
            tokio::select! {
                () = self.link.cut.cancelled() => break,
                frame = self.frames.recv() => match frame {
                    Some(frame) => self.receive(frame).await,
                    None => return self.link.hung_up.get().copied().unwrap_or(code::VANISHED),
                },
                Some(event) = self.link.inbox.next() => self.handle(event).await,
            }
        }
        self.link.close(code::GOING_AWAY);
        self.link.closed().unwrap_or(code::GOING_AWAY)
    }

    async fn receive(&mut self, frame: Frame) {
        let Some(frame) = read(&frame) else {
            self.bad_frames += 1;
            if !std::mem::replace(&mut self.told_bad_frame, true) {
                let (consumer, socket) = (&self.consumer.path, self.link.id);
                warn!(
                    consumer,
                    socket, "a frame was dropped: a client sends JSON objects, such as {{\"message\": \"hi\"}}"
                );
            }
            if self.bad_frames > BAD_FRAMES_IN_A_ROW {
                self.link.close(code::BAD_FRAMES);
            }
            return;
        };
        self.bad_frames = 0;
        if !self.handles("receive") {
            return;
        }
        let scope = self.scope.clone();
        match self.turn("receive", Box::new(move || Ok(vec![scope.as_ref().clone(), frame]))).await {
            Ok(()) => self.failures = 0,
            Err(Ended::Cut) => {}
            Err(Ended::Failed(failure)) => {
                self.report("receive", &failure);
                self.failures += 1;
                if self.failures >= FAILURES_IN_A_ROW {
                    self.link.close(code::SCRIPT_ERRORS);
                }
            }
        }
    }

    async fn handle(&mut self, event: Arc<Event>) {
        if !self.handles(&event.handler) {
            if self.hub.is_news(&self.consumer, &event.handler) {
                let (file, handler) = (&self.consumer.script.file, &event.handler);
                warn!(consumer = self.consumer.path, "`{file}` has no function `{handler}`; such events are dropped");
            }
            return;
        }
        let (scope, sent) = (self.scope.clone(), event.clone());
        let arguments = Box::new(move || Ok(vec![scope.as_ref().clone(), sent.value.clone()]));
        if let Err(Ended::Failed(failure)) = self.turn(&event.handler, arguments).await {
            self.report(&event.handler, &failure);
        }
    }

    async fn disconnect(&mut self, code: u16) {
        debug!(consumer = self.consumer.path, socket = self.link.id, code, "a socket closed with {code}");
        if !self.handles("disconnect") {
            return;
        }
        let (scope, hub) = (self.scope.clone(), self.hub.clone());
        let arguments = Box::new(move || Ok(vec![scope.as_ref().clone(), Dynamic::from(i64::from(code))]));
        if let Err(failure) = self.call(&hub.0.farewells, "disconnect", arguments).await {
            self.report("disconnect", &failure);
        }
    }

    fn handles(&self, function: &str) -> bool {
        self.consumer.script.functions.iter().any(|known| known.name == function && !known.private)
    }

    /// Waits for a thread, unless the socket ends before, and calls `function`.
    async fn turn(&mut self, function: &str, arguments: Arguments) -> Result<(), Ended> {
        let hub = self.hub.clone();
        // Waiting here and not in the pool's queue: from there a socket that ends could not take `this` back.
        let _thread = tokio::select! {
            biased;
            () = self.link.cut.cancelled() => return Err(Ended::Cut),
            thread = hub.thread() => thread,
        };
        self.call(&hub.0.turns, function, arguments).await.map_err(Ended::Failed)
    }

    async fn call(&mut self, pool: &Pool, function: &str, arguments: Arguments) -> Result<(), Failure> {
        let ticket = pool.start(Call {
            script: self.consumer.script.clone(),
            function: function.to_owned(),
            arguments,
            this: Some(std::mem::replace(&mut self.state, empty_state())),
            host: self.host.clone(),
            limits: Limits { time_limit: TURN_LIMIT, ..Limits::default() },
        });
        let lost = || Failure::builtin("RuntimeError", "its thread ended before it did");
        let finished = ticket.finished.await.map_err(|_| lost())?;
        match finished.this {
            Some(this) => self.state = this,
            None => return Err(Failure::builtin("MemoryError", STATE_LOST)),
        }
        match finished.outcome.ok_or_else(lost)? {
            Outcome::Returned(_) => Ok(()),
            Outcome::Raised(why) | Outcome::OverLimit(why) | Outcome::RetryAsked { why, .. } => Err(why),
            Outcome::Revoked => Err(lost()),
        }
    }

    fn report(&self, function: &str, failure: &Failure) {
        let (consumer, socket, file) = (&self.consumer.path, self.link.id, &self.consumer.script.file);
        let told = match &failure.traceback {
            Some(traceback) => traceback.clone(),
            None => format!("{}: {}", failure.exc_type, failure.exc_message),
        };
        warn!(consumer, socket, "`{function}` of `{file}` failed: {told}");
    }
}

/// `this` of a socket's first turn.
fn empty_state() -> Dynamic {
    Dynamic::from_map(rhai::Map::new())
}

/// The JSON object in `frame`; `None` when it is something else.
fn read(frame: &Frame) -> Option<Dynamic> {
    match frame {
        Frame::Text(text) => from_json(text).ok().filter(Dynamic::is_map),
        Frame::Binary => None,
    }
}
