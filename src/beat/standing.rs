//! Where one entry stands: which ticks are behind it, which wait to be stored, when to look again. Decisions only.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::TimeDelta;

use super::entry::{CatchUp, Entry};
use crate::task::Timestamp;

/// A tick that is later than this was missed; one that is not was only waited for.
const MISSED_AFTER: TimeDelta = TimeDelta::seconds(10);

/// The most runs that `catch_up = "all"` makes up for at once; earlier ticks are given up.
pub const MOST_CAUGHT_UP: usize = 1_000;

/// The longest wait between two attempts to store a tick.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Where one entry stands.
#[derive(Debug)]
pub struct Standing {
    pub entry: Entry,
    /// The last tick that was decided upon. Before it there is nothing to do but `waiting`.
    decided: Timestamp,
    /// The last tick that became a run; where there was none, no run is known by it.
    last_run: Timestamp,
    /// Ticks that are to run and are not stored yet.
    waiting: VecDeque<Timestamp>,
    /// How often storing the first of them failed, and when it is tried again.
    failures: u32,
    retry_at: Option<Timestamp>,
}

impl Standing {
    /// `watermark` is the last tick that was fired, or the time from which ticks count.
    pub fn new(entry: Entry, watermark: Timestamp) -> Self {
        Self { entry, decided: watermark, last_run: watermark, waiting: VecDeque::new(), failures: 0, retry_at: None }
    }

    /// Goes on with an edited `entry` that has the same ticks.
    pub fn continue_as(self, entry: Entry, watermark: Timestamp) -> Self {
        let (decided, last_run) = (self.decided.max(watermark), self.last_run.max(watermark));
        Self { entry, decided, last_run, ..self }
    }

    /// Decides which of the ticks up to `now` are to run. True when some were given up.
    ///
    /// While ticks wait to be stored nothing is decided, so that they do not pile up when the store is away.
    pub fn decide(&mut self, now: Timestamp) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        let due = due(&self.entry, self.decided, now);
        self.decided = due.decided;
        self.waiting = due.run.into();
        due.given_up
    }

    /// The tick to store next; `None` when there is none, or when it is not to be tried yet.
    pub fn ready(&self, now: Timestamp) -> Option<Timestamp> {
        self.waiting.front().copied().filter(|_| self.retry_at.is_none_or(|at| at <= now))
    }

    /// The first waiting tick is dealt with. `ran`: it is a run now, ours or another beat's.
    pub fn pass(&mut self, ran: bool) {
        if let Some(due) = self.waiting.pop_front().filter(|_| ran) {
            self.last_run = due;
        }
        (self.failures, self.retry_at) = (0, None);
    }

    /// The first waiting tick could not be stored: it is tried again later.
    pub fn postpone(&mut self, now: Timestamp) {
        let wait = Duration::from_secs(1 << self.failures.min(10)).min(LONGEST_WAIT);
        self.failures += 1;
        self.retry_at = Some(now + wait);
    }

    /// When there will be something to do; `None` when never. May be past.
    pub fn wake_at(&self) -> Option<Timestamp> {
        match self.waiting.front() {
            Some(due) => self.retry_at.or(Some(*due)),
            None => self.entry.schedule.next(self.decided),
        }
    }

    /// The tick of the last run; where there was none yet, no run is known by it.
    pub fn last_run(&self) -> Timestamp {
        self.last_run
    }
}

/// What is to be done about the ticks of an entry.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    run: Vec<Timestamp>,
    /// The last tick that this decides upon.
    decided: Timestamp,
    given_up: bool,
}

/// Decides on the ticks after `decided` up to `now`. Ticks that come due together are one run, unless each counts.
fn due(entry: &Entry, decided: Timestamp, now: Timestamp) -> Due {
    let most = if entry.catch_up == CatchUp::All { MOST_CAUGHT_UP } else { 1 };
    let mut run = entry.schedule.last(most, decided, now);
    let (Some(first), Some(last)) = (run.first().copied(), run.last().copied()) else {
        return Due { run, decided, given_up: false };
    };
    let given_up = match entry.catch_up {
        CatchUp::Skip => now - last > MISSED_AFTER,
        CatchUp::Once => false,
        CatchUp::All => entry.schedule.next(decided).is_some_and(|tick| tick < first),
    };
    if given_up && entry.catch_up == CatchUp::Skip {
        run.clear();
    }
    Due { run, decided: last, given_up }
}

