//! Celery's crontab grammar (`celery.schedules.crontab_parser`), without its accidents.
//!
//! Fields are expanded to plain lists here and matched by the `cron` crate, whose own grammar counts weekdays from
//! another day and knows no ranges that wrap. Local time only: what becomes of it in a zone is `zone`'s.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::NaiveDateTime;

/// Why five texts are no crontab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadCrontab {
    /// The field that is wrong; `None` when the fields do not fit together.
    pub field: Option<Field>,
    pub reason: String,
}

/// One of the five fields, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Minute,
    Hour,
    DayOfMonth,
    MonthOfYear,
    DayOfWeek,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const LONGEST_MONTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Field {
    pub const ALL: [Field; 5] = [Self::Minute, Self::Hour, Self::DayOfMonth, Self::MonthOfYear, Self::DayOfWeek];

    /// Its name in Celery and in `schedules.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day_of_month",
            Self::MonthOfYear => "month_of_year",
            Self::DayOfWeek => "day_of_week",
        }
    }

    fn range(self) -> (u32, u32) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::MonthOfYear => (1, 12),
            Self::DayOfWeek => (0, 6),
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::MonthOfYear => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            _ => &[],
        }
    }

    /// The values that `text` stands for.
    pub fn parse(self, text: &str) -> Result<BTreeSet<u32>, BadCrontab> {
        let mut values = BTreeSet::new();
        for part in text.split(',') {
            values.extend(self.parse_part(part.trim())?);
        }
        Ok(values)
    }

    fn parse_part(self, part: &str) -> Result<Vec<u32>, BadCrontab> {
        if part.is_empty() {
            return Err(self.bad("an empty part: write `*` for every value".to_owned()));
        }
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span.trim(), Some(self.step(part, step.trim())?)),
            None => (part, None),
        };
        let values = match span.split_once('-') {
            _ if span == "*" => self.span(self.range().0, self.range().1),
            Some((from, to)) if !from.is_empty() => self.span(self.value(from.trim())?, self.value(to.trim())?),
            _ if step.is_some() => {
                let (_, most) = self.range();
                return Err(self.bad(format!("`{part}`: a step follows `*` or a range, as in `{span}-{most}/2`")));
            }
            _ => vec![self.value(span)? % self.cycle()],
        };
        Ok(values.into_iter().step_by(step.unwrap_or(1)).collect())
    }

    /// From `from` to `to`, over the end of the field when `to` is less.
    fn span(self, from: u32, to: u32) -> Vec<u32> {
        let (least, most) = self.range();
        let cycle = self.cycle();
        // As the end of a range 7 is the Sunday after Saturday: `0-7` is every day, `7-7` is Sunday.
        let (from, to) = if from == cycle { (0, to % cycle) } else { (from, to) };
        let values: Vec<u32> =
            if from <= to { (from..=to).collect() } else { (from..=most).chain(least..=to).collect() };
        values.into_iter().map(|value| value % cycle).collect()
    }

    /// What a value is reduced by: 7 is Sunday, as 0 is.
    fn cycle(self) -> u32 {
        if self == Self::DayOfWeek { 7 } else { u32::MAX }
    }

    fn value(self, text: &str) -> Result<u32, BadCrontab> {
        let (least, most) = self.range();
        let most = if self == Self::DayOfWeek { 7 } else { most };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(value) if (least..=most).contains(&value) => Ok(value),
                _ => Err(self.bad(format!("`{text}` is not within {least} to {most}"))),
            };
        }
        let name = text.to_ascii_lowercase();
        match self.names().iter().position(|known| name.len() >= 3 && known.starts_with(&name)) {
            Some(index) => Ok(index as u32 + least),
            None => Err(self.bad(format!("`{text}` is not {}", self.expected()))),
        }
    }

    fn step(self, part: &str, text: &str) -> Result<usize, BadCrontab> {
        match text.parse() {
            Ok(step) if step > 0 && !text.starts_with('+') => Ok(step),
            _ => Err(self.bad(format!("`{part}`: the step after `/` is a number from 1"))),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::MonthOfYear => "a number from 1 to 12 or a month such as `jan`",
            Self::DayOfWeek => "a number from 0 (Sunday) to 6 or a weekday such as `mon`",
            _ => "a number, a range such as `1-5`, a step such as `*/5` or `*`",
        }
    }

    fn bad(self, reason: String) -> BadCrontab {
        BadCrontab { field: Some(self), reason }
    }
}

/// Five fields that must all match: unlike in Vixie's cron, day of month and day of week too.
#[derive(Debug, Clone, PartialEq)]
pub struct Crontab {
    text: String,
    matcher: cron::Schedule,
    /// Ticks follow elapsed time where the clocks change, not the local time.
    pub follows_elapsed_time: bool,
}

