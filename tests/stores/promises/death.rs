use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use umbel::store::{DEATHS, Delivery, Settled, Stores, Tick, poisoned};
use umbel::task::{Message, NewMessage, QueueName, State};

use crate::place::{
    PATIENCE, Place, SHORT_LEASE, claim, claim_one, claim_with_sweeps, draft, five, id, ids, load, message, messages,
    open, open_with_short_leases, push, settle, state,
};

pub async fn what_was_not_settled_comes_back<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["m1", "m2"])).await;
    let lost = claim(place.stores(), 1).await;
    // A store may leave it to the timer to write down who has what.
    place.stores().queue.keep_alive().await.unwrap();

    let place = place.die().await;

    let mut again = Vec::new();
    while again.len() < 2 {
        let claimed = claim_with_sweeps(place.stores(), 1, PATIENCE).await;
        assert!(!claimed.is_empty(), "only {:?} came back", ids(&again));
        again.extend(claimed);
    }
    again.sort_by_key(|delivery| delivery.message.id.clone());
    assert_eq!(ids(&again), ["m1", "m2"]);
    assert_ne!(again[0].receipt, lost[0].receipt);
    assert_eq!((again[0].redelivered, again[1].redelivered), (true, false));
    assert_eq!(again[0].message.retries, 0);
}

pub async fn what_waited_outlives_its_process<P: Place>() {
    let place: P = open().await;
    let due = Utc::now() + Duration::from_millis(300);
    push(place.stores(), messages(&["m1", "m2"])).await;
    push(place.stores(), vec![NewMessage { eta: Some(due), ..draft("m3") }.build()]).await;

    let place = place.die().await;

    assert_eq!(state(place.stores(), "m1").await, State::Queued);
    let mut claimed = claim(place.stores(), 10).await;
    while claimed.len() < 3 {
        claimed.push(claim_one(place.stores()).await);
    }
    assert_eq!(ids(&claimed), ["m1", "m2", "m3"]);
    assert!(claimed.iter().all(|delivery| !delivery.redelivered));
}

pub async fn a_receipt_of_the_dead_settles_nothing<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["m1"])).await;
    let lost = claim_one(place.stores()).await;
    let place = place.die().await;
    let again = claim_with_sweeps(place.stores(), 1, PATIENCE).await.pop().unwrap();

    assert_eq!(settle(place.stores(), &lost, five()).await, Settled::LeaseLost);
    assert_eq!(place.stores().queue.acknowledge(&lost.receipt).await.unwrap(), Settled::LeaseLost);
    place.stores().queue.put_back(vec![lost], Duration::ZERO).await.unwrap();

    assert_eq!(state(place.stores(), "m1").await, State::Started);
    assert_eq!(settle(place.stores(), &again, five()).await, Settled::Stored);
}

pub async fn what_was_acknowledged_is_never_handed_out_again<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["once", "again"])).await;
    let claimed = claim(place.stores(), 2).await;
    assert_eq!(place.stores().queue.acknowledge(&claimed[0].receipt).await.unwrap(), Settled::Stored);

    let place = place.die().await;

    assert_eq!(ids(&claim_with_sweeps(place.stores(), 10, PATIENCE).await), ["again"]);
    assert!(claim_with_sweeps(place.stores(), 10, SHORT_LEASE * 2).await.is_empty());
    let run = load(place.stores(), "once").await;
    assert_eq!(run.state, State::Failure);
    let error = run.error.unwrap();
    assert_eq!((error.exc_module.as_str(), error.exc_type.as_str()), ("billiard.exceptions", "WorkerLostError"));
}

pub async fn a_kept_lease_does_not_end<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    let other = place.beside().await;

    let end = tokio::time::Instant::now() + SHORT_LEASE * 3;
    while tokio::time::Instant::now() < end {
        assert!(place.stores().queue.keep_alive().await.unwrap().is_empty());
        let taken = claim_with_sweeps(&other, 1, Duration::ZERO).await;
        assert!(taken.is_empty(), "taken from a living process");
    }

    assert_eq!(settle(place.stores(), &delivery, five()).await, Settled::Stored);
}

pub async fn what_was_settled_outlives_its_process<P: Place>() {
    let place: P = open().await;
    let tick = Tick { entry: "nightly".into(), due: Utc::now() };
    place.stores().queue.push(vec![message("m1")], Some(tick)).await.unwrap();
    settle(place.stores(), &claim_one(place.stores()).await, five()).await;

    let place = place.die().await;

    let run = place.stores().results.load(&id("m1")).await.unwrap().unwrap();
    assert_eq!((run.state, run.result.unwrap().get()), (State::Success, "5"));
}

// What was begun is written down soon, and before the leases are renewed at the latest.
async fn begin(stores: &Stores, delivery: &Delivery) {
    stores.queue.started(&delivery.receipt);
    stores.queue.keep_alive().await.unwrap();
}

async fn claim_again(stores: &Stores) -> Delivery {
    claim_with_sweeps(stores, 1, PATIENCE).await.pop().expect("it comes back")
}

