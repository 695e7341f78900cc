//! When an entry is due: a crontab in a time zone, or an interval.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;

use super::crontab::Crontab;
use super::zone::next_tick;
use crate::task::{Timestamp, show_duration};

/// When an entry is due.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    Crontab { crontab: Box<Crontab>, zone: Tz },
    Every(Duration),
}

impl Schedule {
    /// The first tick after `after`; always later than it. Intervals count from `after`. `None` when no more come.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Crontab { crontab, zone } => next_tick(crontab, *zone, after),
            Self::Every(every) => after.checked_add_signed(TimeDelta::from_std(*every).ok()?),
        }
    }

    /// The last ticks after `after` and not after `now`, at most `most` of them, in order.
    pub fn last(&self, most: usize, after: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        match self {
            Self::Crontab { .. } => self.last_by_search(most, after, now),
            Self::Every(every) => last_of_interval(*every, most, after, now),
        }
    }

    // Looks back over twice the time again and again: walking all of a long absence would take too long.
    fn last_by_search(&self, most: usize, after: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let mut back = TimeDelta::minutes(1);
        loop {
            let from = now.checked_sub_signed(back).map_or(after, |from| from.max(after));
            let mut found = VecDeque::new();
            let mut tick = self.next(from);
            while let Some(due) = tick.filter(|due| *due <= now) {
                found.push_back(due);
                if found.len() > most {
                    found.pop_front();
                }
                tick = self.next(due);
            }
            if found.len() == most || from <= after {
                return found.into();
            }
            back = back * 2;
        }
    }

    /// How it is written: the five fields, or the interval.
    pub fn text(&self) -> String {
        match self {
            Self::Crontab { crontab, .. } => crontab.as_str().to_owned(),
            Self::Every(every) => show_duration(*every),
        }
    }

    /// The time zone that decides; `None` for an interval, which is elapsed time everywhere.
    pub fn zone(&self) -> Option<Tz> {
        match self {
            Self::Crontab { zone, .. } => Some(*zone),
            Self::Every(_) => None,
        }
    }
}

fn last_of_interval(every: Duration, most: usize, after: Timestamp, now: Timestamp) -> Vec<Timestamp> {
    let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let passed = (now - after).num_milliseconds().max(0) / every_ms;
    let first = (passed - i64::try_from(most).unwrap_or(i64::MAX)).max(0) + 1;
    (first..=passed).map(|count| after + TimeDelta::milliseconds(count * every_ms)).collect()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use proptest::prelude::*;

    use super::*;

    fn crontab(text: &str) -> Schedule {
        let fields = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
        Schedule::Crontab { crontab: Box::new(Crontab::parse(fields).unwrap()), zone: Tz::Europe__Paris }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from_str(text).unwrap()
    }

    #[test]
    fn an_interval_keeps_its_beat() {
        let every = Schedule::Every(Duration::from_secs(10));
        let start = at("2024-01-01T00:00:03Z");

        assert!(every.last(1, start, at("2024-01-01T00:00:12Z")).is_empty());
        assert_eq!(every.last(1, start, at("2024-01-01T00:00:13Z")), [at("2024-01-01T00:00:13Z")]);
        assert_eq!(
            every.last(2, start, at("2025-01-01T00:00:00Z")),
            [at("2024-12-31T23:59:43Z"), at("2024-12-31T23:59:53Z")]
        );
    }

    #[test]
    fn a_clock_that_was_put_back_makes_nothing_due() {
        for schedule in [Schedule::Every(Duration::from_secs(10)), crontab("* * * * *")] {
            assert!(schedule.last(1_000, at("2024-01-01T01:00:00Z"), at("2024-01-01T00:00:00Z")).is_empty());
        }
    }

    #[test]
    fn the_last_ticks_of_a_long_absence_are_found_at_once() {
        let yearly = crontab("0 0 29 2 *");

        assert_eq!(
            yearly.last(1, at("2001-01-01T00:00:00Z"), at("2023-01-01T00:00:00Z")),
            [at("2020-02-29T00:00:00+01:00")]
        );
        assert!(yearly.last(1, at("2021-01-01T00:00:00Z"), at("2023-01-01T00:00:00Z")).is_empty());
        assert_eq!(
            crontab("* * * * *").last(1_000, at("1970-01-01T00:00:00Z"), at("2024-01-01T00:00:00Z")).len(),
            1_000
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_last_ticks_are_the_end_of_all_of_them(
            schedule in prop::sample::select(vec![
                crontab("*/7 * * * *"),
                crontab("30 2 * * *"),
                crontab("0 0 1,15 * mon"),
                Schedule::Every(Duration::from_millis(1_234_500)),
            ]),
            start in 1_700_000_000i64..1_720_000_000,
            minutes in 0i64..100_000,
            most in 1usize..20,
        ) {
            let after = Timestamp::from_timestamp(start, 0).unwrap();
            let now = after + TimeDelta::minutes(minutes);
            let all: Vec<Timestamp> = std::iter::successors(schedule.next(after), |tick| schedule.next(*tick))
                .take_while(|tick| *tick <= now)
                .collect();

            prop_assert_eq!(schedule.last(most, after, now), &all[all.len().saturating_sub(most)..]);
        }
    }
}