impl Crontab {
    /// Reads the fields in the order minute, hour, day of month, month, day of week.
    ///
    /// # Errors
    /// Names the field; a date that no year has is an error too.
    pub fn parse(texts: [&str; 5]) -> Result<Self, BadCrontab> {
        let mut lists = Vec::with_capacity(5);
        for (field, text) in Field::ALL.into_iter().zip(texts) {
            lists.push(field.parse(text)?);
        }
        let [days, months] = [&lists[2], &lists[3]];
        if !months.iter().any(|month| days.iter().any(|day| *day <= LONGEST_MONTHS[*month as usize - 1])) {
            let reason = format!("day {} never comes in month {}", texts[2].trim(), texts[3].trim());
            return Err(BadCrontab { field: None, reason });
        }
        // The crate counts weekdays from 1.
        lists[4] = lists[4].iter().map(|day| day + 1).collect();
        let lists: Vec<String> = lists.iter().map(joined).collect();
        let matcher = cron::Schedule::from_str(&format!("0 {}", lists.join(" ")))
            .map_err(|error| BadCrontab { field: None, reason: error.to_string() })?;
        let text = texts.map(|text| text.split_whitespace().collect::<String>()).join(" ");
        Ok(Self { text, matcher, follows_elapsed_time: texts[1].trim_start().starts_with('*') })
    }

    /// The local times after `local` that match, in order. They end with the year 2100.
    pub fn after(&self, local: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> {
        // A zone would make the crate go back in time where the clocks do.
        self.matcher.after_owned(local.and_utc()).map(|time| time.naive_utc())
    }

    /// The five fields as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn joined(values: &BTreeSet<u32>) -> String {
    values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(field: Field, text: &str, expected: &[u32]) {
        assert_eq!(field.parse(text), Ok(expected.iter().copied().collect()), "`{text}`");
    }

    #[test]
    fn seven_is_sunday() {
        check(Field::DayOfWeek, "7", &[0]);
        check(Field::DayOfWeek, "5-7", &[0, 5, 6]);
        check(Field::DayOfWeek, "7-2", &[0, 1, 2]);
        check(Field::DayOfWeek, "7-7", &[0]);
        check(Field::DayOfWeek, "sat-7", &[0, 6]);
        check(Field::DayOfWeek, "0-7/2", &[0, 2, 4, 6]);
    }

    #[test]
    fn steps_go_on_over_the_wrap() {
        check(Field::Hour, "22-4/2", &[22, 0, 2, 4]);
        check(Field::DayOfMonth, "28-3", &[28, 29, 30, 31, 1, 2, 3]);
        check(Field::MonthOfYear, "nov-feb", &[11, 12, 1, 2]);
    }

    #[test]
    fn accidents_are_refused() {
        for (field, text) in [
            (Field::DayOfWeek, "mon#1"),
            (Field::DayOfWeek, "monkey"),
            (Field::DayOfWeek, "8"),
            (Field::DayOfWeek, "su"),
            (Field::Minute, "10/5"),
            (Field::Minute, "1-10/-2"),
            (Field::Minute, "*/"),
            (Field::Minute, "1,,2"),
            (Field::Minute, "５"),
            (Field::Hour, "99999999999999999999"),
        ] {
            let error = field.parse(text).unwrap_err();
            assert_eq!(error.field, Some(field), "`{text}`");
        }
    }

    #[test]
    fn a_date_that_never_comes_is_refused() {
        let parse = |days, months| Crontab::parse(["0", "0", days, months, "*"]);

        assert_eq!(parse("30", "2").unwrap_err().reason, "day 30 never comes in month 2");
        assert!(parse("31", "4,6").is_err());
        assert!(parse("31", "4,5").is_ok());
        assert!(parse("29", "2").is_ok());
    }

    fn any_field() -> impl Strategy<Value = Field> {
        prop::sample::select(&Field::ALL[..])
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(field in any_field(), text in "[-*/, 0-9a-z#]{0,12}|\\PC{0,8}") {
            if let Ok(values) = field.parse(&text) {
                let (least, most) = field.range();
                prop_assert!(!values.is_empty());
                prop_assert!(values.iter().all(|value| (least..=most).contains(value)), "{values:?}");
            }
        }

        #[test]
        fn a_range_counts_on_from_its_start(
            (field, from, to) in any_field().prop_flat_map(|field| {
                let (least, most) = field.range();
                (Just(field), least..=most, least..=most)
            }),
            step in 1u32..70,
        ) {
            let (least, most) = field.range();
            let size = most - least + 1;
            let length = (to + size - from) % size;
            let expected = (0..=length).step_by(step as usize).map(|ahead| (from - least + ahead) % size + least);

            prop_assert_eq!(field.parse(&format!("{from}-{to}/{step}")), Ok(expected.collect()));
        }

        #[test]
        fn a_list_is_the_union_of_its_parts(field in any_field(), parts in prop::collection::vec("[1-6](-[1-6])?|\\*/[1-9]", 1..4)) {
            let mut union = BTreeSet::new();
            for part in &parts {
                union.extend(field.parse(part).unwrap());
            }

            prop_assert_eq!(field.parse(&parts.join(", ")), Ok(union));
        }
    }
}
