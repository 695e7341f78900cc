//! The real Celery at the other end of the wire. `tests/run` installs it.

mod client;
mod crash;
mod mixed;
mod remote;
#[path = "../support/mod.rs"]
mod support;

use std::process::Child;

/// A Python script that runs until the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
