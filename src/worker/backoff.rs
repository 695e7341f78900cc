//! The waits between tries while the store is away.

use std::time::Duration;

use rand::Rng;
use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(1);

/// Each wait is twice the one before, up to a second, and of that a random part of a half at least: those who met the
/// same fault do not all come back at the same moment.
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    pub fn new() -> Self {
        Self { next: FIRST }
    }

    /// Nothing has failed since it is new: the time to say so.
    pub fn is_first(&self) -> bool {
        self.next == FIRST
    }

    /// Waits before the next try. False when `end` came first, and there is to be none.
    pub async fn pause(&mut self, end: &CancellationToken) -> bool {
        let part = rand::rng().random_range(0.5..1.0);
        tokio::select! {
            biased;
            () = end.cancelled() => false,
            () = tokio::time::sleep(self.next.mul_f64(part)) => {
                self.next = (self.next * 2).min(LAST);
                true
            }
        }
    }
}
