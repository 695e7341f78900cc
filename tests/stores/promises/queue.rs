use std::time::{Duration, Instant};

use serde_json::{Value, json};
use umbel::store::{Depth, Error, Queues, Settled};
use umbel::task::{Message, NewMessage, Priority, QueueName, State, to_json};

use crate::place::{
    MOMENT, PATIENCE, Place, assert_nothing_comes, celery, claim, claim_one, draft, five, id, ids, message, messages,
    open, push, queue, settle, state,
};

pub async fn a_claim_gives_the_message_whole<P: Place>() {
    let place: P = open().await;
    let sent = NewMessage {
        kwargs: Some(to_json(&json!({"z": 1, "a": ["é", null, 1.5]}))),
        priority: Priority(4),
        expires: Some(chrono::Utc::now() + Duration::from_secs(3600)),
        ignore_result: Some(true),
        max_retries: Some(7),
        parent_id: Some(id("parent")),
        root_id: Some(id("root")),
        origin: Some("sender@host".into()),
        ..draft("m1")
    };
    let mut sent = sent.build();
    sent.retries = 2;
    sent.time_limit = Some(Duration::from_secs(30));
    sent.soft_time_limit = Some(Duration::from_millis(1500));
    sent.group_id = Some("group".into());
    sent.group_index = Some(3);
    sent.reply_to = Some("reply".into());

    push(place.stores(), vec![sent.clone()]).await;
    let claimed = claim_one(place.stores()).await;

    assert_eq!(claimed.receipt.id, id("m1"));
    assert!(!claimed.redelivered);
    assert_eq!(wire(&claimed.message), wire(&sent));
    assert_eq!(claimed.message.body, sent.body);
    assert_eq!(claimed.message.queue, sent.queue);
    assert_eq!(claimed.message.max_retries, Some(7));
}

// Without what is new for each writing: the tag, and how long it may still start.
fn wire(message: &Message) -> Value {
    let mut wire: Value = serde_json::from_slice(&message.to_wire()).unwrap();
    let properties = wire["properties"].as_object_mut().unwrap();
    properties.remove("delivery_tag");
    properties.remove("expiration");
    wire
}

pub async fn a_message_that_came_from_outside_keeps_its_envelope<P: Place>() {
    let place: P = open().await;
    let written = json!({
        "body": "W1tdLHt9LG51bGxd", "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": "mail.send", "id": "m1", "lang": "py", "x-trace": {"deep": [1, 2]}},
        "properties": {"body_encoding": "base64", "delivery_tag": "tag", "x-other": true},
    });
    let sent = Message::from_wire(QueueName::default(), written.to_string().as_bytes()).unwrap();

    push(place.stores(), vec![sent]).await;
    let again: Value = serde_json::from_slice(&claim_one(place.stores()).await.message.to_wire()).unwrap();

    assert_eq!(again["headers"]["x-trace"], json!({"deep": [1, 2]}));
    assert_eq!(again["headers"]["lang"], "py");
    assert_eq!(again["properties"]["x-other"], true);
    assert_eq!(again["body"], written["body"]);
}

pub async fn several_messages_are_stored_together<P: Place>() {
    let place: P = open().await;

    push(place.stores(), messages(&["m1", "m2", "m3"])).await;

    assert_eq!(ids(&claim(place.stores(), 10).await), ["m1", "m2", "m3"]);
}

pub async fn a_known_id_is_refused_and_nothing_is_stored<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;

    let refused = place.stores().queue.push(messages(&["m2", "m1", "m3"]), None).await;

    assert!(matches!(&refused, Err(Error::DuplicateId { id: known }) if *known == id("m1")), "{refused:?}");
    assert_eq!(ids(&claim(place.stores(), 10).await), ["m1"]);
    assert_nothing_comes(place.stores()).await;
    assert!(place.stores().results.load(&id("m2")).await.unwrap().is_none());
}

pub async fn an_id_twice_in_one_push_is_refused_and_nothing_is_stored<P: Place>() {
    let place: P = open().await;

    let refused = place.stores().queue.push(messages(&["m1", "m2", "m2"]), None).await;

    assert!(matches!(&refused, Err(Error::DuplicateId { id: known }) if *known == id("m2")), "{refused:?}");
    assert_nothing_comes(place.stores()).await;
}

pub async fn the_oldest_of_a_step_comes_first<P: Place>() {
    let place: P = open().await;
    for name in ["m1", "m2", "m3"] {
        push(place.stores(), messages(&[name])).await;
    }

    let first = claim(place.stores(), 2).await;
    let rest = claim(place.stores(), 2).await;

    assert_eq!((ids(&first), ids(&rest)), (vec!["m1".into(), "m2".into()], vec!["m3".into()]));
}

