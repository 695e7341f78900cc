//! Who has a lease, who lost it, and when nobody is judged.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_judged_by_the_time_that_redis_was_away() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;
    let minute_ago = (Utc::now() - Duration::from_secs(60)).timestamp_millis();
    let _: u64 = raw.zadd("umbel:lease", batch_of(&delivery), minute_ago + 10_000).unwrap();
    let _: () = raw.set("umbel:swept", minute_ago).unwrap();

    other.queue.keep_alive().await.unwrap();

    assert!(stores.queue.keep_alive().await.unwrap().is_empty());
    assert_nothing_comes(&other).await;
    assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_is_told() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;
    let _: u64 = raw.zadd("umbel:lease", batch_of(&delivery), 1).unwrap();

    other.queue.keep_alive().await.unwrap();

    assert_eq!(stores.queue.keep_alive().await.unwrap(), std::slice::from_ref(&delivery.receipt));
    assert!(claim_one(&other).await.redelivered);
    assert_eq!(settle(&stores, &delivery, five()).await, Settled::LeaseLost);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_redis_stood_still_is_kept() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;

    // Its lease is over, and nobody could take it back.
    let _: u64 = raw.zadd("umbel:lease", batch_of(&delivery), 1).unwrap();

    assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);
    stores.queue.keep_alive().await.unwrap();
    assert_eq!(state(&stores, "m1").await, State::Success);
    assert_nothing_comes(&stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_from_before_redis_lost_everything_is_void() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    push(&stores, messages(&["m1"])).await;
    let old = claim_one(&stores).await;
    let _: () = ::redis::cmd("FLUSHALL").query(&mut raw).unwrap();
    push(&other, messages(&["m2"])).await;
    let new = claim_one(&other).await;

    assert_eq!(settle(&stores, &old, five()).await, Settled::LeaseLost);

    assert_eq!(settle(&other, &new, five()).await, Settled::Stored);
    assert_eq!(state(&other, "m2").await, State::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_keeps_nothing_with_the_dead() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;
    let now = Utc::now().timestamp_millis();
    let _: u64 = raw.zadd("umbel:lease", batch_of(&delivery), now + 3_610_000).unwrap();
    let _: () = raw.set("umbel:swept", now + 3_600_000).unwrap();

    other.queue.keep_alive().await.unwrap();

    let ends: i64 = raw.zscore("umbel:lease", batch_of(&delivery)).unwrap();
    assert!(ends <= Utc::now().timestamp_millis() + 15_000, "{ends}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_begins_when_that_is_written_down() {
    let (server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let lost = claim_one(&stores).await;
    let _: u64 = raw.zadd("umbel:lease", batch_of(&lost), 1).unwrap();
    let other = connect(&server).await;
    other.queue.keep_alive().await.unwrap();
    let again = claim_one(&other).await;

    other.queue.started(&again.receipt);

    assert_eq!(raw.hkeys::<_, Vec<u64>>("umbel:begun").unwrap(), [again.receipt.token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_of_long_ago_does_not_count() {
    let (server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;
    let hours_ago = |hours: u64| (Utc::now() - Duration::from_secs(hours * 3_600)).timestamp_millis();
    let times = format!("{},{}", hours_ago(73), hours_ago(71));
    let _: u64 = raw.hset("umbel:redelivered", "m1", times).unwrap();
    stores.queue.started(&delivery.receipt);
    stores.queue.keep_alive().await.unwrap();

    let _: u64 = raw.zadd("umbel:lease", batch_of(&delivery), 1).unwrap();
    let other = connect(&server).await;
    other.queue.keep_alive().await.unwrap();

    assert_eq!(claim_one(&other).await.deaths, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn deaths_are_counted_of_what_only_a_whole_reading_tells() {
    let mut protocol_1 = captured("pub-26-protocol1");
    protocol_1["properties"].as_object_mut().unwrap().remove("correlation_id");
    let mut deep = captured("pub-01-send_task");
    deep["headers"]["deep"] = json!("DEEP");
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for sent in [protocol_1.to_string(), deep.to_string().replace("\"DEEP\"", &nested)] {
        let (server, stores, mut raw) = open().await;
        lpush(&mut raw, "celery", sent);
        let mut delivery = claim_one(&stores).await;
        for deaths in 1..umbel::store::DEATHS {
            stores.queue.started(&delivery.receipt);
            stores.queue.keep_alive().await.unwrap();
            let _: u64 = raw.zadd("umbel:lease", batch_of(&delivery), 1).unwrap();
            connect(&server).await.queue.keep_alive().await.unwrap();
            delivery = claim_one(&stores).await;
            assert_eq!(delivery.deaths, deaths);
        }
    }
}
