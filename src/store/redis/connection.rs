//! The road to Redis: one multiplexed connection for everything that does not block, and its errors in plain words.
//!
//! Commands of many callers share the connection, which pipelines them by itself. It reconnects by itself too, and
//! no call waits for that longer than [`PATIENCE`]: a command that was never sent is sent again until then, one that
//! may have arrived is not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError,
    RedisResult, ScriptInvocation, ServerErrorKind,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::store::{Error, RedisSettings, Result, without_password};

use super::keys::Keys;
use super::script::Scripts;

/// How long a call may take before Redis counts as away.
pub const PATIENCE: Duration = Duration::from_millis(900);

/// The pause before a command that was never sent is sent again.
const PAUSE: Duration = Duration::from_millis(50);

/// The shared connection, and how to make others. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    manager: ConnectionManager,
    names: Arc<(Keys, Scripts)>,
}

impl Connection {
    pub async fn open(url: &str, settings: &RedisSettings) -> Result<Self> {
        // redis-rs knows Unix sockets by these two names.
        let info =
            url.into_connection_info().map_err(|error| anyhow!("`{}` is no Redis: {error}", without_password(url)))?;
        let tcp = TcpSettings::default().set_nodelay(true);
        // A peer that vanished without a word is noticed by what it does not acknowledge.
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(Duration::from_secs(5));
        let client = Client::open(info.set_tcp_settings(tcp))
            .map_err(|error| anyhow!("cannot use `{}`: {error}", without_password(url)))?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_millis(200))
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(None);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(anyhow::Error::new)?;
        let keys = Keys::new(&settings.prefix);
        let scripts = Scripts::new(&keys);
        Ok(Self { client, manager, names: Arc::new((keys, scripts)) })
    }

    pub fn keys(&self) -> &Keys {
        &self.names.0
    }

    pub fn scripts(&self) -> &Scripts {
        &self.names.1
    }

    /// Where this Redis is, and as whom we reach it.
    pub fn info(&self) -> &redis::ConnectionInfo {
        self.client.get_connection_info()
    }

    /// Where this Redis is, for people.
    pub fn place(&self) -> String {
        format!("redis at `{}`", self.client.get_connection_info().addr())
    }

    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.patiently(Call::Command(command), PATIENCE).await
    }

    pub async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T> {
        self.patiently(Call::Commands(commands), PATIENCE).await
    }

    /// Runs a script by its hash, and hands it over first where Redis does not know it.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T> {
        self.patiently(Call::Script(script), PATIENCE).await
    }

    /// The same with more patience for the answer.
    pub async fn run_within<T: FromRedisValue>(&self, patience: Duration, script: &ScriptInvocation<'_>) -> Result<T> {
        self.patiently(Call::Script(script), patience).await
    }

    async fn patiently<T: FromRedisValue>(&self, call: Call<'_>, patience: Duration) -> Result<T> {
        let end = Instant::now() + patience;
        let reached = Instant::now() + PATIENCE;
        loop {
            let error = match timeout_at(end, call.make(self.manager.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.silent()),
            };

            // Refused: it was never sent.
            if !error.is_connection_refusal() || Instant::now() + PAUSE >= reached {
                return Err(self.explain(error));
            }
            sleep(PAUSE).await;
        }
    }

    /// A connection of its own for a command that blocks: it has no timeout, so its user needs one.
    pub async fn blocking(&self) -> Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(None);
        let connect = self.client.get_multiplexed_async_connection_with_config(&config);
        timeout(PATIENCE, connect).await.map_err(|_| self.silent())?.map_err(|error| self.explain(error))
    }

    pub async fn pubsub(&self) -> Result<PubSub> {
        let connect = self.client.get_async_pubsub();
        timeout(PATIENCE, connect).await.map_err(|_| self.silent())?.map_err(|error| self.explain(error))
    }

    pub fn silent(&self) -> Error {
        Error::Away { reason: format!("{} did not answer within {} ms", self.place(), PATIENCE.as_millis()) }
    }

    /// What an error means for the caller: try again later, or not at all.
    pub fn explain(&self, error: RedisError) -> Error {
        if error.code() == Some("OOM") {
            return Error::Full { reason: format!("{} has no memory left (its `maxmemory`)", self.place()) };
        }
        use ServerErrorKind::{BusyLoading, MasterDown, ReadOnly, TryAgain};
        let passing = match error.kind() {
            ErrorKind::Io => true,
            ErrorKind::Server(kind) => matches!(kind, BusyLoading | MasterDown | ReadOnly | TryAgain),
            _ => matches!(error.code(), Some("MISCONF" | "BUSY" | "NOREPLICAS")),
        };
        if !passing {
            return anyhow!("{} refused: {error}", self.place()).into();
        }
        let reason = if error.is_timeout() {
            return self.silent();
        } else if error.is_connection_refusal() {
            "nothing listens there".to_owned()
        } else if error.is_connection_dropped() {
            "the connection was lost".to_owned()
        } else {
            error.to_string()
        };
        Error::Away { reason: format!("{}: {reason}", self.place()) }
    }
}

#[derive(Clone, Copy)]
enum Call<'a> {
    Command(&'a Cmd),
    Commands(&'a Pipeline),
    Script(&'a ScriptInvocation<'a>),
}

impl Call<'_> {
    async fn make<T: FromRedisValue>(self, mut manager: ConnectionManager) -> RedisResult<T> {
        match self {
            Self::Command(command) => command.query_async(&mut manager).await,
            Self::Commands(commands) => commands.query_async(&mut manager).await,
            Self::Script(script) => script.invoke_async(&mut manager).await,
        }
    }
}
