//! The road to Redis: one multiplexed connection for everything that does not block, and its errors in plain words.
//!
//! Commands of many callers share the connection, which pipelines them by itself. While it is made anew they wait for
//! it, no longer than [`PATIENCE`]; what was sent on one that was lost is not sent again, because it may have arrived.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::store::{Error, RedisSettings, Result};

use super::dialer::{self, Dialer};
use super::fault::{Fault, PATIENCE, silent};
use super::keeper::{Doubt, Keeper, Line};
use super::keys::Keys;
use super::script::Scripts;

/// The shared connection, and how to make others. Cheap to clone.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    dialer: Arc<Dialer>,
    keys: Keys,
    scripts: Scripts,
    line: watch::Receiver<Line>,
    doubts: watch::Sender<Option<Doubt>>,
    _keeper: AbortOnDropHandle<()>,
}

impl Connection {
    /// Connects to the Redis of `url`. Files of the settings are relative to `folder`.
    ///
    /// # Errors
    /// `Away` when it cannot be reached; another one when the URL, the settings or Redis say no for good. A Redis that
    /// answers and does not work yet is none: it is away until it works.
    pub async fn open(url: &str, folder: &Path, settings: &RedisSettings) -> Result<Self> {
        let keys = Keys::new(&settings.prefix);
        let dialer = Arc::new(Dialer::new(url, folder, settings, &keys.probe())?);
        let dialed = dialer.dial().await.map_err(|fault| fault.at(dialer.place()))?;
        let (line, lines) = watch::channel(Line::new(dialed));
        let (doubts, doubted) = watch::channel(None);
        let keeper = tokio::spawn(Keeper::new(dialer.clone(), line, doubted).keep());
        let scripts = Scripts::new(&keys);
        let _keeper = AbortOnDropHandle::new(keeper);
        Ok(Self(Arc::new(Shared { dialer, keys, scripts, line: lines, doubts, _keeper })))
    }

    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    pub fn scripts(&self) -> &Scripts {
        &self.0.scripts
    }

    /// Where this Redis is, and as whom we reach it.
    pub fn info(&self) -> redis::ConnectionInfo {
        self.line().client.get_connection_info().clone()
    }

    /// Where this Redis is, for people.
    pub fn place(&self) -> &str {
        self.0.dialer.place()
    }

    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.patiently(Call::Command(command), PATIENCE).await
    }

    pub async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T> {
        self.patiently(Call::Commands(commands), PATIENCE).await
    }

    /// Runs a script by its hash, and hands it over first where Redis does not know it. That works for a script alone
    /// and not within a pipeline, where an unknown one is an error of all that is in it.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T> {
        self.patiently(Call::Script(script), PATIENCE).await
    }

    /// The same with more patience for the answer.
    pub async fn run_within<T: FromRedisValue>(&self, patience: Duration, script: &ScriptInvocation<'_>) -> Result<T> {
        self.patiently(Call::Script(script), patience).await
    }

    /// Redis does what it is asked: it can be written. At once an error while it is known to be away.
    pub async fn probe(&self) -> Result<()> {
        let known = self.0.line.borrow().fault.clone();
        match known {
            Some(fault) => Err(fault.meanwhile(self.place())),
            None => self.ask(self.0.dialer.probing()).await,
        }
    }

    async fn patiently<T: FromRedisValue>(&self, call: Call<'_>, patience: Duration) -> Result<T> {
        let began = Instant::now();
        let (number, connection) = self.connected(began + PATIENCE).await?;
        match timeout_at(began + patience, call.make(connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.doubt(number, error.into())),
            Err(_) => Err(self.doubt(number, silent(patience))),
        }
    }

    async fn connected(&self, until: Instant) -> Result<(u64, MultiplexedConnection)> {
        let mut lines = self.0.line.clone();
        let found = timeout_at(until, lines.wait_for(|line| line.connection.is_some())).await;
        let line = match found {
            Ok(Ok(line)) => line.clone(),
            // Nobody makes a connection any more, or not in time.
            Ok(Err(_)) | Err(_) => self.0.line.borrow().clone(),
        };
        match line.connection {
            Some(connection) => Ok((line.number, connection)),
            None => Err(line.fault.unwrap_or_else(|| silent(PATIENCE)).meanwhile(self.place())),
        }
    }

    /// A connection of its own for a command that blocks: it has no timeout, so its user needs one.
    pub async fn blocking(&self) -> Result<MultiplexedConnection> {
        let Line { client, number, .. } = self.line();
        dialer::connect(&client).await.map_err(|fault| self.failed(number, fault))
    }

    /// A connection for subscriptions. Nothing says that it was lost where the network is silent: its user asks.
    pub async fn pubsub(&self) -> Result<PubSub> {
        let Line { client, number, .. } = self.line();
        dialer::listen(&client).await.map_err(|fault| self.failed(number, fault))
    }

    fn line(&self) -> Line {
        self.0.line.borrow().clone()
    }

    /// The number of the shared connection. Those of one's own that are older may lead to what is no primary any more.
    pub fn number(&self) -> u64 {
        self.0.line.borrow().number
    }

    /// Comes when the shared connection is another one than that of `number`.
    pub async fn renewed(&self, number: u64) {
        let mut lines = self.0.line.clone();
        let renewed = lines.wait_for(|line| line.number != number && line.connection.is_some()).await.is_ok();
        if !renewed {
            std::future::pending::<()>().await;
        }
    }

    /// The connection for notices was lost: the shared one may be, too.
    pub fn notices_lost(&self) {
        self.cast_doubt(self.number(), "the connection for notices was lost".to_owned());
    }

    /// What it is that nothing came in time.
    pub fn silent(&self) -> Error {
        self.doubt(self.number(), silent(PATIENCE))
    }

    /// What an error means for the caller: try again later, or not at all.
    pub fn explain(&self, error: RedisError) -> Error {
        self.doubt(self.number(), error.into())
    }

    fn doubt(&self, number: u64, fault: Fault) -> Error {
        if !fault.passes() {
            return fault.at(self.place());
        }
        self.failed(number, fault)
    }

    fn failed(&self, number: u64, fault: Fault) -> Error {
        self.cast_doubt(number, fault.reason.clone());
        fault.meanwhile(self.place())
    }

    fn cast_doubt(&self, number: u64, reason: String) {
        self.0.doubts.send_replace(Some(Doubt { number, reason }));
    }
}

#[derive(Clone, Copy)]
enum Call<'a> {
    Command(&'a Cmd),
    Commands(&'a Pipeline),
    Script(&'a ScriptInvocation<'a>),
}

impl Call<'_> {
    async fn make<T: FromRedisValue>(self, mut connection: MultiplexedConnection) -> RedisResult<T> {
        match self {
            Self::Command(command) => command.query_async(&mut connection).await,
            Self::Commands(commands) => commands.query_async(&mut connection).await,
            Self::Script(script) => script.invoke_async(&mut connection).await,
        }
    }
}
