//! What is too old or too much goes, a little at a time, so that nobody waits long for the writer.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::claims::Mark;
use super::desk::Desk;
use super::file::Outcome;
use super::rows::micros;
use crate::task::Timestamp;

/// The most rows that one step drops or changes for each of its reasons.
const STEP: i64 = 500;
/// The most free pages that one step gives back to the disk.
const STEP_PAGES: i64 = 256;
/// So many free pages (4 MiB) stay in the file, for what comes next.
const FREE_PAGES: i64 = 1_024;

impl Desk {
    /// Drops up to `most` of the oldest final rows that are too many.
    pub fn drop_oldest(&mut self, most: i64) -> rusqlite::Result<()> {
        let surplus = (self.tally.ended - i64::try_from(self.settings.history).unwrap_or(i64::MAX)).min(most);
        if surplus > 0 {
            let dropped = self.execute(
                "DELETE FROM task WHERE seq IN \
                 (SELECT seq FROM task WHERE finished_at IS NOT NULL ORDER BY finished_at, seq LIMIT ?1)",
                [surplus],
            )?;
            self.tally.ended -= dropped as i64;
        }
        Ok(())
    }

    /// Notes who has what, for a next process; what nobody has waits again.
    pub fn mark_claimed(&mut self, now: Timestamp) -> Outcome<()> {
        let forsaken = self.claims.forsaken();
        self.return_all(&forsaken, Duration::ZERO, now)?;
        for (id, seq) in self.claims.unmarked() {
            self.execute("UPDATE task SET held = 1 WHERE seq = ?1", [seq])?;
            self.noted(&id, Mark::Held);
        }
        Ok(())
    }

    /// Drops some of what is too old. True when there is more.
    pub fn tidy(&mut self, now: Timestamp) -> Outcome<bool> {
        self.drop_oldest(STEP)?;
        let mut more = self.tally.ended > i64::try_from(self.settings.history).unwrap_or(i64::MAX);
        more |= self.drop_aged(now)?;
        more |= self.drop_old_results(now)?;
        more |= self.drop_expired_values(now)?;
        more |= self.give_back_pages()?;
        if !more {
            self.rest();
        }
        Ok(more)
    }

    fn drop_aged(&mut self, now: Timestamp) -> rusqlite::Result<bool> {
        let Some(old) = before(now, self.settings.history_keep) else { return Ok(false) };
        let dropped = self.execute(
            "DELETE FROM task WHERE seq IN (SELECT seq FROM task \
             WHERE finished_at IS NOT NULL AND finished_at <= ?1 ORDER BY finished_at, seq LIMIT ?2)",
            params![old, STEP],
        )? as i64;
        self.tally.ended -= dropped;
        Ok(dropped == STEP)
    }

    fn drop_old_results(&mut self, now: Timestamp) -> rusqlite::Result<bool> {
        let Some(old) = before(now, self.settings.keep) else { return Ok(false) };
        let (finished_at, seq) = self.tally.dropped;
        let rows: Vec<(i64, i64)> = self
            .db
            .prepare_cached(
                "SELECT finished_at, seq FROM task WHERE finished_at IS NOT NULL AND finished_at <= ?3 \
                 AND (finished_at, seq) > (?1, ?2) ORDER BY finished_at, seq LIMIT ?4",
            )?
            .query_map(params![finished_at, seq, old, STEP], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (_, seq) in &rows {
            self.execute("UPDATE task SET result = NULL WHERE seq = ?1 AND result IS NOT NULL", [seq])?;
        }
        self.tally.dropped = rows.last().copied().unwrap_or(self.tally.dropped);
        Ok(rows.len() as i64 == STEP)
    }

    fn drop_expired_values(&self, now: Timestamp) -> rusqlite::Result<bool> {
        let expired = "DELETE FROM kv WHERE key IN (SELECT key FROM kv WHERE expires_at <= ?1 LIMIT ?2)";
        Ok(self.execute(expired, params![micros(now), STEP])? as i64 == STEP)
    }

    // A file that was made before it could shrink has pages that are used again, and stays as large as it was.
    fn give_back_pages(&self) -> rusqlite::Result<bool> {
        let free = pragma(&self.db, "freelist_count")?;
        let surplus = free - FREE_PAGES.max(pragma(&self.db, "page_count")? / 8);
        if surplus <= 0 || pragma(&self.db, "auto_vacuum")? == 0 {
            return Ok(false);
        }
        let mut vacuum = self.db.prepare(&format!("PRAGMA incremental_vacuum({})", surplus.min(STEP_PAGES)))?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        Ok(surplus > STEP_PAGES)
    }

    // When nothing has changed since the timer came last, everything is brought into the database itself.
    fn rest(&mut self) {
        let changes = self.db.total_changes();
        let (last, settled) = self.seen;
        if changes == last && changes != settled {
            self.checkpoint_after();
        }
        self.seen.0 = changes;
    }

    /// Brings everything into the database itself and empties the write-ahead log, unless a reader is in the way.
    /// Short, because the log is never long: see `wal_autocheckpoint`.
    pub fn checkpoint(&mut self) {
        let busy = || {
            self.db.busy_timeout(Duration::ZERO)?;
            let busy = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
            self.db.busy_timeout(super::file::PATIENCE)?;
            busy
        };
        match busy() {
            Ok(false) => self.seen.1 = self.db.total_changes(),
            Ok(true) => {}
            Err(error) => tracing::warn!(%error, "the store's log cannot be emptied; it is tried again"),
        }
    }
}

// `None` when there is no such time.
fn before(now: Timestamp, age: Duration) -> Option<i64> {
    now.checked_sub_signed(chrono::Duration::from_std(age).ok()?).map(micros)
}

fn pragma(db: &Connection, name: &str) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, name, |row| row.get(0))
}
