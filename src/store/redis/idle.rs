//! Waiting for a message without asking again and again: `BLMOVE` of each list into an inbox of this process.
//!
//! A message is never popped into the hands of a client that may have given up: it lies in an inbox, from where the
//! claim script takes it, or others do once this process is dead. One message wakes one process, and `CLIENT UNBLOCK`
//! ends the waits that are left when one has brought something, so that no list goes on feeding a process that is busy.
//! That happens beside the claim, which whoever sent the message waits for; what the other waits bring in this moment
//! goes back to its list.
//!
//! Each list costs a connection that does nothing else, four for a queue, so only so many are waited for
//! ([`MOST_LISTS`]).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use redis::RedisResult;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::store::Result;

use super::connection::Connection;
use super::fault::PATIENCE;
use super::transport::Road;

/// How many lists are waited for at once, which is 32 queues. What comes to the lists beyond these is found within
/// [`LOOK_AGAIN`] instead of at once; whose turn it is to be among the first changes with each look.
const MOST_LISTS: usize = 128;
/// How long a wait takes at the most that leaves lists out.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long an ended wait may take to say so before it is told once more.
const ECHO: Duration = Duration::from_millis(30);
/// How much longer than Redis we wait for the end of a wait.
const MARGIN: Duration = Duration::from_secs(1);

/// Connections for waiting; they are made when first needed and kept for the next time.
pub struct Idle {
    connection: Connection,
    /// Names our inboxes; new for each opening.
    process: String,
    spare: Mutex<Vec<Sleeper>>,
    /// Every inbox that was waited in, as the scripts name them. Bounded by the queues that this process serves.
    inboxes: Mutex<BTreeSet<String>>,
    /// Redis did not answer when it was last asked in another way.
    missed: AtomicBool,
    again: Notify,
    /// Held while waits are ended.
    ending: Arc<tokio::sync::Mutex<()>>,
}

/// A connection that only ever waits, and its number in Redis.
struct Sleeper {
    road: Road,
    number: i64,
    /// The shared connection of when it was made: with another one it may lead to another server.
    line: u64,
    /// It has waited before, so it may have broken since without anyone noticing.
    used: bool,
}

impl Idle {
    pub fn new(connection: Connection, process: String) -> Self {
        Self {
            connection,
            process,
            spare: Mutex::default(),
            inboxes: Mutex::default(),
            missed: AtomicBool::new(false),
            again: Notify::new(),
            ending: Arc::default(),
        }
    }

    /// Waits until one of `lists` has brought something into its inbox, `wake` is ready, or `patience` is over.
    /// Run to its end, it leaves no wait behind that does not end by itself.
    pub async fn wait(
        self: &Arc<Self>,
        lists: &[String],
        patience: Duration,
        wake: impl Future<Output = ()>,
    ) -> Result<()> {
        // Else there would be twice as many connections.
        drop(self.ending.lock().await);
        let (lists, left_out) = lists.split_at(lists.len().min(MOST_LISTS));
        let patience = if left_out.is_empty() { patience } else { patience.min(LOOK_AGAIN) };
        self.remember(lists);
        let mut sleepers = Vec::with_capacity(lists.len());
        for _ in lists {
            sleepers.push(self.sleeper().await?);
        }
        let numbers: Vec<i64> = sleepers.iter().map(|sleeper| sleeper.number).collect();
        let wait = |(sleeper, list): (Sleeper, &String)| {
            sleeper.wait(list.clone(), self.connection.keys().inbox(&self.process, list), patience)
        };
        let mut waits: Waits = sleepers.into_iter().zip(lists).map(|it| wait(it).boxed()).collect();

        let first = tokio::select! {
            // Without lists there is nothing that could come.
            Some(first) = waits.next() => Some(first),
            () = sleep(patience + MARGIN) => None,
            () = self.again.notified() => None,
            () = wake => None,
        };

        let woken = first.map(|first| self.keep(first)).transpose()?;
        if woken != Some(Woken::Brought) {
            return self.end(waits, &numbers, woken == Some(Woken::Over)).await.map(|_| ());
        }
        let ending = self.ending.clone().lock_owned().await;
        let (idle, lists) = (self.clone(), lists.to_vec());
        tokio::spawn(async move {
            let _ending = ending;
            if let Err(cause) = idle.end_beside(waits, &numbers, &lists).await
                && !cause.is_told()
            {
                warn!("cannot end waiting for messages, what comes meanwhile is taken with the next: {cause}");
            }
        });
        Ok(())
    }

