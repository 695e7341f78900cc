//! Durations as people write them: `30s`, `500ms`, `1h 30m`, or a number of seconds.

use std::fmt;
use std::time::Duration;

use serde::de;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: write a number with `ms`, `s`, `m`, `h` or `d`, as in `30s` or `1h30m`")]
pub struct BadDuration {
    pub text: String,
}

/// The longest duration accepted (100 years): sums with instants then never overflow.
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

/// Reads `30s`, `1.5h`, `1h30m`, `500ms`, or a plain number of seconds.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration { text: text.to_owned() };
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<f64>() {
        return checked(seconds).ok_or_else(bad);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(number_ends);
        let unit_ends = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_ends);
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(bad()),
        };
        total += number.parse::<f64>().map_err(|_| bad())? * scale;
        rest = tail.trim_start();
    }
    if text.trim().is_empty() { Err(bad()) } else { checked(total).ok_or_else(bad) }
}

fn checked(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && (0.0..=LONGEST).contains(&seconds)).then(|| Duration::from_secs_f64(seconds))
}

/// A field that [`parse_duration`] reads: a text, or a number of seconds. For serde's `deserialize_with`.
pub fn duration_field<'de, D: de::Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    struct Reader;
    impl de::Visitor<'_> for Reader {
        type Value = Duration;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a duration, as in `30s` or a number of seconds")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text).map_err(E::custom)
        }
        fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
            checked(seconds).ok_or_else(|| E::custom(BadDuration { text: seconds.to_string() }))
        }
        fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
            self.visit_f64(seconds as f64)
        }
        fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
            self.visit_f64(seconds as f64)
        }
    }
    input.deserialize_any(Reader)
}

/// `duration` in the form that [`parse_duration`] reads, in its largest whole unit.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms >= size && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, ms) in [
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("500ms", 500),
            ("2", 2_000),
            ("0.5", 500),
            ("1.5m", 90_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", " ", "s", "10 apples", "-5s", "-5", "1e300", "NaN", "5s3", "999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_field_takes_a_text_or_seconds() {
        for (json, ms) in [("\"30s\"", 30_000), ("30", 30_000), ("0.5", 500)] {
            let read = duration_field(&mut serde_json::Deserializer::from_str(json));
            assert_eq!(read.unwrap(), Duration::from_millis(ms), "{json}");
        }
        for json in ["\"soon\"", "-1", "1e300", "true", "null", "[1]"] {
            assert!(duration_field(&mut serde_json::Deserializer::from_str(json)).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for ms in [1, 1_000, 90_000, 3_600_000, 86_400_000, 90_061_001] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }
}
