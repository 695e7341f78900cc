use std::time::Duration;

use chrono::{DurationRound, SubsecRound, TimeDelta, Utc};
use umbel::store::{Pushed, Stores, Tick};
use umbel::task::Timestamp;

use crate::place::{Place, claim, id, ids, message, messages, open, push};

fn minute(number: u64) -> Timestamp {
    Utc::now().duration_trunc(TimeDelta::days(1)).unwrap() + Duration::from_secs(60 * number)
}

async fn fire(stores: &Stores, name: &str, due: Timestamp) -> Pushed {
    let tick = Tick { entry: "nightly".into(), due };
    stores.queue.push(vec![message(name)], Some(tick)).await.unwrap()
}

async fn watermark(stores: &Stores, fingerprint: &str, now: Timestamp) -> Timestamp {
    stores.ticks.watermarks(&[("nightly".into(), fingerprint.into())], now).await.unwrap()["nightly"]
}

pub async fn a_tick_is_taken_once<P: Place>() {
    let place: P = open().await;

    assert_eq!(fire(place.stores(), "m1", minute(1)).await, Pushed::Stored);
    assert_eq!(fire(place.stores(), "m2", minute(1)).await, Pushed::Taken);
    assert_eq!(fire(place.stores(), "m3", minute(2)).await, Pushed::Stored);

    assert_eq!(ids(&claim(place.stores(), 10).await), ["m1", "m3"]);
    assert!(place.stores().results.load(&id("m2")).await.unwrap().is_none());
}

pub async fn an_earlier_tick_is_taken_with_a_later_one<P: Place>() {
    let place: P = open().await;

    assert_eq!(fire(place.stores(), "m1", minute(5)).await, Pushed::Stored);
    assert_eq!(fire(place.stores(), "m2", minute(4)).await, Pushed::Taken);

    let other = Tick { entry: "other".into(), due: minute(4) };
    assert_eq!(place.stores().queue.push(vec![message("m3")], Some(other)).await.unwrap(), Pushed::Stored);
}

pub async fn of_racing_pushes_one_takes_the_tick<P: Place>() {
    let place: P = open().await;
    let beside = place.beside().await;

    let mut racers = tokio::task::JoinSet::new();
    for number in 0..16 {
        let stores = if number % 2 == 0 { place.stores().clone() } else { beside.clone() };
        racers.spawn(async move { fire(&stores, &format!("m{number}"), minute(1)).await });
    }
    let all = racers.join_all().await;

    assert_eq!(all.iter().filter(|pushed| **pushed == Pushed::Stored).count(), 1);
    assert_eq!(claim(place.stores(), 100).await.len(), 1);
}

pub async fn a_refused_push_takes_no_tick<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;

    let tick = Tick { entry: "nightly".into(), due: minute(1) };
    assert!(place.stores().queue.push(messages(&["m1"]), Some(tick)).await.is_err());

    assert_eq!(fire(place.stores(), "m2", minute(1)).await, Pushed::Stored);
}

pub async fn a_new_entry_begins_now<P: Place>() {
    let place: P = open().await;
    let now = Utc::now().trunc_subsecs(3);

    assert_eq!(watermark(place.stores(), "f1", now).await, now);
    assert_eq!(watermark(place.stores(), "f1", now + Duration::from_secs(9)).await, now);
    assert_eq!(fire(place.stores(), "m1", now).await, Pushed::Taken);
}

pub async fn a_known_entry_keeps_its_last_tick<P: Place>() {
    let place: P = open().await;
    watermark(place.stores(), "f1", minute(1)).await;

    fire(place.stores(), "m1", minute(3)).await;

    assert_eq!(watermark(place.stores(), "f1", minute(9)).await, minute(3));
}

pub async fn a_changed_entry_begins_anew<P: Place>() {
    let place: P = open().await;
    watermark(place.stores(), "f1", minute(1)).await;
    fire(place.stores(), "m1", minute(3)).await;

    assert_eq!(watermark(place.stores(), "f2", minute(9)).await, minute(9));
    assert_eq!(watermark(place.stores(), "f2", minute(10)).await, minute(9));
}

pub async fn ticks_outlive_their_process<P: Place>() {
    let place: P = open().await;
    watermark(place.stores(), "f1", minute(1)).await;
    fire(place.stores(), "m1", minute(3)).await;

    let place = place.die().await;

    assert_eq!(watermark(place.stores(), "f1", minute(9)).await, minute(3));
    assert_eq!(fire(place.stores(), "m2", minute(3)).await, Pushed::Taken);
}
