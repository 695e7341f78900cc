//! Times as they are typed.

use chrono::Utc;

use crate::task::{Timestamp, parse_duration, read_time};

/// An argument that is no time.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no time: write it as in `2030-01-31T09:00:00+09:00`, or `2030-01-31 09:00` in UTC")]
pub(super) struct NoTime {
    text: String,
}

/// A time in ISO 8601.
pub(super) fn exact(text: &str) -> Result<Timestamp, NoTime> {
    read_time(text).ok_or_else(|| NoTime { text: text.to_owned() })
}

/// A duration before now, or a time in ISO 8601.
pub(super) fn since(text: &str) -> Result<Timestamp, NoTime> {
    match parse_duration(text) {
        Ok(ago) => Ok(Utc::now() - ago),
        Err(_) => exact(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_exact_or_a_while_ago() {
        let noon = "2030-01-31T12:00:00Z";

        assert_eq!(exact("2030-01-31T21:00:00+09:00").unwrap(), exact(noon).unwrap());
        for written in ["2030-01-31T12:00", "2030-01-31 12:00:00", "2030-01-31 12:00"] {
            assert_eq!(exact(written).unwrap(), exact(noon).unwrap(), "{written}");
        }
        assert_eq!(exact("2030-01-31").unwrap(), exact("2030-01-31T00:00:00Z").unwrap());
        for wrong in ["2030-01", "31.01.2030", "2030-02-30", "12:00", "2030-01-31 25:00"] {
            assert!(exact(wrong).is_err(), "{wrong}");
        }
        assert_eq!(since(noon).unwrap(), exact(noon).unwrap());
        assert!(since("1h").unwrap() < Utc::now());
        assert!(since("36500d").unwrap() < since("1d").unwrap());
        assert!(since("yesterday").unwrap_err().to_string().starts_with("`yesterday` is no time"));
    }
}
