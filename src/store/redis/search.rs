//! Searching the history: the zset of known tasks is read from the newest on, a piece at a time, and each record is
//! judged here.

use async_trait::async_trait;

use crate::store::{Error, Filter, History, Page, Result, Weight};
use crate::task::{Run, TaskId};

use super::Redis;

/// How many runs are read in one go.
const AT_ONCE: usize = 100;
/// How many runs one page looks at; then it ends, however few fit.
const PER_PAGE: usize = 2_000;

/// A place in the history: when a task became known (us), and its id, for those of the same moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    at: u64,
    id: TaskId,
}

impl Position {
    fn parse(cursor: &str) -> Option<Self> {
        let (at, id) = cursor.split_once('-')?;
        // As it was written: `+1` and `01` are numbers too.
        let at = at.parse().ok().filter(|number: &u64| number.to_string() == at)?;
        Some(Self { at, id: TaskId::parse(id).ok()? })
    }

    fn to_cursor(&self) -> String {
        format!("{}-{}", self.at, self.id)
    }
}

#[async_trait]
impl History for Redis {
    async fn search(&self, filter: &Filter) -> Result<Page> {
        self.hands.write().await?;
        let bad = |cursor: &String| Error::BadCursor { cursor: cursor.clone() };
        let cursor = filter.cursor.as_ref().map(|text| Position::parse(text).ok_or_else(|| bad(text))).transpose()?;
        let mut walk = Walk { after: cursor, oldest: filter.since.map_or(0, |since| since.timestamp_micros()) };
        let mut fitting: Vec<(Position, Run)> = Vec::new();
        let (mut looked, mut weight) = (0, Weight::default());
        while looked < PER_PAGE {
            let piece = walk.next(self).await?;
            if piece.is_empty() {
                return Ok(page(fitting, None));
            }
            looked += piece.len();
            for (position, run) in self.listed(piece).await?.into_iter().filter(|(_, run)| filter.fits(run)) {
                // One more than there is room for says that there are more.
                if fitting.len() >= filter.limit || weight.is_full() {
                    let last = fitting.last().map(|(position, _)| position.clone());
                    return Ok(page(fitting, last));
                }
                weight.add(&run);
                fitting.push((position, run));
            }
        }
        // Where the look ended, not where the last one that fits is: what was looked at is not looked at again.
        Ok(page(fitting, walk.after))
    }
}

fn page(fitting: Vec<(Position, Run)>, last: Option<Position>) -> Page {
    Page { runs: fitting.into_iter().map(|(_, run)| run).collect(), next: last.map(|last| last.to_cursor()) }
}

/// The way back through the history.
struct Walk {
    /// The last that was seen.
    after: Option<Position>,
    /// Nothing from before this (us).
    oldest: i64,
}

impl Walk {
    // The next older ones; empty at the end.
    async fn next(&mut self, store: &Redis) -> Result<Vec<Position>> {
        let mut skip = 0;
        loop {
            let mut look = redis::cmd("ZREVRANGEBYSCORE");
            match &self.after {
                Some(after) => look.arg(store.connection.keys().history()).arg(after.at),
                None => look.arg(store.connection.keys().history()).arg("+inf"),
            };
            look.arg(self.oldest).arg("WITHSCORES").arg("LIMIT").arg(skip).arg(AT_ONCE);
            let found: Vec<(String, f64)> = store.connection.ask(&look).await?;
            if found.is_empty() {
                return Ok(Vec::new());
            }
            skip += found.len();
            // Those of the same moment as the last one come once more.
            let new = found.into_iter().filter_map(position).filter(|one| self.after.as_ref().is_none_or(|a| one < a));
            let new: Vec<Position> = new.collect();
            if let Some(last) = new.last() {
                self.after = Some(last.clone());
                return Ok(new);
            }
        }
    }
}

fn position((id, at): (String, f64)) -> Option<Position> {
    // Microseconds since 1970 are whole numbers below 2^53.
    Some(Position { at: at as u64, id: TaskId::parse(&id).ok()? })
}

impl Redis {
    // Without those that were forgotten meanwhile.
    async fn listed(&self, positions: Vec<Position>) -> Result<Vec<(Position, Run)>> {
        let ids: Vec<TaskId> = positions.iter().map(|position| position.id.clone()).collect();
        let runs = self.look_at_all(&ids).await?;
        let listed = |(position, run): (Position, Option<Run>)| Some((position, Run { children: Vec::new(), ..run? }));
        Ok(positions.into_iter().zip(runs).filter_map(listed).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_back(at in 0u64..1 << 53, id in "[a-z0-9-]{1,40}") {
            let position = Position { at, id: TaskId::parse(&id).unwrap() };

            prop_assert_eq!(Position::parse(&position.to_cursor()), Some(position));
        }

        #[test]
        fn what_is_no_cursor_is_refused_or_written_so(text in ".*") {
            prop_assert!(Position::parse(&text).is_none_or(|position| position.to_cursor() == text));
        }
    }

    #[test]
    fn the_newest_comes_last_in_order() {
        let position = |text| Position::parse(text).unwrap();

        assert!(position("2-a") > position("1-b"));
        assert!(position("2-b") > position("2-a"));
    }
}
