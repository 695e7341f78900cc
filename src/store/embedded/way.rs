//! The ways through the history: each leads through an index, so that a search meets few rows in vain.

use rusqlite::{Connection, OptionalExtension, Params, params};

use super::claims::Claims;
use super::cursor::Place;
use super::depths::Depths;
use crate::store::Filter;
use crate::task::{Priority, QueueName, State};

/// A task of which there are no more than these is found by its name first.
const FEW: i64 = 4_000;
/// Names that begin alike are followed one by one when they are no more than these.
const MOST_NAMES: usize = 200;

/// Rows in the order that a search meets them: the newest first.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// Everything, by when it was stored.
    Stored,
    /// The tasks of these names, by when they were stored.
    Named(Vec<String>),
    /// Those of a state that is neither queued, started nor a success, by when they were stored.
    Of(State),
    /// What has ended, by when it did.
    Ended,
    /// What is queued in these queues, by when it became ready.
    Ready(Vec<QueueName>),
    /// What is claimed, by when it was stored.
    Claimed,
}

impl Way {
    /// The shortest way to what `filter` asks for, behind `from` where that is given. `None` when no way leads on
    /// from there.
    pub fn choose(
        db: &Connection,
        depths: &Depths,
        filter: &Filter,
        from: Option<Place>,
    ) -> rusqlite::Result<Option<Self>> {
        for way in Self::ways(db, depths, filter)? {
            if from.is_none_or(|from| from.is_of(way.end())) {
                return Ok(Some(way));
            }
        }
        Ok(None)
    }

    // The shortest one first; the others are for whoever began when another was shorter.
    fn ways(db: &Connection, depths: &Depths, filter: &Filter) -> rusqlite::Result<Vec<Self>> {
        let by_name = match &filter.name {
            None => None,
            Some(name) => match name.strip_suffix('*') {
                None => Some(Self::Named(vec![name.clone()])),
                Some("") => None,
                Some(beginning) => names(db, beginning)?.map(Self::Named),
            },
        };
        let by_state = filter.state.map(|state| match state {
            State::Started => Self::Claimed,
            State::Queued => Self::Ready(filter.queue.clone().map_or_else(|| depths.queued(), |queue| vec![queue])),
            State::Success => Self::Ended,
            State::Failure | State::Revoked | State::Scheduled | State::Retry => Self::Of(state),
        });
        let ways = match (by_name, by_state) {
            (_, Some(Self::Claimed)) => [Some(Self::Claimed), None],
            (Some(named), Some(of_state)) if named.is_short(db)? => [Some(named), Some(of_state)],
            (by_name, by_state) => [by_state, by_name],
        };
        // The last one meets everything: it also leads on for whoever began when there were fewer names.
        Ok(ways.into_iter().flatten().chain([Self::Stored]).collect())
    }

