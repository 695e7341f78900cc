//! What a consumer's script may ask: its socket, groups, tasks, shared values.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use super::group::GroupName;
use super::groups::{MAX_GROUPS, Memberships};
use super::link::{Handshake, Link, MAX_SENT};
use super::{GroupError, Hub, TURN_LIMIT, code};
use crate::client::Client;
use crate::plugin::Consumer;
use crate::script::{Host, HostError, Level, SocketHost, Submission, wait_for};
use crate::store::{self, Space};
use crate::task::{Json, TaskId};

/// The most of one line of a consumer in the log, in bytes; the rest is cut.
const LOG_LINE: usize = 4 << 10;

const PLACE: &str = "a consumer";

/// The host of all turns of one socket.
pub struct SocketTurns {
    pub hub: Hub,
    pub client: Client,
    pub link: Arc<Link>,
    pub memberships: Memberships,
    /// The path of its consumer, for the log.
    pub consumer: String,
    /// Whose values it shares.
    space: Space,
    runtime: Handle,
}

impl SocketTurns {
    /// Must be called within the runtime that the client's stores live in.
    pub fn new(hub: Hub, client: Client, link: Arc<Link>, memberships: Memberships, consumer: &Consumer) -> Self {
        let space = Space::of(Some(&consumer.plugin));
        let consumer = consumer.path.clone();
        Self { hub, client, link, memberships, consumer, space, runtime: Handle::current() }
    }

    /// Waits for the answer on the script's thread, until the turn is over.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, HostError>>) -> Result<T, HostError> {
        let late = || HostError::new("TimeoutError", format!("no answer within the {TURN_LIMIT:?} of a turn"));
        wait_for(&self.runtime, answer).unwrap_or_else(|| Err(late()))
    }

    fn ask<T>(&self, answer: impl Future<Output = store::Result<T>>) -> Result<T, HostError> {
        self.wait(async { answer.await.map_err(HostError::from) })
    }
}

impl Host for SocketTurns {
    fn place(&self) -> &'static str {
        PLACE
    }

    fn socket(&self) -> Option<&dyn SocketHost> {
        Some(self)
    }

    fn log(&self, level: Level, text: &str) {
        let (consumer, socket) = (&self.consumer, self.link.id);
        let text = &text[..text.floor_char_boundary(LOG_LINE)];
        match level {
            Level::Info => info!(consumer, socket, "{text}"),
            Level::Warn => warn!(consumer, socket, "{text}"),
            Level::Error => error!(consumer, socket, "{text}"),
        }
    }

    fn submit(&self, submission: Submission) -> Result<TaskId, HostError> {
        self.wait(async { Ok(self.client.submit(submission.into()).await?.id) })
    }

    fn group_send(&self, group: &str, event: Value) -> Result<(), HostError> {
        Ok(self.hub.group_send(group, &event)?)
    }

    fn kv_get(&self, key: &str) -> Result<Option<Json>, HostError> {
        self.ask(self.client.stores().kv.get(&self.space.key(key)))
    }

    fn kv_set(&self, key: &str, value: Json, ttl: Option<Duration>, only_new: bool) -> Result<bool, HostError> {
        self.ask(self.client.stores().kv.set(&self.space.key(key), value, ttl, only_new))
    }

    fn kv_incr(&self, key: &str, by: i64) -> Result<i64, HostError> {
        self.ask(self.client.stores().kv.incr(&self.space.key(key), by))
    }

    fn kv_delete(&self, key: &str, expected: Option<Json>) -> Result<bool, HostError> {
        self.ask(self.client.stores().kv.delete(&self.space.key(key), expected))
    }
}

impl SocketHost for SocketTurns {
    fn accept(&self) -> Result<(), HostError> {
        match self.link.decide(Handshake::Accepted) {
            Handshake::Accepted => Ok(()),
            _ => Err(HostError::new("RuntimeError", "`accept()` after the socket was refused")),
        }
    }

    fn close(&self, code: u16) -> Result<(), HostError> {
        if code != code::NORMAL && !(3000..5000).contains(&code) {
            return Err(HostError::new(
                "ValueError",
                format!("a socket closes with 1000 or 3000 to 4999, not `{code}`"),
            ));
        }
        if self.link.decide(Handshake::Refused) == Handshake::Accepted {
            self.link.close(code);
        }
        Ok(())
    }

    fn send(&self, frame: String) -> Result<(), HostError> {
        if self.link.handshake() != Handshake::Accepted {
            return Err(HostError::new("RuntimeError", "`send` before `accept()`"));
        }
        if frame.len() > MAX_SENT {
            let text = format!("a frame of {} bytes is larger than {MAX_SENT}", frame.len());
            return Err(HostError::new("ValueError", text));
        }
        self.link.send(frame);
        Ok(())
    }

    fn group_add(&self, group: &str) -> Result<(), HostError> {
        let too_many = |_| HostError::new("RuntimeError", format!("a socket may be in {MAX_GROUPS} groups"));
        self.memberships.join(GroupName::of(group)?).map_err(too_many)
    }

    fn group_discard(&self, group: &str) -> Result<(), HostError> {
        self.memberships.leave(&GroupName::of(group)?);
        Ok(())
    }
}

impl From<GroupError> for HostError {
    fn from(error: GroupError) -> Self {
        HostError::new("ValueError", error.to_string())
    }
}
