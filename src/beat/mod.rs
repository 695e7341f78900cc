//! Beat submits what is due.
//!
//! `schedules.toml` is read into a timetable of entries; each due time of an entry is a tick. Every process that runs
//! beat computes the same ticks and races to take each of them in the store, in the transaction that stores the task:
//! two beats are harmless, and no tick is lost between taking and storing. There is no leader, so there is nothing to
//! elect and nothing to fail over. The store remembers each entry's last tick, so that a restart goes on from there.
//!
//! What is due is decided without a clock or a store (`standing`, over `schedule`, `zone` and `crontab`); this file
//! only reads, waits and submits. Beat never looks at workers, and at a run only where an entry must not overlap.

mod board;
#[cfg(test)]
mod celery_facts;
mod crontab;
mod entry;
mod notation;
mod schedule;
mod standing;
mod table;
#[cfg(test)]
mod tests;
mod timetable;
mod zone;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{SubsecRound, Utc};
use futures_util::StreamExt;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::client::{Client, SubmitError};
use crate::store::{self, Tick};
use crate::task::Timestamp;
use crate::watch::{Snapshot, Watch};

pub use board::{Board, Outlook, Overview};
pub use entry::{CatchUp, Entry, Overlap};
pub use schedule::Schedule;
use standing::{MOST_CAUGHT_UP, Standing};
pub use table::Problem;
pub use timetable::{BadTimetable, Timetable};

/// The timetable of a project, in its folder.
pub const FILE: &str = "schedules.toml";

/// After this a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The wait before a timetable is tried again that could not be compared with the store.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many entries are submitted at the same time; the store makes few transactions of them.
const AT_ONCE: usize = 64;

/// How many changes of a timetable the log tells one by one.
const CHANGES_SHOWN: usize = 50;

/// Keeps the timetable in `path`, as it is edited, until `stop`, and writes on `board` what it keeps. Nothing ends it
/// earlier: what is wrong is in the log, and goes on when it is mended.
pub async fn run(client: Client, path: PathBuf, board: Board, stop: CancellationToken) {
    keep(Beat::new(client, path, board), stop).await;
}

/// The same without submitting anything: others do, and here somebody asks what.
pub async fn look(client: Client, path: PathBuf, board: Board, stop: CancellationToken) {
    keep(Beat { fires: false, ..Beat::new(client, path, board) }, stop).await;
}

async fn keep(beat: Beat, stop: CancellationToken) {
    let folder = beat.path.parent().unwrap_or(Path::new("")).to_owned();
    let (watch, changes) = Watch::start(folder, vec![beat.path.clone()], Arc::default(), stop.clone()).await;
    // A submission that is cut off is stored whole or not at all, its tick with it.
    stop.run_until_cancelled(beat.keep(changes)).await;
    watch.stopped().await;
}

struct Beat {
    client: Client,
    path: PathBuf,
    board: Board,
    /// It submits what is due.
    fires: bool,
    timetable: Timetable,
    standings: Vec<Standing>,
    /// The text of `timetable`; `None` before the first.
    text: Option<Arc<str>>,
    /// What was said last about a file that is no timetable, so that it is said once.
    complaint: Option<String>,
    /// When the file is to be taken over; `None` when not before it changes.
    look_at: Option<Instant>,
    /// The last call to the store failed, so that it is said once.
    store_failed: AtomicBool,
}

impl Beat {
    fn new(client: Client, path: PathBuf, board: Board) -> Self {
        Self {
            client,
            // As the watch calls it.
            path: std::path::absolute(&path).unwrap_or(path),
            board,
            fires: true,
            timetable: Timetable::default(),
            standings: Vec::new(),
            text: None,
            complaint: None,
            look_at: Some(Instant::now()),
            store_failed: AtomicBool::new(false),
        }
    }

