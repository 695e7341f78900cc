//! What a task is: its names, its message on the wire, its options, what came of it.
//!
//! Everything here is data and decisions over data: no clock, no store, no script. The message follows Celery's
//! protocol 2 (`message`, and `envelope` around it), so that a Python process may stand at the other end; what a task's author may declare
//! is `options`; what came of an attempt and what is done about it is `outcome`; which messages follow it is `canvas`;
//! what is kept of a task is `run`.

mod canvas;
mod duration;
mod envelope;
mod message;
mod name;
mod nearest;
mod options;
mod outcome;
mod run;
mod time;

pub use canvas::{Followers, Sender, TooMuch};
pub use duration::{BadDuration, duration_field, parse_duration, show_duration};
pub use envelope::{Defect, Foreign, GZIP, Known, Unreadable, decompress, parse_time};
pub use message::{Embed, MAX_BODY, MAX_WIRE, Message, NewMessage};
pub use name::{BadName, DEFAULT_QUEUE, Priority, QueueName, TaskId, check_name};
pub use nearest::{did_you_mean, nearest};
pub use options::{Caps, Options};
pub use outcome::{Failure, Outcome, Verdict, judge};
pub use run::{LogLine, Progress, Run, State};
pub use time::read_time;

/// An instant in UTC.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// One JSON value as text, checked and not yet read.
pub type Json = Box<serde_json::value::RawValue>;

/// `value` as JSON text.
///
/// # Panics
/// When `value` cannot be JSON (a map with keys that are no strings); values of this crate always can.
pub fn to_json(value: &impl serde::Serialize) -> Json {
    serde_json::value::to_raw_value(value).expect("our own values are JSON")
}
