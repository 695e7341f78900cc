//! Remote control over Redis: kombu's pidbox, with a connection of its own that listens.
//!
//! Redis keeps nothing that is called out: who is not connected does not hear it, with Celery as with us.

mod wire;

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use redis::ConnectionAddr;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use crate::store::{Broker, Command, Control, ReplyTo, Result};
use crate::task::TaskId;

use super::Redis;
use super::fault::PATIENCE;

/// The pause between attempts to listen again.
const PAUSE: Duration = Duration::from_millis(500);

/// How often a connection on which nothing comes is asked whether it still stands.
const ASK: Duration = Duration::from_secs(5);

/// How long an answer lies in a list that its client has left. kombu's own lists live for 10 s.
const UNREAD: Duration = Duration::from_secs(60);

#[async_trait]
impl Control for Redis {
    async fn listen(&self, heard: mpsc::Sender<Command>) {
        let mut refused = false;
        loop {
            let number = self.connection.number();
            let Err(cause) = tokio::select! {
                () = heard.closed() => return,
                ended = self.listen_until_lost(&heard) => ended,
                // To another server, perhaps, although the old one still answers.
                () = self.connection.renewed(number) => continue,
            };
            if cause.is_told() {
                debug!("remote control is not heard: {cause}");
            } else if !std::mem::replace(&mut refused, true) {
                warn!("remote control is not heard, trying again: {cause}");
            }
            tokio::select! {
                () = heard.closed() => return,
                () = sleep(PAUSE) => {}
            }
        }
    }

    async fn reply(&self, to: &ReplyTo, from: &str, answer: &Value, clock: u64) -> Result<()> {
        let mut call = self.connection.scripts().reply.prepare_invoke();
        call.arg(&to.exchange).arg(&to.routing_key).arg(wire::reply(to, from, answer, clock)).arg(UNREAD.as_secs());
        self.connection.run(&call).await
    }

    async fn revoked(&self, most: usize) -> Result<Vec<TaskId>> {
        let first = -isize::try_from(most.max(1)).unwrap_or(isize::MAX);
        let look = redis::Cmd::zrange(self.connection.keys().revoked(), first, -1);
        let ids: Vec<String> = self.connection.ask(&look).await?;
        Ok(ids.iter().filter_map(|id| TaskId::parse(id).ok()).collect())
    }

    fn broker(&self) -> Broker {
        let server = self.connection.server();
        let (hostname, port, tls) = match &server.address {
            ConnectionAddr::Tcp(host, port) => (host.clone(), Some(*port), false),
            ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), Some(*port), true),
            ConnectionAddr::Unix(path) => (path.display().to_string(), None, false),
            other => (other.to_string(), None, false),
        };
        let user = server.who.username().map(str::to_owned);
        Broker { hostname, port, user, database: server.who.db(), tls }
    }
}

impl Redis {
    async fn listen_until_lost(&self, heard: &mpsc::Sender<Command>) -> Result<Infallible> {
        let database = self.connection.server().who.db();
        let channel = self.connection.keys().pidbox(database);
        let (mut sink, mut stream) = self.connection.pubsub().await?.split();
        loop {
            // The first time it begins to listen. From then on it is a question: a Redis that went without a word
            // does not answer it.
            timeout(PATIENCE, sink.subscribe(&channel))
                .await
                .map_err(|_| self.connection.silent())?
                .map_err(|error| self.connection.explain(error))?;
            let again = Instant::now() + ASK;
            while let Ok(message) = timeout_at(again, stream.next()).await {
                let message = message.ok_or_else(|| self.connection.silent())?;
                hand_on(message.get_payload_bytes(), heard);
            }
        }
    }
}

fn hand_on(payload: &[u8], heard: &mpsc::Sender<Command>) {
    let command = match wire::command(payload) {
        Ok(command) => command,
        Err(why) => return warn!("a command of remote control cannot be read: {why}"),
    };
    // Who is gone is noticed by the loop.
    if let Err(TrySendError::Full(command)) = heard.try_send(command) {
        warn!("too many commands of remote control at once: `{}` is dropped", command.method);
    }
}
