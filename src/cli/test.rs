//! `umbel test`: runs the tests of a folder, and shows what failed where.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::paper::{begin, has_colours, say};
use super::{diagnostic, runtime};
use crate::app::Tests;
use crate::config::Settings;
use crate::plugin::Task;
use crate::script::{Broken, Severity};
use crate::task::{Failure, LogLine, Run, State, did_you_mean, nearest};

#[derive(clap::Args)]
pub(super) struct Testing {
    /// Run only tests that have this in their names.
    filter: Option<String>,
}

/// There is nothing to run.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTest {
    #[error(
        "there is no test in `{}`: public functions without parameters in files like `tasks/math_test.rhai` are tests",
        .0.display()
    )]
    InFolder(PathBuf),
    #[error("no test has `{filter}` in its name{}", did_you_mean(.nearest.as_deref()))]
    Named { filter: String, nearest: Option<String> },
}

/// What came of one test, or of a file that cannot be loaded.
#[derive(Serialize)]
struct Report {
    /// `None` for a file.
    test: Option<String>,
    file: String,
    line: Option<u32>,
    /// `passed`, `failed` or `not-loaded`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Mistake>,
    log: Vec<LogLine>,
    duration_ms: u64,
}

/// Why it failed.
#[derive(Serialize)]
struct Mistake {
    #[serde(skip_serializing_if = "Option::is_none")]
    exc_type: Option<String>,
    #[serde(flatten)]
    at: Broken,
    /// The calls around that one, the innermost first, each with its function as message.
    calls: Vec<Broken>,
}

pub(super) fn run(testing: Testing, settings: Settings, json: bool) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let folder = settings.folder.clone();
        let tests = Tests::load(settings).await?;
        let filter = testing.filter.unwrap_or_default();
        let wanted: Vec<&Task> =
            tests.tests.iter().map(|test| &**test).filter(|test| test.name.contains(&filter)).collect();
        if wanted.is_empty() && tests.broken.is_empty() {
            return Err(if tests.tests.is_empty() {
                NoTest::InFolder(folder).into()
            } else {
                let nearest = nearest(&filter, tests.tests.iter().map(|test| test.name.as_str())).map(str::to_owned);
                NoTest::Named { filter, nearest }.into()
            });
        }
        let mut reports: Vec<Report> = tests.broken.iter().cloned().map(not_loaded).collect();
        for test in wanted {
            if !json {
                begin(&format!("test {} ... ", test.name))?;
            }
            let report = report(test, tests.run(test).await?);
            if !json {
                say(if report.error.is_none() { "ok" } else { "FAILED" })?;
            }
            reports.push(report);
        }
        if json {
            say(&serde_json::to_string_pretty(&reports)?)?;
        } else {
            reports.iter().try_for_each(show)?;
            say(&summary(&reports))?;
        }
        let failed = reports.iter().any(|report| report.error.is_some());
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

fn not_loaded(broken: Broken) -> Report {
    Report {
        test: None,
        file: broken.file.clone(),
        line: broken.line,
        outcome: "not-loaded",
        error: Some(Mistake { exc_type: None, at: broken, calls: Vec::new() }),
        log: Vec::new(),
        duration_ms: 0,
    }
}

fn report(test: &Task, run: Run) -> Report {
    let took = run.started_at.zip(run.finished_at).map(|(from, to)| (to - from).num_milliseconds());
    let error = (run.state != State::Success).then(|| {
        let why = run.error.unwrap_or_else(|| Failure::builtin("RuntimeError", run.state.as_str()));
        mistake(test, why)
    });
    Report {
        test: Some(test.name.clone()),
        file: test.script.file.clone(),
        line: Some(test.line),
        outcome: if error.is_none() { "passed" } else { "failed" },
        error,
        log: run.log,
        duration_ms: took.and_then(|took| u64::try_from(took).ok()).unwrap_or_default(),
    }
}

fn mistake(test: &Task, why: Failure) -> Mistake {
    let mut calls = test.script.calls(&why);
    let innermost = calls.pop().unwrap_or_else(|| test.script.broken(test.line, None, String::new()));
    calls.reverse();
    // An assertion speaks for itself.
    let message = match why.exc_type.as_str() {
        "AssertionError" => why.exc_message,
        class => format!("{class}: {}", why.exc_message),
    };
    Mistake { exc_type: Some(why.exc_type), at: Broken { message, ..innermost }, calls }
}

/// What is wrong, with its line, the calls that led there and what the test said.
fn show(report: &Report) -> std::io::Result<()> {
    let Some(Mistake { at, calls, .. }) = &report.error else { return Ok(()) };
    let title = report.test.as_ref().map_or(String::new(), |test| format!("{test}\n"));
    say(&format!("\n{title}{}", diagnostic::show(Severity::Error, at, has_colours(&std::io::stdout()))))?;
    for call in calls {
        let at = Broken { message: format!("in {}", call.message), ..call.clone() };
        say(&format!("called at {at}"))?;
    }
    report.log.iter().try_for_each(|line| say(&format!("{}: {}", line.level, line.text)))
}

fn summary(reports: &[Report]) -> String {
    let count = |outcome| reports.iter().filter(|report| report.outcome == outcome).count();
    let mut parts = vec![format!("{} passed", count("passed"))];
    parts.extend(match count("failed") {
        0 => None,
        failed => Some(format!("{failed} failed")),
    });
    parts.extend(match count("not-loaded") {
        0 => None,
        1 => Some("1 problem in files that are not loaded".to_owned()),
        many => Some(format!("{many} problems in files that are not loaded")),
    });
    format!("\n{}", parts.join(", "))
}
