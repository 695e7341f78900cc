//! What Celery 5.7.0 answered (`tests/celery/captured/schedule-facts.json`), held against ours. Every difference is
//! deliberate and stands here.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use chrono::{NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use serde_json::Value;

use super::crontab::{Crontab, Field};
use super::schedule::Schedule;
use crate::task::Timestamp;

fn facts(section: &str) -> Vec<Value> {
    let text = include_str!("../../tests/celery/captured/schedule-facts.json");
    let facts: Value = serde_json::from_str(text).unwrap();
    let facts = facts[section].as_array().unwrap().clone();
    assert!(!facts.is_empty());
    facts
}

fn text<'a>(fact: &'a Value, key: &str) -> &'a str {
    fact[key].as_str().unwrap()
}

fn instant(fact: &Value, key: &str) -> Timestamp {
    Timestamp::from_str(text(fact, key)).unwrap()
}

fn zone(fact: &Value) -> Tz {
    text(fact, "tz").parse().unwrap()
}

fn crontab(fact: &Value) -> Schedule {
    let fields: Vec<&str> = text(fact, "cron").split(' ').collect();
    let crontab = Crontab::parse(fields.try_into().unwrap()).unwrap();
    Schedule::Crontab { crontab: Box::new(crontab), zone: zone(fact) }
}

#[test]
fn fields_stand_for_what_they_do_in_celery() {
    // Celery takes these by accident: a name of the other table, what only begins well, and Python's spellings of
    // a number.
    let refused = ["1-5-9", "jan", "+5", "1_0", "monkey", "march", "mar-tue"];
    // Celery's documents promise nothing for these; cron's users write them.
    let taken = [("0-7", vec![0, 1, 2, 3, 4, 5, 6])];

    for fact in facts("parse") {
        let field = Field::ALL.into_iter().find(|field| field.as_str() == text(&fact, "field")).unwrap();
        let spec = text(&fact, "spec");
        let celery: Option<BTreeSet<u32>> = serde_json::from_value(fact["set"].clone()).ok();

        let expected = match taken.iter().find(|(taken, _)| *taken == spec) {
            Some((_, values)) => Some(values.iter().copied().collect()),
            None if refused.contains(&spec) => None,
            None => celery.clone(),
        };
        if refused.contains(&spec) || taken.iter().any(|(taken, _)| *taken == spec) {
            assert_ne!(celery, expected, "`{spec}` is no difference any more");
        }

        assert_eq!(field.parse(spec).ok(), expected, "{} `{spec}`", field.as_str());
    }
}

#[test]
fn five_fields_are_read_as_by_from_string() {
    for fact in facts("from_string") {
        let source = text(&fact, "from_string");
        // 7 is Sunday here, and spaces may be more than one.
        let expected = fact.get("error").is_none() || ["0 0 * * 7", "  * * * * *"].contains(&source);

        let fields: Vec<&str> = source.split_whitespace().collect();
        let ours = <[&str; 5]>::try_from(fields).ok().map(Crontab::parse);

        assert_eq!(ours.is_some_and(|crontab| crontab.is_ok()), expected, "`{source}`");
    }
}

#[test]
fn the_next_tick_is_celerys() {
    for fact in facts("next") {
        assert_eq!(crontab(&fact).next(instant(&fact, "after")), Some(instant(&fact, "next")), "{fact}");
    }
}

#[test]
fn what_is_due_is_due_in_celery() {
    for fact in facts("is_due") {
        let (schedule, last, now) = (crontab(&fact), instant(&fact, "last_run_at"), instant(&fact, "now"));

        let due = schedule.last(1, last, now).pop();
        let in_time = match fact["deadline"].as_i64() {
            Some(seconds) => due.is_some_and(|due| due >= now - TimeDelta::seconds(seconds)),
            None => due.is_some(),
        };
        let wait = schedule.next(now).unwrap() - now;

        assert_eq!(in_time, fact["is_due"], "{fact}");
        assert_eq!(wait.as_seconds_f64(), fact["next_check_s"], "{fact}");
    }
}

#[test]
fn clocks_that_change_are_met_as_in_celery_or_better() {
    // Celery runs a time that a gap swallows as much later as the clock jumped. Where hours are named we run it at
    // the first moment after the gap.
    let differences = [
        ("30 2 * * *", "Europe/Paris", "2024-03-31T03:30:00+02:00", "2024-03-31T03:00:00+02:00"),
        ("15 2 * * sun", "Europe/Paris", "2024-03-31T03:15:00+02:00", "2024-03-31T03:00:00+02:00"),
        ("30 2 * * *", "America/New_York", "2024-03-10T03:30:00-04:00", "2024-03-10T03:00:00-04:00"),
        ("15 2 * * sun", "America/New_York", "2024-03-10T03:15:00-04:00", "2024-03-10T03:00:00-04:00"),
        ("15 2 * * sun", "Australia/Lord_Howe", "2024-10-06T02:45:00+11:00", "2024-10-06T02:30:00+11:00"),
    ];
    let mut met = 0;

    for fact in facts("dst_walks") {
        let (cron, zone) = (text(&fact, "cron"), zone(&fact));
        let start = NaiveDateTime::from_str(text(&fact, "start_local")).unwrap();
        let start = zone.from_local_datetime(&start).unwrap().to_utc();
        let end = start + TimeDelta::hours(fact["hours"].as_i64().unwrap());
        let expected: Vec<Timestamp> = fact["fires_local"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fire| {
                let fire = fire.as_str().unwrap();
                let ours = differences.iter().find(|(c, z, celery, _)| (*c, *z, *celery) == (cron, zone.name(), fire));
                met += usize::from(ours.is_some());
                Timestamp::from_str(ours.map_or(fire, |(.., ours)| ours)).unwrap()
            })
            .collect();

        let schedule = crontab(&fact);
        let ours: Vec<Timestamp> = std::iter::successors(schedule.next(start), |tick| schedule.next(*tick))
            .take_while(|tick| *tick < end)
            .collect();

        assert_eq!(ours, expected, "{fact}");
    }
    assert_eq!(met, differences.len(), "a difference is none any more");
}

#[test]
fn intervals_are_elapsed_time_as_in_celery() {
    // `relative`, which rounds to the hour or the day, is what a crontab is for.
    for fact in facts("interval").into_iter().filter(|fact| fact["relative"] == false) {
        let local = |key| NaiveDateTime::from_str(text(&fact, key)).unwrap();
        let instant = |key| zone(&fact).from_local_datetime(&local(key)).unwrap().to_utc();
        let (last, now) = (instant("last_run_at"), instant("now"));
        let schedule = Schedule::Every(Duration::from_secs(fact["every_s"].as_u64().unwrap()));

        let next = schedule.next(last).unwrap();

        assert_eq!(next <= now, fact["is_due"], "{fact}");
        if next > now {
            assert_eq!((next - now).as_seconds_f64(), fact["next_check_s"], "{fact}");
        }
    }
}
