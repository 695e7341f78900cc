//! When a running script must end: its time is over, someone stops it, or it asked to be retried.
//!
//! What is known of the running script lies in its thread. rhai's own count of operations cannot serve, because a
//! callback (`map`, `sort`) runs on a copy of it; nor can a returned error alone, because `try` catches it once a
//! callback has wrapped it. So an ending is remembered here, and every later operation meets it again.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rhai::{Dynamic, EvalAltResult, Position};

use super::{Host, HostError, Native};

/// Operations between two looks at the clock and at the stop flag (a power of two): looking each time costs twice
/// as much as the script itself.
const LOOK_EVERY: u32 = 64;

/// Why a running script is stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    Revoked,
    LeaseLost,
    Shutdown,
}

/// Stops one call from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Stop(Arc<Shared>);

struct Shared {
    reason: AtomicU8,
    begun: AtomicU8,
    // Holds no data: it only keeps a stop from slipping in between a sleeper's look and its sleep.
    sleep: Mutex<()>,
    wake: Condvar,
}

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Stop {
    pub(super) fn new() -> Self {
        let shared = Shared {
            reason: AtomicU8::new(0),
            begun: AtomicU8::new(WAITING),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        };
        Self(Arc::new(shared))
    }

    /// The script ends at its next operation, a blocking native function at once. The first reason counts.
    pub fn stop(&self, reason: StopReason) {
        let code = match reason {
            StopReason::Revoked => 1,
            StopReason::LeaseLost => 2,
            StopReason::Shutdown => 3,
        };
        let _ = self.0.reason.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
        drop(self.0.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.wake.notify_all();
    }

    pub(super) fn reason(&self) -> Option<StopReason> {
        match self.0.reason.load(Ordering::Acquire) {
            1 => Some(StopReason::Revoked),
            2 => Some(StopReason::LeaseLost),
            3 => Some(StopReason::Shutdown),
            _ => None,
        }
    }

    /// True for the one who may run the call.
    pub(super) fn begin(&self) -> bool {
        self.leave_waiting(STARTED)
    }

    /// True when the call has not begun, and then it never will.
    pub(super) fn withdraw(&self) -> bool {
        self.leave_waiting(WITHDRAWN)
    }

    fn leave_waiting(&self, to: u8) -> bool {
        self.0.begun.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn sleep_until(&self, until: Instant) {
        let mut asleep = self.0.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        while self.reason().is_none() {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return;
            };
            asleep = self.0.wake.wait_timeout(asleep, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Why a script ended that neither returned nor threw.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    TimedOut,
    Stopped(StopReason),
    Retry { countdown: Option<Duration>, max_retries: Option<u32>, reason: String },
}

struct Current {
    operations: Cell<u32>,
    ended: Cell<bool>,
    deadline: Cell<Option<Instant>>,
    ending: RefCell<Option<Ending>>,
    stop: RefCell<Option<Stop>>,
    host: RefCell<Option<Arc<dyn Host>>>,
}

thread_local! {
    static CURRENT: Current = const {
        Current {
            operations: Cell::new(0),
            ended: Cell::new(false),
            deadline: Cell::new(None),
            ending: RefCell::new(None),
            stop: RefCell::new(None),
            host: RefCell::new(None),
        }
    };
}

/// A script runs on this thread for as long as this lives.
pub(super) struct Entered;

/// Begins a script on this thread. Without `host` it is a module level, which has nobody to ask.
pub(super) fn enter(deadline: Option<Instant>, stop: Stop, host: Option<Arc<dyn Host>>) -> Entered {
    CURRENT.with(|current| {
        current.operations.set(0);
        current.ended.set(false);
        current.deadline.set(deadline);
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
            current.deadline.set(None);
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
            return true;
        }
        let stopped = self.stop.borrow().as_ref().and_then(Stop::reason);
        let ending = match stopped {
            Some(reason) => Ending::Stopped(reason),
            None if self.deadline.get().is_some_and(|deadline| Instant::now() >= deadline) => Ending::TimedOut,
            None => return false,
        };
        self.end(ending);
        true
    }

    fn end(&self, ending: Ending) {
        if !self.ended.replace(true) {
            self.ending.replace(Some(ending));
        }
    }
}

/// The engine's `on_progress`.
pub(super) fn progress(_operations: u64) -> Option<Dynamic> {
    CURRENT.with(|current| {
        let operations = current.operations.get().wrapping_add(1);
        current.operations.set(operations);
        if !operations.is_multiple_of(LOOK_EVERY) && !current.ended.get() {
            return None;
        }
        current.must_end().then_some(Dynamic::UNIT)
    })
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
/// At module level there is nobody to ask.
pub fn host(what: &str) -> Native<Arc<dyn Host>> {
    current_host().ok_or_else(|| {
        let why = format!(
            "`{what}` works only while a function runs; this line is outside of one and is evaluated once, when the \
             file is loaded"
        );
        HostError::new("RuntimeError", why).into()
    })
}

pub(super) fn current_host() -> Option<Arc<dyn Host>> {
    CURRENT.with(|current| {
        // What a host does may take long: the clock is read again at the operation after it.
        current.operations.set(LOOK_EVERY - 1);
        current.host.borrow().clone()
    })
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
/// It must end: it was stopped, or its time was over before it had slept enough.
pub fn pause(wait: Duration) -> Native<()> {
    let (deadline, stop) = CURRENT.with(|current| (current.deadline.get(), current.stop.borrow().clone()));
    let wake = Instant::now().checked_add(wait);
    let until = match (wake, deadline) {
        (Some(wake), Some(deadline)) => wake.min(deadline),
        (wake, deadline) => wake.or(deadline).unwrap_or_else(Instant::now),
    };
    if let Some(stop) = stop {
        stop.sleep_until(until);
    }
    go_on()
}
