//! Threads that read, each over a connection of its own: a reader neither waits for the writer nor blocks a runtime.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::file::{File, Outcome};
use crate::store::{Error, Result};

const THREADS: usize = 2;
/// How many of them may search at a time: the others are for those who look for one thing.
const SEARCHING: usize = THREADS - 1;
/// The most questions that wait; who brings one more waits for a place.
const MAX_WAITING: usize = 1_024;

type Question = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the reading threads.
pub struct Readers {
    file: File,
    /// `None` once they are told to end.
    questions: Option<Sender<Question>>,
    places: Semaphore,
    searches: Arc<Semaphore>,
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
        let (places, searches) = (Semaphore::new(MAX_WAITING), Arc::new(Semaphore::new(SEARCHING)));
        Ok(Self { file: file.clone(), questions: Some(questions), places, searches, threads })
    }

    /// The same for one that looks through much: it waits for other searches, and nobody else waits for it.
    pub async fn search<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        // It goes with the question, which may outlive whoever asked.
        let turn = self.searches.clone().acquire_owned().await.map_err(|_| gone())?;
        self.read(move |db| {
            let _turn = turn;
            question(db)
        })
        .await
    }

    /// The answer to `question`, which sees everything that was committed before.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let _place = self.places.acquire().await.map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        let questions = self.questions.as_ref().ok_or_else(gone)?;
        let answer_to = move |db: &Connection| {
            // Who has gone does not want to know.
            if !reply.is_closed() {
                drop(reply.send(question(db)));
            }
        };
        questions.send(Box::new(answer_to)).map_err(|_| gone())?;
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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::Duration;

    use super::*;
    use crate::store::Durability;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_look_up_waits_for_no_search() {
        let file = File::in_memory();
        let _db = file.open(Durability::Full).unwrap();
        let readers = Arc::new(Readers::start(&file).unwrap());
        let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(OnceLock::new()));
        let mut searches = tokio::task::JoinSet::new();
        for _ in 0..2 * THREADS {
            let (readers, begun, gate) = (readers.clone(), begun.clone(), gate.clone());
            searches.spawn(async move {
                let stand = move |_: &Connection| {
                    begun.add_permits(1);
                    gate.wait();
                    Ok(())
                };
                readers.search(stand).await.unwrap()
            });
        }
        drop(begun.acquire().await.unwrap());

        let answer = tokio::time::timeout(Duration::from_secs(20), readers.read(|_| Ok(5))).await;

        // The searches go on, whatever came of it.
        gate.set(()).unwrap();
        searches.join_all().await;
        assert_eq!(answer.expect("an answer").unwrap(), 5);
    }
}
