//! What a running task tells of itself, passed on to the store only so often.
//!
//! The script does not wait for it: the latest report replaces those that were not passed on yet, so that a task that
//! reports in a tight loop is as fast as one that is silent, and the store hears the first report, some in a second, and
//! the last.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::debug;

use crate::store::{self, Receipt, Shown, Stores};
use crate::task::{Message, Progress};

/// The pause after a report of one task before the next is passed on.
const PAUSE: Duration = Duration::from_millis(100);

/// The reports of one attempt. Cheap to clone.
#[derive(Clone)]
pub struct Reporter(Arc<Inner>);

struct Inner {
    stores: Stores,
    message: Arc<Message>,
    receipt: Receipt,
    /// A Celery client is shown it too.
    shown: bool,
    unsaid: Mutex<Unsaid>,
}

/// What was not passed on yet.
#[derive(Default)]
struct Unsaid {
    started: Option<Shown>,
    progress: Option<Progress>,
    /// Somebody passes it on.
    busy: bool,
}

impl Reporter {
    /// `shown` is whether a Celery client sees it too.
    pub fn new(stores: Stores, message: Arc<Message>, receipt: Receipt, shown: bool) -> Self {
        Self(Arc::new(Inner { stores, message, receipt, shown, unsaid: Mutex::default() }))
    }

    /// The script begins, in the process `pid` of `worker`. Only a Celery client needs to be told.
    pub fn started(&self, runtime: &Handle, pid: u32, worker: &str) {
        if self.0.shown {
            let started = Shown::Started { pid, worker: worker.to_owned() };
            self.say(runtime, |unsaid| unsaid.started = Some(started));
        }
    }

    pub fn progress(&self, runtime: &Handle, progress: Progress) {
        self.say(runtime, |unsaid| unsaid.progress = Some(progress));
    }

    fn say(&self, runtime: &Handle, note: impl FnOnce(&mut Unsaid)) {
        let mut unsaid = self.0.unsaid();
        note(&mut unsaid);
        if !std::mem::replace(&mut unsaid.busy, true) {
            runtime.spawn(self.0.clone().pass_on());
        }
    }
}

impl Inner {
    fn unsaid(&self) -> MutexGuard<'_, Unsaid> {
        self.unsaid.lock().expect("no one panics while holding what is unsaid")
    }

    // Ends once nothing is left. What is said after the end of the attempt is heard by nobody: its receipt is void.
    async fn pass_on(self: Arc<Self>) {
        loop {
            let (started, progress) = {
                let mut unsaid = self.unsaid();
                if unsaid.started.is_none() && unsaid.progress.is_none() {
                    unsaid.busy = false;
                    return;
                }
                (unsaid.started.take(), unsaid.progress.take())
            };
            if let Err(cause) = self.tell(started, progress).await {
                let id = &self.receipt.id;
                debug!(task.id = %id, "how far task {id} is could not be told: {cause}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn tell(&self, started: Option<Shown>, progress: Option<Progress>) -> store::Result<()> {
        let results = &self.stores.results;
        if let Some(started) = started {
            results.show(&self.receipt, &self.message, started).await?;
        }
        let Some(progress) = progress else { return Ok(()) };
        results.progress(&self.receipt, progress.clone()).await?;
        if self.shown {
            results.show(&self.receipt, &self.message, Shown::Progress(progress)).await?;
        }
        Ok(())
    }
}
