//! `umbel schedules`: when each entry of the timetable runs next. It reads the file; no umbel need run. Where one does,
//! it tells from when the intervals count.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use chrono::{SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::door::{self, Door, Reach};
use super::paper::{Table, say};
use crate::beat::{self, Entry, Timetable};
use crate::config::Settings;
use crate::script::Broken;
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
    /// Empty when it is not enabled or never comes again.
    next: Vec<String>,
    /// False for an interval of which no umbel that runs here tells where it stands: then it counts from now.
    exact: bool,
}

/// What the umbel of the folder says of an entry.
#[derive(Debug, PartialEq, Deserialize)]
struct Kept {
    name: String,
    schedule: String,
    /// What its next runs count from.
    last: Timestamp,
}

pub(super) fn run(
    looking: &Looking,
    folder: &Path,
    settings: impl FnOnce() -> Result<Settings, Broken>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let timetable = Timetable::load(&folder.join(beat::FILE))?;
    let now = Utc::now();
    let kept = kept(settings).unwrap_or_default();
    let shown: Vec<Shown<'_>> =
        timetable.entries().iter().map(|entry| of(entry, kept.get(&entry.name), now, looking.next.into())).collect();
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
    if shown.iter().any(|it| it.enabled && !it.exact) {
        eprintln!("no umbel that runs here keeps these intervals: they are shown as if they began now");
    }
    Ok(ExitCode::SUCCESS)
}

/// The entries that the umbel of the folder keeps, by name; `None` where none runs or it does not say.
fn kept(settings: impl FnOnce() -> Result<Settings, Broken>) -> Option<BTreeMap<String, Kept>> {
    #[derive(Deserialize)]
    struct Answer {
        entries: Vec<Kept>,
    }
    let door = Door::open(Reach::default(), settings).ok()?;
    let Answer { entries } = door::read(&door.get("/api/schedules").ok()?).ok()?;
    Some(entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect())
}

fn of<'a>(entry: &'a Entry, kept: Option<&Kept>, now: Timestamp, count: usize) -> Shown<'a> {
    let zone = entry.schedule.zone();
    let local =
        |time: Timestamp| time.with_timezone(&zone.unwrap_or(Tz::UTC)).to_rfc3339_opts(SecondsFormat::Secs, true);
    // What was saved just now is not kept yet.
    let kept = kept.filter(|kept| kept.schedule == entry.schedule.text());
    let next = match kept {
        _ if !entry.enabled => Vec::new(),
        Some(kept) => entry.next_since(kept.last, now, count),
        None => entry.next_after(now, count),
    };
    Shown {
        entry: &entry.name,
        task: &entry.task,
        schedule: entry.schedule.text(),
        timezone: zone.map(|zone| zone.name()),
        enabled: entry.enabled,
        next: next.into_iter().map(local).collect(),
        exact: zone.is_some() || kept.is_some(),
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

        let [night, often] = [0, 1].map(|index| of(&timetable.entries()[index], None, now, 2));

        assert_eq!(night.next, ["2030-01-01T23:30:00+09:00", "2030-01-02T23:30:00+09:00"]);
        assert_eq!((night.timezone, night.schedule.as_str()), (Some("Asia/Seoul"), "30 23 * * *"));
        assert_eq!((often.next.len(), often.enabled, often.timezone), (0, false, None));
    }

    #[test]
    fn an_interval_counts_from_where_the_running_umbel_has_it() {
        let text = "[often]\ntask = \"a.c\"\nschedule = \"10s\"\n";
        let timetable = Timetable::parse(text, "schedules.toml").unwrap();
        let entry = &timetable.entries()[0];
        let now = "2030-01-01T00:00:05Z".parse().unwrap();
        let kept = |schedule: String| Kept {
            name: "often".to_owned(),
            schedule,
            last: "2029-12-31T23:59:58Z".parse().unwrap(),
        };

        let told = of(entry, Some(&kept(entry.schedule.text())), now, 2);
        let changed = of(entry, Some(&kept("every 7s".to_owned())), now, 1);

        assert_eq!((told.exact, told.next), (true, vec!["2030-01-01T00:00:08Z".into(), "2030-01-01T00:00:18Z".into()]));
        assert_eq!((changed.exact, changed.next), (false, vec!["2030-01-01T00:00:15Z".to_owned()]));
    }
}
