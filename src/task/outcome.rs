//! What came of an attempt, and what is done about it: `judge` is the only place that decides on a retry.

use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Json, Options};

/// Why a task failed, in the three parts from which a Python client rebuilds an exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The exception's class, such as `ValueError`.
    pub exc_type: String,
    /// Its module, such as `builtins`.
    pub exc_module: String,
    pub exc_message: String,
    /// The arguments of the exception where they are not its message alone; what is kept of a run does not have them.
    #[serde(skip)]
    pub arguments: Option<Vec<serde_json::Value>>,
    /// Where it happened: file, line, column, excerpt and the calls that led there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
}

impl Failure {
    /// A failure of one of Python's built-in exception classes.
    pub fn builtin(exc_type: &str, exc_message: impl Into<String>) -> Self {
        Self::new("builtins", exc_type, exc_message)
    }

    /// A failure of one of the classes in `celery.exceptions`.
    pub fn celery(exc_type: &str, exc_message: impl Into<String>) -> Self {
        Self::new("celery.exceptions", exc_type, exc_message)
    }

    pub fn new(exc_module: &str, exc_type: &str, exc_message: impl Into<String>) -> Self {
        Self {
            exc_type: exc_type.to_owned(),
            exc_module: exc_module.to_owned(),
            exc_message: exc_message.into(),
            arguments: None,
            traceback: None,
        }
    }
}

/// What came of one attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The script returned this.
    Returned(Json),
    /// The script threw, or met an error.
    Raised(Failure),
    /// The script called `task::retry`.
    RetryAsked {
        /// What to wait; `None` is the task's `default_retry_delay`.
        countdown: Option<Duration>,
        /// Instead of the task's own; `None` leaves that.
        max_retries: Option<u32>,
        why: Failure,
    },
    /// It ran longer than allowed. Never retried by `autoretry`: it would only take as long again.
    OverLimit(Failure),
    /// It was revoked while it ran.
    Revoked,
}

/// What is done about an outcome.
#[derive(Debug, Clone)]
pub enum Verdict {
    Success(Json),
    Failure(Failure),
    /// The same task again, after this wait.
    Retry {
        countdown: Duration,
        why: Failure,
    },
    /// `revoked`, `expired` or `terminated`, as Celery's `TaskRevokedError` says.
    Revoked {
        reason: &'static str,
    },
}

/// Decides what follows from `outcome` for a task that has been retried `retries` times.
///
/// `max_retries` is the sender's, over the task's own. The wait follows Celery's
/// `get_exponential_backoff_interval`; `dice` spreads it.
pub fn judge(
    outcome: Outcome,
    options: &Options,
    max_retries: Option<u32>,
    retries: u32,
    dice: &mut impl Rng,
) -> Verdict {
    let allowed = max_retries.or(options.max_retries);
    let may_retry = |asked: Option<u32>| asked.or(allowed).is_none_or(|max| retries < max);
    match outcome {
        Outcome::Returned(value) => Verdict::Success(value),
        Outcome::Raised(why) if options.autoretry && may_retry(None) => {
            Verdict::Retry { countdown: automatic_wait(options, retries, dice), why }
        }
        Outcome::RetryAsked { countdown, max_retries, why } if may_retry(max_retries) => {
            Verdict::Retry { countdown: countdown.unwrap_or(options.default_retry_delay), why }
        }
        Outcome::RetryAsked { why, .. } => Verdict::Failure(Failure {
            traceback: why.traceback,
            ..Failure::celery("MaxRetriesExceededError", format!("after {retries} retries: {}", why.exc_message))
        }),
        Outcome::Raised(why) | Outcome::OverLimit(why) => Verdict::Failure(why),
        Outcome::Revoked => Verdict::Revoked { reason: "terminated" },
    }
}

fn automatic_wait(options: &Options, retries: u32, dice: &mut impl Rng) -> Duration {
    let Some(base) = options.retry_backoff else { return options.default_retry_delay };
    let doubled = base.saturating_mul(2u32.saturating_pow(retries));
    let wait = doubled.min(options.retry_backoff_max);
    if options.retry_jitter { dice.random_range(Duration::ZERO..=wait) } else { wait }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::to_json;

    fn waits(options: &Options, outcome: impl Fn() -> Outcome) -> Vec<Option<u64>> {
        let mut dice = rand::rng();
        (0..5)
            .map(|retries| match judge(outcome(), options, None, retries, &mut dice) {
                Verdict::Retry { countdown, .. } => Some(countdown.as_secs()),
                _ => None,
            })
            .collect()
    }

    fn raised() -> Outcome {
        Outcome::Raised(Failure::builtin("ValueError", "no"))
    }

    #[test]
    fn a_failure_is_final_unless_asked_otherwise() {
        assert_eq!(waits(&Options::default(), raised), [None; 5]);
    }

    #[test]
    fn automatic_retries_double_up_to_the_cap() {
        let options = Options {
            autoretry: true,
            max_retries: None,
            retry_backoff: Some(Duration::from_secs(1)),
            retry_backoff_max: Duration::from_secs(6),
            retry_jitter: false,
            ..Options::default()
        };

        assert_eq!(waits(&options, raised), [Some(1), Some(2), Some(4), Some(6), Some(6)]);
    }

    #[test]
    fn jitter_only_shortens() {
        let options = Options {
            autoretry: true,
            max_retries: None,
            retry_backoff: Some(Duration::from_secs(8)),
            ..Options::default()
        };

        for _ in 0..100 {
            for (retries, wait) in waits(&options, raised).into_iter().enumerate() {
                assert!(wait.unwrap() <= 8 << retries);
            }
        }
    }

    #[test]
    fn a_retry_that_was_asked_for_waits_as_told_and_ends_at_the_limit() {
        let asked = || Outcome::RetryAsked {
            countdown: Some(Duration::from_secs(7)),
            max_retries: None,
            why: Failure::celery("Retry", "again"),
        };

        assert_eq!(waits(&Options::default(), asked), [Some(7), Some(7), Some(7), None, None]);
    }

    #[test]
    fn the_senders_limit_is_over_the_tasks() {
        let options = Options { autoretry: true, ..Options::default() };

        let verdict = judge(raised(), &options, Some(0), 0, &mut rand::rng());

        assert!(matches!(verdict, Verdict::Failure(_)));
    }

    #[test]
    fn time_is_never_retried_by_itself() {
        let options = Options { autoretry: true, ..Options::default() };
        let outcome = Outcome::OverLimit(Failure::builtin("TimeLimitExceeded", "1"));

        assert!(matches!(judge(outcome, &options, None, 0, &mut rand::rng()), Verdict::Failure(_)));
    }

    #[test]
    fn a_value_is_success() {
        let outcome = Outcome::Returned(to_json(&5));

        assert!(
            matches!(judge(outcome, &Options::default(), None, 0, &mut rand::rng()), Verdict::Success(value) if value.get() == "5")
        );
    }
}