pub async fn deaths_of_what_had_started_are_counted<P: Place>() {
    let mut place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["m1"])).await;
    let mut delivery = claim_one(place.stores()).await;
    assert_eq!(delivery.deaths, 0);

    for deaths in 1..DEATHS {
        begin(place.stores(), &delivery).await;
        place = place.die().await;
        delivery = claim_again(place.stores()).await;
        assert_eq!((delivery.deaths, delivery.redelivered), (deaths, true));
    }

    assert_eq!(settle(place.stores(), &delivery, five()).await, Settled::Stored);
}

pub async fn a_death_before_the_start_is_not_counted<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["started", "waiting"])).await;
    let claimed = claim(place.stores(), 2).await;
    begin(place.stores(), &claimed[0]).await;

    let place = place.die().await;

    let mut again = Vec::new();
    while again.len() < 2 {
        again.push(claim_again(place.stores()).await);
    }
    again.sort_by_key(|delivery| delivery.message.id.clone());
    assert_eq!((again[0].deaths, again[1].deaths), (1, 0));
}

pub async fn a_task_that_ran_at_too_many_deaths_is_not_tried_again<P: Place>() {
    let mut place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["m1"])).await;
    let mut delivery = claim_one(place.stores()).await;
    for _ in 1..DEATHS {
        begin(place.stores(), &delivery).await;
        place = place.die().await;
        delivery = claim_again(place.stores()).await;
    }
    begin(place.stores(), &delivery).await;

    let place = place.die().await;

    let buried = async {
        while state(place.stores(), "m1").await != State::Failure {
            let claimed = claim_with_sweeps(place.stores(), 1, Duration::ZERO).await;
            assert!(claimed.is_empty(), "it is tried once more");
        }
    };
    tokio::time::timeout(PATIENCE, buried).await.expect("it fails");
    assert_eq!(load(place.stores(), "m1").await.error, Some(poisoned()));
    assert!(claim_with_sweeps(place.stores(), 1, SHORT_LEASE * 2).await.is_empty());
    let depth = place.stores().queue.depth(&QueueName::default()).await.unwrap();
    assert_eq!((depth.ready, depth.delayed, depth.claimed), (0, 0, 0));
}

pub async fn what_was_put_back_after_its_start_has_no_death<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    begin(place.stores(), &delivery).await;

    place.stores().queue.put_back(vec![delivery], Duration::ZERO).await.unwrap();

    let again = claim_one(place.stores()).await;
    assert_eq!((again.deaths, again.redelivered), (0, false));
    place.stores().queue.keep_alive().await.unwrap();
    let place = place.die().await;
    assert_eq!(claim_again(place.stores()).await.deaths, 0);
}

pub async fn deaths_are_forgotten_when_the_task_ends<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["m1"])).await;
    begin(place.stores(), &claim_one(place.stores()).await).await;
    let place = place.die().await;
    let delivery = claim_again(place.stores()).await;
    assert_eq!(delivery.deaths, 1);

    settle(place.stores(), &delivery, five()).await;

    assert!(place.stores().results.forget(&id("m1")).await.unwrap());
    push(place.stores(), messages(&["m1"])).await;
    let anew = claim_one(place.stores()).await;
    assert_eq!((anew.deaths, anew.redelivered), (0, false));
}

// An errback of the id `follower` is linked to it.
fn linked(name: &str) -> Message {
    let errback = json!({ "task": "math.note", "options": { "task_id": "follower" } });
    let body = json!([[2, 3], {}, { "errbacks": [errback], "callbacks": [{ "task": "math.never" }] }]);
    Message { body: body.to_string().into(), ..message(name) }
}

async fn assert_follower_comes(stores: &Stores, parent: &str) {
    let follower = claim_again(stores).await.message;
    assert_eq!((follower.id.as_str(), follower.task.as_str()), ("follower", "math.note"));
    assert_eq!(follower.arguments().unwrap().0.get(), format!("[\"{parent}\"]"));
    assert_eq!(state(stores, parent).await, State::Failure);
    assert!(claim_with_sweeps(stores, 1, SHORT_LEASE * 2).await.is_empty());
}

pub async fn an_errback_follows_a_task_that_may_not_be_handed_out_again<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), vec![linked("m1")]).await;
    let delivery = claim_one(place.stores()).await;
    assert_eq!(place.stores().queue.acknowledge(&delivery.receipt).await.unwrap(), Settled::Stored);

    let place = place.die().await;

    assert_follower_comes(place.stores(), "m1").await;
}

pub async fn an_errback_follows_a_task_that_ran_at_too_many_deaths<P: Place>() {
    let mut place: P = open_with_short_leases().await;
    push(place.stores(), vec![linked("m1")]).await;
    for _ in 0..DEATHS {
        begin(place.stores(), &claim_again(place.stores()).await).await;
        place = place.die().await;
    }

    assert_follower_comes(place.stores(), "m1").await;
}
