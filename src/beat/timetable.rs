//! `schedules.toml`: one table for each entry, as `CELERY_BEAT_SCHEDULE` has them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use chrono_tz::Tz;
use toml_edit::{ImDocument, Item};

use super::entry::Entry;
use super::table::{File, Problem, Table};

/// Everything that is to run by itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timetable {
    entries: Vec<Entry>,
    warnings: Vec<Problem>,
}

/// A timetable that cannot be used, and everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTimetable {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for BadTimetable {
    /// One line: the first problems, and how many more there are.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<String> = self.problems.iter().take(SHOWN).map(Problem::to_string).collect();
        out.write_str(&problems.join("; "))?;
        match self.problems.len() - problems.len() {
            0 => Ok(()),
            more => write!(out, "; and {more} more"),
        }
    }
}

impl std::error::Error for BadTimetable {}

/// How many problems one line tells.
const SHOWN: usize = 5;

/// Top-level names that are kept for what a timetable may say of itself.
const TIMEZONE: &str = "timezone";
const NOT_BUILT_YET: [&str; 3] = ["version", "defaults", "include"];

impl Timetable {
    /// Reads the file at `path`. One that is not there is an empty timetable.
    pub fn load(path: &Path) -> Result<Self, BadTimetable> {
        let text = std::fs::read_to_string(path).or_else(|error| match error.kind() {
            ErrorKind::NotFound => Ok(String::new()),
            _ => Err(unread(path, format!("cannot be read: {error}"))),
        });
        Self::parse(&text?, &shown(path))
    }

