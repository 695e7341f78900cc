//! Something that may be told without end, told once a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets the first of many through, then one a second.
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether it is time again.
    pub fn may(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_of_many_is_let_through() {
        let seldom = Seldom::new();

        assert!(seldom.may());
        assert!((0..100).filter(|_| seldom.may()).count() <= 1);
    }
}