    async fn keep(mut self, mut changes: Receiver<Arc<Snapshot>>) {
        loop {
            if self.look_at.is_some_and(|at| at <= Instant::now()) {
                let files = changes.borrow_and_update().clone();
                self.look(&files, Utc::now()).await;
            }
            if self.fires {
                self.fire(Utc::now()).await;
            }
            tokio::select! {
                Ok(()) = changes.changed() => self.look_at = Some(Instant::now()),
                () = tokio::time::sleep(self.patience(Utc::now())) => {}
            }
        }
    }

    /// How long there is nothing to do, unless the file changes.
    fn patience(&self, now: Timestamp) -> Duration {
        let next = self.standings.iter().filter(|_| self.fires).filter_map(Standing::wake_at).min();
        let until_next = next.map(|next| (next - now).to_std().unwrap_or_default());
        let until_look = self.look_at.map(|at| at.saturating_duration_since(Instant::now()));
        until_next.into_iter().chain(until_look).fold(LONGEST_SLEEP, Duration::min)
    }

    /// Takes the file over when it differs and is good.
    async fn look(&mut self, files: &Snapshot, now: Timestamp) {
        self.look_at = None;
        let text = match files.text(&self.path).cloned().unwrap_or_else(|| Ok("".into())) {
            Ok(text) => text,
            Err(why) => return self.complain(&timetable::unread(&self.path, why)),
        };
        if self.text.as_ref() == Some(&text) {
            if self.complaint.take().is_some() {
                self.board.complains(&[]);
                info!("{}: as it was before", timetable::shown(&self.path));
            }
            return;
        }
        let timetable = match Timetable::parse(&text, &timetable::shown(&self.path)) {
            Ok(timetable) => timetable,
            Err(bad) => return self.complain(&bad),
        };
        match self.take_over(timetable, now).await {
            Ok(()) => {
                self.text = Some(text);
                self.complaint = None;
                self.store_answered();
            }
            Err(error) => {
                self.look_at = Some(Instant::now() + LOOK_AGAIN);
                self.store_failed(&error);
            }
        }
    }

    fn complain(&mut self, bad: &BadTimetable) {
        let complaint = bad.to_string();
        if self.complaint.as_ref() != Some(&complaint) {
            error!("{complaint}; the schedule from before stays in use");
            self.board.complains(&bad.problems);
            self.complaint = Some(complaint);
        }
    }

    /// Puts `timetable` in the place of the current one. Entries whose ticks are the same go on where they are.
    async fn take_over(&mut self, timetable: Timetable, now: Timestamp) -> store::Result<()> {
        // Whole seconds, which every store keeps exactly: all beats then count an interval from the same instant.
        let now = now.trunc_subsecs(0);
        // Should a removed entry come back, its ticks of the time between are nobody's.
        let removed = self.timetable.entries().iter().map(|entry| (entry.name.clone(), "removed".to_owned()));
        let present = timetable.entries().iter().map(|entry| (entry.name.clone(), entry.fingerprint()));
        let fingerprints: HashMap<String, String> = removed.chain(present).collect();
        let fingerprints: Vec<(String, String)> = fingerprints.into_iter().collect();
        let watermarks = self.client.stores().ticks.watermarks(&fingerprints, now).await?;

        self.announce(&timetable, &watermarks, now);
        let mut before: HashMap<String, Standing> =
            self.standings.drain(..).map(|standing| (standing.entry.name.clone(), standing)).collect();
        for entry in timetable.entries().iter().filter(|entry| entry.enabled).cloned() {
            let watermark = watermarks.get(&entry.name).copied().unwrap_or(now);
            let same = before.remove(&entry.name).filter(|old| old.entry.fingerprint() == entry.fingerprint());
            self.standings.push(match same {
                Some(standing) => standing.continue_as(entry, watermark),
                None => Standing::new(entry, watermark),
            });
        }
        self.board.keeps(&timetable);
        self.timetable = timetable;
        Ok(())
    }