    /// Reads the text of a file; `file` is how its problems call it.
    ///
    /// # Errors
    /// All that is wrong, at most one problem for each entry.
    pub fn parse(text: &str, file: &str) -> Result<Self, BadTimetable> {
        let file = File { name: file, text };
        let document = ImDocument::parse(text).map_err(|error| {
            let line = error.span().map(|span| file.line(&span));
            let message = error.message().trim_end().replace('\n', ", ");
            let message = match message.as_str() {
                "invalid key" => {
                    "invalid key: a name in other characters than A-Z a-z 0-9 _ - is written in quotes".into()
                }
                _ => message,
            };
            let problem = Problem { file: file.name.to_owned(), line, entry: None, field: None, message };
            BadTimetable { problems: vec![problem] }
        })?;
        let top = Table::top(file, document.as_table());
        let mut problems = Vec::new();
        let zone = top.zone(TIMEZONE).unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let mut timetable = Self::default();
        for (name, item) in top.keys().filter(|(name, _)| *name != TIMEZONE) {
            match read_entry(&top, name, item, zone.unwrap_or(Tz::UTC), &mut timetable.warnings) {
                Ok(entry) => timetable.entries.push(entry),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(timetable) } else { Err(BadTimetable { problems }) }
    }

    /// The entries in the order of the file, those that are not enabled too.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A sentence for each entry that is added, removed or changed in `next`; `outlook` says when it runs next.
    pub(super) fn changes_to(&self, next: &Timetable, outlook: impl Fn(&Entry) -> String) -> Vec<String> {
        let known: HashMap<&str, &Entry> = self.entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let kept: HashSet<&str> = next.entries.iter().map(|entry| entry.name.as_str()).collect();
        let removed = self.entries.iter().filter(|entry| !kept.contains(entry.name.as_str()));
        let removed = removed.map(|entry| format!("removed [{}]", entry.name));
        let others = next.entries.iter().filter_map(|entry| match known.get(entry.name.as_str()) {
            None => Some(format!("added [{}], {}", entry.name, outlook(entry))),
            Some(old) if *old != entry => Some(format!("changed [{}], {}", entry.name, outlook(entry))),
            Some(_) => None,
        });
        removed.chain(others).collect()
    }

    /// What is allowed but probably not meant.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}

fn read_entry(top: &Table, name: &str, item: &Item, zone: Tz, warnings: &mut Vec<Problem>) -> Result<Entry, Problem> {
    if NOT_BUILT_YET.contains(&name) {
        return Err(top.problem(name, "this name is reserved, and what it will do is not built yet"));
    }
    match top.entry(name) {
        Some(table) => Entry::read(name, &table, zone, warnings),
        None => {
            let form = format!("a table `[{name}]` (the one setting beside the entries is `{TIMEZONE}`)");
            Err(top.wrong(name, &form, item))
        }
    }
}

/// What is said of the file at `path` that has no text; `why` is the rest of a sentence that names it.
pub(super) fn unread(path: &Path, why: String) -> BadTimetable {
    let problem = Problem { file: shown(path), line: None, entry: None, field: None, message: why };
    BadTimetable { problems: vec![problem] }
}

/// How problems call the file at `path`: by its name, as there is one in each folder.
pub(super) fn shown(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::entry::{CatchUp, Overlap};
    use super::*;
    use crate::client::Expires;
    use crate::task::Timestamp;

    fn parse(text: &str) -> Result<Timetable, BadTimetable> {
        Timetable::parse(text, "schedules.toml")
    }

    fn one(fields: &str) -> Result<Entry, BadTimetable> {
        parse(&format!("[e]\ntask = \"t.f\"\n{fields}")).map(|mut timetable| timetable.entries.remove(0))
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from_str(text).unwrap()
    }

    /// The problems of an entry whose third line on is `fields`.
    fn refused(fields: &str, expected: &str) {
        let bad = one(fields).expect_err(fields);
        assert_eq!(bad.to_string(), expected, "{fields}");
    }

    fn warned(schedule: &str) -> Vec<String> {
        let timetable = parse(&format!("[e]\ntask = \"t.f\"\nschedule = {schedule}")).unwrap();
        timetable.warnings().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn an_entry_says_what_to_send() {
        let timetable = parse(
            r#"
            timezone = "Asia/Seoul"

            ["야간"]
            task = "reports.nightly"
            schedule = { minute = 59, hour = [22, "23"] }
            args = ["all", 1, 2.5, true, [], { a = 1 }]
            kwargs.deep = { x = "y" }
            options = { queue = "io", expires = "1h", priority = 3, countdown = 2 }
            catch_up = "all"
            overlap = "skip"
            enabled = false
            "#,
        )
        .unwrap();
        let entry = &timetable.entries()[0];
        let request = entry.request(at("2024-01-01T00:00:00Z"));

        assert_eq!((entry.name.as_str(), entry.task.as_str()), ("야간", "reports.nightly"));
        assert_eq!((entry.enabled, entry.catch_up, entry.overlap), (false, CatchUp::All, Overlap::Skip));
        assert_eq!((entry.schedule.text().as_str(), entry.schedule.zone()), ("59 22,23 * * *", Some(Tz::Asia__Seoul)));
        assert_eq!(
            entry.next_after(at("2024-01-01T00:00:00Z"), 2),
            [at("2024-01-01T22:59:00+09:00"), at("2024-01-01T23:59:00+09:00")]
        );
        assert_eq!(request.task, "reports.nightly");
        assert_eq!(request.args.unwrap().get(), json!(["all", 1, 2.5, true, [], { "a": 1 }]).to_string());
        assert_eq!(request.kwargs.unwrap().get(), json!({ "deep": { "x": "y" } }).to_string());
        assert_eq!(request.queue.unwrap().as_str(), "io");
        assert_eq!(request.priority.unwrap().0, 3);
        assert_eq!(request.expires, Some(Expires::After(std::time::Duration::from_secs(3600))));
        assert_eq!(request.countdown, Some(std::time::Duration::from_secs(2)));
    }

    #[test]
    fn a_schedule_is_written_in_three_ways() {
        for (written, shown) in [
            ("\"*/15 9-17 * *  mon-fri\"", "*/15 9-17 * * mon-fri"),
            ("\"10s\"", "10s"),
            ("90", "90s"),
            ("0.5", "500ms"),
            ("\"1h30m\"", "90m"),
            ("{ minute = \"*/5\" }", "*/5 * * * *"),
            ("{}", "* * * * *"),
        ] {
            assert_eq!(one(&format!("schedule = {written}")).unwrap().schedule.text(), shown);
        }
        assert_eq!(one("schedule.minute = 5").unwrap().schedule.text(), "5 * * * *");
        assert_eq!(one("[e.schedule]\nminute = 5").unwrap().schedule.text(), "5 * * * *");
    }

    #[test]
    fn what_is_wrong_is_named_with_line_entry_and_field() {
        for (fields, expected) in [
            (
                "",
                "schedules.toml:1: [e]: has no schedule: write an interval (`\"30s\"`), five crontab fields (`\"*/15 * * * *\"`) or a table of them (`{ minute = 0, hour = 11 }`)",
            ),
            ("schedule = 5\nshedule = 6", "schedules.toml:4: [e] shedule: unknown field; did you mean `schedule`?"),
            ("schedule = { hour = 24 }", "schedules.toml:3: [e] schedule.hour: `24` is not within 0 to 23"),
            ("[e.schedule]\nminute = 0\nhour = 24", "schedules.toml:5: [e] schedule.hour: `24` is not within 0 to 23"),
            ("schedule = \"0 24 * * *\"", "schedules.toml:3: [e] schedule: hour: `24` is not within 0 to 23"),
            (
                "schedule = { minute = 0, hours = 2 }",
                "schedules.toml:3: [e] schedule.hours: unknown field; did you mean `hour`?",
            ),
            (
                "schedule = { day_of_month = 30, month_of_year = 2 }",
                "schedules.toml:3: [e] schedule: day 30 never comes in month 2",
            ),
            (
                "schedule = { minute = [true] }",
                "schedules.toml:3: [e] schedule.minute: must be a number, a text such as `\"*/15\"` or an array of them, not an array",
            ),
            ("schedule = 0", "schedules.toml:3: [e] schedule: an interval is at least 100ms"),
            ("schedule = \"50ms\"", "schedules.toml:3: [e] schedule: an interval is at least 100ms"),
            (
                "schedule = -5",
                "schedules.toml:3: [e] schedule: `-5` is not a duration: write a number with `ms`, `s`, `m`, `h` or `d`, as in `30s` or `1h30m`",
            ),
            (
                "schedule = 5\ntimezone = \"Seoul\"",
                "schedules.toml:4: [e] timezone: no time zone named `Seoul`; did you mean `Asia/Seoul`?",
            ),
            (
                "schedule = 5\ntimezone = \"Europe/Pariss\"",
                "schedules.toml:4: [e] timezone: no time zone named `Europe/Pariss`; did you mean `Europe/Paris`?",
            ),
            (
                "schedule = 5\nargs = [2024-01-01]",
                "schedules.toml:4: [e] args: JSON has no times, so write `\"2024-01-01\"` in quotes and let the task read it",
            ),
            ("schedule = 5\nargs = 5", "schedules.toml:4: [e] args: must be an array, as in `[16, 16]`"),
            ("schedule = 5\nkwargs = { x = nan }", "schedules.toml:4: [e] kwargs: `NaN` is no number in JSON"),
            (
                "schedule = 5\noptions = { que = \"io\" }",
                "schedules.toml:4: [e] options.que: unknown field; did you mean `queue`?",
            ),
            (
                "schedule = 5\noptions.priority = 10",
                "schedules.toml:4: [e] options.priority: `10` is not within 0 (first) to 9",
            ),
            (
                "schedule = 5\noptions.expires = 0",
                "schedules.toml:4: [e] options.expires: would expire at once: leave it out, or write a duration such as \"1h\"",
            ),
            (
                "schedule = 5\ncatch_up = \"never\"",
                "schedules.toml:4: [e] catch_up: `never` is none of `skip`, `once`, `all`",
            ),
            ("schedule = 5\nenabled = \"no\"", "schedules.toml:4: [e] enabled: must be true or false, not a text"),
        ] {
            refused(fields, expected);
        }
    }

    #[test]
    fn all_entries_that_are_wrong_are_named() {
        let bad = parse("[a]\ntask = 5\n[b]\ntask = \"t.f\"\nschedule = 5\n[c]\nschedule = 5").unwrap_err();
        let problems: Vec<String> = bad.problems.iter().map(Problem::to_string).collect();

        assert_eq!(
            problems,
            [
                "schedules.toml:2: [a] task: must be a text in quotes, not a number",
                "schedules.toml:6: [c]: has no task: write `task = \"math.add\"`",
            ]
        );
    }

    #[test]
    fn the_top_level_has_few_names() {
        for (text, expected) in [
            ("version = 1", "schedules.toml:1: version: this name is reserved, and what it will do is not built yet"),
            (
                "\ntimezone = \"Mars\"",
                "schedules.toml:2: timezone: no time zone named `Mars`; IANA names are such as `Europe/Paris`",
            ),
            (
                "timezne = \"UTC\"",
                "schedules.toml:1: timezne: must be a table `[timezne]` (the one setting beside the entries is `timezone`), not a text",
            ),
            (
                "[[a]]\ntask = \"t.f\"",
                "schedules.toml:1: a: must be a table `[a]` (the one setting beside the entries is `timezone`), not a list of tables",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
        assert!(parse("").unwrap().entries().is_empty());
    }

    #[test]
    fn text_that_is_no_toml_is_named_with_its_line() {
        let bad = parse("timezone = \"UTC\"\n[e]\ntask = \n").unwrap_err();

        assert_eq!(bad.problems[0].line, Some(3), "{bad}");
        assert_eq!(
            parse("[야간]").unwrap_err().to_string(),
            "schedules.toml:1: invalid key: a name in other characters than A-Z a-z 0-9 _ - is written in quotes"
        );
    }

    #[test]
    fn an_hour_without_a_minute_is_warned_of() {
        assert_eq!(
            warned("{ hour = 11 }"),
            [
                "schedules.toml:3: [e] schedule.hour: without `minute` this runs 60 times an hour; for 11:00 write `{ minute = 0, hour = 11 }`, and if it is meant add `minute = \"*\"`"
            ]
        );
        assert_eq!(warned("{ hour = \"*/2\" }").len(), 1);
        assert_eq!(warned("{ day_of_week = \"mon\" }").len(), 1);
        for meant in ["{ hour = 11, minute = 0 }", "{ hour = 11, minute = \"*\" }", "{}", "\"* 11 * * *\"", "10"] {
            assert_eq!(warned(meant), Vec::<String>::new());
        }
    }

    #[test]
    fn an_edit_is_told_entry_by_entry() {
        let entry = |name: &str, rest: &str| format!("[{name}]\ntask = \"t.f\"\n{rest}\n");
        let before = [entry("gone", "schedule = 5"), entry("same", "schedule = 5"), entry("moved", "schedule = 5")];
        let after = [
            entry("moved", "schedule = \"0 0 * * *\"\ntimezone = \"Asia/Seoul\""),
            entry("paused", "schedule = 5\nenabled = false"),
            entry("same", "schedule = 5"),
        ];

        let (now, after) = (at("2024-01-01T00:00:00Z"), parse(&after.concat()).unwrap());
        let changes = parse(&before.concat()).unwrap().changes_to(&after, |entry| entry.outlook(now, now));

        assert_eq!(
            changes,
            [
                "removed [gone]",
                "changed [moved], next run 2024-01-02T00:00:00+09:00",
                "added [paused], which is not enabled",
            ]
        );
    }

    #[test]
    fn the_timetable_of_this_repository_is_good() {
        let timetable = parse(include_str!("../../schedules.toml")).unwrap();

        assert!(timetable.warnings().is_empty());
        let shown: Vec<String> = timetable.entries().iter().map(|entry| entry.schedule.text()).collect();
        assert_eq!(shown, ["1m", "59 23 * * *"]);
    }

    #[test]
    fn the_examples_in_its_comments_are_good() {
        let text = include_str!("../../schedules.toml");
        let (_, example) = text.split_once("# [reports").unwrap();
        let example: String =
            format!("[reports{example}").lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();

        let timetable = parse(&example).unwrap();

        assert!(timetable.warnings().is_empty());
        assert_eq!(timetable.entries()[0].schedule.text(), "*/15 9-17 * * mon-fri");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\[?[a-z]{1,3}\\]?( ?= ?)?[\"{}\\[0-9a-z.*/ ,=-]{0,12}\n){0,6}") {
            if let Err(bad) = parse(&text) {
                prop_assert!(!bad.problems.is_empty());
            }
        }

        #[test]
        fn any_schedule_is_read_or_refused(schedule in "[\"{}a-z0-9 =,*/.-]{0,24}") {
            if let Ok(entry) = one(&format!("schedule = {schedule}")) {
                let now = at("2024-02-28T23:59:59.5Z");
                prop_assert!(entry.schedule.next(now).is_none_or(|tick| tick > now));
            }
        }
    }
}
