//! The one thread that writes: it takes every command that waits, commits them together, and only then answers.
//!
//! A command is a closure over the [`Desk`]. It fails alone when it is refused; when the commit fails, all of its
//! batch fail, and what they had noted in memory is undone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::{Semaphore, oneshot};

use super::claims::Claims;
use super::desk::Desk;
use super::file::Outcome;
use super::ready::Claimer;
use crate::store::{Error, Receipt, Result};

/// The most commands in one transaction.
const MAX_BATCH: usize = 512;
/// The most commands that wait; who brings one more waits for a place.
const MAX_WAITING: usize = 8_192;
/// How long a thread sleeps at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

/// Tells a caller what came of its command, once the commit is made or has failed.
type Answer = Box<dyn FnOnce(std::result::Result<(), Error>) + Send>;
type Work = Box<dyn FnOnce(std::result::Result<&mut Desk, Error>) -> Answer + Send>;

pub enum Command {
    Write(Work),
    Claim(Claimer),
    /// Deliveries that nobody took: their caller had gone.
    Release(Vec<Receipt>),
    Stop,
}

/// The way to the writer thread.
pub struct Writer {
    commands: Sender<Command>,
    places: Semaphore,
    thread: Option<JoinHandle<()>>,
}

fn gone() -> Error {
    anyhow::anyhow!("the store's writer has ended; start again").into()
}

impl Writer {
    pub fn start(desk: Desk) -> anyhow::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || serve(desk, &inbox))?;
        Ok(Self { commands, places: Semaphore::new(MAX_WAITING), thread: Some(thread) })
    }

    /// Runs `work` in the next transaction. It must leave the database as it was when it fails, see
    /// [`Desk::atomically`].
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let _place = self.places.acquire().await.map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |desk| {
            let done = desk.and_then(|desk| work(desk).map_err(|fault| desk.explain(fault)));
            Box::new(move |committed| {
                // A caller that has gone does not want to know.
                let _ = reply.send(done.and_then(|value| committed.map(|()| value)));
            })
        });
        self.send(Command::Write(work))?;
        answer.await.map_err(|_| gone())?
    }

    pub fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| gone())
    }

    pub fn sender(&self) -> Sender<Command> {
        self.commands.clone()
    }
}

impl Drop for Writer {
    // The file is closed before the lock of the folder is given back.
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut desk: Desk, inbox: &Receiver<Command>) {
    let mut waiting: VecDeque<Claimer> = VecDeque::new();
    loop {
        let mut works = Vec::new();
        let mut stopping = false;
        let mut next = match inbox.recv_timeout(sleep(&desk, &waiting)) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Some(command) = next {
            match command {
                Command::Write(work) => works.push(work),
                Command::Claim(claimer) => waiting.push_back(claimer),
                Command::Release(receipts) => works.push(release(desk.claims.clone(), receipts)),
                Command::Stop => stopping = true,
            }
            next = if stopping || works.len() == MAX_BATCH { None } else { inbox.try_recv().ok() };
        }
        if !works.is_empty() || desk.something_is_due() {
            commit(&mut desk, works);
        }
        if stopping {
            return;
        }
        waiting.retain_mut(|claimer| claimer.serve(&mut desk));
    }
}

fn release(claims: Arc<Claims>, receipts: Vec<Receipt>) -> Work {
    Box::new(move |desk| {
        let done = desk.and_then(|desk| {
            desk.return_all(&receipts, Duration::ZERO, Utc::now()).map_err(|fault| desk.explain(fault))
        });
        Box::new(move |committed| {
            let Err(error) = done.and(committed) else { return };
            if !error.is_told() {
                tracing::warn!(%error, "deliveries that nobody took stay claimed; giving them back is tried again");
            }
            claims.forsake(&receipts);
        })
    })
}

fn sleep(desk: &Desk, waiting: &VecDeque<Claimer>) -> Duration {
    let patience = waiting.iter().map(|claimer| claimer.deadline.saturating_duration_since(Instant::now())).min();
    let due = desk.until_due();
    patience.into_iter().chain(due).min().unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
}

fn commit(desk: &mut Desk, works: Vec<Work>) {
    let count = works.len();
    if let Err(error) = desk.begin() {
        for work in works {
            work(Err(desk.explain_sql(&error)))(Ok(()));
        }
        return desk.rolled_back();
    }
    let mut answers = Vec::with_capacity(count);
    for work in works {
        let lost = desk.is_lost().err();
        answers.push(work(match lost {
            None => Ok(desk),
            Some(error) => Err(desk.explain_sql(&error)),
        }));
    }
    let committed = desk.is_lost().and_then(|()| desk.housekeep(count)).and_then(|()| desk.commit());
    if committed.is_err() {
        desk.rolled_back();
    }
    for answer in answers {
        answer(committed.as_ref().map(|_| ()).map_err(|error| desk.explain_sql(error)));
    }
}
