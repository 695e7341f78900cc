//! What the last process left behind: what it ran is suspected, and what may not run again is settled.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::claims;
use super::rows::{json, micros};
use super::running::Begun;
use super::settling::revoked_error;
use crate::store::{DEATHS, SUSPECTED_FOR, poisoned, recovered, worker_lost};
use crate::task::{State, Timestamp};

/// A store that was just opened.
pub struct TakenOver {
    /// How often it was opened.
    pub opening: u64,
    /// When processes died while they ran the task of that row.
    pub deaths: HashMap<i64, Vec<i64>>,
}

/// Settles or suspects what the last process had `begun`, in one step, so that nothing is counted twice.
pub fn take_over(db: &Connection, begun: &[Begun], now: Timestamp) -> rusqlite::Result<TakenOver> {
    let change = rusqlite::Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let opening: i64 =
        change.query_row("UPDATE meta SET value = value + 1 WHERE name = 'openings' RETURNING value", [], |row| {
            row.get(0)
        })?;
    let opening = opening.unsigned_abs();
    settle_marked(&change, now)?;
    let mut again = 0;
    for begun in begun.iter().filter(|begun| claims::opening_of(begun.token) + 1 == opening) {
        if is_unsettled(&change, begun)? {
            change.execute("UPDATE task SET held = 1 WHERE seq = ?1", [begun.seq])?;
            change.execute("INSERT INTO death VALUES (?1, ?2)", params![begun.seq, micros(now)])?;
            again += 1;
        }
    }
    let (deaths, poisoned) = settle_poisoned(&change, now)?;
    change.commit()?;
    recovered::tell(again - poisoned.min(again), poisoned);
    Ok(TakenOver { opening, deaths })
}

// The same attempt waits in its queue again: it has neither ended nor gone on to a retry.
fn is_unsettled(db: &Connection, begun: &Begun) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM task WHERE seq = ?1 AND retries = ?2 AND state = 'QUEUED'";
    Ok(db.prepare_cached(sql)?.query_row(params![begun.seq, begun.retries], |_| Ok(())).optional()?.is_some())
}

fn settle_marked(db: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    for (mark, state, error) in
        [("revoked", State::Revoked, revoked_error("revoked")), ("acknowledged", State::Failure, worker_lost())]
    {
        db.execute(
            &format!(
                "UPDATE task SET state = ?1, error = ?2, finished_at = ?3 WHERE seq IN \
                 (SELECT seq FROM task INDEXED BY task_marked \
                 WHERE state = 'QUEUED' AND (acknowledged = 1 OR revoked = 1) AND {mark} = 1)"
            ),
            params![state.as_str(), json(&error), micros(now)],
        )?;
    }
    Ok(())
}

// The deaths that count, of the tasks that may still run; and how many tasks may not.
fn settle_poisoned(db: &Connection, now: Timestamp) -> rusqlite::Result<(HashMap<i64, Vec<i64>>, u64)> {
    db.execute(
        "DELETE FROM death WHERE at <= ?1 \
         OR NOT EXISTS (SELECT 1 FROM task WHERE seq = death.task AND finished_at IS NULL)",
        [micros(now - SUSPECTED_FOR)],
    )?;
    let mut deaths: HashMap<i64, Vec<i64>> = HashMap::new();
    let mut look = db.prepare("SELECT task, at FROM death")?;
    let mut rows = look.query([])?;
    while let Some(row) = rows.next()? {
        deaths.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    let mut settle =
        db.prepare("UPDATE task SET state = 'FAILURE', error = ?2, finished_at = ?3, due_at = NULL WHERE seq = ?1")?;
    let mut settled = 0;
    for seq in deaths.extract_if(|_, at| at.len() >= DEATHS as usize).map(|(seq, _)| seq) {
        settle.execute(params![seq, json(&poisoned()), micros(now)])?;
        settled += 1;
    }
    Ok((deaths, settled))
}