pub async fn priority_steps_come_in_order<P: Place>() {
    let place: P = open().await;
    for (name, priority) in [("nine", 9), ("seven", 7), ("three", 3), ("zero", 0), ("four", 4), ("two", 2)] {
        push(place.stores(), vec![NewMessage { priority: Priority(priority), ..draft(name) }.build()]).await;
    }

    let mut claimed = Vec::new();
    for _ in 0..6 {
        claimed.push(claim_one(place.stores()).await);
    }

    // Within a step it is the age that counts.
    assert_eq!(ids(&claimed), ["zero", "two", "three", "four", "seven", "nine"]);
    assert_eq!(claimed[3].message.priority, Priority(4));
}

pub async fn no_more_than_asked_for_is_claimed<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1", "m2", "m3"])).await;

    assert_eq!(claim(place.stores(), 2).await.len(), 2);
    assert_eq!(claim(place.stores(), 2).await.len(), 1);
}

pub async fn a_waiting_claim_is_woken_by_a_push<P: Place>() {
    let place: P = open().await;
    let stores = place.stores();
    let began = Instant::now();

    let (claimed, ()) = tokio::join!(claim(stores, 5), async {
        assert_nothing_comes(stores).await;
        push(stores, messages(&["m1"])).await;
    });

    assert_eq!(ids(&claimed), ["m1"]);
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

// A worker stops waiting whenever something else happens, also in the very moment when messages come.
pub async fn a_claim_that_is_given_up_takes_nothing_with_it<P: Place>() {
    let place: P = open().await;

    for round in 0..50 {
        let name = format!("m{round}");
        let stores = place.stores().clone();
        let waiting = tokio::spawn(async move { stores.queue.claim(&celery(), 1, PATIENCE).await });
        push(place.stores(), vec![message(&name)]).await;
        waiting.abort();

        let delivery = match waiting.await {
            Ok(claimed) => claimed.unwrap().pop().unwrap(),
            Err(_) => claim_one(place.stores()).await,
        };
        assert_eq!(delivery.message.id, id(&name));
        assert!(!delivery.redelivered);
        settle(place.stores(), &delivery, five()).await;
    }
}

pub async fn a_claim_without_messages_ends_with_its_patience<P: Place>() {
    let place: P = open().await;
    let began = Instant::now();

    let claimed = place.stores().queue.claim(&celery(), 1, MOMENT).await.unwrap();

    assert!(claimed.is_empty());
    assert!(began.elapsed() >= MOMENT && began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

pub async fn only_the_named_queues_are_claimed<P: Place>() {
    let place: P = open().await;
    for name in ["io", "mail", "other"] {
        push(place.stores(), vec![NewMessage { queue: queue(name), ..draft(name) }.build()]).await;
    }
    let named = Queues::Named(vec![queue("mail"), queue("io")]);

    let mut claimed = ids(&place.stores().queue.claim(&named, 10, PATIENCE).await.unwrap());
    if claimed.len() < 2 {
        claimed.extend(ids(&place.stores().queue.claim(&named, 10, PATIENCE).await.unwrap()));
    }
    claimed.sort();

    assert_eq!(claimed, ["io", "mail"]);
    assert!(place.stores().queue.claim(&named, 10, MOMENT).await.unwrap().is_empty());
    assert_eq!(place.stores().queue.depth(&queue("other")).await.unwrap().ready, 1);
}

pub async fn every_queue_is_claimed_where_the_store_is_ours_alone<P: Place>() {
    let place: P = open().await;
    if !place.stores().exclusive {
        return;
    }
    for name in ["io", "메일"] {
        push(place.stores(), vec![NewMessage { queue: queue(name), ..draft(name) }.build()]).await;
    }

    let claimed = place.stores().queue.claim(&Queues::Every, 10, PATIENCE).await.unwrap();

    assert_eq!(ids(&claimed), ["io", "메일"]);
}

pub async fn what_is_put_back_comes_first_and_is_not_counted<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1", "m2", "m3", "m4"])).await;
    let claimed = claim(place.stores(), 3).await;

    place.stores().queue.put_back(claimed[..2].to_vec(), Duration::ZERO).await.unwrap();
    let again = claim(place.stores(), 10).await;

    assert_eq!(ids(&again), ["m1", "m2", "m4"]);
    assert!(again.iter().all(|delivery| delivery.message.retries == 0 && !delivery.redelivered));
    assert_ne!(again[0].receipt, claimed[0].receipt);
}

pub async fn what_is_put_back_with_a_wait_comes_after_it<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    let wait = Duration::from_millis(700);

    place.stores().queue.put_back(vec![delivery], wait).await.unwrap();

    // After the giving back, so that less than the wait is left.
    let given = Instant::now();
    let depth = place.stores().queue.depth(&QueueName::default()).await.unwrap();
    assert_eq!((depth.ready + depth.delayed, depth.claimed), (1, 0));
    assert_nothing_comes(place.stores()).await;
    let again = claim_one(place.stores()).await;
    assert!(given.elapsed() > wait / 2, "after {:?}", given.elapsed());
    assert_eq!((again.message.retries, again.redelivered, again.deaths), (0, false, 0));
    assert_eq!(settle(place.stores(), &again, five()).await, Settled::Stored);
    assert_eq!(state(place.stores(), "m1").await, State::Success);
}

pub async fn a_revoked_task_does_not_come_after_its_wait<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    place.stores().queue.put_back(vec![delivery], Duration::from_millis(300)).await.unwrap();

    place.stores().queue.revoke(&id("m1"), false).await.unwrap();

    assert!(place.stores().queue.claim(&celery(), 10, Duration::from_millis(600)).await.unwrap().is_empty());
    assert_eq!(state(place.stores(), "m1").await, State::Revoked);
}

