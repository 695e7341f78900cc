//! From local time to instants, where the clocks are put forward (a gap) and back (a fold).
//!
//! A crontab that names hours runs once for each local time: at the first moment after a gap, in the first pass of a
//! fold. One whose hours begin with `*` follows elapsed time: what a gap swallows comes as much later as the clock
//! jumped, and both passes of a fold count. Times that fall on one instant are one tick.

use chrono::{MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

use super::crontab::Crontab;
use crate::task::Timestamp;

/// Longer than any clock was ever put forward or back (a day, where a zone crossed the date line).
const LONGEST_SHIFT: TimeDelta = TimeDelta::hours(25);

/// The first tick after `after`; always later than it. `None` when there is none before the year 2100 ends.
pub fn next_tick(crontab: &Crontab, zone: Tz, after: Timestamp) -> Option<Timestamp> {
    let (least, _) = offsets_around(zone, after)?;
    let mut next: Option<Timestamp> = None;
    for local in crontab.after(after.naive_utc().checked_add_signed(least)?) {
        // Around a change of the clocks a later local time may be an earlier instant, so look on as long as that
        // is possible.
        if let Some(next) = next {
            let (_, most) = offsets_around(zone, next)?;
            if local > next.naive_utc() + most {
                break;
            }
        }
        let sooner = instants(zone, local, crontab.follows_elapsed_time).into_iter().flatten();
        next = sooner.filter(|instant| *instant > after).chain(next).min();
    }
    next
}

/// The instants at which a tick for `local` falls.
fn instants(zone: Tz, local: NaiveDateTime, follows_elapsed_time: bool) -> [Option<Timestamp>; 2] {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) => [Some(time.to_utc()), None],
        MappedLocalTime::Ambiguous(first, second) => {
            [Some(first.to_utc()), follows_elapsed_time.then(|| second.to_utc())]
        }
        MappedLocalTime::None => {
            let Some(end) = end_of_gap(zone, local) else { return [None, None] };
            if !follows_elapsed_time {
                return [Some(end), None];
            }
            let before = offset_at(zone, end - TimeDelta::seconds(1));
            [Some((local - before).and_utc()), None]
        }
    }
}

/// The first whole minute after the gap that `local`, a whole minute, is in.
fn end_of_gap(zone: Tz, local: NaiveDateTime) -> Option<Timestamp> {
    (1..=LONGEST_SHIFT.num_minutes())
        .find_map(|minutes| zone.from_local_datetime(&(local + TimeDelta::minutes(minutes))).earliest())
        .map(|time| time.to_utc())
}

/// The least and the greatest offset of local time that matter near `time`. `None` at the ends of all time.
fn offsets_around(zone: Tz, time: Timestamp) -> Option<(TimeDelta, TimeDelta)> {
    let before = offset_at(zone, time.checked_sub_signed(LONGEST_SHIFT)?);
    let after = offset_at(zone, time.checked_add_signed(LONGEST_SHIFT)?);
    let now = offset_at(zone, time);
    Some((before.min(now).min(after), before.max(now).max(after)))
}

