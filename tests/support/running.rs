//! A program that runs beside a test.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Is asked to end with the test, and made to where it does not listen.
pub struct Running(pub Child);

/// How long it may take to end; a Celery worker ends its children meanwhile.
const GRACE: Duration = Duration::from_secs(10);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let asked = Instant::now();
        while asked.elapsed() < GRACE && matches!(self.0.try_wait(), Ok(None)) {
            // Nothing depends on how long this is.
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
