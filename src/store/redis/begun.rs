//! Which scripts have begun, written down without anybody waiting for it.
//!
//! Most tasks have ended before their beginning would be worth a word, so what begins is gathered for a moment and
//! what was settled by then is left out. A task that kills its process within that moment is not suspected for it;
//! it comes back, and where something came back the mark is waited for, so that each further death counts.

use std::collections::HashSet;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::store::Result;

use super::connection::{Connection, PATIENCE};

/// How long beginnings are gathered.
const MOMENT: Duration = Duration::from_millis(2);
/// The pause before what could not be written is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// The most beginnings that one call of the script writes.
const MOST: usize = 1000;

/// The beginnings of one process. Bounded by what it has claimed.
pub struct Begun {
    book: Arc<Book>,
    _task: AbortOnDropHandle<()>,
}

struct Book {
    connection: Connection,
    unwritten: Mutex<Unwritten>,
    something: Notify,
    urgent: Notify,
    /// Held while some are on their way, so that who flushes knows that nothing is.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Unwritten {
    tokens: HashSet<u64>,
    /// Threads that go on once everything is written.
    waiting: Vec<SyncSender<()>>,
}

impl Begun {
    pub fn start(connection: Connection) -> Self {
        let book = Arc::new(Book {
            connection,
            unwritten: Mutex::default(),
            something: Notify::new(),
            urgent: Notify::new(),
            writing: tokio::sync::Mutex::new(()),
        });
        let task = tokio::spawn(book.clone().write_always());
        Self { book, _task: AbortOnDropHandle::new(task) }
    }

    /// The script of `token` begins; written down soon.
    pub fn note(&self, token: u64) {
        self.book.unwritten().tokens.insert(token);
        self.book.something.notify_one();
    }

    /// The same, and waits until it is written; goes on without that when Redis is away.
    pub fn note_and_wait(&self, token: u64) {
        let (written, wait) = sync_channel(1);
        {
            let mut unwritten = self.book.unwritten();
            unwritten.tokens.insert(token);
            unwritten.waiting.push(written);
        }
        self.book.something.notify_one();
        self.book.urgent.notify_one();
        // Either way the script begins now.
        let _ = wait.recv_timeout(PATIENCE);
    }

    /// It was settled or given back: its beginning is of no interest any more.
    pub fn forget(&self, token: u64) {
        self.book.unwritten().tokens.remove(&token);
    }

    /// Writes down at once what is not written yet.
    pub async fn flush(&self) -> Result<()> {
        self.book.write().await
    }
}

impl Book {
    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().expect("no one panics while holding the beginnings")
    }

    async fn write_always(self: Arc<Self>) {
        let mut told = false;
        loop {
            self.something.notified().await;
            tokio::select! {
                () = sleep(MOMENT) => {}
                () = self.urgent.notified() => {}
            }
            match self.write().await {
                Ok(()) => told = false,
                Err(cause) => {
                    if !cause.is_told() && !std::mem::replace(&mut told, true) {
                        warn!("cannot write down which tasks have begun, trying again: {cause}");
                    }
                    self.something.notify_one();
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn write(&self) -> Result<()> {
        let _writing = self.writing.lock().await;
        let Unwritten { tokens, waiting } = std::mem::take(&mut *self.unwritten());
        let all: Vec<u64> = tokens.into_iter().collect();
        for (number, tokens) in all.chunks(MOST).enumerate() {
            let mut call = self.connection.scripts().mark.prepare_invoke();
            for token in tokens {
                call.arg(*token);
            }
            if let Err(cause) = self.connection.run::<()>(&call).await {
                let mut unwritten = self.unwritten();
                // What was settled meanwhile is left out by the script.
                unwritten.tokens.extend(&all[number * MOST..]);
                unwritten.waiting.extend(waiting);
                return Err(cause);
            }
        }
        for waiting in waiting {
            // It may have gone on already.
            let _ = waiting.try_send(());
        }
        Ok(())
    }
}