fn offset_at(zone: Tz, time: Timestamp) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&time.naive_utc()).fix();
    TimeDelta::seconds(offset.local_minus_utc().into())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use chrono::{Datelike, Timelike};
    use proptest::prelude::*;

    use super::super::crontab::Field;
    use super::*;

    fn crontab(text: &str) -> Crontab {
        Crontab::parse(text.split(' ').collect::<Vec<_>>().try_into().unwrap()).unwrap()
    }

    fn instant(text: &str) -> Timestamp {
        Timestamp::from_str(text).unwrap()
    }

    /// The ticks from `after` on, as local times with their offset.
    fn check(cron: &str, zone: Tz, after: &str, expected: &[&str]) {
        let crontab = crontab(cron);
        let ticks =
            std::iter::successors(next_tick(&crontab, zone, instant(after)), |tick| next_tick(&crontab, zone, *tick));
        let ticks: Vec<String> = ticks
            .take(expected.len())
            .map(|tick| tick.with_timezone(&zone).format("%d %H:%M%:z").to_string())
            .collect();

        assert_eq!(ticks, expected, "`{cron}`");
    }

    #[test]
    fn named_hours_run_once_a_day() {
        let spring = "2024-03-30T12:00:00+01:00";
        check("30 2 * * *", Tz::Europe__Paris, spring, &["31 03:00+02:00", "01 02:30+02:00"]);
        check("*/20 2 * * *", Tz::Europe__Paris, spring, &["31 03:00+02:00", "01 02:00+02:00"]);
        check("0 2,3 * * *", Tz::Europe__Paris, spring, &["31 03:00+02:00", "01 02:00+02:00"]);

        let autumn = "2024-10-26T12:00:00+02:00";
        check("30 2 * * *", Tz::Europe__Paris, autumn, &["27 02:30+02:00", "28 02:30+01:00"]);
        check("*/30 2 * * *", Tz::Europe__Paris, autumn, &["27 02:00+02:00", "27 02:30+02:00", "28 02:00+01:00"]);
    }

    #[test]
    fn every_hour_is_an_hour_of_elapsed_time() {
        let spring = "2024-03-31T00:30:00+01:00";
        check("0 * * * *", Tz::Europe__Paris, spring, &["31 01:00+01:00", "31 03:00+02:00", "31 04:00+02:00"]);
        check("0 */2 * * *", Tz::Europe__Paris, spring, &["31 03:00+02:00", "31 04:00+02:00", "31 06:00+02:00"]);

        let autumn = "2024-10-27T01:30:00+02:00";
        check("0 * * * *", Tz::Europe__Paris, autumn, &["27 02:00+02:00", "27 02:00+01:00", "27 03:00+01:00"]);
        check(
            "*/20 * * * *",
            Tz::Europe__Paris,
            "2024-10-27T02:30:00+02:00",
            &["27 02:40+02:00", "27 02:00+01:00", "27 02:20+01:00", "27 02:40+01:00", "27 03:00+01:00"],
        );
    }

    #[test]
    fn a_start_within_the_second_pass_does_not_go_back() {
        check("30 2 * * *", Tz::Europe__Paris, "2024-10-27T02:10:00+01:00", &["28 02:30+01:00"]);
        check("30 * * * *", Tz::Europe__Paris, "2024-10-27T02:10:00+01:00", &["27 02:30+01:00"]);
    }

    #[test]
    fn a_day_that_never_was_is_a_gap() {
        // Samoa had no 30 December 2011.
        check("0 12 * * *", Tz::Pacific__Apia, "2011-12-29T13:00:00-10:00", &["31 00:00+14:00", "31 12:00+14:00"]);
        check("0 */12 * * *", Tz::Pacific__Apia, "2011-12-29T13:00:00-10:00", &["31 00:00+14:00", "31 12:00+14:00"]);
    }

    #[test]
    fn the_end_of_the_calendar_is_no_panic() {
        let daily = crontab("0 0 * * *");

        assert_eq!(next_tick(&daily, Tz::UTC, instant("2101-01-01T00:00:00Z")), None);
        assert_eq!(next_tick(&daily, Tz::Asia__Seoul, Timestamp::MAX_UTC), None);
        assert_eq!(next_tick(&daily, Tz::Asia__Seoul, Timestamp::MIN_UTC), None);
    }

    /// The rule of this file said a second time, minute by minute and without the crate.
    fn is_tick(fields: &[&str; 5], zone: Tz, instant: Timestamp) -> bool {
        let matches = |local: NaiveDateTime| {
            let values =
                [local.minute(), local.hour(), local.day(), local.month(), local.weekday().num_days_from_sunday()];
            Field::ALL
                .iter()
                .zip(fields)
                .zip(values)
                .all(|((field, text), value)| field.parse(text).unwrap().contains(&value))
        };
        let local = instant.with_timezone(&zone).naive_local();
        let before = (instant - TimeDelta::minutes(1)).with_timezone(&zone).naive_local();
        if fields[1].starts_with('*') {
            let jump = TimeDelta::minutes(if zone == Tz::Australia__Lord_Howe { 30 } else { 60 });
            let swallowed = local - jump;
            return matches(local)
                || (zone.from_local_datetime(&swallowed) == MappedLocalTime::None && matches(swallowed));
        }
        let first_pass = zone.from_local_datetime(&local).earliest().map(|time| time.to_utc()) == Some(instant);
        let jumped = (local - before).num_minutes();
        let swallowed = (1..jumped).any(|minutes| matches(before + TimeDelta::minutes(minutes)));
        first_pass && (matches(local) || swallowed)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn the_next_tick_is_the_first_minute_that_is_one(
            minute in prop::sample::select(&["*", "0", "*/7", "15,45", "59"][..]),
            hour in prop::sample::select(&["*", "*/2", "1-3", "2", "*/5,2", "0,23"][..]),
            day_of_week in prop::sample::select(&["*", "sun", "sun-mon"][..]),
            (zone, change) in prop::sample::select(&[
                (Tz::Europe__Paris, "2024-03-31T01:00:00Z"),
                (Tz::Europe__Paris, "2024-10-27T01:00:00Z"),
                (Tz::America__New_York, "2024-03-10T07:00:00Z"),
                (Tz::America__New_York, "2024-11-03T06:00:00Z"),
                (Tz::Australia__Lord_Howe, "2024-10-05T15:30:00Z"),
                (Tz::Australia__Lord_Howe, "2024-04-06T15:00:00Z"),
                (Tz::America__Sao_Paulo, "2018-11-04T03:00:00Z"),
                (Tz::Asia__Seoul, "2024-03-31T01:00:00Z"),
            ][..]),
            seconds in -100_000i64..100_000,
        ) {
            let fields = [minute, hour, "*", "*", day_of_week];
            let after = instant(change) + TimeDelta::seconds(seconds);
            let window = 3 * 24 * 60;

            let whole = after - TimeDelta::seconds(after.timestamp().rem_euclid(60));
            let expected = (1..=window).map(|minutes| whole + TimeDelta::minutes(minutes)).find(|at| is_tick(&fields, zone, *at));
            let ours = next_tick(&Crontab::parse(fields).unwrap(), zone, after);

            prop_assert!(ours.is_some_and(|tick| tick > after));
            prop_assert_eq!(ours.filter(|tick| *tick <= whole + TimeDelta::minutes(window)), expected);
        }
    }
}
