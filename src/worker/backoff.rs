//! The waits between tries while the store is away.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(2);

/// Each wait is twice the one before, up to two seconds.
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
        tokio::select! {
            biased;
            () = end.cancelled() => false,
            () = tokio::time::sleep(self.next) => {
                self.next = (self.next * 2).min(LAST);
                true
            }
        }
    }
}
