//! What this process has in its hands: claimed, and neither settled nor given back.
//!
//! Most tasks have ended before it would be worth a word that they run. So what is claimed, and which scripts have
//! begun, is written down a moment later, and only of what has not ended by then; a settlement brings the rest itself.
//! Who asks in this process finds it written, because it is written first. A task that kills its process within that
//! moment is not suspected for it; it comes back, and where something came back the mark is waited for, so that each
//! further death counts.

use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::store::{Delivery, Receipt, Result};
use crate::task::{Message, TaskId};

use super::connection::Connection;
use super::fault::PATIENCE;
use super::record::Brief;
use super::settler::ENOUGH;

/// How often it is looked what is to be written down; what is as old as that is.
const MOMENT: Duration = Duration::from_millis(20);
/// The pause before what could not be written is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// The most deliveries that one call of the script writes, so that it never keeps others waiting for long.
const MOST: usize = 500;

/// One delivery of ours.
#[derive(Clone)]
pub struct Held {
    message: Arc<Message>,
    token: u64,
    /// Its process died before, perhaps because of it.
    redelivered: bool,
    /// It is written down in Redis that it runs.
    is_written: bool,
    /// Its script has begun.
    begun: bool,
    /// It is among those of which something is to be written.
    listed: bool,
}

impl Held {
    /// `is_written` when it is written down already that it runs.
    pub fn new(delivery: &Delivery, is_written: bool) -> Self {
        let (message, token) = (delivery.message.clone(), delivery.receipt.token);
        Self { message, token, redelivered: delivery.redelivered, is_written, begun: false, listed: !is_written }
    }

    pub fn receipt(&self) -> Receipt {
        Receipt { id: self.message.id.clone(), token: self.token }
    }
}

/// The deliveries of one process. Bounded by what it claims.
pub struct Hands {
    book: Arc<Book>,
    _task: AbortOnDropHandle<()>,
}

struct Book {
    connection: Connection,
    worker: String,
    pages: Mutex<Pages>,
    something: Notify,
    urgent: Notify,
    /// Held while some are on their way, so that who wants everything written knows that it is.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Pages {
    held: HashMap<u64, Held>,
    /// Of which something is to be written since the last look, and some of which nothing is any more.
    fresh: Vec<u64>,
    /// The same since the look before.
    ripe: Vec<u64>,
    /// Threads that go on once everything is written.
    waiting: Vec<SyncSender<()>>,
}

impl Pages {
    fn has_unwritten(&self) -> bool {
        !self.fresh.is_empty() || !self.ripe.is_empty()
    }

    // Those of these of which something is to be written still. They are not listed any more.
    fn unlist(&mut self, mut tokens: Vec<u64>) -> Vec<u64> {
        tokens.retain(|token| self.held.get_mut(token).is_some_and(|held| std::mem::take(&mut held.listed)));
        tokens
    }

    fn list(&mut self, tokens: &[u64]) {
        for token in tokens {
            // What was let go meanwhile needs no word, and what is being settled is left out by the script.
            if let Some(held) = self.held.get_mut(token).filter(|held| !held.listed) {
                held.listed = true;
                self.ripe.push(*token);
            }
        }
    }
}

impl Hands {
    /// `worker` is kept with each run.
    pub fn start(connection: Connection, worker: String) -> Self {
        let book = Arc::new(Book {
            connection,
            worker,
            pages: Mutex::default(),
            something: Notify::new(),
            urgent: Notify::new(),
            writing: tokio::sync::Mutex::new(()),
        });
        let task = tokio::spawn(book.clone().write_always());
        Self { book, _task: AbortOnDropHandle::new(task) }
    }

    pub fn take(&self, deliveries: impl IntoIterator<Item = Held>) {
        let mut pages = self.book.pages();
        for held in deliveries {
            if held.listed {
                pages.fresh.push(held.token);
            }
            pages.held.insert(held.token, held);
        }
        drop(pages);
        self.book.something.notify_one();
    }

    /// The script of this delivery begins; written down soon. Where it came back from a dead process this waits until
    /// it is, and goes on without that when Redis is away.
    pub fn begun(&self, token: u64) {
        let Some(written) = self.book.note_begun(token) else { return };
        self.book.something.notify_one();
        self.book.urgent.notify_one();
        // Either way the script begins now.
        let _ = written.recv_timeout(PATIENCE);
    }

    /// It is about to be settled, which needs no word of its beginning any more. Whether it is written down that it
    /// runs.
    pub fn settling(&self, token: u64) -> bool {
        let mut pages = self.book.pages();
        pages.held.get_mut(&token).is_none_or(|held| {
            held.listed = false;
            held.is_written
        })
    }

