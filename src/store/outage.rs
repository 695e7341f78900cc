//! What the log says of a store that cannot be used: one sentence when it begins, one when it is over.
//!
//! Everybody who uses a store meets its faults, many at the same time and again and again. So the store itself tells
//! of them, and its users are silent about errors for which [`Error::is_told`](super::Error::is_told) holds.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::{error, info};

/// Whether one store can be used now, as its process knows it.
#[derive(Debug, Default)]
pub struct Outage(Mutex<Option<Instant>>);

impl Outage {
    /// The store cannot be used, for `reason`, which names it. Told unless that was known.
    pub fn begins(&self, reason: &str) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            *since = Some(Instant::now());
            error!("the store cannot be used: {reason}; work goes on once it can");
        }
    }

    /// Whether it lasts, as far as is known.
    pub fn lasts(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The store does what it is asked, `place` names it. Told when it was not so before.
    pub fn ends(&self, place: &str) {
        if let Some(since) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let seconds = since.elapsed().as_secs_f64();
            info!(seconds, "{place} can be used again, after {seconds:.1} s");
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// What the log says.
    #[derive(Clone, Default)]
    pub struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        pub fn said(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Paper {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn each_outage_is_told_once_and_so_is_its_end() {
        let paper = Paper::default();
        let subscriber = tracing_subscriber::fmt().with_writer(paper.clone()).with_ansi(false).finish();
        let outage = Outage::default();

        tracing::subscriber::with_default(subscriber, || {
            outage.ends("it");
            for _ in 0..2 {
                outage.begins("it is gone");
                outage.begins("it is gone still");
                outage.ends("it");
                outage.ends("it");
            }
        });

        let said = paper.said();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 4, "{said}");
        assert!(lines[2].contains("ERROR") && lines[2].contains("cannot be used: it is gone;"), "{said}");
        assert!(lines[3].contains("INFO") && lines[3].contains("it can be used again, after 0.0 s"), "{said}");
    }
}
