use std::time::Duration;

use chrono::Utc;
use umbel::store::{Settled, Tick};
use umbel::task::{NewMessage, State};

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