    /// It is not ours any more.
    pub fn let_go(&self, token: u64) -> Option<Held> {
        self.book.pages().held.remove(&token)
    }

    /// Everything that is ours.
    pub fn tokens(&self) -> Vec<u64> {
        self.book.pages().held.keys().copied().collect()
    }

    /// Writes down at once what is not written yet.
    pub async fn write(&self) -> Result<()> {
        self.book.write(true).await
    }

    /// The same when it concerns this task.
    pub async fn write_of(&self, id: &TaskId) -> Result<()> {
        let concerned = {
            let pages = self.book.pages();
            // Nothing is ours where only questions are asked, and then nothing is looked through.
            pages.held.values().any(|held| !held.is_written && held.message.id == *id)
        };
        if concerned { self.write().await } else { Ok(()) }
    }
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no one panics while holding the deliveries")
    }

    // Where the mark has to be waited for: what tells that it is written.
    fn note_begun(&self, token: u64) -> Option<std::sync::mpsc::Receiver<()>> {
        let mut pages = self.pages();
        let first = !pages.has_unwritten();
        // What is not held any more has lost its lease, and who has it now counts its deaths.
        let held = pages.held.get_mut(&token)?;
        held.begun = true;
        let (redelivered, listed) = (held.redelivered, std::mem::replace(&mut held.listed, true));
        if !listed {
            pages.fresh.push(token);
        }
        if redelivered {
            let (written, wait) = sync_channel(1);
            pages.waiting.push(written);
            return Some(wait);
        }
        drop(pages);
        // Else somebody was told already.
        if first {
            self.something.notify_one();
        }
        None
    }

    async fn write_always(self: Arc<Self>) {
        let mut told = false;
        loop {
            self.something.notified().await;
            while self.pages().has_unwritten() {
                let all = tokio::select! {
                    () = sleep(MOMENT) => false,
                    () = self.urgent.notified() => true,
                };
                match self.write(all).await {
                    Ok(()) => told = false,
                    Err(cause) => {
                        if !cause.is_told() && !std::mem::replace(&mut told, true) {
                            warn!("cannot write down which tasks run, trying again: {cause}");
                        }
                        sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    // Writes what is ripe, or everything.
    async fn write(&self, all: bool) -> Result<()> {
        let _writing = self.writing.lock().await;
        let mut taken = self.take_listed(all);
        while !taken.tokens.is_empty() {
            let part = self.mark(&taken.tokens).await?;
            taken.tokens.drain(..part);
        }
        for waiting in taken.waiting.drain(..) {
            // It may have gone on already.
            let _ = waiting.try_send(());
        }
        Ok(())
    }

    fn take_listed(&self, all: bool) -> Taken<'_> {
        let mut pages = self.pages();
        let fresh = std::mem::take(&mut pages.fresh);
        let mut tokens = std::mem::replace(&mut pages.ripe, fresh);
        if all {
            tokens.append(&mut pages.ripe);
        }
        let waiting = if all { std::mem::take(&mut pages.waiting) } else { Vec::new() };
        Taken { book: self, tokens: pages.unlist(tokens), waiting }
    }

    // Writes down the first of these, as many as go into one call, in the order of `mark.lua`; how many those are.
    async fn mark(&self, tokens: &[u64]) -> Result<usize> {
        let mut call = self.connection.scripts().mark.prepare_invoke();
        call.arg(&self.worker);
        let (mut part, mut bytes) = (0, 0);
        for token in tokens.iter().take(MOST) {
            part += 1;
            // A large body is read here, while others may have the pages.
            let held = self.pages().held.get(token).cloned();
            let Some(Held { message, is_written, begun, .. }) = held else { continue };
            let brief = if is_written { String::new() } else { Brief::text_of(&message) };
            bytes += brief.len();
            call.arg(*token).arg(u8::from(begun)).arg(message.id.as_str()).arg(message.queue.as_str()).arg(brief);
            if bytes >= ENOUGH {
                break;
            }
        }
        self.connection.run_with::<()>(bytes, &call).await?;
        let mut pages = self.pages();
        for token in &tokens[..part] {
            if let Some(held) = pages.held.get_mut(token) {
                held.is_written = true;
            }
        }
        Ok(part)
    }
}

/// What somebody is about to write; what of it is not written in the end is listed again.
struct Taken<'a> {
    book: &'a Book,
    tokens: Vec<u64>,
    waiting: Vec<SyncSender<()>>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.tokens.is_empty() && self.waiting.is_empty() {
            return;
        }
        let mut pages = self.book.pages();
        pages.list(&self.tokens);
        if !self.waiting.is_empty() {
            pages.waiting.append(&mut self.waiting);
            self.book.urgent.notify_one();
        }
        self.book.something.notify_one();
    }
}
