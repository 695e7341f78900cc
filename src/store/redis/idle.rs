//! Waiting for a message without asking again and again: `BLMOVE` of each list into an inbox of this process.
//!
//! A message is never popped into the hands of a client that may have given up: it lies in an inbox, from where the
//! claim script takes it, or others do once this process is dead. `CLIENT UNBLOCK` ends the waits that are left when
//! one has brought something, so that no list goes on feeding a process that is busy.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};

use crate::store::Result;

use super::connection::{Connection, PATIENCE};

/// How long an ended wait may take to say so before it is told once more.
const ECHO: Duration = Duration::from_millis(30);
/// How much longer than Redis we wait for the end of a wait.
const MARGIN: Duration = Duration::from_secs(1);

/// Connections for waiting; they are made when first needed and kept for the next time.
pub struct Idle {
    connection: Connection,
    spare: Mutex<Vec<Sleeper>>,
}

/// A connection that only ever waits, and its number in Redis.
struct Sleeper {
    connection: MultiplexedConnection,
    number: i64,
    /// The shared connection of when it was made: with another one it may lead to another server.
    line: u64,
    /// It has waited before, so it may have broken since without anyone noticing.
    used: bool,
}

impl Idle {
    pub fn new(connection: Connection) -> Self {
        Self { connection, spare: Mutex::default() }
    }

    /// Waits until one of `lists` has brought something into its inbox, `wake` is ready, or `patience` is over.
    /// Run to its end, it leaves no wait behind.
    pub async fn wait(
        &self,
        process: &str,
        lists: &[String],
        patience: Duration,
        wake: impl Future<Output = ()>,
    ) -> Result<()> {
        let mut sleepers = Vec::with_capacity(lists.len());
        for _ in lists {
            sleepers.push(self.sleeper().await?);
        }
        let numbers: Vec<i64> = sleepers.iter().map(|sleeper| sleeper.number).collect();
        let wait = |(sleeper, list): (Sleeper, &String)| {
            sleeper.wait(list.clone(), self.connection.keys().inbox(process, list), patience)
        };
        let mut waits: FuturesUnordered<_> = sleepers.into_iter().zip(lists).map(wait).collect();

        let first = tokio::select! {
            // Without lists there is nothing that could come.
            Some(first) = waits.next() => Some(first),
            () = sleep(patience) => None,
            () = wake => None,
        };

        if let Some(first) = first {
            self.keep(first)?;
        }
        // An `UNBLOCK` may arrive before the wait that it is to end; then the wait is told again.
        for _ in 0..PATIENCE.as_millis() / ECHO.as_millis() {
            if waits.is_empty() {
                break;
            }
            self.unblock(&numbers).await?;
            while let Ok(Some(sleeper)) = timeout(ECHO, waits.next()).await {
                self.keep(sleeper)?;
            }
        }
        Ok(())
    }

    async fn sleeper(&self) -> Result<Sleeper> {
        let line = self.connection.number();
        {
            let mut spare = self.spare.lock().expect("no one panics while holding the spare ones");
            spare.retain(|sleeper| sleeper.line == line);
            if let Some(sleeper) = spare.pop() {
                return Ok(sleeper);
            }
        }
        let mut connection = self.connection.blocking().await?;
        let mut ask = redis::cmd("CLIENT");
        ask.arg("ID");
        let number = timeout(PATIENCE, ask.query_async(&mut connection)).await;
        let number = number.map_err(|_| self.connection.silent())?;
        let number = number.map_err(|error| self.connection.explain(error))?;
        Ok(Sleeper { connection, number, line, used: false })
    }

    fn keep(&self, ended: RedisResult<Option<Sleeper>>) -> Result<()> {
        let sleeper = ended.map_err(|error| self.connection.explain(error))?;
        self.spare.lock().expect("no one panics while holding the spare ones").extend(sleeper);
        Ok(())
    }

    async fn unblock(&self, numbers: &[i64]) -> Result<()> {
        let mut all = redis::pipe();
        for number in numbers {
            all.cmd("CLIENT").arg("UNBLOCK").arg(*number);
        }
        self.connection.ask_all(&all).await
    }
}

impl Sleeper {
    // `None` when the connection is of no use any more; it is dropped then, and with it the wait. A new connection
    // that fails is an error: whoever tried again and again would never rest.
    async fn wait(mut self, list: String, inbox: String, patience: Duration) -> RedisResult<Option<Self>> {
        let mut command = redis::cmd("BLMOVE");
        command.arg(list).arg(inbox).arg("RIGHT").arg("LEFT").arg(patience.as_secs_f64().max(0.01));
        let moved = timeout(patience + MARGIN, command.query_async::<Option<Vec<u8>>>(&mut self.connection)).await;
        match moved {
            Ok(Ok(_)) => Ok(Some(Self { used: true, ..self })),
            Ok(Err(error)) if self.used && error.is_io_error() => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}
