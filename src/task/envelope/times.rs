//! Times as they stand in headers: ISO 8601, as Python's `datetime.isoformat()` writes it.

use chrono::{DateTime, FixedOffset, NaiveDateTime, Timelike};
use serde::Deserialize;

/// Microseconds only where there are any.
pub(super) fn show(time: DateTime<FixedOffset>) -> String {
    let form = if time.nanosecond() == 0 { "%Y-%m-%dT%H:%M:%S%:z" } else { "%Y-%m-%dT%H:%M:%S%.6f%:z" };
    time.format(form).to_string()
}

/// A header's time; null and an empty text are none, as Celery takes them.
pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
    input: D,
) -> Result<Option<DateTime<FixedOffset>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(input)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    parse_time(&text).map(Some).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not an ISO 8601 time")))
}

/// Reads an ISO 8601 time; one without an offset is UTC, as Celery takes it. `None` when `text` is none.
pub fn parse_time(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| text.parse::<NaiveDateTime>().map(|naive| naive.and_utc().fixed_offset()))
        .ok()
}
