//! Threads that read, each over a connection of its own: a reader neither waits for the writer nor blocks a runtime.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::file::{File, Outcome};
use crate::store::{Error, Result};

const THREADS: usize = 2;
/// The most questions that wait; who brings one more waits for a place.
const MAX_WAITING: usize = 1_024;

type Question = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the reading threads.
pub struct Readers {
    file: File,
    /// `None` once they are told to end.
    questions: Option<Sender<Question>>,
    places: Semaphore,
    threads: Vec<JoinHandle<()>>,
}

fn gone() -> Error {
    anyhow::anyhow!("the store's readers have ended; start again").into()
}

impl Readers {
    pub fn start(file: &File) -> Result<Self> {
        let (questions, inbox) = mpsc::channel();
        let inbox: Arc<Mutex<Receiver<Question>>> = Arc::new(Mutex::new(inbox));
        let mut threads = Vec::with_capacity(THREADS);
        for number in 1..=THREADS {
            let (db, inbox) = (file.open_to_read()?, inbox.clone());
            let thread = std::thread::Builder::new()
                .name(format!("store-reader-{number}"))
                .spawn(move || {
                    while let Some(question) = next(&inbox) {
                        question(&db);
                    }
                })
                .map_err(anyhow::Error::from)?;
            threads.push(thread);
        }
        Ok(Self { file: file.clone(), questions: Some(questions), places: Semaphore::new(MAX_WAITING), threads })
    }

    /// The answer to `question`, which sees everything that was committed before.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let _place = self.places.acquire().await.map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        let questions = self.questions.as_ref().ok_or_else(gone)?;
        questions.send(Box::new(move |db| drop(reply.send(question(db))))).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(|fault| self.file.explain(fault))
    }
}

fn next(inbox: &Mutex<Receiver<Question>>) -> Option<Question> {
    inbox.lock().expect("nothing panics while it waits for a question").recv().ok()
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.questions = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