pub async fn depth_counts_what_waits_and_what_is_claimed<P: Place>() {
    let place: P = open().await;
    let later = Some(chrono::Utc::now() + Duration::from_secs(3600));
    push(place.stores(), messages(&["m1", "m2", "m3"])).await;
    push(place.stores(), vec![NewMessage { priority: Priority(9), ..draft("m4") }.build()]).await;
    push(place.stores(), vec![NewMessage { eta: later, ..draft("m5") }.build()]).await;
    push(place.stores(), vec![NewMessage { queue: queue("other"), ..draft("m6") }.build()]).await;

    let delivery = claim_one(place.stores()).await;
    let claimed = place.stores().queue.depth(&QueueName::default()).await.unwrap();
    settle(place.stores(), &delivery, five()).await;
    let settled = place.stores().queue.depth(&QueueName::default()).await.unwrap();

    assert_eq!(claimed, Depth { ready: 3, delayed: 1, claimed: 1 });
    assert_eq!(settled, Depth { ready: 3, delayed: 1, claimed: 0 });
}

pub async fn a_purge_removes_what_waits_and_not_what_is_claimed<P: Place>() {
    let place: P = open().await;
    let later = Some(chrono::Utc::now() + Duration::from_secs(3600));
    push(place.stores(), messages(&["m1", "m2", "m3"])).await;
    push(place.stores(), vec![NewMessage { eta: later, ..draft("m4") }.build()]).await;
    push(place.stores(), vec![NewMessage { queue: queue("other"), ..draft("m5") }.build()]).await;
    let running = claim_one(place.stores()).await;

    let purged = place.stores().queue.purge(&QueueName::default()).await.unwrap();

    assert_eq!(purged, 3);
    assert_nothing_comes(place.stores()).await;
    assert_eq!(place.stores().queue.depth(&queue("other")).await.unwrap().ready, 1);
    assert_eq!(settle(place.stores(), &running, five()).await, umbel::store::Settled::Stored);
    push(place.stores(), vec![message("m6")]).await;
    assert_eq!(ids(&claim(place.stores(), 10).await), ["m6"]);
}

pub async fn a_store_answers_and_begins_without_dead_letters<P: Place>() {
    let place: P = open().await;

    place.stores().queue.ping().await.unwrap();

    assert_eq!(place.stores().queue.dead_letters().await.unwrap(), 0);
    assert!(place.stores().queue.read_dead_letters(10).await.unwrap().is_empty());
}

pub async fn what_was_acknowledged_and_did_not_start_is_put_back<P: Place>() {
    let place: P = open().await;
    push(place.stores(), messages(&["m1"])).await;
    let delivery = claim_one(place.stores()).await;
    assert_eq!(place.stores().queue.acknowledge(&delivery.receipt).await.unwrap(), Settled::Stored);
    let depth = place.stores().queue.depth(&QueueName::default()).await.unwrap();

    place.stores().queue.put_back(vec![delivery], Duration::ZERO).await.unwrap();

    assert_eq!(depth, Depth { ready: 0, delayed: 0, claimed: 1 });
    assert_eq!(state(place.stores(), "m1").await, State::Queued);
    let again = claim_one(place.stores()).await;
    assert_eq!((again.receipt.id, again.redelivered), (id("m1"), false));
}

pub async fn a_full_queue_does_not_starve_another<P: Place>() {
    let place: P = open().await;
    let named = |name: &str, of: &str| NewMessage { queue: queue(of), ..draft(name) }.build();
    let both = Queues::Named(vec![queue("full"), queue("small")]);
    push(place.stores(), (0..10).map(|number| named(&format!("m{number}"), "full")).collect()).await;
    push(place.stores(), vec![named("rare", "small")]).await;

    for number in 10..30 {
        let claimed = place.stores().queue.claim(&both, 1, PATIENCE).await.unwrap();
        if claimed[0].message.id == id("rare") {
            return;
        }
        push(place.stores(), vec![named(&format!("m{number}"), "full")]).await;
    }
    panic!("its turn never came");
}
