//! What happened to tasks: finding it, and keeping it bounded.

use async_trait::async_trait;
use chrono::Utc;
use rusqlite::{Connection, params, params_from_iter};

use super::Embedded;
use super::claims::Claims;
use super::desk::Desk;
use super::file::Outcome;
use super::rows::{self, MESSAGE, RUN, json, micros};
use super::settling::revoked_error;
use crate::store::{Filter, History, Page, Result, worker_lost};
use crate::task::{Run, State, Timestamp};

/// The most rows that one sweep drops or changes for each of its reasons.
const SWEEP: i64 = 1_000;
/// How long and how many revocations of unknown tasks are remembered; Celery's own bounds.
const REVOCATIONS_KEPT: std::time::Duration = std::time::Duration::from_secs(3 * 3_600);
const MOST_REVOCATIONS: i64 = 50_000;

#[async_trait]
impl History for Embedded {
    async fn search(&self, filter: &Filter) -> Result<Page> {
        let (claims, filter) = (self.claims.clone(), filter.clone());
        self.readers.read(move |db| Ok(Page { runs: recent(db, &claims, &filter)?, next: None })).await
    }
}

#[async_trait]
impl crate::store::Sources for Embedded {
    async fn keep(&self, _sources: Vec<crate::store::Source>) -> Result<()> {
        todo!("sources")
    }

    async fn source(&self, _hash: &str) -> Result<Option<crate::store::Source>> {
        todo!("sources")
    }
}

#[async_trait]
impl crate::store::Roster for Embedded {
    async fn announce(&self, _worker: crate::store::WorkerFacts) -> Result<()> {
        todo!("roster")
    }

    async fn leave(&self, _name: &str) -> Result<()> {
        todo!("roster")
    }

    async fn workers(&self) -> Result<Vec<crate::store::WorkerFacts>> {
        todo!("roster")
    }
}

fn recent(db: &Connection, claims: &Claims, filter: &Filter) -> rusqlite::Result<Vec<Run>> {
    if filter.state == Some(State::Started) {
        return started(db, claims, filter);
    }
    let mut found = Vec::new();
    let mut look = db.prepare_cached(&format!("SELECT {MESSAGE}, {RUN} FROM task {}", way(filter)))?;
    let mut rows = look.query(params_from_iter(&filter.name))?;
    while found.len() < filter.limit
        && let Some(row) = rows.next()?
    {
        let mut run = rows::run(row)?;
        claims.show(&mut run);
        if filter.state.is_none_or(|state| state == run.state) {
            found.push(run);
        }
    }
    Ok(found)
}

// The index that leads to what `filter` asks for without a look at everything else. Successes come by when they
// ended, everything else by when it was sent.
fn way(filter: &Filter) -> String {
    let state = filter.state.map_or("", State::as_str);
    match (&filter.name, filter.state) {
        (Some(_), None) => "WHERE name = ?1 ORDER BY seq DESC".to_owned(),
        (Some(_), Some(_)) => format!("WHERE name = ?1 AND state = '{state}' ORDER BY seq DESC"),
        (None, None) => "ORDER BY seq DESC".to_owned(),
        (None, Some(State::Success)) => {
            format!(
                "INDEXED BY task_finished WHERE finished_at IS NOT NULL AND state = '{state}' ORDER BY finished_at DESC"
            )
        }
        (None, Some(State::Failure | State::Revoked)) => format!(
            "INDEXED BY task_not_well WHERE state = '{state}' AND state IN ('FAILURE', 'REVOKED') ORDER BY seq DESC"
        ),
        (None, Some(State::Queued | State::Started)) => {
            "WHERE seq IN (SELECT seq FROM task INDEXED BY task_ready WHERE state = 'QUEUED') ORDER BY seq DESC"
                .to_owned()
        }
        (None, Some(State::Scheduled | State::Retry)) => format!(
            "WHERE seq IN (SELECT seq FROM task WHERE due_at IS NOT NULL) AND state = '{state}' ORDER BY seq DESC"
        ),
    }
}

