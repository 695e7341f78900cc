//! Times as people write them.

use chrono::{NaiveDate, NaiveDateTime};

use super::{Timestamp, parse_time};

/// The forms besides ISO 8601's own.
const FORMS: [&str; 3] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];

/// Reads a time in ISO 8601, also with a space for its `T`, without its seconds, or a date alone, which is its midnight.
/// Without a zone it is UTC. `None` when `text` is none.
pub fn read_time(text: &str) -> Option<Timestamp> {
    let of_form = |form: &&str| NaiveDateTime::parse_from_str(text, form).ok();
    let midnight = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let naive = || FORMS.iter().find_map(of_form).or_else(midnight);
    parse_time(text).map(|time| time.to_utc()).or_else(|| Some(naive()?.and_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_people_write_it() {
        for (written, read) in [
            ("2030-01-31T21:00:00+09:00", "2030-01-31T12:00:00+00:00"),
            ("2030-01-31T12:00", "2030-01-31T12:00:00+00:00"),
            ("2030-01-31 12:00:00", "2030-01-31T12:00:00+00:00"),
            ("2030-01-31 12:00", "2030-01-31T12:00:00+00:00"),
            ("2030-01-31", "2030-01-31T00:00:00+00:00"),
        ] {
            assert_eq!(read_time(written).map(|time| time.to_rfc3339()).as_deref(), Some(read), "{written}");
        }
        for none in ["", "2030-01", "31.01.2030", "2030-02-30", "12:00", "2030-01-31 25:00", "tomorrow", "5"] {
            assert_eq!(read_time(none), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_can_hurt(text in "[0-9T: +.-]{0,26}") {
            let _ = read_time(&text);
        }
    }
}
