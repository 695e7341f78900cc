//! A Redis that answers, and does not do what it is asked: the store is away until it does.

use super::*;

fn set(raw: &mut Connection, name: &str, value: &str) {
    let _: () = ::redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query(raw).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_memory_is_full_until_there_is_some() {
    let (_server, stores, mut raw) = open().await;
    assert_whole(&stores, "before").await;

    set(&mut raw, "maxmemory", "1");
    let refused = stores.queue.push(messages(&["m1"]), None).await;
    is_away_because(&stores, "has no memory left; raise its `maxmemory`").await;
    set(&mut raw, "maxmemory", "0");

    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_became_a_replica_is_away_until_it_is_a_primary() {
    let (_server, stores, mut raw) = open().await;
    let replica_of = |raw: &mut Connection, host: &str, port: &str| {
        let _: () = ::redis::cmd("REPLICAOF").arg(host).arg(port).query(raw).unwrap();
    };
    assert_whole(&stores, "before").await;

    replica_of(&mut raw, "127.0.0.1", "1");
    is_away_because(&stores, "is a replica and takes no writes").await;
    set(&mut raw, "replica-serve-stale-data", "no");
    is_away_because(&stores, "is a replica").await;
    replica_of(&mut raw, "NO", "ONE");

    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_wants_replicas_is_away_until_it_does_not() {
    let (_server, stores, mut raw) = open().await;

    set(&mut raw, "min-replicas-to-write", "1");
    is_away_because(&stores, "too few replicas follow it").await;
    set(&mut raw, "min-replicas-to-write", "0");

    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_kept_busy_is_away_until_the_script_is_killed() {
    let (server, stores, mut raw) = open().await;
    set(&mut raw, "lua-time-limit", "50");
    let url = server.url();
    let busy = std::thread::spawn(move || {
        let mut raw = ::redis::Client::open(url).unwrap().get_connection().unwrap();
        ::redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut raw)
    });

    is_away_because(&stores, "is kept busy by a script").await;
    let _: () = ::redis::cmd("SCRIPT").arg("KILL").query(&mut raw).unwrap();

    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
    assert!(busy.join().unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_reads_its_data_is_away_until_it_has() {
    // Redis listens to nobody but after each thousand of keys.
    let slow = ["--key-load-delay", "50"];
    let mut server = RedisServer::start_with(&[&RedisServer::DURABLE[..], &slow].concat());
    let stores = connect(&server).await;
    let mut raw = raw(&server);
    let fill = "for n = 1, 20000 do redis.call('SET', 'other:' .. n, ('x'):rep(100)) end";
    let _: () = ::redis::cmd("EVAL").arg(fill).arg(0).query(&mut raw).unwrap();
    push(&stores, messages(&["m1"])).await;

    server.kill();
    is_away_because(&stores, "nothing listens there").await;
    server.start_again();
    is_away_because(&stores, "reads its data from the disk").await;
    let mut raw = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    eventually(|| ::redis::cmd("PING").query::<String>(&mut raw).is_ok()).await;

    answers_again(&stores).await;
    assert_eq!(claim_one(&stores).await.receipt.id, id("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_is_told_until_it_is_the_old_one() {
    let (server, stores, mut raw) = open().await;
    assert_whole(&stores, "before").await;

    set(&mut raw, "requirepass", "tops3cret");
    let _: u64 = ::redis::cmd("CLIENT").arg("KILL").arg("SKIPME").arg("yes").query(&mut raw).unwrap();
    is_away_because(&stores, "wants a password; the URL has it").await;
    set(&mut raw, "requirepass", "");

    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opens_at_a_redis_that_does_not_work_yet() {
    let server = RedisServer::start();
    let mut raw = raw(&server);
    set(&mut raw, "maxmemory", "1");

    let stores = connect(&server).await;
    let said = stores.queue.ping().await.unwrap_err().to_string();
    set(&mut raw, "maxmemory", "0");

    assert!(said.contains("has no memory left"), "{said}");
    answers_again(&stores).await;
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_with_too_many_clients_takes_no_more_and_works_on() {
    let (server, stores, mut raw) = open().await;
    assert_whole(&stores, "before").await;
    set(&mut raw, "maxclients", "1");

    let refused = umbel::store::open(&server.url(), std::path::Path::new("."), Settings::default()).await;

    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("`maxclients`"), "{refused}");
    stores.queue.ping().await.unwrap();
}
