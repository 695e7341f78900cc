//! The threads that scripts run on.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use rhai::Dynamic;
use tokio::sync::oneshot;

use super::memory::stack_for;
use super::{Host, Limits, Script, Stop, call};
use crate::task::{Failure, Outcome};

/// Makes the arguments of a call, on the script's thread.
pub type Arguments = Box<dyn FnOnce() -> Result<Vec<Dynamic>, Failure> + Send>;

/// One run of one function of a script.
pub struct Call {
    pub script: Arc<Script>,
    /// A public function; its overload is chosen by the number of arguments.
    pub function: String,
    pub arguments: Arguments,
    /// What the script sees as `this`; `None` for tasks.
    pub this: Option<Dynamic>,
    pub host: Arc<dyn Host>,
    /// Its memory is never more than that of the pool.
    pub limits: Limits,
}

/// How a call ended.
pub struct Finished {
    /// `None` when it was stopped for a reason that leaves nothing to settle (lease lost, shutdown).
    pub outcome: Option<Outcome>,
    /// `this` after the call; `None` when there was none, or when it became too large or too deep to be kept.
    pub this: Option<Dynamic>,
    /// From its start on its thread to its end.
    pub took: Duration,
}

/// A call that was handed to the pool.
pub struct Ticket {
    pub stop: Stop,
    pub finished: oneshot::Receiver<Finished>,
}

impl Ticket {
    /// Takes the call back when it has not started: true, and it never will (`finished` then ends with an error).
    pub fn withdraw(&self) -> bool {
        self.stop.withdraw()
    }
}

/// A fixed number of threads with explicit stacks that run calls in the order they come.
pub struct Pool {
    queue: Arc<Queue>,
    /// What the stacks are made for.
    memory: ByteSize,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job.
    idle: usize,
    /// One of them was woken and has not come yet. It wakes the next itself where there is more to do, so that a
    /// burst of short calls does not cost a wake-up each.
    waking: bool,
    closed: bool,
}

struct Job {
    call: Call,
    stop: Stop,
    done: oneshot::Sender<Finished>,
}

impl Pool {
    /// Starts `threads` threads named after `name`, for calls that hold up to `memory` bytes each. They end when the
    /// pool is dropped and the calls are done.
    ///
    /// # Panics
    /// When the system gives no more threads, or none with a stack for so much memory.
    pub fn new(engine: Arc<rhai::Engine>, name: &str, threads: usize, memory: ByteSize) -> Self {
        let queue = Arc::<Queue>::default();
        for number in 1..=threads {
            let (queue, engine) = (queue.clone(), engine.clone());
            std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .stack_size(stack_for(memory.as_u64()))
                .spawn(move || queue.serve(&engine))
                .unwrap_or_else(|error| panic!("the system gives no thread to scripts of {memory} of memory: {error}"));
        }
        Self { queue, memory }
    }

    /// Queues `call`. The queue is not bounded here: who claims bounds what it hands over.
    pub fn start(&self, mut call: Call) -> Ticket {
        call.limits.memory = call.limits.memory.min(self.memory);
        let (done, finished) = oneshot::channel();
        let stop = Stop::new();
        self.queue.push(Job { call, stop: stop.clone(), done });
        Ticket { stop, finished }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn push(&self, job: Job) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.jobs.push_back(job);
        self.wake_one(waiting);
    }

    /// The next job, as soon as there is one; `None` when there will be none.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                self.wake_one(waiting);
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            waiting.idle += 1;
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
            waiting.waking = false;
        }
    }

    fn wake_one(&self, mut waiting: MutexGuard<'_, Waiting>) {
        if waiting.idle > 0 && !waiting.waking && !waiting.jobs.is_empty() {
            waiting.waking = true;
            drop(waiting);
            self.changed.notify_one();
        }
    }

    fn serve(&self, engine: &rhai::Engine) {
        while let Some(Job { call, stop, done }) = self.next() {
            if stop.begin() {
                // Nobody may be waiting any more; the call has run all the same.
                let _ = done.send(call::run(engine, call, &stop));
            }
        }
    }
}
