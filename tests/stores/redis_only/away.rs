//! A Redis that goes, stands still, forgets or comes back.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_redis_forgot_are_handed_over_again() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;

    let _: () = ::redis::cmd("SCRIPT").arg("FLUSH").query(&mut raw).unwrap();

    let delivery = claim_one(&stores).await;
    let _: () = ::redis::cmd("SCRIPT").arg("FLUSH").query(&mut raw).unwrap();
    assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);
}

async fn assert_away<T: std::fmt::Debug>(call: impl Future<Output = umbel::store::Result<T>>) {
    let began = Instant::now();
    let answer = call.await;
    assert!(matches!(answer, Err(Error::Away { .. })), "{answer:?}");
    // It waits for an answer for 900 ms. A connection that only repairs itself hangs for several times that.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

async fn assert_all_away(stores: &Stores) {
    for _ in 0..2 {
        assert_away(stores.queue.ping()).await;
        assert_away(stores.queue.push(messages(&["m1"]), None)).await;
        assert_away(stores.queue.claim(&celery(), 1, PATIENCE)).await;
        assert_away(stores.queue.keep_alive()).await;
        assert_away(stores.results.load(&id("m1"))).await;
        assert_away(stores.results.wait(&id("m1"), PATIENCE)).await;
        assert_away(stores.kv.set("key", to_json(&1), None, false)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_gone_is_away_until_it_is_back() {
    let (mut server, stores, _) = open().await;
    assert_whole(&stores, "before").await;

    server.kill();
    assert_all_away(&stores).await;
    server.start_again();

    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_is_away_until_it_goes_on() {
    let (server, stores, _) = open().await;
    assert_whole(&stores, "before").await;

    server.signal("STOP");
    assert_away(stores.queue.ping()).await;
    assert_away(stores.queue.claim(&celery(), 1, PATIENCE)).await;
    server.signal("CONT");

    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_has_on_its_disk_is_there_after_a_restart() {
    let mut server = RedisServer::durable();
    let stores = connect(&server).await;
    push(&stores, messages(&["m1", "m2"])).await;
    let delivery = claim_one(&stores).await;

    server.kill();
    is_away_because(&stores, "nothing listens there").await;
    server.start_again();
    answers_again(&stores).await;

    assert!(stores.queue.keep_alive().await.unwrap().is_empty(), "the lease is kept");
    assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);
    assert_eq!(claim_one(&stores).await.receipt.id, id("m2"));
    assert_nothing_comes(&stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_from_before_redis_forgot_everything_is_lost() {
    let (mut server, stores, _) = open().await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;

    server.kill();
    goes_away(&stores).await;
    server.start_again();
    answers_again(&stores).await;

    assert_eq!(settle(&stores, &delivery, five()).await, Settled::LeaseLost);
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_claim_learns_that_redis_is_gone() {
    let (mut server, stores, mut raw) = open().await;
    let waiting = tokio::spawn(async move { stores.queue.claim(&celery(), 1, PATIENCE * 10).await });
    eventually(|| blocked(&mut raw) == 4).await;

    server.kill();

    let answer = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(matches!(answer, Err(Error::Away { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_in_plain_words() {
    let mut server = RedisServer::start();
    server.kill();

    let opened = umbel::store::open(&server.url(), std::path::Path::new("."), Settings::default()).await;

    let reason = opened.err().unwrap().to_string();
    assert!(reason.starts_with("the store is away: redis at `127.0.0.1:"), "{reason}");
    assert!(reason.ends_with("`: nothing listens there"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_termination_that_nobody_heard_is_heard_on_the_next_connection() {
    let (_server, stores, mut raw) = open().await;
    let mut terminations = stores.queue.terminations();
    let now = Utc::now().timestamp_millis();
    let _: u64 = raw.zadd("umbel:terminate", "m1", now).unwrap();

    let _: u64 = ::redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query(&mut raw).unwrap();

    let heard = tokio::time::timeout(PATIENCE, terminations.recv()).await.expect("it is heard");
    assert_eq!(heard.unwrap(), id("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_task_is_remembered_for_who_does_not_hear() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1", "m2"])).await;
    claim(&stores, 2).await;

    stores.queue.revoke(&id("m1"), true).await.unwrap();
    stores.queue.revoke(&id("m2"), false).await.unwrap();

    assert_eq!(raw.zrange::<_, Vec<String>>("umbel:terminate", 0, -1).unwrap(), ["m1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_too_late_is_given_back() {
    let (server, stores, _) = open().await;
    let other = connect(&server).await;
    assert_nothing_comes(&stores).await; // so that Redis knows the script
    push(&stores, messages(&["m1", "m2"])).await;

    server.signal("STOP");
    assert_away(stores.queue.claim(&celery(), 10, PATIENCE)).await;
    server.signal("CONT");
    answers_again(&other).await;

    let mut claimed = claim(&other, 2).await;
    while claimed.len() < 2 {
        claimed.push(claim_one(&other).await);
    }
    assert_eq!(ids(&claimed), ["m1", "m2"]);
    assert!(claimed.iter().all(|delivery| !delivery.redelivered));
}
