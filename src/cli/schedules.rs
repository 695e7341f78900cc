//! `umbel schedules`: when each entry of the timetable runs next. It reads the file; no umbel need run.

use std::path::Path;
use std::process::ExitCode;

use chrono::{SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::paper::{Table, say};
use crate::beat::{self, Entry, Timetable};
use crate::task::Timestamp;

#[derive(clap::Args)]
pub(super) struct Looking {
    /// How many of the next runs of each entry.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    next: u16,
}

/// One entry, as `--json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    entry: &'a str,
    task: &'a str,
    schedule: String,
    /// `None` for an interval.
    timezone: Option<&'static str>,
    enabled: bool,
    /// Empty when it is not enabled or never comes again. Those of an interval count from now.
    next: Vec<String>,
}

pub(super) fn run(looking: &Looking, folder: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let timetable = Timetable::load(&folder.join(beat::FILE))?;
    let now = Utc::now();
    let shown: Vec<Shown<'_>> = timetable.entries().iter().map(|entry| of(entry, now, looking.next.into())).collect();
    if json {
        say(&serde_json::to_string(&shown)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["ENTRY", "TASK", "SCHEDULE", "NEXT"]);
    for it in &shown {
        let next = match it.next.as_slice() {
            [] if it.enabled => "never again".to_owned(),
            [] => "not enabled".to_owned(),
            times => times.join(" "),
        };
        table.add([it.entry.to_owned(), it.task.to_owned(), it.schedule.clone(), next]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn of(entry: &Entry, now: Timestamp, count: usize) -> Shown<'_> {
    let zone = entry.schedule.zone();
    let local =
        |time: Timestamp| time.with_timezone(&zone.unwrap_or(Tz::UTC)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let next = if entry.enabled { entry.next_after(now, count) } else { Vec::new() };
    Shown {
        entry: &entry.name,
        task: &entry.task,
        schedule: entry.schedule.text(),
        timezone: zone.map(|zone| zone.name()),
        enabled: entry.enabled,
        next: next.into_iter().map(local).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_runs_are_told_in_the_zone_of_the_entry() {
        let text = "timezone = \"Asia/Seoul\"\n[night]\ntask = \"a.b\"\nschedule = { minute = 30, hour = 23 }\n\
                    [often]\ntask = \"a.c\"\nschedule = \"10s\"\nenabled = false\n";
        let timetable = Timetable::parse(text, "schedules.toml").unwrap();
        let now = "2030-01-01T00:00:00Z".parse().unwrap();

        let [night, often] = [0, 1].map(|index| of(&timetable.entries()[index], now, 2));

        assert_eq!(night.next, ["2030-01-01T23:30:00+09:00", "2030-01-02T23:30:00+09:00"]);
        assert_eq!((night.timezone, night.schedule.as_str()), (Some("Asia/Seoul"), "30 23 * * *"));
        assert_eq!((often.next.len(), often.enabled, often.timezone), (0, false, None));
    }
}
