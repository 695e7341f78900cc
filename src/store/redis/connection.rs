//! The road to Redis: one multiplexed connection for everything that does not block, and its errors in plain words.
//!
//! Commands of many callers share the connection, which pipelines them by itself; what is large has one of its own, so
//! that nothing small waits behind it. While it is made anew they wait for it, no longer than [`PATIENCE`]; what was sent
//! on one that was lost is not sent again, because it may have arrived. An answer is waited for as long as anything comes
//! over the connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::store::{Error, RedisSettings, Result};

use super::dialer::Dialer;
use super::fault::{Fault, PATIENCE, silent};
use super::keeper::{Doubt, Keeper, Line};
use super::keys::Keys;
use super::script::Scripts;
use super::transport::{Road, Server};

/// What a call may have in bytes to share the connection with others.
const LARGE: usize = 1 << 20;

/// What each MiB of a call may add to the time that Redis has to answer.
const PER_MIB: Duration = Duration::from_secs(1);

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
    pub fn server(&self) -> Server {
        self.line().server
    }

    /// Where this Redis is, for people.
    pub fn place(&self) -> &str {
        self.0.dialer.place()
    }

    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.make(Call::Command(command)).await
    }

    pub async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T> {
        self.make(Call::Commands(commands)).await
    }

    /// Runs a script by its hash, and hands it over first where Redis does not know it. That works for a script alone
    /// and not within a pipeline, where an unknown one is an error of all that is in it.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T> {
        self.make(Call::Script(script)).await
    }

    /// The same with arguments of so many bytes, which take their time.
    pub async fn run_with<T: FromRedisValue>(&self, bytes: usize, script: &ScriptInvocation<'_>) -> Result<T> {
        let patience = PATIENCE + PER_MIB.mul_f64(bytes as f64 / (1 << 20) as f64);
        let (number, shared) = self.shared().await?;
        let road = if bytes > LARGE { self.apart().await? } else { shared };
        self.answer(number, patience, &road, Call::Script(script)).await
    }

    /// Redis does what it is asked: it can be written. At once an error while it is known to be away.
    pub async fn probe(&self) -> Result<()> {
        let known = self.0.line.borrow().fault.clone();
        match known {
            Some(fault) => Err(fault.meanwhile(self.place())),
            None => self.ask(self.0.dialer.probing()).await,
        }
    }

    async fn make<T: FromRedisValue>(&self, call: Call<'_>) -> Result<T> {
        let began = Instant::now();
        let (number, road) = self.connected(began + PATIENCE).await?;
        self.answer(number, PATIENCE.saturating_sub(began.elapsed()), &road, call).await
    }

    async fn answer<T: FromRedisValue>(
        &self,
        number: u64,
        patience: Duration,
        road: &Road,
        call: Call<'_>,
    ) -> Result<T> {
        match road.hear(patience, call.make(road.connection.clone())).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(self.doubt(number, error.into())),
            None => Err(self.doubt(number, silent(PATIENCE.max(patience)))),
        }
    }

    /// The shared connection and its number, for who listens in a way of its own.
    pub async fn shared(&self) -> Result<(u64, Road)> {
        self.connected(Instant::now() + PATIENCE).await
    }

    async fn connected(&self, until: Instant) -> Result<(u64, Road)> {
        let mut lines = self.0.line.clone();
        let found = timeout_at(until, lines.wait_for(|line| line.road.is_some())).await;
        let line = match found {
            Ok(Ok(line)) => line.clone(),
            // Nobody makes a connection any more, or not in time.
            Ok(Err(_)) | Err(_) => self.0.line.borrow().clone(),
        };
        match line.road {
            Some(road) => Ok((line.number, road)),
            None => Err(line.fault.unwrap_or_else(|| silent(PATIENCE)).meanwhile(self.place())),
        }
    }

    /// A connection of its own.
    pub async fn apart(&self) -> Result<Road> {
        let Line { server, number, .. } = self.line();
        server.connect().await.map_err(|fault| self.failed(number, fault))
    }

    /// A connection for subscriptions. Nothing says that it was lost where the network is silent: its user asks.
    pub async fn pubsub(&self) -> Result<PubSub> {
        let Line { server, number, .. } = self.line();
        server.listen().await.map_err(|fault| self.failed(number, fault))
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
        let renewed = lines.wait_for(|line| line.number != number && line.road.is_some()).await.is_ok();
        if !renewed {
            std::future::pending::<()>().await;
        }
    }

    /// The connection for notices was lost: the shared one may be, too.
    pub fn notices_lost(&self) {
        self.cast_doubt(self.number(), None);
    }

    /// What it is that nothing came in time.
    pub fn silent(&self) -> Error {
        self.doubt(self.number(), silent(PATIENCE))
    }

    /// What an error means for the caller: try again later, or not at all.
    pub fn explain(&self, error: RedisError) -> Error {
        self.doubt(self.number(), error.into())
    }

    /// What a fault on the connection of `number` means for the caller.
    pub fn doubt(&self, number: u64, fault: Fault) -> Error {
        if !fault.passes() {
            return fault.at(self.place());
        }
        self.failed(number, fault)
    }

    fn failed(&self, number: u64, fault: Fault) -> Error {
        self.cast_doubt(number, Some(fault.reason.clone()));
        fault.meanwhile(self.place())
    }

    fn cast_doubt(&self, number: u64, failed: Option<String>) {
        self.0.doubts.send_replace(Some(Doubt { number, failed }));
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
