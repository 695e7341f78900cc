use std::time::{Duration, Instant};

use umbel::store::Ending;
use umbel::task::{Failure, Progress, State};

use crate::place::{
    MOMENT, PATIENCE, Place, assert_nothing_comes, claim_one, ended, five, id, load, message, messages, open, push,
    run, settle, state,
};

pub async fn an_unknown_task_has_no_run<P: Place>() {
    let place: P = open().await;

    assert!(place.stores().results.load(&id("nobody")).await.unwrap().is_none());
    assert!(place.stores().results.wait(&id("nobody"), MOMENT).await.unwrap().is_none());
}

pub async fn a_waiting_task_is_known<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;

    let run = load(place.stores(), "m1").await;

    assert_eq!((run.state, run.task.as_str(), run.retries), (State::Queued, "math.add", 0));
    assert!(run.queued_at.is_some() && run.started_at.is_none() && run.finished_at.is_none());
    if let Some(args) = run.args {
        assert_eq!(args.get(), "[2,3]");
    }
}

pub async fn a_claimed_task_is_started<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;

    let started = load(place.stores(), "m1").await;
    place.stores().queue.put_back(vec![delivery], Duration::ZERO).await.unwrap();

    assert_eq!((started.state, started.worker.as_deref()), (State::Started, Some("umbel@localhost")));
    assert_eq!(state(place.stores(), "m1").await, State::Queued);
}

fn half() -> Progress {
    Progress { done: 1.0, total: 2.0, note: Some("반".into()) }
}

pub async fn progress_is_seen_while_the_task_is_claimed<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;

    place.stores().results.progress(&delivery.receipt, half()).await.unwrap();
    let running = load(place.stores(), "m1").await;
    settle(place.stores(), &delivery, five()).await;

    assert_eq!((running.state, running.progress), (State::Started, Some(half())));
    assert_eq!(load(place.stores(), "m1").await.progress, None);
}

pub async fn progress_with_a_void_receipt_is_not_seen<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let before = claim_one(place.stores()).await;
    place.stores().queue.put_back(vec![before.clone()], Duration::ZERO).await.unwrap();
    let _now = claim_one(place.stores()).await;

    // Whether it is told or not, what counts is that nobody sees it.
    let _ = place.stores().results.progress(&before.receipt, half()).await;

    assert_eq!(load(place.stores(), "m1").await.progress, None);
}

pub async fn a_wait_ends_when_the_task_does<P: Place>() {
    let place: P = open().await;
    let stores = place.stores();
    push(stores, messages(&["m1"])).await;
    let began = Instant::now();

    let (run, ()) = tokio::join!(ended(stores, "m1"), async {
        let delivery = claim_one(stores).await;
        assert_nothing_comes(stores).await;
        settle(stores, &delivery, five()).await;
    });

    assert_eq!(run.result.unwrap().get(), "5");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

pub async fn a_wait_for_an_ended_task_ends_at_once<P: Place>() {
    let place: P = open().await;
    run(place.stores(), message("m1"), Ending::Failure(Failure::builtin("ValueError", "no"))).await;
    let began = Instant::now();

    assert_eq!(ended(place.stores(), "m1").await.state, State::Failure);
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

pub async fn a_wait_that_is_over_gives_the_run_as_it_is<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let began = Instant::now();

    let run = place.stores().results.wait(&id("m1"), MOMENT).await.unwrap().unwrap();

    assert_eq!(run.state, State::Queued);
    assert!(began.elapsed() >= MOMENT);
}

pub async fn a_task_that_is_not_known_yet_is_waited_for<P: Place>() {
    let place: P = open().await;
    let stores = place.stores();

    let (ended, ()) = tokio::join!(ended(stores, "m1"), async {
        assert_nothing_comes(stores).await;
        run(stores, message("m1"), five()).await;
    });

    assert_eq!(ended.state, State::Success);
}

pub async fn what_was_forgotten_is_unknown<P: Place>() {
    let place: P = open().await;
    run(place.stores(), message("m1"), five()).await;

    assert!(place.stores().results.forget(&id("m1")).await.unwrap());

    assert!(place.stores().results.load(&id("m1")).await.unwrap().is_none());
    assert!(!place.stores().results.forget(&id("m1")).await.unwrap());
}

pub async fn a_task_that_has_not_ended_is_not_forgotten<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;

    assert!(!place.stores().results.forget(&id("m1")).await.unwrap());
    let delivery = claim_one(place.stores()).await;
    assert!(!place.stores().results.forget(&id("m1")).await.unwrap());

    settle(place.stores(), &delivery, five()).await;
    assert_eq!(state(place.stores(), "m1").await, State::Success);
}
