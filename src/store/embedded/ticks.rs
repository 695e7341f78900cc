//! When entries of the timetable fired last.

use std::collections::HashMap;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use super::Embedded;
use super::desk::Desk;
use super::file::Outcome;
use super::rows::{instant, micros};
use crate::store::{Result, Tick, Ticks};
use crate::task::Timestamp;

#[async_trait]
impl Ticks for Embedded {
    async fn watermarks(&self, entries: &[(String, String)], now: Timestamp) -> Result<HashMap<String, Timestamp>> {
        let entries = entries.to_vec();
        self.writer.write(move |desk| desk.atomically(|desk| desk.watermarks(entries, now))).await
    }
}

impl Desk {
    /// Takes the tick; false when it or a later one of its entry was taken before.
    pub fn take_tick(&self, tick: &Tick) -> rusqlite::Result<bool> {
        let taken = self.execute(
            "INSERT INTO tick (entry, due) VALUES (?1, ?2) \
             ON CONFLICT (entry) DO UPDATE SET due = excluded.due WHERE due < excluded.due",
            params![tick.entry, micros(tick.due)],
        )?;
        Ok(taken > 0)
    }

    fn watermarks(&self, entries: Vec<(String, String)>, now: Timestamp) -> Outcome<HashMap<String, Timestamp>> {
        let mut marks = HashMap::with_capacity(entries.len());
        for (entry, fingerprint) in entries {
            let known = self
                .db
                .prepare_cached("SELECT due FROM tick WHERE entry = ?1 AND fingerprint = ?2")?
                .query_row(params![entry, fingerprint], |row| row.get(0))
                .optional()?;
            if known.is_none() {
                self.execute(
                    "INSERT INTO tick VALUES (?1, ?2, ?3) \
                     ON CONFLICT (entry) DO UPDATE SET fingerprint = excluded.fingerprint, due = excluded.due",
                    params![entry, fingerprint, micros(now)],
                )?;
            }
            marks.insert(entry, known.map_or(now, instant));
        }
        Ok(marks)
    }
}
