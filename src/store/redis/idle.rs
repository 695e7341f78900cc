//! Waiting for a message without asking again and again: `BLMOVE` of each list into an inbox of this process.
//!
//! A message is never popped into the hands of a client that may have given up: it lies in an inbox, from where the
//! claim script takes it, or others do once this process is dead. Nor does it come over the connection that waits, which
//! only hears that there is one: how large it is nobody knows yet. One message wakes one process. The waits that are left
//! linger for some milliseconds, because most often this process waits again before these are over; then `CLIENT UNBLOCK`
//! ends them, so that no list goes on feeding a process that is busy, and what they have brought goes back to its list. So
//! does, with the next sweep, what a wait has brought whose connection was lost without a word.
//!
//! Each list costs a connection that does nothing else, four for a queue, so only so many are waited for
//! ([`MOST_LISTS`]), and it is looked at the rest.

mod sleeper;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::store::Result;

use super::connection::Connection;
use super::fault::PATIENCE;
use sleeper::{Sleeper, Waited, Woken};

/// How many lists are waited for at once, which is 32 queues. What comes to the lists beyond these is found within
/// [`LOOK_AGAIN`] instead of at once; whose turn it is to be among the first changes with each claim.
const MOST_LISTS: usize = 128;
/// How often it is looked whether there is anything in the lists that are left out.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long waits linger after a message came, for who waits again.
const LINGER: Duration = Duration::from_millis(5);
/// How long an ended wait may take to say so before it is told once more.
const ECHO: Duration = Duration::from_millis(30);

/// Connections for waiting; they are made when first needed and kept for the next time.
pub struct Idle {
    connection: Connection,
    /// Names our inboxes; new for each opening.
    process: String,
    spare: Mutex<Vec<Sleeper>>,
    /// Every inbox that was waited in, as the scripts name them. Bounded by the queues that this process serves.
    inboxes: Mutex<BTreeSet<String>>,
    /// Waits that nobody waits for just now.
    lingering: Mutex<Option<Waits>>,
    turns: AtomicU64,
    /// Redis did not answer when it was last asked in another way.
    missed: AtomicBool,
    again: Notify,
    /// How often all waits began anew.
    anew: AtomicU64,
    /// Held while waits are ended.
    ending: Arc<tokio::sync::Mutex<()>>,
}

/// What waits, each for one list.
struct Waits {
    /// The count of `anew` when the first of them began.
    since: u64,
    /// Of each time that they linger there is one.
    turn: u64,
    /// The numbers of their connections, by their lists.
    numbers: HashMap<String, i64>,
    /// They are ended on purpose.
    told: Arc<AtomicBool>,
    ends: FuturesUnordered<BoxFuture<'static, (String, Waited)>>,
}

impl Waits {
    fn add(&mut self, sleeper: Sleeper, list: String, inbox: String) {
        self.numbers.insert(list.clone(), sleeper.number);
        let wait = sleeper.wait(list.clone(), inbox, self.told.clone());
        self.ends.push(wait.map(|ended| (list, ended)).boxed());
    }

    /// The next that ends; without any there is nothing that could.
    async fn next(&mut self) -> Waited {
        match self.ends.next().await {
            Some((list, ended)) => {
                self.numbers.remove(&list);
                ended
            }
            None => std::future::pending().await,
        }
    }
}

impl Idle {
    pub fn new(connection: Connection, process: String) -> Self {
        Self {
            connection,
            process,
            spare: Mutex::default(),
            inboxes: Mutex::default(),
            lingering: Mutex::default(),
            turns: AtomicU64::new(0),
            missed: AtomicBool::new(false),
            again: Notify::new(),
            anew: AtomicU64::new(0),
            ending: Arc::default(),
        }
    }

