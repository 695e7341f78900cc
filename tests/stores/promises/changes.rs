use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;
use umbel::store::{Ending, Stores};
use umbel::task::{Failure, Progress, Run, State};

use crate::place::{PATIENCE, Place, claim_one, five, id, message, messages, open, push, settle};

/// Someone who reads the run of `m1` again whenever it may have changed.
struct Watcher {
    stores: Stores,
    changes: watch::Receiver<u64>,
}

impl Watcher {
    async fn of(stores: &Stores) -> Self {
        let mut changes = stores.results.changes(&id("m1")).await.unwrap();
        changes.mark_unchanged();
        Self { stores: stores.clone(), changes }
    }

    // A change that told of nothing is no error; one that is not told is.
    async fn sees(&mut self, fact: impl Fn(&Run) -> bool) {
        let seen = async {
            loop {
                self.changes.changed().await.expect("it is watched on");
                let run = self.stores.results.load(&id("m1")).await.unwrap();
                if run.is_some_and(|run| fact(&run)) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("the change is told");
    }
}

pub async fn each_step_of_a_task_is_a_change<P: Place>() {
    let place: P = open().await;
    let other = place.beside().await;
    push(place.stores(), messages(&["m1"])).await;
    let mut watcher = Watcher::of(place.stores()).await;

    let delivery = claim_one(&other).await;
    watcher.sees(|run| run.state == State::Started).await;
    let progress = Progress { done: 1.0, total: 3.0, note: None };
    other.results.progress(&delivery.receipt, progress.clone()).await.unwrap();
    watcher.sees(|run| run.progress.as_ref() == Some(&progress)).await;
    let next = Box::new(message("m1").retry(Utc::now()));
    settle(&other, &delivery, Ending::Retry { next, why: Failure::builtin("ValueError", "again") }).await;
    // What is due at once may be queued again already.
    watcher.sees(|run| run.retries == 1).await;
    let delivery = claim_one(&other).await;
    watcher.sees(|run| run.state == State::Started).await;
    settle(&other, &delivery, five()).await;
    watcher.sees(|run| run.state == State::Success).await;
}

pub async fn a_task_that_is_not_known_yet_can_be_watched<P: Place>() {
    let place: P = open().await;
    let mut watcher = Watcher::of(place.stores()).await;

    push(place.stores(), messages(&["m1"])).await;
    settle(place.stores(), &claim_one(place.stores()).await, five()).await;

    watcher.sees(|run| run.state == State::Success).await;
}

pub async fn a_task_that_waits_again_has_changed<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    let mut watcher = Watcher::of(place.stores()).await;

    place.stores().queue.put_back(vec![delivery], Duration::ZERO).await.unwrap();

    watcher.sees(|run| run.state == State::Queued).await;
}

pub async fn a_revocation_is_a_change<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let mut watcher = Watcher::of(place.stores()).await;

    place.stores().queue.revoke(&id("m1"), false).await.unwrap();

    watcher.sees(|run| run.state == State::Revoked).await;
}

pub async fn everybody_who_watches_is_told<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let mut first = Watcher::of(place.stores()).await;
    let mut second = Watcher::of(place.stores()).await;
    drop(Watcher::of(place.stores()).await);

    settle(place.stores(), &claim_one(place.stores()).await, five()).await;

    first.sees(|run| run.state == State::Success).await;
    second.sees(|run| run.state == State::Success).await;
}
