//! When entries of the timetable fired last: one hash, `fingerprint|due` of each, in microseconds.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::DateTime;

use crate::store::{Result, Ticks};
use crate::task::Timestamp;

use super::Redis;

#[async_trait]
impl Ticks for Redis {
    async fn watermarks(&self, entries: &[(String, String)], now: Timestamp) -> Result<HashMap<String, Timestamp>> {
        let mut call = self.connection.scripts().watermarks.prepare_invoke();
        call.arg(now.timestamp_micros());
        for (entry, fingerprint) in entries {
            call.arg(entry).arg(fingerprint);
        }
        let times: Vec<i64> = self.connection.run(&call).await?;
        let entry = |((entry, _), us): (&(String, String), i64)| {
            (entry.clone(), DateTime::from_timestamp_micros(us).unwrap_or(now))
        };
        Ok(entries.iter().zip(times).map(entry).collect())
    }
}
