use std::time::{Duration, Instant};

use chrono::{SubsecRound, Utc};
use umbel::store::{Ending, Settled};
use umbel::task::{Message, NewMessage, State, Timestamp};

use crate::place::{
    MOMENT, PATIENCE, Place, assert_nothing_comes, claim, claim_one, draft, load, message, open, push, settle, state,
};

fn due(name: &str, at: Timestamp) -> Message {
    NewMessage { eta: Some(at), ..draft(name) }.build()
}

pub async fn a_delayed_message_comes_when_it_is_due_and_not_before<P: Place>() {
    let place: P = open().await;
    let at = (Utc::now() + Duration::from_millis(600)).trunc_subsecs(3);
    push(place.stores(), vec![due("m1", at)]).await;
    let waiting = load(place.stores(), "m1").await;

    let claimed = claim_one(place.stores()).await;

    assert!(Utc::now() >= at);
    assert_eq!(claimed.message.due_at(), Some(at));
    assert_eq!((waiting.state, waiting.eta), (State::Scheduled, Some(at)));
    assert_eq!(state(place.stores(), "m1").await, State::Started);
}

pub async fn messages_come_in_the_order_of_their_due_times<P: Place>() {
    let place: P = open().await;
    let now = Utc::now().trunc_subsecs(3);
    let (soon, late) = (now + Duration::from_millis(500), now + Duration::from_millis(900));
    push(place.stores(), vec![due("late", late), due("soon", soon), message("now")]).await;

    for (name, at) in [("now", now), ("soon", soon), ("late", late)] {
        let claimed = claim_one(place.stores()).await;

        assert_eq!(claimed.message.id.as_str(), name);
        assert!(Utc::now() >= at, "{name}");
    }
    assert_nothing_comes(place.stores()).await;
}

pub async fn a_past_eta_is_due_at_once<P: Place>() {
    let place: P = open().await;

    push(place.stores(), vec![due("m1", Utc::now() - Duration::from_secs(60))]).await;

    assert_eq!(claim_one(place.stores()).await.message.id.as_str(), "m1");
}

pub async fn a_waiting_claim_wakes_for_an_earlier_due_time<P: Place>() {
    let place: P = open().await;
    let stores = place.stores();
    let began = Instant::now();
    push(stores, vec![due("late", Utc::now() + Duration::from_secs(3600))]).await;

    let (claimed, ()) = tokio::join!(claim_one(stores), async {
        assert_nothing_comes(stores).await;
        push(stores, vec![due("soon", Utc::now() + MOMENT)]).await;
    });

    assert_eq!(claimed.message.id.as_str(), "soon");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

pub async fn what_came_too_late_says_so<P: Place>() {
    let place: P = open().await;
    let expires = |name, seconds| {
        let expires = Some(Utc::now() + chrono::Duration::seconds(seconds));
        NewMessage { expires, ..draft(name) }.build()
    };
    push(place.stores(), vec![expires("late", -1), message("never"), expires("in time", 3600)]).await;

    let claimed = claim(place.stores(), 3).await;

    let expired: Vec<(&str, bool)> = claimed.iter().map(|it| (it.message.id.as_str(), it.expired)).collect();
    assert_eq!(expired, [("late", true), ("never", false), ("in time", false)]);
    assert_eq!(settle(place.stores(), &claimed[0], Ending::Revoked { reason: "expired" }).await, Settled::Stored);
    assert_eq!(state(place.stores(), "late").await, State::Revoked);
}

pub async fn what_is_too_late_when_it_is_due_says_so<P: Place>() {
    let place: P = open().await;
    let (soon, later) = (Utc::now() + MOMENT, Utc::now() + MOMENT * 2);
    push(place.stores(), vec![NewMessage { eta: Some(later), expires: Some(soon), ..draft("m1") }.build()]).await;

    assert!(claim_one(place.stores()).await.expired);
}

pub async fn the_farthest_future_is_kept<P: Place>() {
    let place: P = open().await;
    let end = Timestamp::MAX_UTC.trunc_subsecs(3);
    push(place.stores(), vec![due("m1", end)]).await;
    push(place.stores(), vec![message("m2")]).await;
    let delivery = claim_one(place.stores()).await;
    let why = umbel::task::Failure::builtin("ValueError", "later");

    let next = Box::new(delivery.message.retry(end));
    settle(place.stores(), &delivery, umbel::store::Ending::Retry { next, why }).await;

    assert_eq!(load(place.stores(), "m1").await.eta, Some(end));
    assert_eq!(load(place.stores(), "m2").await.eta, Some(end));
    let all = umbel::store::Filter { limit: 10, ..Default::default() };
    assert_eq!(place.stores().history.search(&all).await.unwrap().runs.len(), 2);
    assert_nothing_comes(place.stores()).await;
}
