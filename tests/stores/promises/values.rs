use std::time::Duration;

use serde_json::{Value, json};
use umbel::store::{KeyValue, Stores};
use umbel::task::to_json;

use crate::place::{PATIENCE, Place, open};

async fn get(stores: &Stores, key: &str) -> Option<Value> {
    stores.kv.get(key).await.unwrap().map(|value| serde_json::from_str(value.get()).unwrap())
}

async fn set(stores: &Stores, key: &str, value: Value) {
    assert!(stores.kv.set(key, to_json(&value), None, false).await.unwrap());
}

pub async fn a_value_is_read_back_until_deleted<P: Place>() {
    let place: P = open().await;
    let value = json!({"text": "값", "list": [1, 2.5, null, true]});

    set(place.stores(), "key", value.clone()).await;

    assert_eq!(get(place.stores(), "key").await, Some(value));
    assert_eq!(get(place.stores(), "other").await, None);
    assert!(place.stores().kv.delete("key", None).await.unwrap());
    assert_eq!(get(place.stores(), "key").await, None);
    assert!(!place.stores().kv.delete("key", None).await.unwrap());
}

async fn is_gone(kv: &dyn KeyValue, key: &str) {
    while kv.get(key).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
}

pub async fn a_value_expires<P: Place>() {
    let place: P = open().await;
    let kv = &place.stores().kv;
    let ttl = Duration::from_millis(300);

    assert!(kv.set("key", to_json(&1), Some(ttl), true).await.unwrap());
    let before = std::time::Instant::now();

    assert!(!kv.set("key", to_json(&2), Some(ttl), true).await.unwrap() || before.elapsed() >= ttl);
    tokio::time::timeout(PATIENCE, is_gone(kv.as_ref(), "key")).await.expect("it expires");
    assert!(!kv.delete("key", None).await.unwrap());
    assert!(kv.set("key", to_json(&3), None, true).await.unwrap());
    assert_eq!(kv.incr("key", 1).await.unwrap(), 4);
}

pub async fn only_new_sets_once<P: Place>() {
    let place: P = open().await;
    let kv = &place.stores().kv;

    assert!(kv.set("key", to_json(&"first"), None, true).await.unwrap());
    assert!(!kv.set("key", to_json(&"second"), None, true).await.unwrap());

    assert_eq!(get(place.stores(), "key").await, Some(json!("first")));
}

pub async fn a_value_without_a_ttl_stays<P: Place>() {
    let place: P = open().await;
    let kv = &place.stores().kv;
    kv.set("short", to_json(&1), Some(Duration::from_millis(100)), false).await.unwrap();
    kv.set("key", to_json(&1), Some(Duration::from_millis(100)), false).await.unwrap();

    set(place.stores(), "key", json!(2)).await;

    tokio::time::timeout(PATIENCE, is_gone(kv.as_ref(), "short")).await.expect("it expires");
    place.stores().queue.keep_alive().await.unwrap();
    assert_eq!(get(place.stores(), "key").await, Some(json!(2)));
}

pub async fn integers_are_added_to<P: Place>() {
    let place: P = open().await;
    let kv = &place.stores().kv;

    assert_eq!(kv.incr("key", 5).await.unwrap(), 5);
    assert_eq!(kv.incr("key", -7).await.unwrap(), -2);

    assert_eq!(get(place.stores(), "key").await, Some(json!(-2)));
    set(place.stores(), "key", json!(40)).await;
    assert_eq!(kv.incr("key", 2).await.unwrap(), 42);
}

pub async fn what_is_no_integer_is_not_added_to<P: Place>() {
    let place: P = open().await;

    for value in [json!("text"), json!("5"), json!(1.5), json!([1]), json!(null)] {
        set(place.stores(), "key", value.clone()).await;

        assert!(place.stores().kv.incr("key", 1).await.is_err(), "{value}");
        assert_eq!(get(place.stores(), "key").await, Some(value));
    }
}

pub async fn a_sum_that_does_not_fit_is_refused<P: Place>() {
    let place: P = open().await;
    set(place.stores(), "key", json!(i64::MAX - 1)).await;

    assert_eq!(place.stores().kv.incr("key", 1).await.unwrap(), i64::MAX);
    assert!(place.stores().kv.incr("key", 1).await.is_err());

    assert_eq!(get(place.stores(), "key").await, Some(json!(i64::MAX)));
}

pub async fn a_value_is_deleted_only_as_expected<P: Place>() {
    let place: P = open().await;
    let kv = &place.stores().kv;
    set(place.stores(), "lock", json!("mine")).await;

    assert!(!kv.delete("lock", Some(to_json(&"theirs"))).await.unwrap());
    assert_eq!(get(place.stores(), "lock").await, Some(json!("mine")));
    assert!(kv.delete("lock", Some(to_json(&"mine"))).await.unwrap());
    assert_eq!(get(place.stores(), "lock").await, None);
}

pub async fn concurrent_sums_lose_nothing<P: Place>() {
    let place: P = open().await;
    let beside = place.beside().await;

    let mut adders = tokio::task::JoinSet::new();
    for number in 0..50 {
        let kv = if number % 2 == 0 { place.stores().kv.clone() } else { beside.kv.clone() };
        adders.spawn(async move { kv.incr("key", 2).await.unwrap() });
    }
    let mut sums = adders.join_all().await;
    sums.sort();

    assert_eq!(sums, (1..=50).map(|number| number * 2).collect::<Vec<i64>>());
}

pub async fn values_outlive_their_process<P: Place>() {
    let place: P = open().await;
    set(place.stores(), "key", json!([1])).await;
    place.stores().kv.incr("sum", 3).await.unwrap();

    let place = place.die().await;

    assert_eq!(get(place.stores(), "key").await, Some(json!([1])));
    assert_eq!(place.stores().kv.incr("sum", 1).await.unwrap(), 4);
}
