//! `time::` and `sleep`: clocks, calendars, waiting.

use std::fmt::Write;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use rhai::{Dynamic, Module};

use super::{add, number, wrong};
use crate::script::{HostError, Native, brief, duration_of, host, pause};
use crate::task::Timestamp;

/// The longest format, in bytes: what it makes is at most some twenty times as long.
const MAX_FORMAT: usize = 1 << 10;

/// The longest text that may be a time, or name a time zone, in bytes.
const MAX_TEXT: usize = 256;

pub(super) fn module(global: &mut Module) -> Module {
    // One for each type, to stand before rhai's own, which nothing can wake.
    let doc = "Waits, at most until the task's time is over or it is stopped: `sleep(1.5)` or `sleep(\"2s\")`.";
    add(global, "sleep(seconds: int)", doc, |seconds: i64| sleep(seconds.into()));
    add(global, "sleep(seconds: float)", doc, |seconds: f64| sleep(seconds.into()));
    add(global, "sleep(time: string)", doc, |time: &str| sleep(time.into()));
    let mut module = Module::new();
    add(&mut module, "now() -> float", "Seconds since 1970 in UTC: `time::now()`.", || seconds(Utc::now()));
    add(&mut module, "now_iso() -> string", "The time in UTC as ISO 8601: `time::now_iso()`.", || {
        Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
    });
    add(
        &mut module,
        "format(seconds: number, format: string) -> string",
        "Writes a time in UTC, as strftime does: `time::format(time::now(), \"%Y-%m-%d\")`.",
        |seconds: Dynamic, format: &str| show(&seconds, format, "UTC"),
    );
    add(
        &mut module,
        "format(seconds: number, format: string, zone: string) -> string",
        "Writes a time of a time zone: `time::format(time::now(), \"%H:%M\", \"Asia/Seoul\")`.",
        |seconds: Dynamic, format: &str, zone: &str| show(&seconds, format, zone),
    );
    add(
        &mut module,
        "parse(text: string) -> float",
        "Reads ISO 8601 or a mail's date, UTC unless it says otherwise: `time::parse(\"2026-01-31 09:00:00\")`.",
        |text: &str| -> Native<f64> {
            let text = bounded(text, MAX_TEXT, "the text of `time::parse`")?;
            let time = read(text).ok_or_else(|| wrong("ValueError", format!("`time::parse`: `{text}` is no time")))?;
            Ok(seconds(time))
        },
    );
    module
}

fn sleep(time: Dynamic) -> Native<()> {
    let host = host("sleep")?;
    if !host.may_sleep() {
        return Err(HostError::not_here("sleep", host.place()).into());
    }
    let wait = duration_of(&time);
    pause(wait.ok_or_else(|| wrong("ValueError", format!("`sleep`: {} is no time to wait", brief(&time, 60))))?)
}

/// The instant so many seconds after 1970; `None` when no calendar reaches it.
pub(super) fn instant(seconds: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "a float beyond the range saturates, and chrono refuses it")]
    DateTime::from_timestamp_micros((seconds * 1e6).round() as i64)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds are exact until the year 2255")]
fn seconds(time: Timestamp) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}

fn show(seconds: &Dynamic, format: &str, zone: &str) -> Native<String> {
    let number = number(seconds, "the time of `time::format`")?;
    let time = instant(number).ok_or_else(|| wrong("ValueError", format!("`time::format`: {number} is too far")))?;
    let format = bounded(format, MAX_FORMAT, "the format of `time::format`")?;
    let zone = bounded(zone, MAX_TEXT, "the time zone of `time::format`")?;
    let zone: chrono_tz::Tz =
        zone.parse().map_err(|_| wrong("ValueError", format!("`time::format`: there is no time zone `{zone}`")))?;
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    let mut text = String::new();
    if items.contains(&Item::Error)
        || write!(text, "{}", time.with_timezone(&zone).format_with_items(items.iter())).is_err()
    {
        return Err(wrong("ValueError", format!("`time::format`: `{format}` is no format")));
    }
    Ok(text)
}

fn bounded<'a>(text: &'a str, most: usize, what: &str) -> Native<&'a str> {
    if text.len() > most { Err(wrong("ValueError", format!("{what} is longer than {most} bytes"))) } else { Ok(text) }
}

/// A time as people and programs write it; `None` when it is none.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let zoned = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc2822(text));
    if let Ok(time) = zoned {
        return Some(time.to_utc());
    }
    let plain = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let naive = plain.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    naive.or_else(day).map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use crate::module::tests::{Room, evaluate, fails};

    #[test]
    fn times_are_read_and_written() {
        for text in [
            "2026-01-31T00:00:00Z",
            "2026-01-31T09:00:00+09:00",
            "2026-01-31",
            "2026-01-31 00:00",
            "2026-01-31T00:00:00.000",
            "Sat, 31 Jan 2026 00:00:00 +0000",
        ] {
            assert_eq!(evaluate(&format!("time::parse(\"{text}\")")), "1769817600.0", "{text}");
        }
        assert_eq!(evaluate(r#"time::format(1769817600, "%Y-%m-%d %H:%M", "Asia/Seoul")"#), r#""2026-01-31 09:00""#);
        assert_eq!(evaluate(r#"time::format(1769817600.5, "%H:%M:%S%.3f")"#), r#""00:00:00.500""#);
        assert_eq!(evaluate("time::parse(time::now_iso()) - time::now() < 60.0"), "true");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for script in [
            r#"time::parse("soon")"#,
            r#"time::format(0, "%Q")"#,
            r#"time::format(0, "%Y", "Mars")"#,
            r#"time::format(1e300, "%Y")"#,
            "sleep(-1)",
            r#"sleep("long")"#,
        ] {
            assert_eq!(fails(script).exc_type, "ValueError", "{script}");
        }
    }

    #[test]
    fn long_texts_are_refused_before_anything_is_made_of_them() {
        for (script, what) in [
            ("time::format(0, t)", "the format of `time::format` is longer than 1024 bytes"),
            ("time::format(0, \"%c\", t)", "the time zone of `time::format` is longer than 256 bytes"),
            ("time::parse(t)", "the text of `time::parse` is longer than 256 bytes"),
        ] {
            let failure = fails(&format!("let t = \"\"; t.pad(1025, \"%c\"); {script}"));
            assert_eq!((failure.exc_type.as_str(), failure.exc_message.as_str()), ("ValueError", what));
        }
        assert_eq!(evaluate("let t = \"\"; t.pad(1024, \"%c\"); time::format(0, t).len()"), "12288");
    }

    #[test]
    fn a_consumer_may_not_sleep() {
        let failure = Room::consumer().fails("sleep(1)");

        assert_eq!(failure.exc_message, "`sleep` is not available in a consumer");
    }

    #[test]
    fn a_short_sleep_ends_and_the_script_goes_on() {
        assert_eq!(evaluate("sleep(0); sleep(0.001); sleep(\"1ms\"); 7"), "7");
    }
}
