//! The loop, over a real store and real files. Ticks come every 100 ms; whoever waits for one claims it.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::timetable::Timetable;
use crate::client::Client;
use crate::plugin::Loader;
use crate::store::{self, Attempt, Delivery, Ending, Filter, Queues, Settlement, Stores, Ticks};
use crate::task::Timestamp;

const PATIENCE: Duration = Duration::from_secs(20);

/// A project with the task `t.f`, its store, and the beats that run on it.
struct Project {
    folder: TempDir,
    stores: Stores,
    loader: Loader,
    stop: CancellationToken,
    beats: Vec<JoinHandle<()>>,
}

impl Project {
    async fn with(schedules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tasks")).unwrap();
        fs::write(folder.path().join("tasks/t.rhai"), "fn f(x) { x }").unwrap();
        let mut loader = Loader::new(folder.path().to_owned());
        loader.load();
        let stores = store::open("memory:", folder.path(), store::Settings::default()).await.unwrap();
        let project = Self { folder, stores, loader, stop: CancellationToken::new(), beats: Vec::new() };
        project.save(schedules);
        project
    }

    fn save(&self, schedules: &str) {
        fs::write(self.folder.path().join("schedules.toml"), schedules).unwrap();
    }

    fn beat(mut self) -> Self {
        let client = Client::new(self.stores.clone(), self.loader.catalogs(), "test".to_owned());
        let beat =
            super::run(client, self.folder.path().join("schedules.toml"), super::Board::default(), self.stop.clone());
        self.beats.push(tokio::spawn(beat));
        self
    }

    /// Makes the store believe that the entries were seen that long ago and not since.
    async fn away_for(&self, schedules: &str, time: TimeDelta) {
        let timetable = Timetable::parse(schedules, "schedules.toml").unwrap();
        let entries: Vec<_> =
            timetable.entries().iter().map(|entry| (entry.name.clone(), entry.fingerprint())).collect();
        self.stores.ticks.watermarks(&entries, Utc::now() - time).await.unwrap();
    }

    /// The next task that was sent.
    async fn next(&self) -> Delivery {
        let mut claimed = self.stores.queue.claim(&Queues::Every, 1, PATIENCE).await.unwrap();
        claimed.pop().expect("nothing was sent")
    }

    /// The argument of the next task that was sent.
    async fn next_argument(&self) -> i64 {
        argument(&self.next().await)
    }

    async fn until_argument(&self, expected: i64) {
        while self.next_argument().await != expected {}
    }

    async fn end(self) {
        self.stop.cancel();
        for beat in self.beats {
            beat.await.unwrap();
        }
    }
}

fn argument(delivery: &Delivery) -> i64 {
    let args: serde_json::Value = serde_json::from_str(delivery.message.arguments().unwrap().0.get()).unwrap();
    args[0].as_i64().unwrap()
}

fn entry(name: &str, schedule: &str, argument: i64) -> String {
    format!("[{name}]\ntask = \"t.f\"\nschedule = \"{schedule}\"\nargs = [{argument}]\n")
}

#[tokio::test]
async fn an_entry_is_sent_at_each_of_its_ticks() {
    let project = Project::with(&entry("e", "100ms", 1)).await.beat();

    for _ in 0..3 {
        let delivery = project.next().await;
        assert_eq!((delivery.message.task.as_str(), argument(&delivery)), ("t.f", 1));
    }

    project.end().await;
}

#[tokio::test]
async fn an_edit_takes_effect_and_a_bad_one_does_not() {
    let project = Project::with("").await.beat();

    project.save(&entry("e", "100ms", 1));
    project.until_argument(1).await;
    project.save("[e]\ntask = 5");
    for _ in 0..5 {
        assert_eq!(project.next_argument().await, 1);
    }
    project.save(&entry("e", "100ms", 2));
    project.until_argument(2).await;
    fs::remove_file(project.folder.path().join("schedules.toml")).unwrap();
    while !project.stores.queue.claim(&Queues::Every, 1, Duration::from_secs(1)).await.unwrap().is_empty() {}

    project.end().await;
}

#[tokio::test]
async fn beats_that_run_together_send_each_tick_once() {
    let began = Utc::now();
    let project = Project::with(&entry("e", "100ms", 1)).await.beat().beat().beat();

    for _ in 0..10 {
        project.next().await;
    }

    let runs = project.stores.history.search(&Filter { limit: 1_000, ..Filter::default() }).await.unwrap().runs;
    // The first may be for a tick of the second that had begun before.
    let most = (Utc::now() - began).num_milliseconds() / 100 + 2;
    assert!((10..=most).contains(&(runs.len() as i64)), "{} runs, at most {most}", runs.len());
    project.end().await;
}

#[tokio::test]
async fn a_restart_goes_on_from_the_last_tick() {
    let schedules: String = [("all", 1), ("once", 2), ("skip", 3)]
        .map(|(catch_up, argument)| format!("{}catch_up = \"{catch_up}\"\n", entry(catch_up, "1h", argument)))
        .concat();
    let project = Project::with(&format!("{schedules}{}", entry("sign", "100ms", 9))).await;
    project.away_for(&schedules, TimeDelta::minutes(210)).await;

    let project = project.beat();
    let mut sent = Vec::new();
    while sent.iter().filter(|argument| **argument == 9).count() < 5 {
        sent.push(project.next_argument().await);
    }

    sent.retain(|argument| *argument != 9);
    sent.sort();
    assert_eq!(sent, [1, 1, 1, 2]);
    project.end().await;
}

#[tokio::test]
async fn an_entry_that_must_not_overlap_waits_for_its_last_run() {
    let schedules = format!("{}overlap = \"skip\"\n{}", entry("e", "100ms", 1), entry("sign", "100ms", 9));
    let project = Project::with(&schedules).await.beat();

    let mut first = project.next().await;
    while argument(&first) != 1 {
        first = project.next().await;
    }
    for _ in 0..5 {
        assert_eq!(project.next_argument().await, 9);
    }
    let settlement = Settlement {
        delivery: first,
        ending: Ending::Success { result: None },
        attempt: Attempt::default(),
        follow_ups: Vec::new(),
    };
    project.stores.queue.settle(settlement.into()).await.unwrap();

    project.until_argument(1).await;
    project.end().await;
}

#[tokio::test]
async fn an_entry_that_cannot_run_keeps_no_other_from_running() {
    let schedules = format!("[bad]\ntask = \"t.g\"\nschedule = 0.1\n{}", entry("good", "100ms", 1));
    let project = Project::with(&schedules).await.beat();

    for _ in 0..3 {
        assert_eq!(project.next_argument().await, 1);
    }

    project.end().await;
}

/// Is away for the first calls.
struct Flaky {
    ticks: Arc<dyn Ticks>,
    failures: AtomicU32,
}

#[async_trait]
impl Ticks for Flaky {
    async fn watermarks(
        &self,
        entries: &[(String, String)],
        now: Timestamp,
    ) -> store::Result<HashMap<String, Timestamp>> {
        if self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(store::Error::Away { reason: "a test".to_owned() });
        }
        self.ticks.watermarks(entries, now).await
    }
}

#[tokio::test]
async fn a_store_that_is_away_at_first_is_waited_for() {
    let mut project = Project::with(&entry("e", "100ms", 1)).await;
    project.stores.ticks = Arc::new(Flaky { ticks: project.stores.ticks.clone(), failures: AtomicU32::new(1) });

    let project = project.beat();

    assert_eq!(project.next_argument().await, 1);
    project.end().await;
}
