//! The code that runs ran, as long as there is room for it.

use async_trait::async_trait;
use chrono::Utc;
use rusqlite::{Connection, OptionalExtension, params};

use super::Embedded;
use super::desk::Desk;
use super::file::Outcome;
use super::rows::{json, micros};
use crate::store::{Result, Source, Sources};
use crate::task::Timestamp;

/// The most versions that are kept.
const MOST: i64 = 10_000;
/// The most bytes of all of them together.
const MOST_BYTES: i64 = 64 << 20;

#[async_trait]
impl Sources for Embedded {
    async fn keep(&self, sources: Vec<Source>) -> Result<()> {
        self.writer.write(move |desk| desk.atomically(|desk| desk.keep(&sources, Utc::now()))).await
    }

    async fn source(&self, hash: &str) -> Result<Option<Source>> {
        let hash = hash.to_owned();
        let wanted = hash.clone();
        let files = self.readers.read(move |db| Ok(files(db, &wanted)?)).await?;
        let read = |files: String| serde_json::from_str(&files);
        let files = files.map(read).transpose().map_err(anyhow::Error::from)?;
        Ok(files.map(|files| Source { hash, files }))
    }
}

fn files(db: &Connection, hash: &str) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT files FROM source WHERE hash = ?1")?.query_row([hash], |row| row.get(0)).optional()
}

impl Desk {
    fn keep(&self, sources: &[Source], now: Timestamp) -> Outcome<()> {
        let mut grown = false;
        for Source { hash, files } in sources {
            let known = self.execute("UPDATE source SET at = ?2 WHERE hash = ?1", params![hash, micros(now)])? > 0;
            if known {
                continue;
            }
            let files = json(files);
            let size = i64::try_from(files.len()).unwrap_or(i64::MAX);
            // It would push out everything else, and then itself.
            if size <= MOST_BYTES {
                self.execute("INSERT INTO source VALUES (?1, ?2, ?3, ?4)", params![hash, files, size, micros(now)])?;
                grown = true;
            }
        }
        if grown { Ok(self.drop_oldest_sources(MOST, MOST_BYTES)?) } else { Ok(()) }
    }

    /// Drops those that were not kept for the longest time, until the rest is within these bounds.
    pub fn drop_oldest_sources(&self, most: i64, most_bytes: i64) -> rusqlite::Result<()> {
        let mut newest_first = self.db.prepare_cached("SELECT rowid, size FROM source ORDER BY at DESC, rowid DESC")?;
        let mut rows = newest_first.query([])?;
        let (mut count, mut bytes, mut doomed) = (0, 0, Vec::new());
        while let Some(row) = rows.next()? {
            let (rowid, size): (i64, i64) = (row.get(0)?, row.get(1)?);
            count += 1;
            bytes += size;
            if count > most || bytes > most_bytes {
                doomed.push(rowid);
            }
        }
        for rowid in doomed {
            self.execute("DELETE FROM source WHERE rowid = ?1", [rowid])?;
        }
        Ok(())
    }
}
