//! What a task's author may declare about it, under Celery's names and with Celery's defaults.

use std::time::Duration;

use bytesize::ByteSize;

use super::{Priority, QueueName};

/// Options of one task, declared by `task(name, #{…})` in its script.
///
/// Celery's document is "Task options"; where our default differs, the field says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The queue it is sent to when the sender names none.
    pub queue: QueueName,
    /// 0 to 9, 0 first.
    pub priority: Priority,
    /// The longest an attempt may run; `None` is the setting's (Celery: no limit).
    pub time_limit: Option<Duration>,
    /// After this the script is told once, at its next call of a host function; `None` is the setting's.
    pub soft_time_limit: Option<Duration>,
    /// Nothing of the value is kept.
    pub ignore_result: bool,
    /// Celery's clients see that it has started.
    pub track_started: bool,
    /// Retries allowed before the failure is final; `None` is without end.
    pub max_retries: Option<u32>,
    /// Every failure is retried as if the script had asked for it (Celery: `autoretry_for=(Exception,)`).
    pub autoretry: bool,
    /// Base of the exponential wait of an automatic retry; `None` waits `default_retry_delay`.
    pub retry_backoff: Option<Duration>,
    /// Cap of that wait.
    pub retry_backoff_max: Duration,
    /// Spread that wait evenly between nothing and itself.
    pub retry_jitter: bool,
    /// The wait of a retry that names none.
    pub default_retry_delay: Duration,
    /// Acknowledged when it has ended (at least once). False: before it starts (at most once). Celery: false.
    pub acks_late: bool,
    /// Not started later than this after it was sent.
    pub expires: Option<Duration>,
    /// What its plugin may use at the most.
    pub caps: Caps,
}

/// The table `[limits]` of a plugin's manifest: it only narrows what its tasks may use otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// The longest an attempt may run, whoever asked for more; `None` does not narrow.
    pub time_limit: Option<Duration>,
    /// The most memory of an attempt; `None` does not narrow.
    pub memory: Option<ByteSize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: QueueName::default(),
            priority: Priority(0),
            time_limit: None,
            soft_time_limit: None,
            ignore_result: false,
            track_started: false,
            max_retries: Some(3),
            autoretry: false,
            retry_backoff: None,
            retry_backoff_max: Duration::from_secs(600),
            retry_jitter: true,
            default_retry_delay: Duration::from_secs(180),
            acks_late: true,
            expires: None,
            caps: Caps::default(),
        }
    }
}
