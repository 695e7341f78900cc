use std::time::Duration;

use chrono::Utc;
use tokio::sync::broadcast::error::TryRecvError;
use umbel::store::{Ending, Queues, Revoked, Settings, Settled};
use umbel::task::{Failure, NewMessage, State};

use crate::place::{
    MOMENT, PATIENCE, Place, SHORT_LEASE, assert_nothing_comes, claim, claim_one, claim_with_sweeps, draft, ended,
    five, id, ids, message, messages, open, open_with_short_leases, push, queue, run, settle,
};

pub async fn a_revoked_task_never_starts<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1", "m2"])).await;

    let revoked = place.stores().queue.revoke(&id("m1"), false).await.unwrap();

    assert_eq!(revoked, Revoked::BeforeStart);
    assert_eq!(claim_one(place.stores()).await.message.id, id("m2"));
    assert_nothing_comes(place.stores()).await;
    let run = ended(place.stores(), "m1").await;
    assert_eq!((run.state, run.error.unwrap().exc_message.as_str()), (State::Revoked, "revoked"));
    assert_eq!((run.started_at, run.result.is_none()), (None, true));
}

pub async fn a_revoked_delayed_task_never_starts<P: Place>() {
    let place: P = open().await;
    let due = Utc::now() + Duration::from_millis(300);
    push(place.stores(), vec![NewMessage { eta: Some(due), ..draft("m1") }.build()]).await;

    let revoked = place.stores().queue.revoke(&id("m1"), true).await.unwrap();
    push(place.stores(), vec![NewMessage { eta: Some(due + Duration::from_millis(100)), ..draft("m2") }.build()]).await;

    assert_eq!(revoked, Revoked::BeforeStart);
    assert_eq!(claim_one(place.stores()).await.message.id, id("m2"));
    assert_eq!(ended(place.stores(), "m1").await.state, State::Revoked);
}

pub async fn a_revoked_task_never_starts_though_the_history_has_forgotten_it<P: Place>() {
    let place = P::open(Settings { history: 2, ..Settings::default() }).await;
    let stores = place.stores();
    stores.queue.pause(&queue("held"), true).await.unwrap();
    push(stores, vec![NewMessage { queue: queue("held"), ..draft("m1") }.build()]).await;
    assert_eq!(stores.queue.revoke(&id("m1"), false).await.unwrap(), Revoked::BeforeStart);

    for number in 0..4 {
        run(stores, message(&format!("other-{number}")), five()).await;
    }
    stores.queue.keep_alive().await.unwrap();
    stores.queue.pause(&queue("held"), false).await.unwrap();

    let held = Queues::Named(vec![queue("held")]);
    assert!(stores.queue.claim(&held, 10, MOMENT).await.unwrap().is_empty());
}

pub async fn a_running_task_is_stopped_only_when_asked_to<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1", "m2"])).await;
    let (first, second) = (claim_one(place.stores()).await, claim_one(place.stores()).await);
    let mut stops = place.stores().queue.terminations();
    assert!(!place.stores().queue.is_revoked(&first.receipt).await.unwrap());

    assert_eq!(place.stores().queue.revoke(&id("m1"), false).await.unwrap(), Revoked::WhileRunning);
    assert_eq!(place.stores().queue.revoke(&id("m2"), true).await.unwrap(), Revoked::WhileRunning);

    assert!(place.stores().queue.is_revoked(&first.receipt).await.unwrap());
    let stopped = tokio::time::timeout(PATIENCE, stops.recv()).await.unwrap().unwrap();
    assert_eq!(stopped, id("m2"));
    assert_eq!(stops.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(settle(place.stores(), &first, five()).await, Settled::Stored);
    assert_eq!(settle(place.stores(), &second, Ending::Revoked { reason: "terminated" }).await, Settled::Stored);
    assert_eq!(ended(place.stores(), "m1").await.state, State::Success);
    assert_eq!(ended(place.stores(), "m2").await.state, State::Revoked);
    assert!(!place.stores().queue.is_revoked(&first.receipt).await.unwrap(), "its receipt is void");
}

pub async fn a_task_revoked_while_it_runs_is_not_retried<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    place.stores().queue.revoke(&id("m1"), false).await.unwrap();

    let next = Box::new(delivery.message.retry(Utc::now()));
    settle(place.stores(), &delivery, Ending::Retry { next, why: Failure::builtin("ValueError", "again") }).await;

    assert_nothing_comes(place.stores()).await;
    assert_eq!(ended(place.stores(), "m1").await.state, State::Revoked);
}

pub async fn a_task_revoked_while_it_runs_is_not_put_back<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    place.stores().queue.revoke(&id("m1"), false).await.unwrap();

    place.stores().queue.put_back(vec![delivery], Duration::ZERO).await.unwrap();

    assert_nothing_comes(place.stores()).await;
    assert_eq!(ended(place.stores(), "m1").await.state, State::Revoked);
}

pub async fn a_task_revoked_while_it_runs_does_not_come_back_after_death<P: Place>() {
    let place: P = open_with_short_leases().await;
    push(place.stores(), messages(&["m1", "m2"])).await;
    claim(place.stores(), 2).await;
    place.stores().queue.revoke(&id("m1"), false).await.unwrap();

    let place = place.die().await;

    assert_eq!(ids(&claim_with_sweeps(place.stores(), 10, PATIENCE).await), ["m2"]);
    assert!(claim_with_sweeps(place.stores(), 10, SHORT_LEASE * 2).await.is_empty());
    assert_eq!(ended(place.stores(), "m1").await.state, State::Revoked);
}

pub async fn an_ended_task_is_revoked_too_late<P: Place>() {
    let place: P = open().await;
    run(place.stores(), message("m1"), five()).await;

    let revoked = place.stores().queue.revoke(&id("m1"), true).await.unwrap();

    assert_eq!(revoked, Revoked::TooLate(State::Success));
    assert_eq!(ended(place.stores(), "m1").await.state, State::Success);
}

pub async fn the_revocation_of_an_unknown_task_holds_where_others_send_too<P: Place>() {
    let place: P = open().await;

    let revoked = place.stores().queue.revoke(&id("m1"), false).await.unwrap();
    push(place.stores(), messages(&["m1", "m2"])).await;

    assert_eq!(revoked, Revoked::Unknown);
    let claimed = place.stores().queue.claim(&crate::place::celery(), 10, PATIENCE).await.unwrap();
    if place.stores().exclusive {
        assert_eq!(ids(&claimed), ["m1", "m2"]);
    } else {
        assert_eq!(ids(&claimed), ["m2"]);
        assert_eq!(ended(place.stores(), "m1").await.state, State::Revoked);
    }
}
