//! `umbel tasks`: the history of a running umbel.

use std::process::ExitCode;

use chrono::{Local, SecondsFormat};
use serde::Deserialize;

use super::door::{self, Door, Reach, with_query};
use super::paper::{Table, say, short};
use super::time;
use crate::config::Settings;
use crate::script::Broken;
use crate::task::{Json, Run, Timestamp, show_duration};

/// How many are asked for at a time.
const PAGE: usize = 500;

/// The longest value or error in a line, in letters.
const CAME_TO: usize = 60;

#[derive(clap::Args)]
pub(super) struct Listing {
    /// Those of this task; a star at the end stands for anything: `reports.*`.
    #[arg(long)]
    name: Option<String>,
    /// SCHEDULED, QUEUED, STARTED, RETRY, SUCCESS, FAILURE or REVOKED.
    #[arg(long, value_parser = |text: &str| Ok::<_, std::convert::Infallible>(text.to_uppercase()))]
    state: Option<String>,
    /// Those of this queue.
    #[arg(long)]
    queue: Option<String>,
    /// Those queued within a duration, or since a time in ISO 8601.
    #[arg(long, value_name = "DURATION|TIME", value_parser = time::since)]
    since: Option<Timestamp>,
    /// Those with this text in their id, name, arguments, value or error.
    #[arg(long, value_name = "TEXT")]
    q: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Deserialize)]
struct Page {
    tasks: Vec<Json>,
    #[serde(default)]
    next: Option<String>,
}

pub(super) fn run(
    listing: Listing,
    settings: impl FnOnce() -> Result<Settings, Broken>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let door = Door::open(listing.reach.clone(), settings)?;
    let mut found: Vec<Json> = Vec::new();
    let mut cursor = None;
    while found.len() < listing.limit {
        let page: Page = door::read(&door.get(&listing.path(listing.limit - found.len(), cursor))?)?;
        found.extend(page.tasks);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if json {
        say(&serde_json::to_string(&found)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["ID", "TASK", "STATE", "QUEUED", "TOOK", "CAME TO"]);
    for run in &found {
        table.add(row(&door::read(run.get())?));
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

impl Listing {
    fn path(&self, left: usize, cursor: Option<String>) -> String {
        let fields = [
            ("name", self.name.clone()),
            ("state", self.state.clone()),
            ("queue", self.queue.clone()),
            ("since", self.since.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))),
            ("q", self.q.clone()),
            ("limit", Some(left.min(PAGE).to_string())),
            ("cursor", cursor),
        ];
        with_query("/api/tasks", &fields)
    }
}

fn row(run: &Run) -> [String; 6] {
    let queued = run.queued_at.map_or(String::new(), clock);
    [run.id.to_string(), run.task.clone(), run.state.as_str().to_owned(), queued, took(run), came_to(run)]
}

/// A time as the clock on the wall shows it.
pub(super) fn clock(time: Timestamp) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// How long the last attempt ran; empty when it has not ended.
pub(super) fn took(run: &Run) -> String {
    let span = run.started_at.zip(run.finished_at).and_then(|(start, end)| (end - start).to_std().ok());
    span.map_or(String::new(), show_duration)
}

fn came_to(run: &Run) -> String {
    let text = match (&run.error, &run.result, &run.progress) {
        (Some(why), ..) => format!("{}: {}", why.exc_type, why.exc_message),
        (None, Some(value), _) => value.get().to_owned(),
        (None, None, Some(progress)) => format!("{}/{}", progress.done, progress.total),
        (None, None, None) => String::new(),
    };
    short(&text, CAME_TO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(more: &str) -> Run {
        let json = format!(
            r#"{{"id":"x","task":"math.add","state":"SUCCESS","queue":"celery","priority":0,"retries":0,
                "queued_at":null,"worker":null,"code":null,"started_at":"2030-01-01T00:00:00Z",
                "finished_at":"2030-01-01T00:00:01.5Z"{more}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_run_is_told_in_one_line() {
        let run = of(r#","result":13"#);
        assert_eq!(row(&run), ["x", "math.add", "SUCCESS", "", "1500ms", "13"]);

        let failure = r#","error":{"exc_type":"ValueError","exc_module":"builtins","exc_message":"no"}"#;
        assert_eq!(came_to(&of(failure)), "ValueError: no");
        assert_eq!(came_to(&of(r#","progress":{"done":1,"total":3}"#)), "1/3");
        let long = of(&format!(r#","result":"{}""#, "가".repeat(100)));
        assert_eq!(came_to(&long).chars().count(), CAME_TO + 1);
    }
}