// Which are started only the claims know; there are at most as many as there are slots and a batch.
fn started(db: &Connection, claims: &Claims, filter: &Filter) -> rusqlite::Result<Vec<Run>> {
    let mut found = Vec::new();
    let mut load = db.prepare_cached(&format!("SELECT {MESSAGE}, {RUN} FROM task WHERE seq = ?1"))?;
    for seq in claims.seqs() {
        if found.len() == filter.limit {
            break;
        }
        let mut rows = load.query([seq])?;
        let Some(row) = rows.next()? else { continue };
        let mut run = rows::run(row)?;
        claims.show(&mut run);
        if run.state == State::Started && filter.name.as_ref().is_none_or(|name| *name == run.task) {
            found.push(run);
        }
    }
    Ok(found)
}

impl Desk {
    /// Drops up to `most` of the oldest final rows that are too many.
    pub fn drop_oldest(&mut self, most: i64) -> rusqlite::Result<()> {
        let surplus = (self.ended - i64::try_from(self.settings.history).unwrap_or(i64::MAX)).min(most);
        if surplus > 0 {
            let dropped = self.execute(
                "DELETE FROM task WHERE seq IN \
                 (SELECT seq FROM task WHERE finished_at IS NOT NULL ORDER BY finished_at, seq LIMIT ?1)",
                [surplus],
            )?;
            self.ended -= dropped as i64;
        }
        Ok(())
    }

    /// What the timer does: notes who has what, and drops what is too old, a little each time.
    pub fn sweep(&mut self, now: Timestamp) -> Outcome<()> {
        for seq in self.claims.mark() {
            self.execute("UPDATE task SET held = 1 WHERE seq = ?1", [seq])?;
        }
        self.drop_oldest(SWEEP)?;
        self.drop_old_results(now)?;
        self.execute(
            "DELETE FROM kv WHERE key IN (SELECT key FROM kv WHERE expires_at <= ?1 LIMIT ?2)",
            params![micros(now), SWEEP],
        )?;
        if self.revocations > 0 {
            self.execute("DELETE FROM revocation WHERE at <= ?1", [micros(now - REVOCATIONS_KEPT)])?;
            self.execute(
                "DELETE FROM revocation WHERE rowid <= (SELECT max(rowid) FROM revocation) - ?1",
                [MOST_REVOCATIONS],
            )?;
            self.revocations = self.db.query_row("SELECT count(*) FROM revocation", [], |row| row.get(0))?;
        }
        Ok(())
    }

    fn drop_old_results(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        let old =
            match chrono::Duration::from_std(self.settings.keep).ok().and_then(|keep| now.checked_sub_signed(keep)) {
                Some(time) => micros(time),
                None => return Ok(()),
            };
        let (finished_at, seq) = self.dropped;
        let rows: Vec<(i64, i64)> = self
            .db
            .prepare_cached(
                "SELECT finished_at, seq FROM task WHERE finished_at IS NOT NULL AND finished_at <= ?3 \
                 AND (finished_at, seq) > (?1, ?2) ORDER BY finished_at, seq LIMIT ?4",
            )?
            .query_map(params![finished_at, seq, old, SWEEP], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (_, seq) in &rows {
            self.execute("UPDATE task SET result = NULL WHERE seq = ?1 AND result IS NOT NULL", [seq])?;
        }
        self.dropped = rows.last().copied().unwrap_or(self.dropped);
        Ok(())
    }

    /// Settles what the last process left claimed and must not start again.
    pub fn bury_the_dead(&mut self) -> rusqlite::Result<()> {
        for (mark, state, error) in
            [("revoked", State::Revoked, revoked_error("revoked")), ("acknowledged", State::Failure, worker_lost())]
        {
            self.execute(
                &format!(
                    "UPDATE task SET state = ?1, error = ?2, finished_at = ?3 WHERE seq IN \
                     (SELECT seq FROM task INDEXED BY task_marked \
                     WHERE state = 'QUEUED' AND (acknowledged = 1 OR revoked = 1) AND {mark} = 1)"
                ),
                params![state.as_str(), json(&error), micros(Utc::now())],
            )?;
        }
        Ok(())
    }
}
