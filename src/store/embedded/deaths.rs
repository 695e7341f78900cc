//! What the last process left behind: what it ran is suspected, and what may not run again is settled.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::rows::{self, MESSAGE, json, micros};
use super::running::Begun;
use super::settling::revoked_error;
use super::{claims, sending};
use crate::store::{DEATHS, SUSPECTED_FOR, Settings, errbacks, poisoned, recovered, worker_lost};
use crate::task::{Failure, Timestamp};

/// What waits and is not to be handed out again.
const MARKED: &str =
    "SELECT seq FROM task INDEXED BY task_marked WHERE state = 'QUEUED' AND (acknowledged = 1 OR revoked = 1)";

/// A store that was just opened.
pub struct TakenOver {
    /// How often it was opened.
    pub opening: u64,
    /// When processes died while they ran the task of that row.
    pub deaths: HashMap<i64, Vec<i64>>,
}

/// Settles or suspects what the last process had `begun`, in one step, so that nothing is counted twice.
pub fn take_over(db: &Connection, begun: &[Begun], settings: &Settings, now: Timestamp) -> rusqlite::Result<TakenOver> {
    let change = rusqlite::Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let opening: i64 =
        change.query_row("UPDATE meta SET value = value + 1 WHERE name = 'openings' RETURNING value", [], |row| {
            row.get(0)
        })?;
    let opening = opening.unsigned_abs();
    settle_marked(&change, settings, now)?;
    let mut again = 0;
    for begun in begun.iter().filter(|begun| claims::opening_of(begun.token) + 1 == opening) {
        if is_unsettled(&change, begun)? {
            change.execute("UPDATE task SET held = 1 WHERE seq = ?1", [begun.seq])?;
            change.execute("INSERT INTO death VALUES (?1, ?2)", params![begun.seq, micros(now)])?;
            again += 1;
        }
    }
    let (deaths, poisoned) = settle_poisoned(&change, settings, now)?;
    change.commit()?;
    recovered::tell(again - poisoned.min(again), poisoned);
    Ok(TakenOver { opening, deaths })
}

// The same attempt waits in its queue again: it has neither ended nor gone on to a retry.
fn is_unsettled(db: &Connection, begun: &Begun) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM task WHERE seq = ?1 AND retries = ?2 AND state = 'QUEUED'";
    Ok(db.prepare_cached(sql)?.query_row(params![begun.seq, begun.retries], |_| Ok(())).optional()?.is_some())
}

fn settle_marked(db: &Connection, settings: &Settings, now: Timestamp) -> rusqlite::Result<()> {
    db.execute(
        &format!(
            "UPDATE task SET state = 'REVOKED', error = ?1, finished_at = ?2 WHERE seq IN ({MARKED} AND revoked = 1)"
        ),
        params![json(&revoked_error("revoked")), micros(now)],
    )?;
    let mut look = db.prepare(&format!("{MARKED} AND acknowledged = 1"))?;
    let lost: Vec<i64> = look.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    lost.into_iter().try_for_each(|seq| bury(db, seq, &worker_lost(), settings, now))
}

// Ends a task whose process died, and sends what follows its failure.
fn bury(db: &Connection, seq: i64, why: &Failure, settings: &Settings, now: Timestamp) -> rusqlite::Result<()> {
    let look = format!("SELECT {MESSAGE} FROM task WHERE seq = ?1");
    let message = db.prepare_cached(&look)?.query_row([seq], rows::message);
    db.prepare_cached("UPDATE task SET state = 'FAILURE', error = ?2, finished_at = ?3, due_at = NULL WHERE seq = ?1")?
        .execute(params![seq, json(why), micros(now)])?;
    // Who loads such a row is told what is wrong with it; the others of the file must not wait for that.
    let followers = message.map_or_else(|_| Vec::new(), |message| errbacks::of(&message, settings));
    followers.iter().try_for_each(|follower| sending::leave(db, follower, now))
}

// The deaths that count, of the tasks that may still run; and how many tasks may not.
fn settle_poisoned(
    db: &Connection,
    settings: &Settings,
    now: Timestamp,
) -> rusqlite::Result<(HashMap<i64, Vec<i64>>, u64)> {
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
    let mut settled = 0;
    for seq in deaths.extract_if(|_, at| at.len() >= DEATHS as usize).map(|(seq, _)| seq) {
        bury(db, seq, &poisoned(), settings, now)?;
        settled += 1;
    }
    Ok((deaths, settled))
}
