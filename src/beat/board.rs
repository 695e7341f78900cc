//! What beat keeps, for others to read.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::{CatchUp, Entry, Overlap, Problem, Timetable};
use crate::store::{self, Stores};
use crate::task::Timestamp;

/// How many runs of an entry are told in advance.
const FORESEEN: usize = 3;

/// Beat writes here which timetable it keeps. Cheap to clone; empty until beat has read one.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Written>>);

#[derive(Clone, Default)]
struct Written {
    entries: Vec<Entry>,
    warnings: Vec<Problem>,
    problems: Vec<Problem>,
}

/// What is kept, and how it goes on.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// In the order of the file.
    pub entries: Vec<Outlook>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
    /// What is wrong with the file now; while there is something, the entries are those from before.
    pub problems: Vec<Problem>,
}

/// One entry, and how it goes on.
#[derive(Debug, Serialize)]
pub struct Outlook {
    pub name: String,
    pub task: String,
    /// As it is told in the log.
    pub schedule: String,
    /// `None` for an interval, which follows elapsed time.
    pub timezone: Option<&'static str>,
    pub enabled: bool,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
    /// Its last tick; before there was one, when it began to count.
    pub last: Timestamp,
    /// Its next ticks; none when it is not enabled.
    pub next: Vec<Timestamp>,
}

impl Board {
    /// Tells what is kept, at `now`.
    ///
    /// # Errors
    /// When the store, which knows the last ticks, does not answer.
    pub async fn overview(&self, stores: &Stores, now: Timestamp) -> store::Result<Overview> {
        let Written { entries, warnings, problems } = self.written().clone();
        // Beat has told the store the same fingerprints, so that nothing begins here.
        let known: Vec<_> = entries.iter().map(|entry| (entry.name.clone(), entry.fingerprint())).collect();
        let last = stores.ticks.watermarks(&known, now).await?;
        let outlook = |entry: &Entry| Outlook::of(entry, last.get(&entry.name).copied().unwrap_or(now), now);
        Ok(Overview { entries: entries.iter().map(outlook).collect(), warnings, problems })
    }

    pub(super) fn keeps(&self, timetable: &Timetable) {
        let (entries, warnings) = (timetable.entries().to_vec(), timetable.warnings().to_vec());
        *self.written() = Written { entries, warnings, problems: Vec::new() };
    }

    pub(super) fn complains(&self, problems: &[Problem]) {
        self.written().problems = problems.to_vec();
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlook {
    fn of(entry: &Entry, last: Timestamp, now: Timestamp) -> Self {
        Self {
            name: entry.name.clone(),
            task: entry.task.clone(),
            schedule: entry.schedule.text(),
            timezone: entry.schedule.zone().map(|zone| zone.name()),
            enabled: entry.enabled,
            catch_up: entry.catch_up,
            overlap: entry.overlap,
            last,
            next: if entry.enabled { entry.next_since(last, now, FORESEEN) } else { Vec::new() },
        }
    }
}