    fn is_short(&self, db: &Connection) -> rusqlite::Result<bool> {
        let Self::Named(names) = self else { return Ok(false) };
        let mut left = FEW;
        for name in names {
            let few = "SELECT count(*) FROM (SELECT 1 FROM task WHERE name = ?1 LIMIT ?2)";
            left -= db.prepare_cached(few)?.query_row(params![name, left + 1], |row| row.get::<_, i64>(0))?;
            if left < 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    // Behind everything that is on this way, which is before the newest.
    fn end(&self) -> Place {
        match self {
            Self::Ended => Place::Ended(i64::MAX, i64::MAX),
            Self::Ready(_) => Place::Ready(i64::MAX),
            Self::Stored | Self::Named(_) | Self::Of(_) | Self::Claimed => Place::Stored(i64::MAX),
        }
    }

    /// The next rows behind `from`, `most` of them unless the way ends there.
    pub fn follow(
        &self,
        db: &Connection,
        claims: &Claims,
        from: Option<Place>,
        most: usize,
    ) -> rusqlite::Result<Vec<(Place, i64)>> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let mut found = Vec::new();
        match (self, from.unwrap_or(self.end())) {
            (Self::Stored, Place::Stored(seq)) => {
                let sql = "SELECT seq FROM task WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
                stored(db, sql, params![seq, limit], &mut found)?;
            }
            (Self::Named(names), Place::Stored(seq)) => {
                let sql = "SELECT seq FROM task INDEXED BY task_by_name \
                    WHERE name = ?3 AND seq < ?1 ORDER BY seq DESC LIMIT ?2";
                for name in names {
                    stored(db, sql, params![seq, limit, name], &mut found)?;
                }
            }
            (Self::Of(state), Place::Stored(seq)) => {
                let sql = "SELECT seq FROM task INDEXED BY task_by_state \
                    WHERE state IN ('FAILURE', 'REVOKED', 'SCHEDULED', 'RETRY') AND state = ?3 AND seq < ?1 \
                    ORDER BY seq DESC LIMIT ?2";
                stored(db, sql, params![seq, limit, state.as_str()], &mut found)?;
            }
            (Self::Claimed, Place::Stored(seq)) => {
                let behind = claims.seqs().into_iter().filter(|its| *its < seq);
                found.extend(behind.map(|its| (Place::Stored(its), its)));
            }
            (Self::Ended, Place::Ended(at, seq)) => {
                let sql = "SELECT finished_at, seq FROM task INDEXED BY task_finished \
                    WHERE finished_at IS NOT NULL AND (finished_at, seq) < (?1, ?2) \
                    ORDER BY finished_at DESC, seq DESC LIMIT ?3";
                let mut look = db.prepare_cached(sql)?;
                let rows = look.query_map(params![at, seq, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
                for row in rows {
                    let (at, seq) = row?;
                    found.push((Place::Ended(at, seq), seq));
                }
            }
            (Self::Ready(queues), Place::Ready(turn)) => {
                for queue in queues {
                    for step in Priority::STEPS {
                        ready(db, queue, step, turn, limit, &mut found)?;
                    }
                }
            }
            // `choose` has seen that the place is of this way.
            _ => {}
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(most);
        Ok(found)
    }
}

fn stored(db: &Connection, sql: &str, params: impl Params, found: &mut Vec<(Place, i64)>) -> rusqlite::Result<()> {
    let mut look = db.prepare_cached(sql)?;
    for seq in look.query_map(params, |row| row.get(0))? {
        let seq = seq?;
        found.push((Place::Stored(seq), seq));
    }
    Ok(())
}

fn ready(
    db: &Connection,
    queue: &QueueName,
    step: u8,
    turn: i64,
    limit: i64,
    found: &mut Vec<(Place, i64)>,
) -> rusqlite::Result<()> {
    let mut look = db.prepare_cached(
        "SELECT turn, seq FROM task INDEXED BY task_ready \
         WHERE state = 'QUEUED' AND queue = ?1 AND step = ?2 AND turn < ?3 ORDER BY turn DESC LIMIT ?4",
    )?;
    for row in look.query_map(params![queue.as_str(), step, turn, limit], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (turn, seq) = row?;
        found.push((Place::Ready(turn), seq));
    }
    Ok(())
}

// The names there are that begin so, each found by one step into the index; `None` when they are too many.
fn names(db: &Connection, beginning: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let mut names: Vec<String> = Vec::new();
    let mut first = db.prepare_cached("SELECT name FROM task WHERE name >= ?1 ORDER BY name LIMIT 1")?;
    let mut next = db.prepare_cached("SELECT name FROM task WHERE name > ?1 ORDER BY name LIMIT 1")?;
    loop {
        let name: Option<String> = match names.last() {
            None => first.query_row([beginning], |row| row.get(0)).optional()?,
            Some(last) => next.query_row([last], |row| row.get(0)).optional()?,
        };
        match name.filter(|name| name.starts_with(beginning)) {
            None => return Ok(Some(names)),
            Some(_) if names.len() == MOST_NAMES => return Ok(None),
            Some(name) => names.push(name),
        }
    }
}
