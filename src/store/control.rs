//! Remote control: what somebody calls out to everyone who works, and how it is answered.

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::Result;
use crate::task::{TaskId, Timestamp};

/// One thing that is asked of workers, as kombu's pidbox writes it. Nothing in it is checked but its form.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Command {
    pub method: String,
    pub arguments: Map<String, Value>,
    pub addressees: Addressees,
    /// The sender's logical clock.
    pub clock: u64,
    /// Nobody waits for an answer later than this, by the sender's clock; `None` when the sender does not say.
    pub expires: Option<Timestamp>,
    /// `None` when no answer is wanted.
    pub reply_to: Option<ReplyTo>,
}

/// Which workers are meant: those of `destination` when it names some, else those that fit `pattern` when there is
/// one with its `matcher`, else all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addressees {
    pub destination: Vec<String>,
    pub pattern: Option<String>,
    /// How the pattern is written: `glob` or `pcre`.
    pub matcher: Option<String>,
}

/// Where somebody waits for answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    pub exchange: String,
    pub routing_key: String,
    /// Tells the answers to one question from those to another.
    pub ticket: Option<String>,
}

/// Where a store is that processes share, as Celery tells it of its broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The machine, or the path of a Unix socket.
    pub hostname: String,
    /// `None` for a Unix socket.
    pub port: Option<u16>,
    pub user: Option<String>,
    pub database: i64,
    pub tls: bool,
}

/// Remote control, over a store that processes share.
#[async_trait]
pub trait Control: Send + Sync {
    /// Hands on every command that is called out, until nobody takes from `heard` any more. While the store is away
    /// nothing is heard, and what was called out meanwhile is lost; it is heard again without being asked. A command
    /// for which `heard` has no room is dropped, and the log says so.
    async fn listen(&self, heard: mpsc::Sender<Command>);

    /// Tells who asked what the worker `from` answers. Nothing happens when nobody waits for it any more.
    async fn reply(&self, to: &ReplyTo, from: &str, answer: &Value, clock: u64) -> Result<()>;

    /// The latest `most` tasks that were revoked and may still come, oldest revocation first.
    async fn revoked(&self, most: usize) -> Result<Vec<TaskId>>;

    fn broker(&self) -> Broker;
}
