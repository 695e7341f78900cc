use std::time::Duration;

use chrono::Utc;
use umbel::store::{Depth, Queues, Settled, Stores};
use umbel::task::{NewMessage, QueueName, State};

use crate::place::{
    MOMENT, PATIENCE, Place, assert_nothing_comes, claim, claim_one, draft, five, ids, message, messages, open, push,
    queue, settle, state,
};

async fn pause(stores: &Stores, name: &QueueName, paused: bool) {
    stores.queue.pause(name, paused).await.unwrap();
}

fn of(name: &str, queued_in: &str) -> umbel::task::Message {
    NewMessage { queue: queue(queued_in), ..draft(name) }.build()
}

pub async fn a_paused_queue_is_not_claimed_and_others_are<P: Place>() {
    let place: P = open().await;
    let both = Queues::Named(vec![queue("io"), queue("mail")]);
    push(place.stores(), vec![of("m1", "io"), of("m2", "mail")]).await;

    pause(place.stores(), &queue("io"), true).await;
    push(place.stores(), vec![of("m3", "io")]).await;

    assert_eq!(ids(&place.stores().queue.claim(&both, 10, PATIENCE).await.unwrap()), ["m2"]);
    assert!(place.stores().queue.claim(&both, 10, MOMENT).await.unwrap().is_empty());
    if place.stores().exclusive {
        assert!(place.stores().queue.claim(&Queues::Every, 10, MOMENT).await.unwrap().is_empty());
    }
    let other = place.beside().await;
    assert!(other.queue.claim(&both, 10, MOMENT).await.unwrap().is_empty());
    assert_eq!(state(place.stores(), "m1").await, State::Queued);
}

pub async fn a_resumed_queue_is_claimed_at_once_and_in_order<P: Place>() {
    let place: P = open().await;
    pause(place.stores(), &QueueName::default(), true).await;
    push(place.stores(), messages(&["m1", "m2", "m3"])).await;
    let stores = place.stores().clone();
    let waiting = tokio::spawn(async move { claim(&stores, 2).await });
    assert_nothing_comes(place.stores()).await;

    pause(place.stores(), &QueueName::default(), false).await;

    assert_eq!(ids(&waiting.await.unwrap()), ["m1", "m2"]);
    assert_eq!(ids(&claim(place.stores(), 2).await), ["m3"]);
}

pub async fn what_was_claimed_before_a_pause_runs_to_its_end<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1", "m2"])).await;
    let claimed = claim(place.stores(), 2).await;

    pause(place.stores(), &QueueName::default(), true).await;

    assert!(place.stores().queue.keep_alive().await.unwrap().is_empty());
    assert_eq!(settle(place.stores(), &claimed[0], five()).await, Settled::Stored);
    place.stores().queue.put_back(claimed[1..].to_vec(), Duration::ZERO).await.unwrap();
    assert_nothing_comes(place.stores()).await;
    pause(place.stores(), &QueueName::default(), false).await;
    assert_eq!(ids(&claim(place.stores(), 2).await), ["m2"]);
}

pub async fn a_pause_outlives_its_process<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    pause(place.stores(), &QueueName::default(), true).await;

    let place = place.die().await;

    assert_nothing_comes(place.stores()).await;
    pause(place.stores(), &QueueName::default(), false).await;
    assert_eq!(ids(&claim(place.stores(), 1).await), ["m1"]);
}

pub async fn a_delayed_task_of_a_paused_queue_starts_once_it_is_resumed<P: Place>() {
    let place: P = open().await;
    pause(place.stores(), &QueueName::default(), true).await;
    let due = Some(Utc::now() + MOMENT / 3);
    push(place.stores(), vec![NewMessage { eta: due, ..draft("m1") }.build()]).await;
    assert_nothing_comes(place.stores()).await;

    pause(place.stores(), &QueueName::default(), false).await;

    assert_eq!(claim_one(place.stores()).await.message.id.as_str(), "m1");
}

pub async fn pausing_or_resuming_twice_is_as_once<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;

    pause(place.stores(), &QueueName::default(), false).await;
    pause(place.stores(), &QueueName::default(), true).await;
    pause(place.stores(), &QueueName::default(), true).await;
    assert_nothing_comes(place.stores()).await;
    pause(place.stores(), &QueueName::default(), false).await;

    assert_eq!(ids(&claim(place.stores(), 10).await), ["m1"]);
}

pub async fn queues_are_listed_by_name_with_what_they_hold<P: Place>() {
    let place: P = open().await;
    let later = Some(Utc::now() + Duration::from_secs(3_600));
    assert!(place.stores().queue.queues().await.unwrap().is_empty());
    push(place.stores(), vec![message("m1"), of("m2", "mail"), of("m3", "mail")]).await;
    push(place.stores(), vec![NewMessage { eta: later, queue: queue("delayed"), ..draft("m4") }.build()]).await;
    pause(place.stores(), &queue("mail"), true).await;
    pause(place.stores(), &queue("빈"), true).await;

    let listed = place.stores().queue.queues().await.unwrap();

    let facts: Vec<_> = listed.iter().map(|facts| (facts.name.as_str(), facts.depth, facts.paused)).collect();
    let ready = |ready| Depth { ready, ..Depth::default() };
    assert_eq!(
        facts,
        [
            ("celery", ready(1), false),
            ("delayed", Depth { delayed: 1, ..Depth::default() }, false),
            ("mail", ready(2), true),
            ("빈", ready(0), true),
        ]
    );
}

pub async fn an_empty_queue_that_is_not_paused_is_not_listed<P: Place>() {
    let place: P = open().await;
    push(place.stores(), vec![of("m1", "mail"), message("m2")]).await;
    pause(place.stores(), &queue("other"), true).await;

    place.stores().queue.purge(&queue("mail")).await.unwrap();
    settle(place.stores(), &claim_one(place.stores()).await, five()).await;
    pause(place.stores(), &queue("other"), false).await;

    let listed = place.stores().queue.queues().await.unwrap();
    assert!(listed.is_empty(), "{listed:?}");
}
