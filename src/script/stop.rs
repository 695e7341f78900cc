//! Stopping one call from any thread, or letting it stand still for a while.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

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
    held: AtomicBool,
    // Holds no data: it only keeps a stop from slipping in between a sleeper's look and its sleep.
    sleep: Mutex<()>,
    wake: Condvar,
    /// Wakes who waits for an answer.
    stopped: Notify,
}

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Stop {
    pub(super) fn new() -> Self {
        let shared = Shared {
            reason: AtomicU8::new(0),
            begun: AtomicU8::new(WAITING),
            held: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stopped: Notify::new(),
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
        self.wake();
        self.0.stopped.notify_waiters();
    }

    /// The script stands still at its next operation, until it is released or stopped. A native function that waits for
    /// something goes on waiting.
    pub fn hold(&self) {
        self.0.held.store(true, Ordering::Release);
    }

    /// What was held goes on.
    pub fn release(&self) {
        self.0.held.store(false, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        drop(self.0.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.wake.notify_all();
    }

    /// Stands still as long as it is held, and tells for how long that was.
    pub(super) fn stand_still(&self) -> Duration {
        if !self.0.held.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let began = Instant::now();
        let mut asleep = self.0.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        while self.0.held.load(Ordering::Acquire) && self.reason().is_none() {
            asleep = self.0.wake.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        }
        began.elapsed()
    }

    /// Comes when the call was stopped.
    pub(super) async fn stopped(&self) {
        loop {
            // Listen before looking: a stop between the two would otherwise wake nobody.
            let mut stopped = std::pin::pin!(self.0.stopped.notified());
            stopped.as_mut().enable();
            if self.reason().is_some() {
                return;
            }
            stopped.await;
        }
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

    pub(super) fn sleep_until(&self, until: Instant) {
        let mut asleep = self.0.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        while self.reason().is_none() {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return;
            };
            asleep = self.0.wake.wait_timeout(asleep, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
