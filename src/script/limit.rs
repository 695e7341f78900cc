//! When a running script must end: it used up what it may use, someone stops it, or it asked to be retried.
//!
//! What is known of the running script lies in its thread. rhai's own count of operations cannot serve, because a
//! callback (`map`, `sort`) runs on a copy of it; nor can a returned error alone, because `try` catches it once a
//! callback has wrapped it. So an ending is remembered here, and every later operation meets it again.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhai::{Dynamic, EvalAltResult, Position};

use super::{Host, HostError, Limits, Native, Stop, StopReason, memory};

/// The most operations between two looks at the clock and at the stop flag: a look costs a third of what a small
/// operation does.
const LOOK_EVERY: u64 = 64;

/// A script that holds more than this, in bytes, is looked at oftener, for each operation may copy or search all of it:
/// between two looks they go through a few MiB.
const SMALL: u64 = 64 << 10;

/// Where the operations since the last look took longer than this, whatever is held, the next one is looked at too.
const SLOW: Duration = Duration::from_millis(1);

/// Why a script ended that neither returned nor threw.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    TimedOut,
    OutOfMemory,
    OutOfOperations,
    Stopped(StopReason),
    Retry { countdown: Option<Duration>, max_retries: Option<u32>, reason: String },
}

struct Current {
    operations: Cell<u64>,
    /// The operation at which the clock is looked at again; 0 is each.
    look_at: Cell<u64>,
    /// How many operations after the last look that is.
    look_after: Cell<u64>,
    /// It is looked at before that when the thread holds more than this, as [`memory::held`] counts it.
    look_above: Cell<isize>,
    looked: Cell<Option<Instant>>,
    most_operations: Cell<u64>,
    /// What the thread held when the script began, and what it may hold.
    least_memory: Cell<isize>,
    most_memory: Cell<isize>,
    ended: Cell<bool>,
    deadline: Cell<Option<Instant>>,
    /// `None` where there is none, and once it was told.
    soft_deadline: Cell<Option<Instant>>,
    ending: RefCell<Option<Ending>>,
    stop: RefCell<Option<Stop>>,
    host: RefCell<Option<Arc<dyn Host>>>,
}

thread_local! {
    static CURRENT: Current = const {
        Current {
            operations: Cell::new(0),
            look_at: Cell::new(0),
            look_after: Cell::new(0),
            look_above: Cell::new(isize::MAX),
            looked: Cell::new(None),
            most_operations: Cell::new(u64::MAX),
            least_memory: Cell::new(0),
            most_memory: Cell::new(isize::MAX),
            ended: Cell::new(false),
            deadline: Cell::new(None),
            soft_deadline: Cell::new(None),
            ending: RefCell::new(None),
            stop: RefCell::new(None),
            host: RefCell::new(None),
        }
    };
}

/// A script runs on this thread for as long as this lives.
pub(super) struct Entered;

/// Begins a script on this thread. Without `host` it is a module level, which has nobody to ask.
pub(super) fn enter(limits: &Limits, stop: Stop, host: Option<Arc<dyn Host>>) -> Entered {
    let now = Instant::now();
    let memory = isize::try_from(limits.memory.as_u64()).unwrap_or(isize::MAX);
    CURRENT.with(|current| {
        current.operations.set(0);
        current.most_operations.set(limits.operations.unwrap_or(u64::MAX));
        current.least_memory.set(memory::held());
        current.most_memory.set(memory::held().saturating_add(memory));
        current.look_after.set(LOOK_EVERY);
        current.looked.set(Some(now));
        current.look_later(now);
        current.ended.set(false);
        current.deadline.set(now.checked_add(limits.time_limit));
        current.soft_deadline.set(limits.soft_time_limit.and_then(|limit| now.checked_add(limit)));
        current.ending.replace(None);
        current.stop.replace(Some(stop));
        current.host.replace(host);
    });
    Entered
}

