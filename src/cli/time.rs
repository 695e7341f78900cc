//! Times as they are typed.

use chrono::Utc;

use crate::task::{Timestamp, parse_duration, parse_time};

/// An argument that is no time.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no time: write it as in `2030-01-31T09:00:00+09:00`")]
pub(super) struct NoTime {
    text: String,
}

/// A time in ISO 8601.
pub(super) fn exact(text: &str) -> Result<Timestamp, NoTime> {
    parse_time(text).map(|time| time.to_utc()).ok_or_else(|| NoTime { text: text.to_owned() })
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
        assert_eq!(since(noon).unwrap(), exact(noon).unwrap());
        assert!(since("1h").unwrap() < Utc::now());
        assert!(since("36500d").unwrap() < since("1d").unwrap());
        assert!(since("yesterday").unwrap_err().to_string().starts_with("`yesterday` is no time"));
    }
}