    /// Waits until one of `lists` has brought something into its inbox, `wake` is ready, or `patience` is over. What
    /// waits besides lingers for the next call, or is ended.
    pub async fn wait(
        self: &Arc<Self>,
        lists: &[String],
        patience: Duration,
        wake: impl Future<Output = ()>,
    ) -> Result<()> {
        let (lists, left_out) = lists.split_at(lists.len().min(MOST_LISTS));
        self.remember(lists);
        let mut waits = self.waits(lists).await?;
        let came = tokio::select! {
            ended = waits.next() => self.keep(ended)? == Woken::Brought,
            found = self.look_at(left_out) => found.map(|()| false)?,
            () = sleep(patience) => false,
            () = self.again.notified() => false,
            () = wake => false,
        };
        if came {
            self.linger(waits)
        } else {
            self.end(waits, self.ending.clone().lock_owned().await)
        }
        Ok(())
    }

    // One for each list; those that linger go on, where they wait for none but these.
    async fn waits(self: &Arc<Self>, lists: &[String]) -> Result<Waits> {
        let since = self.anew.load(Ordering::Relaxed);
        let lingering = self.lingering().take();
        let mut waits = match lingering {
            Some(waits) if waits.since == since && waits.numbers.keys().all(|list| lists.contains(list)) => waits,
            others => {
                let ending = self.ending.clone().lock_owned().await;
                if let Some(others) = others {
                    self.end(others, ending);
                    // Else there would be twice as many connections.
                    drop(self.ending.lock().await);
                }
                Waits { since, turn: 0, numbers: HashMap::new(), told: Arc::default(), ends: FuturesUnordered::new() }
            }
        };
        for list in lists {
            if !waits.numbers.contains_key(list) {
                let inbox = self.connection.keys().inbox(&self.process, list);
                waits.add(self.sleeper().await?, list.clone(), inbox);
            }
        }
        Ok(waits)
    }

    fn linger(self: &Arc<Self>, mut waits: Waits) {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        waits.turn = turn;
        let others = self.lingering().replace(waits);
        let idle = self.clone();
        tokio::spawn(async move {
            if let Some(others) = others {
                idle.end(others, idle.ending.clone().lock_owned().await);
            }
            sleep(LINGER).await;
            let ending = idle.ending.clone().lock_owned().await;
            let waits = idle.lingering().take_if(|waits| waits.turn == turn);
            if let Some(waits) = waits {
                idle.end(waits, ending);
            }
        });
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

    fn end(self: &Arc<Self>, waits: Waits, ending: OwnedMutexGuard<()>) {
        let idle = self.clone();
        waits.told.store(true, Ordering::Relaxed);
        tokio::spawn(async move {
            let _ending = ending;
            if let Err(cause) = idle.end_all(waits).await
                && !cause.is_told()
            {
                warn!("cannot end waiting for messages, what comes meanwhile is taken with the next: {cause}");
            }
        });
    }

    // Ends what still waits, and gives back what that has brought.
    async fn end_all(&self, mut waits: Waits) -> Result<()> {
        let (lists, numbers): (Vec<String>, Vec<i64>) = waits.numbers.clone().into_iter().unzip();
        let mut brought = false;
        // An `UNBLOCK` may arrive before the wait that it is to end; then the wait is told again.
        for _ in 0..PATIENCE.as_millis() / ECHO.as_millis() {
            if waits.ends.is_empty() {
                break;
            }
            self.unblock(&numbers).await?;
            while !waits.ends.is_empty() {
                let Ok(ended) = timeout(ECHO, waits.next()).await else { break };
                brought |= self.keep(ended)? != Woken::Over;
            }
        }
        if brought || !waits.ends.is_empty() {
            let mut call = self.connection.scripts().hand_back.prepare_invoke();
            call.arg(&self.process).arg(lists);
            self.connection.run::<()>(&call).await?;
        }
        Ok(())
    }

    fn lingering(&self) -> MutexGuard<'_, Option<Waits>> {
        self.lingering.lock().expect("no one panics while holding the waits")
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
        self.anew.fetch_add(1, Ordering::Relaxed);
        self.again.notify_waiters();
    }

    /// All of these were waited for before, so that their inboxes are kept with our leases.
    pub fn knows(&self, lists: impl IntoIterator<Item = String>) -> bool {
        let inboxes = self.inboxes.lock().expect("no one panics while holding the inboxes");
        lists.into_iter().all(|list| inboxes.contains(&format!("{}:{list}", self.process)))
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

    fn keep(&self, ended: Waited) -> Result<Woken> {
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
