//! Processes that wait for messages: who is woken, and what a wait may hold.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_of_a_dead_process_is_adopted() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1", "m2", "m3"])).await;
    for _ in 0..2 {
        let _: String =
            ::redis::cmd("LMOVE").arg(&["celery", "umbel:inbox:dead:celery", "RIGHT", "LEFT"]).query(&mut raw).unwrap();
    }
    let _: u64 = raw.zadd("umbel:inboxes", "dead:celery", 1).unwrap();

    stores.queue.keep_alive().await.unwrap();

    assert_eq!(ids(&claim(&stores, 10).await), ["m1", "m2", "m3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_process_takes_nothing() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;

    let (claimed, ()) = tokio::join!(claim_one(&stores), async {
        eventually(|| blocked(&mut raw) == 4).await;
        push(&stores, messages(&["m1"])).await;
    });
    assert_eq!(claimed.message.id, id("m1"));
    assert_eq!(blocked(&mut raw), 0);
    push(&stores, messages(&["m2"])).await;

    assert_eq!(claim_one(&other).await.message.id, id("m2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_given_up_holds_nothing() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    let waiting = tokio::spawn({
        let stores = stores.clone();
        async move { stores.queue.claim(&celery(), 1, PATIENCE * 10).await }
    });
    eventually(|| blocked(&mut raw) == 4).await;

    waiting.abort();

    eventually(|| blocked(&mut raw) == 0).await;
    push(&other, messages(&["m1"])).await;
    assert_eq!(claim_one(&other).await.message.id, id("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_wakes_one_of_many_idle_processes() {
    let (server, stores, mut raw) = open().await;
    let mut idle = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let stores = connect(&server).await;
        idle.spawn(async move { stores.queue.claim(&celery(), 1, PATIENCE).await.unwrap() });
    }
    eventually(|| blocked(&mut raw) == 16).await;

    push(&stores, messages(&["m1", "m2", "m3", "m4"])).await;

    let mut claimed: Vec<String> = idle.join_all().await.iter().flat_map(|found| ids(found)).collect();
    claimed.sort();
    assert_eq!(claimed, ["m1", "m2", "m3", "m4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_process_takes_nothing_from_a_queue_that_is_paused() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    let waiting = tokio::spawn(async move { claim_one(&other).await });
    eventually(|| blocked(&mut raw) == 4).await;

    stores.queue.pause(&celery_queue(), true).await.unwrap();
    eventually(|| blocked(&mut raw) == 0).await;
    push(&stores, messages(&["m1"])).await;
    assert_nothing_comes(&stores).await;
    assert_eq!(raw.llen::<_, u64>("celery").unwrap(), 1);
    assert!(!waiting.is_finished());
    stores.queue.pause(&celery_queue(), false).await.unwrap();

    assert_eq!(waiting.await.unwrap().message.id, id("m1"));
}