    /// Says what is different in `timetable`, and what is doubtful.
    fn announce(&self, timetable: &Timetable, watermarks: &HashMap<String, Timestamp>, now: Timestamp) {
        let file = timetable::shown(&self.path);
        if self.text.is_none() {
            info!(entries = timetable.entries().len(), "{file}: {} entries", timetable.entries().len());
        }
        let watermark = |entry: &Entry| watermarks.get(&entry.name).copied().unwrap_or(now);
        let changes = self.timetable.changes_to(timetable, |entry| entry.outlook(watermark(entry), now));
        for change in changes.iter().take(CHANGES_SHOWN) {
            info!("{file}: {change}");
        }
        if changes.len() > CHANGES_SHOWN {
            info!("{file}: and {} changes more", changes.len() - CHANGES_SHOWN);
        }
        for warning in timetable.warnings() {
            warn!("{warning}");
        }
        for entry in timetable.entries().iter().filter(|entry| entry.enabled) {
            if let Err(error) = self.client.check(entry.request(now)) {
                warn!(entry = entry.name, "{file}: [{}] would not run: {error}", entry.name);
            }
        }
    }

    /// Submits what is due at `now`.
    async fn fire(&mut self, now: Timestamp) {
        let mut standings = std::mem::take(&mut self.standings);
        let beat = &*self;
        futures_util::stream::iter(&mut standings)
            .for_each_concurrent(AT_ONCE, |standing| beat.fire_entry(standing, now))
            .await;
        self.standings = standings;
    }

    async fn fire_entry(&self, standing: &mut Standing, now: Timestamp) {
        if standing.decide(now) {
            let entry = &standing.entry;
            match entry.catch_up {
                CatchUp::All => {
                    warn!("`{}` missed more than {MOST_CAUGHT_UP} ticks; earlier ones are given up", entry.name)
                }
                _ => info!("`{}` missed ticks, which are given up as `catch_up = \"skip\"` says", entry.name),
            }
        }
        // One after another: the store refuses a tick that is earlier than one it has.
        while let Some(due) = standing.ready(now) {
            match self.submit(standing, due).await {
                Ok(ran) => {
                    standing.pass(ran);
                    self.store_answered();
                }
                Err(SubmitError::Store(store::Error::DuplicateId { .. })) => standing.pass(true),
                Err(SubmitError::Store(error)) => {
                    standing.postpone(Utc::now());
                    return self.store_failed(&error);
                }
                Err(error) => {
                    error!(entry = standing.entry.name, "`{}` did not run: {error}", standing.entry.name);
                    standing.pass(false);
                }
            }
        }
    }

    /// Submits one tick. True when it is a run now, ours or another beat's; false when it must not be one.
    async fn submit(&self, standing: &Standing, due: Timestamp) -> Result<bool, SubmitError> {
        let entry = &standing.entry;
        if entry.overlap == Overlap::Skip {
            let last = entry.run_of(standing.last_run());
            if let Some(run) = self.client.load(&last).await?.filter(|run| !run.state.is_final()) {
                info!(entry = entry.name, task.id = %last, "`{}` is skipped: its last run is {}", entry.name, run.state.as_str());
                return Ok(false);
            }
        }
        let tick = Tick { entry: entry.name.clone(), due };
        // None: another beat was first.
        if let Some(submitted) = self.client.submit_tick(entry.request(due), tick).await? {
            metrics::counter!("umbel_beat_ticks_total").increment(1);
            info!(entry = entry.name, task.id = %submitted.id, task.name = entry.task, "`{}` sends `{}`", entry.name, entry.task);
        }
        Ok(true)
    }

    fn store_failed(&self, error: &store::Error) {
        metrics::counter!("umbel_store_errors_total", "part" => "beat").increment(1);
        if !error.is_told() && !self.store_failed.swap(true, Ordering::Relaxed) {
            error!("beat cannot store what is due and tries again: {error}");
        }
    }

    fn store_answered(&self) {
        if self.store_failed.swap(false, Ordering::Relaxed) {
            info!("beat can store what is due again");
        }
    }
}
