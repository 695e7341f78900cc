//! How a command ends, as shells and programs see it.

use std::process::ExitCode;

use super::{arguments, check, door, new, operate, test};
use crate::app::Unshared;
use crate::client::SubmitError;
use crate::script::Broken;
use crate::store;

/// What each exit code means; README shows the same.
pub(super) const CODES: [(u8, &str); 5] = [
    (0, "done; a task that was waited for has succeeded, nothing wrong was found"),
    (FAILED, "the task or a test failed, it has not ended in time, mistakes were found, or something else went wrong"),
    (WRONG, "wrong usage, settings, token, task or arguments; nothing was done"),
    (NOBODY, "there is no umbel or no store to work with now"),
    (INTERRUPTED, "ended by Ctrl-C"),
];

pub(super) const FAILED: u8 = 1;
const WRONG: u8 = 2;
const NOBODY: u8 = 3;
pub(super) const INTERRUPTED: u8 = 130;

/// The codes as `--help` ends with them.
pub(super) fn codes() -> String {
    let lines: Vec<String> = CODES.iter().map(|(code, meaning)| format!("  {code:>3}  {meaning}")).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// Whose fault an error was.
pub(super) fn code_of(error: &anyhow::Error) -> ExitCode {
    let of_store = |error: &store::Error| match error {
        store::Error::Held(_) | store::Error::Away { .. } | store::Error::Full { .. } => NOBODY,
        store::Error::DuplicateId { .. } | store::Error::BadCursor { .. } => WRONG,
        store::Error::Other(error) if error.is::<store::NoCopy>() => WRONG,
        store::Error::Other(_) => FAILED,
    };
    let is_wrong = error.is::<Broken>()
        || error.is::<Unshared>()
        || error.is::<arguments::Twice>()
        || error.is::<check::NoFile>()
        || error.is::<new::NotEmpty>()
        || error.is::<operate::Unconfirmed>()
        || error.is::<test::NoTest>();
    let code = if is_wrong {
        WRONG
    } else if let Some(error) = error.downcast_ref() {
        match error {
            SubmitError::Store(error) => of_store(error),
            _ => WRONG,
        }
    } else if let Some(error) = error.downcast_ref() {
        of_store(error)
    } else if let Some(error) = error.downcast_ref() {
        match error {
            door::Unanswered::Nobody { .. } | door::Unanswered::Lost { .. } => NOBODY,
            door::Unanswered::Refused { status: 429 | 503, .. } => NOBODY,
            door::Unanswered::Refused { status: 400..500, .. } | door::Unanswered::Address { .. } => WRONG,
            door::Unanswered::Refused { .. } => FAILED,
        }
    } else {
        FAILED
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_tells_whose_fault_it_was() {
        let code = |error: anyhow::Error| format!("{:?}", code_of(&error));
        let is = |code: u8| format!("{:?}", ExitCode::from(code));
        let away = || store::Error::Away { reason: "gone".into() };
        let unknown = SubmitError::UnknownTask { name: "x".into(), nearest: None };
        let refused = |status| door::Unanswered::Refused { status, detail: String::new() };

        assert_eq!(code(anyhow::anyhow!("disk full")), is(1));
        assert_eq!(code(anyhow::Error::from(unknown).context("cannot call")), is(2));
        assert_eq!(code(away().into()), is(3));
        assert_eq!(code(SubmitError::Store(away()).into()), is(3));
        let codes = [404, 422, 401, 503, 429, 500].map(|status| code(refused(status).into()));
        assert_eq!(codes, [2, 2, 2, 3, 3, 1].map(is));
    }

    #[test]
    fn readme_has_the_same_table() {
        let readme = include_str!("../../README.md");
        for (code, meaning) in CODES {
            assert!(readme.contains(&format!("| {code} | {meaning} |")), "README lacks the exit code {code}");
        }
    }
}