impl Entered {
    /// How the script was made to end; `None` when it ended by itself.
    pub(super) fn ending(&self) -> Option<Ending> {
        CURRENT.with(|current| current.ending.borrow_mut().take())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| {
            current.ended.set(false);
            current.most_operations.set(u64::MAX);
            current.most_memory.set(isize::MAX);
            current.look_above.set(isize::MAX);
            current.deadline.set(None);
            current.soft_deadline.set(None);
            current.ending.replace(None);
            current.stop.replace(None);
            // Dropped outside the borrow: a host may do anything when it goes.
            let host = current.host.replace(None);
            drop(host);
        });
    }
}

impl Current {
    fn must_end(&self) -> bool {
        if self.ended.get() {
            self.look_at.set(0);
            return true;
        }
        self.stand_still();
        let now = Instant::now();
        let stopped = self.stop.borrow().as_ref().and_then(Stop::reason);
        let ending = match stopped {
            Some(reason) => Ending::Stopped(reason),
            None if memory::held() > self.most_memory.get() => Ending::OutOfMemory,
            None if self.operations.get() > self.most_operations.get() => Ending::OutOfOperations,
            None if self.deadline.get().is_some_and(|deadline| now >= deadline) => Ending::TimedOut,
            None => {
                self.look_later(now);
                return false;
            }
        };
        self.end(ending);
        true
    }

    /// Sets when to look again, after what the script holds and did until `now`.
    fn look_later(&self, now: Instant) {
        let least = self.least_memory.get();
        let held = u64::try_from(memory::held().saturating_sub(least)).unwrap_or(0).max(SMALL);
        let was_slow = self.looked.replace(Some(now)).is_some_and(|looked| now.duration_since(looked) > SLOW);
        let after = if was_slow { 1 } else { 2 * self.look_after.get() };
        let after = after.min(LOOK_EVERY * SMALL / held).max(1);
        self.look_after.set(after);
        self.look_at.set(self.operations.get() + after);
        let twice = isize::try_from(2 * held).unwrap_or(isize::MAX);
        self.look_above.set(least.saturating_add(twice).min(self.most_memory.get()));
    }

    // The time in which it may do nothing is not the script's.
    fn stand_still(&self) {
        let held = self.stop.borrow().as_ref().map_or(Duration::ZERO, Stop::stand_still);
        if held > Duration::ZERO {
            for deadline in [&self.deadline, &self.soft_deadline] {
                deadline.set(deadline.get().and_then(|at| at.checked_add(held)));
            }
        }
    }

    fn end(&self, ending: Ending) {
        if !self.ended.replace(true) {
            self.ending.replace(Some(ending));
        }
        self.look_at.set(0);
    }

    fn step(&self) -> bool {
        let operations = self.operations.get() + 1;
        self.operations.set(operations);
        if operations < self.look_at.get()
            && operations <= self.most_operations.get()
            && memory::held() <= self.look_above.get()
        {
            return false;
        }
        // An ending sets `look_at` to nothing: from then on each operation meets it, whatever was caught.
        self.must_end()
    }
}

/// The engine's `on_progress`.
pub(super) fn progress(_operations: u64) -> Option<Dynamic> {
    CURRENT.with(Current::step).then_some(Dynamic::UNIT)
}

/// One step of a native function's own loop: it counts as an operation of the script.
///
/// # Errors
/// The script on this thread must end.
pub fn step() -> Native<()> {
    if CURRENT.with(Current::step) { Err(terminated()) } else { Ok(()) }
}

/// To be asked before so many bytes are taken at once.
///
/// # Errors
/// The script on this thread has no such room left, and ends.
pub fn reserve(bytes: usize) -> Native<()> {
    let room = CURRENT.with(|current| current.most_memory.get()).saturating_sub(memory::held());
    if isize::try_from(bytes).is_ok_and(|bytes| bytes <= room) { Ok(()) } else { Err(end(Ending::OutOfMemory)) }
}

/// Ends the running script in a way that it cannot catch. The first ending counts.
pub(super) fn end(ending: Ending) -> Box<EvalAltResult> {
    CURRENT.with(|current| current.end(ending));
    terminated()
}

