//! The lines that a person at the terminal reads: a task was received, has succeeded, has failed.
//!
//! On a terminal they are shown at info, as Celery does; elsewhere at debug. Only so many a second are shown, because
//! a worker runs tasks faster than anybody reads.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::script::Level;
use crate::task::{Failure, Message, Verdict};

/// The most lines shown in a second; the rest is counted and told.
const LINES_A_SECOND: u32 = 100;

/// The most of a result that a line shows, in bytes.
const RESULT_SHOWN: usize = 256;

/// Writes the log lines of tasks.
pub struct Journal {
    /// Tasks are shown at info, else at debug.
    loud: bool,
    /// What goes well, and what scripts tell.
    usual: Mutex<Window>,
    /// What goes wrong has a count of its own: a busy worker must not hide it.
    trouble: Mutex<Window>,
}

struct Window {
    began: Instant,
    shown: u32,
    hidden: u32,
}

impl Journal {
    /// `loud` shows each task at info, for a terminal.
    pub fn new(loud: bool) -> Self {
        let window = || Mutex::new(Window { began: Instant::now(), shown: 0, hidden: 0 });
        Self { loud, usual: window(), trouble: window() }
    }

    pub fn received(&self, message: &Message) {
        self.line(|| format!("task {} received", title(message)));
    }

    /// What was decided about an attempt that ran for `took`.
    pub fn settled(&self, message: &Message, verdict: &Verdict, took: Duration) {
        let seconds = took.as_secs_f64();
        match verdict {
            Verdict::Success(result) => {
                self.line(|| format!("task {} succeeded in {seconds:.4}s: {}", title(message), shown(result.get())));
            }
            Verdict::Revoked { reason } => self.line(|| format!("task {} revoked ({reason})", title(message))),
            Verdict::Retry { countdown, why } => {
                let countdown = countdown.as_secs_f64();
                self.line(|| format!("task {} retry in {countdown:.2}s: {}", title(message), headline(why)))
            }
            Verdict::Failure(why) => {
                if may_show(&self.trouble) {
                    let traceback = why.traceback.as_deref().map_or(String::new(), |text| format!("\n{text}"));
                    let (id, task, title) = (&message.id, &message.task, title(message));
                    error!(task.id = %id, task.name = %task, "task {title} failed in {seconds:.4}s: {}{traceback}", headline(why));
                }
            }
        }
    }

    /// A line that a script wrote.
    pub fn said(&self, message: &Message, level: Level, text: &str) {
        let id = &message.id;
        match level {
            Level::Info => self.line(|| format!("{} {text}", title(message))),
            Level::Warn if may_show(&self.trouble) => warn!(task.id = %id, "{} {text}", title(message)),
            Level::Error if may_show(&self.trouble) => error!(task.id = %id, "{} {text}", title(message)),
            Level::Warn | Level::Error => {}
        }
    }

    fn line(&self, text: impl FnOnce() -> String) {
        if self.loud {
            if may_show(&self.usual) {
                info!("{}", text());
            }
        } else if tracing::enabled!(tracing::Level::DEBUG) {
            debug!("{}", text());
        }
    }
}

fn may_show(window: &Mutex<Window>) -> bool {
    let mut window = window.lock().expect("no one panics while the window is locked");
    if window.began.elapsed() >= Duration::from_secs(1) {
        let hidden = std::mem::take(&mut window.hidden);
        window.began = Instant::now();
        window.shown = 0;
        if hidden > 0 {
            info!("{hidden} more lines about tasks were not shown ({LINES_A_SECOND} a second are)");
        }
    }
    let show = window.shown < LINES_A_SECOND;
    if show {
        window.shown += 1
    } else {
        window.hidden += 1
    }
    show
}

// Under the name that its sender wants shown, as Celery does.
fn title(message: &Message) -> String {
    format!("{}[{}]", message.shadow().as_ref().unwrap_or(&message.task), message.id)
}

fn headline(why: &Failure) -> String {
    format!("{}: {}", why.exc_type, why.exc_message)
}

fn shown(result: &str) -> &str {
    &result[..result.floor_char_boundary(RESULT_SHOWN)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_lines_a_second_are_shown() {
        let journal = Journal::new(true);

        let shown = (0..10 * LINES_A_SECOND).filter(|_| may_show(&journal.usual)).count();

        // The second may turn while this runs.
        assert!((LINES_A_SECOND..=2 * LINES_A_SECOND).contains(&(shown as u32)), "{shown}");
        assert!(may_show(&journal.trouble), "a failure is shown all the same");
    }
}