    async fn end_beside(&self, waits: Waits, numbers: &[i64], lists: &[String]) -> Result<()> {
        if self.end(waits, numbers, false).await? {
            let mut call = self.connection.scripts().hand_back.prepare_invoke();
            call.arg(&self.process).arg(lists);
            self.connection.run::<()>(&call).await?;
        }
        Ok(())
    }

    /// Ends what still waits; whether that has brought something, or may have. Those whose time is `over` end together,
    /// without being told.
    async fn end(&self, mut waits: Waits, numbers: &[i64], mut over: bool) -> Result<bool> {
        let mut brought = false;
        // An `UNBLOCK` may arrive before the wait that it is to end; then the wait is told again.
        for _ in 0..PATIENCE.as_millis() / ECHO.as_millis() {
            if waits.is_empty() {
                break;
            }
            if !std::mem::take(&mut over) {
                self.unblock(numbers).await?;
            }
            while let Ok(Some(ended)) = timeout(ECHO, waits.next()).await {
                brought |= self.keep(ended)? != Woken::Over;
            }
        }
        Ok(brought || !waits.is_empty())
    }

    /// The inboxes in which something may come, so that they are known to be somebody's.
    pub fn inboxes(&self) -> Vec<String> {
        self.inboxes.lock().expect("no one panics while holding the inboxes").iter().cloned().collect()
    }

    /// Redis answered when it was asked in another way, or did not. Once it does again, all waits begin anew: their
    /// connections may be dead without anyone noticing, because nothing is sent over them.
    pub fn heard(&self, answered: bool) {
        if self.missed.swap(!answered, Ordering::Relaxed) && answered {
            self.again.notify_waiters();
        }
    }

    fn remember(&self, lists: &[String]) {
        let mut inboxes = self.inboxes.lock().expect("no one panics while holding the inboxes");
        inboxes.extend(lists.iter().map(|list| format!("{}:{list}", self.process)));
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
        let road = self.connection.apart().await?;
        let mut connection = road.connection.clone();
        let mut ask = redis::cmd("CLIENT");
        ask.arg("ID");
        let number = road.hear(PATIENCE, ask.query_async(&mut connection)).await;
        let number = number.ok_or_else(|| self.connection.silent())?;
        let number = number.map_err(|error| self.connection.explain(error))?;
        Ok(Sleeper { road, number, line, used: false })
    }

    fn keep(&self, ended: RedisResult<(Option<Sleeper>, Woken)>) -> Result<Woken> {
        let (sleeper, woken) = ended.map_err(|error| self.connection.explain(error))?;
        self.spare.lock().expect("no one panics while holding the spare ones").extend(sleeper);
        Ok(woken)
    }

    async fn unblock(&self, numbers: &[i64]) -> Result<()> {
        let mut all = redis::pipe();
        for number in numbers {
            all.cmd("CLIENT").arg("UNBLOCK").arg(*number);
        }
        self.connection.ask_all(&all).await
    }
}

/// The waits that have not ended yet.
type Waits = FuturesUnordered<BoxFuture<'static, RedisResult<(Option<Sleeper>, Woken)>>>;

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Brought,
    /// Its time is over, or somebody ended it.
    Over,
    /// Its connection is lost.
    Lost,
}

impl Sleeper {
    // `None` when the connection is of no use any more; it is dropped then, and with it the wait. A new connection
    // that fails is an error: whoever tried again and again would never rest.
    async fn wait(mut self, list: String, inbox: String, patience: Duration) -> RedisResult<(Option<Self>, Woken)> {
        let mut command = redis::cmd("BLMOVE");
        command.arg(list).arg(inbox).arg("RIGHT").arg("LEFT").arg(patience.as_secs_f64().max(0.01));
        let moved = timeout(patience + MARGIN, command.query_async::<Option<Vec<u8>>>(&mut self.road.connection)).await;
        match moved {
            Ok(Ok(moved)) => {
                let woken = if moved.is_some() { Woken::Brought } else { Woken::Over };
                Ok((Some(Self { used: true, ..self }), woken))
            }
            Ok(Err(error)) if self.used && error.is_io_error() => Ok((None, Woken::Lost)),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok((None, Woken::Lost)),
        }
    }
}