fn terminated() -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into()
}

/// Ends the running task, which is to be tried again: what [`Outcome::RetryAsked`](crate::task::Outcome) says.
pub fn retry(countdown: Option<Duration>, max_retries: Option<u32>, reason: String) -> Box<EvalAltResult> {
    end(Ending::Retry { countdown, max_retries, reason })
}

/// Whom the running script may ask on behalf of `what`, the name of the native function that asks.
///
/// # Errors
/// At module level there is nobody to ask. `SoftTimeLimitExceeded` once that time is over, and once only.
pub fn host(what: &str) -> Native<Arc<dyn Host>> {
    let host = current_host().ok_or_else(|| {
        let why = format!(
            "`{what}` works only while a function runs; this line is outside of one and is evaluated once, when the \
             file is loaded"
        );
        Box::<EvalAltResult>::from(HostError::new("RuntimeError", why))
    })?;
    tell_soft_limit()?;
    Ok(host)
}

/// Asked before a native function begins, for it may take long.
///
/// # Errors
/// As [`go_on`]. `SoftTimeLimitExceeded` once that time is over, and once only.
pub fn begin() -> Native<()> {
    go_on()?;
    tell_soft_limit()
}

fn tell_soft_limit() -> Native<()> {
    let over = |deadline: &Instant| Instant::now() >= *deadline;
    match CURRENT.with(|current| current.soft_deadline.get()).filter(over) {
        None => Ok(()),
        Some(_) => {
            CURRENT.with(|current| current.soft_deadline.set(None));
            let why = "the soft time limit was exceeded; tidy up and end";
            Err(HostError::new("SoftTimeLimitExceeded", why).into())
        }
    }
}

pub(super) fn current_host() -> Option<Arc<dyn Host>> {
    CURRENT.with(|current| {
        // What a host does may take long: the clock is read again at the operation after it.
        current.look_at.set(0);
        current.host.borrow().clone()
    })
}

/// Waits for what a host asked for on behalf of the script on this thread, but not after the script must end.
/// `None` then; what was asked for may be done all the same.
///
/// Never on a thread of the runtime, which would panic.
pub fn wait_for<T>(runtime: &tokio::runtime::Handle, answer: impl Future<Output = T>) -> Option<T> {
    let (deadline, stop) = CURRENT.with(|current| (current.deadline.get(), current.stop.borrow().clone()));
    let over = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    let stopped = async {
        match &stop {
            Some(stop) => stop.stopped().await,
            None => std::future::pending().await,
        }
    };
    let answer = runtime.block_on(async {
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            () = over => None,
            () = stopped => None,
        }
    });
    if answer.is_none() {
        // Now, because there may be no operation after this one; and although it was given more time meanwhile,
        // because what it asked for is given up.
        CURRENT.with(|current| {
            if !current.must_end() {
                current.end(Ending::TimedOut);
            }
        });
    }
    answer
}

/// The time that the script on this thread has left; `None` where none runs.
pub fn time_left() -> Option<Duration> {
    CURRENT.with(|current| current.deadline.get()).map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// To be asked now and then by a native function that works long.
///
/// # Errors
/// The script on this thread must end: it was stopped, or its time is over.
pub fn go_on() -> Native<()> {
    if CURRENT.with(Current::must_end) { Err(terminated()) } else { Ok(()) }
}

/// Lets the script on this thread sleep.
///
/// # Errors
/// It must end: it was stopped, or its time was over before it had slept enough. `SoftTimeLimitExceeded` when that
/// time came first.
pub fn pause(wait: Duration) -> Native<()> {
    let (deadlines, stop) =
        CURRENT.with(|current| ([current.deadline.get(), current.soft_deadline.get()], current.stop.borrow().clone()));
    let until = deadlines.into_iter().flatten().chain(Instant::now().checked_add(wait)).min();
    if let (Some(stop), Some(until)) = (stop, until) {
        stop.sleep_until(until);
    }
    go_on()?;
    tell_soft_limit()
}