#[cfg(test)]
mod tests {
    use super::super::timetable::Timetable;
    use super::*;

    fn entry(rest: &str) -> Entry {
        let text = format!("[e]\ntask = \"t.f\"\nschedule = 60\n{rest}");
        Timetable::parse(&text, "schedules.toml").unwrap().entries()[0].clone()
    }

    /// `seconds` after a start.
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn all(seconds: impl IntoIterator<Item = i64>) -> Vec<Timestamp> {
        seconds.into_iter().map(at).collect()
    }

    #[test]
    fn a_tick_runs_when_it_is_due_and_not_before() {
        for catch_up in ["skip", "once", "all"] {
            let entry = entry(&format!("catch_up = \"{catch_up}\""));

            assert_eq!(due(&entry, at(0), at(59)).run, all([]));
            assert_eq!(due(&entry, at(0), at(60)), Due { run: all([60]), decided: at(60), given_up: false });
            assert_eq!(due(&entry, at(60), at(60)).run, all([]));
            // As late as a busy machine makes it.
            assert_eq!(due(&entry, at(0), at(70)).run, all([60]));
        }
    }

    #[test]
    fn missed_ticks_are_caught_up_as_the_entry_says() {
        let missed = |catch_up: &str, now| due(&entry(&format!("catch_up = \"{catch_up}\"")), at(0), now);

        assert_eq!(missed("once", at(200)), Due { run: all([180]), decided: at(180), given_up: false });
        assert_eq!(missed("all", at(200)), Due { run: all([60, 120, 180]), decided: at(180), given_up: false });
        assert_eq!(missed("skip", at(200)), Due { run: vec![], decided: at(180), given_up: true });
        assert_eq!(missed("skip", at(185)).run, all([180]));
    }

    #[test]
    fn catching_up_has_an_end() {
        let due = due(&entry("catch_up = \"all\""), at(0), at(60 * 1_001));

        assert_eq!(due.run, all((2..=1_001).map(|count| count * 60)));
        assert!(due.given_up);
    }

    #[test]
    fn a_tick_that_could_not_be_stored_is_tried_again_and_holds_up_the_next() {
        let mut standing = Standing::new(entry(""), at(0));

        standing.decide(at(60));
        assert_eq!(standing.ready(at(60)), Some(at(60)));
        standing.postpone(at(60));
        assert_eq!((standing.ready(at(60)), standing.wake_at()), (None, Some(at(61))));
        standing.decide(at(61));
        standing.postpone(at(61));
        assert_eq!((standing.ready(at(62)), standing.wake_at()), (None, Some(at(63))));
        standing.decide(at(400));
        assert_eq!(standing.ready(at(400)), Some(at(60)));
        standing.pass(true);

        assert_eq!((standing.last_run(), standing.ready(at(400))), (at(60), None));
        standing.decide(at(400));
        assert_eq!(standing.ready(at(400)), Some(at(360)));
    }

    #[test]
    fn a_tick_that_did_not_run_leaves_the_last_run_as_it_was() {
        let mut standing = Standing::new(entry(""), at(0));

        standing.decide(at(60));
        standing.pass(false);

        assert_eq!((standing.last_run(), standing.wake_at()), (at(0), Some(at(120))));
    }

    #[test]
    fn an_edit_of_the_arguments_goes_on_where_it_was() {
        let mut standing = Standing::new(entry(""), at(0));
        standing.decide(at(60));
        standing.postpone(at(60));

        let standing = standing.continue_as(entry("args = [1]"), at(0));

        assert_eq!(standing.ready(at(61)), Some(at(60)));
        assert_eq!(standing.entry, entry("args = [1]"));
    }

    #[test]
    fn what_changes_the_ticks_changes_the_fingerprint() {
        let fingerprint = entry("").fingerprint();

        assert_eq!(entry("args = [1]\ntimezone = \"Asia/Seoul\"\ncatch_up = \"all\"").fingerprint(), fingerprint);
        assert_ne!(entry("enabled = false").fingerprint(), fingerprint);
        assert_ne!(entry("").run_of(at(60)), entry("").run_of(at(120)));
        assert_eq!(entry("").run_of(at(60)), entry("args = [1]").run_of(at(60)));
    }
}
