//! Waiting for a message without asking again and again: `BLMOVE` of each list into an inbox of this process.
//!
//! A message is never popped into the hands of a client that may have given up: it lies in an inbox, from where the
//! claim script takes it, or others do once this process is dead. Nor does it come over the connection that waits, which
//! only hears that there is one: how large it is nobody knows yet. One message wakes one process, and `CLIENT UNBLOCK`
//! ends the waits that are left, so that no list goes on feeding a process that is busy. That happens beside the next
//! claim, which whoever sent the message waits for; what the other waits bring in this moment goes back to its list. So
//! does, with the next sweep, what a wait has brought whose connection was lost without a word.
//!
//! Each list costs a connection that does nothing else, four for a queue, so only so many are waited for
//! ([`MOST_LISTS`]), and it is looked at the rest.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use redis::{RedisResult, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use crate::store::Result;

use super::connection::Connection;
use super::fault::PATIENCE;
use super::transport::Road;

/// How many lists are waited for at once, which is 32 queues. What comes to the lists beyond these is found within
/// [`LOOK_AGAIN`] instead of at once; whose turn it is to be among the first changes with each claim.
const MOST_LISTS: usize = 128;
/// How often it is looked whether there is anything in the lists that are left out.
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

    /// Waits until one of `lists` has brought something into its inbox, `wake` is ready, or `patience` is over. What
    /// waits besides is ended afterwards.
    pub async fn wait(
        self: &Arc<Self>,
        lists: &[String],
        patience: Duration,
        wake: impl Future<Output = ()>,
    ) -> Result<()> {
        // Else there would be twice as many connections.
        drop(self.ending.lock().await);
        let (lists, left_out) = lists.split_at(lists.len().min(MOST_LISTS));
        self.remember(lists);
        let mut sleepers = Vec::with_capacity(lists.len());
        for _ in lists {
            sleepers.push(self.sleeper().await?);
        }
        let numbers: Vec<i64> = sleepers.iter().map(|sleeper| sleeper.number).collect();
        let told = Arc::new(AtomicBool::new(false));
        let wait = |(sleeper, list): (Sleeper, &String)| {
            let inbox = self.connection.keys().inbox(&self.process, list);
            sleeper.wait(list.clone(), inbox, patience, told.clone())
        };
        let mut waits: Waits = sleepers.into_iter().zip(lists).map(|it| wait(it).boxed()).collect();

        let first = tokio::select! {
            // Without lists there is nothing that could come.
            Some(first) = waits.next() => Some(self.keep(first)?),
            found = self.look_at(left_out) => found.map(|()| None)?,
            () = sleep(patience + MARGIN) => None,
            () = self.again.notified() => None,
            () = wake => None,
        };

        let ending = self.ending.clone().lock_owned().await;
        let (idle, lists) = (self.clone(), lists.to_vec());
        told.store(true, Ordering::Relaxed);
        tokio::spawn(async move {
            let _ending = ending;
            if let Err(cause) = idle.end(waits, &numbers, first == Some(Woken::Over), &lists).await
                && !cause.is_told()
            {
                warn!("cannot end waiting for messages, what comes meanwhile is taken with the next: {cause}");
            }
        });
        Ok(())
    }

    // Ready once there is something in one of them.
    async fn look_at(&self, lists: &[String]) -> Result<()> {
        if lists.is_empty() {
            return std::future::pending().await;
        }
        let look = redis::cmd("EXISTS").arg(lists).to_owned();
        loop {
            sleep(LOOK_AGAIN).await;
            if self.connection.ask::<u64>(&look).await? > 0 {
                return Ok(());
            }
        }
    }

    // Ends what still waits, and gives back what that has brought. Those whose time is `over` end together, without
    // being told.
    async fn end(&self, mut waits: Waits, numbers: &[i64], mut over: bool, lists: &[String]) -> Result<()> {
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
        if brought || !waits.is_empty() {
            let mut call = self.connection.scripts().hand_back.prepare_invoke();
            call.arg(&self.process).arg(lists);
            self.connection.run::<()>(&call).await?;
        }
        Ok(())
    }

    /// The inboxes in which something may come, so that they are known to be somebody's.
    pub fn inboxes(&self) -> Vec<String> {
        self.inboxes.lock().expect("no one panics while holding the inboxes").iter().cloned().collect()
    }

    /// Redis answered when it was asked in another way, or did not. Once it does again, all waits begin anew: their
    /// connections may be dead without anyone noticing, because nothing is sent over them.
    pub fn heard(&self, answered: bool) {
        if self.missed.swap(!answered, Ordering::Relaxed) && answered {
            self.begin_anew();
        }
    }

    /// All waits begin anew: one of them is of no use any more.
    pub fn begin_anew(&self) {
        self.again.notify_waiters();
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
    async fn wait(
        mut self,
        list: String,
        inbox: String,
        patience: Duration,
        told: Arc<AtomicBool>,
    ) -> RedisResult<(Option<Self>, Woken)> {
        let began = Instant::now();
        let mut commands = redis::pipe();
        let seconds = patience.as_secs_f64().max(0.01);
        commands.cmd("CLIENT").arg("REPLY").arg("SKIP");
        commands.cmd("BLMOVE").arg(&list).arg(&inbox).arg("RIGHT").arg("LEFT").arg(seconds);
        commands.cmd("LLEN").arg(&inbox);
        // Of the three answers there is one.
        let answered = timeout(patience + MARGIN, self.road.connection.send_packed_commands(&commands, 0, 1)).await;
        let answered = answered.map(|answered| answered.and_then(|mut answers| answers.remove(0).extract_error()));
        match answered {
            Ok(Ok(Value::Int(0))) if began.elapsed() < patience / 2 && !told.load(Ordering::Relaxed) => {
                self.ask_why(list, inbox).await
            }
            Ok(Ok(Value::Int(count))) => {
                let woken = if count > 0 { Woken::Brought } else { Woken::Over };
                Ok((Some(Self { used: true, ..self }), woken))
            }
            // It is the message: this server does not leave the answer out, and the next one is not ours.
            Ok(Ok(_)) => Ok((None, Woken::Brought)),
            Ok(Err(error)) if self.used && error.is_io_error() => Ok((None, Woken::Lost)),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok((None, Woken::Lost)),
        }
    }

    // What nobody has ended was refused, and the answer that said why was left out.
    async fn ask_why(mut self, list: String, inbox: String) -> RedisResult<(Option<Self>, Woken)> {
        let mut command = redis::cmd("LMOVE");
        command.arg(list).arg(inbox).arg("RIGHT").arg("LEFT");
        match timeout(MARGIN, command.query_async::<Option<Vec<u8>>>(&mut self.road.connection)).await {
            Ok(moved) => {
                let woken = if moved?.is_some() { Woken::Brought } else { Woken::Over };
                Ok((Some(Self { used: true, ..self }), woken))
            }
            Err(_) => Ok((None, Woken::Lost)),
        }
    }
}
