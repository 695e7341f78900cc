//! What a Celery client linked to a task, and when it is sent.

use serde_json::{Value, json};

use super::*;
use crate::task::NewMessage;

// What follows `task` by the clients of Celery, and the id of the follower that has one.
async fn link(shop: &Shop, task: &str, embed: &Value) -> (TaskId, TaskId) {
    let message = NewMessage { task: task.to_owned(), ..Default::default() }.build();
    let message = Message { body: json!([[], {}, embed]).to_string().into(), ..message };
    let id = message.id.clone();
    shop.client.stores().queue.push(vec![message], None).await.unwrap();
    (id, TaskId::parse("follower").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_follows_where_its_task_is_declared() {
    let script = "task(\"twice\", #{ queue: \"io\", priority: 3 });\nfn one() { 21 }\nfn twice(x, y) { [x * 2, y, task::parent_id()] }";
    let mut shop = Shop::new(script, 1, true).await;
    let _open = shop.open();
    let signature = |task: &str| json!({ "task": task, "kwargs": { "y": 1 }, "options": { "task_id": "follower" } });
    let embed = json!({ "callbacks": [signature("it.twice")], "errbacks": [{ "task": "it.none" }] });

    let (id, follower) = link(&shop, "it.one", &embed).await;

    let (one, twice) = (shop.ended(&id).await, shop.ended(&follower).await);
    assert_eq!((one.state, &one.children[..]), (State::Success, &[follower][..]));
    assert_eq!(twice.result.unwrap().get(), format!("[42,1,\"{id}\"]"));
    assert_eq!((twice.queue.as_str(), twice.priority, twice.parent_id), ("io", 3, Some(id.clone())));
    assert_eq!(twice.root_id, Some(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_errback_follows_a_failure_once_its_retries_are_over() {
    let script = "task(\"fail\", #{ autoretry: true, max_retries: 1, default_retry_delay: 0 });\n\
                  fn fail() { throw `at ${task::retries()}` }\nfn note(id) { id }";
    let mut shop = Shop::new(script, 1, true).await;
    let _open = shop.open();
    let errback = json!({ "task": "it.note", "options": { "task_id": "follower" } });
    let embed = json!({ "callbacks": [{ "task": "it.none" }], "errbacks": [errback] });

    let (id, follower) = link(&shop, "it.fail", &embed).await;

    let (failed, note) = (shop.ended(&id).await, shop.ended(&follower).await);
    assert_eq!((failed.state, failed.error.unwrap().exc_message.as_str()), (State::Failure, "at 1"));
    assert_eq!((note.result.unwrap().get(), failed.children.len()), (format!("\"{id}\"").as_str(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_follow_fails_the_task_before_it_starts_and_calls_its_errbacks() {
    let mut shop = Shop::new("fn one() { kv::set(\"begun\", true) }\nfn note(id) { id }", 1, true).await;
    let _open = shop.open();
    let errback = json!({ "task": "it.note", "options": { "task_id": "follower" } });
    let embed = json!({ "chain": [{ "task": "it.one" }], "errbacks": [errback] });

    let (id, follower) = link(&shop, "it.one", &embed).await;

    let (failed, note) = (shop.ended(&id).await, shop.ended(&follower).await);
    assert_eq!((failed.state, failed.error.unwrap().exc_type.as_str()), (State::Failure, "NotImplementedError"));
    assert_eq!(note.state, State::Success);
    assert!(shop.client.stores().kv.get(&Space::Tasks.key("begun")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_errback_follows_a_task_that_nobody_has() {
    let mut shop = Shop::new("fn note(id) { id }", 1, true).await;
    let _open = shop.open();
    let errback = json!({ "task": "it.note", "options": { "task_id": "follower" } });

    let (id, follower) = link(&shop, "it.none", &json!({ "errbacks": [errback] })).await;

    let (failed, note) = (shop.ended(&id).await, shop.ended(&follower).await);
    assert_eq!(failed.error.unwrap().exc_type, "NotRegistered");
    assert_eq!(note.result.unwrap().get(), format!("\"{id}\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_errback_follows_a_task_whose_outcome_the_store_does_not_take() {
    let mut shop = Shop::new("fn seven() { 7 }\nfn note(id) { id }", 1, true).await;
    shop.trouble.settlements_fail.store(8, Ordering::Relaxed);
    let _open = shop.open();
    let errback = json!({ "task": "it.note", "options": { "task_id": "follower" } });

    let (id, follower) = link(&shop, "it.seven", &json!({ "errbacks": [errback] })).await;

    let (failed, note) = (shop.ended(&id).await, shop.ended(&follower).await);
    assert_eq!(failed.error.unwrap().exc_type, "BackendStoreError");
    assert_eq!(note.result.unwrap().get(), format!("\"{id}\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_too_large_for_what_follows_is_a_failure() {
    let script = "fn large() { let t = \"x\"; for _i in 0..19 { t += t; } t }";
    let mut shop = Shop::new(script, 1, true).await;
    let _open = shop.open();
    let embed = json!({ "callbacks": vec![json!({ "task": "it.none" }); 40] });

    let (id, _) = link(&shop, "it.large", &embed).await;

    let failed = shop.ended(&id).await;
    assert_eq!((failed.state, failed.error.unwrap().exc_type.as_str()), (State::Failure, "MemoryError"));
}
