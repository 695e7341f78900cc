//! Sentinels that say which Redis is the primary, and make another one it.

use umbel::store::{RedisSettings, Secret};

use super::*;
use crate::redis_server::free_port;

const NAME: &str = "mymaster";

struct Fleet {
    primary: RedisServer,
    replica: RedisServer,
    sentinel: RedisServer,
}

impl Fleet {
    async fn start() -> Self {
        let primary = RedisServer::start();
        let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()]);
        let mut follower = raw(&replica);
        eventually(|| info(&mut follower, "replication").contains("master_link_status:up")).await;
        let sentinel = RedisServer::sentinel(NAME, primary.port());
        let mut watching = raw(&sentinel);
        eventually(|| info(&mut watching, "sentinel").contains("slaves=1")).await;
        Self { primary, replica, sentinel }
    }

    fn url(&self) -> String {
        format!("sentinel://127.0.0.1:{}/0", self.sentinel.port())
    }
}

fn info(raw: &mut Connection, section: &str) -> String {
    ::redis::cmd("INFO").arg(section).query(raw).unwrap()
}

fn named(name: &str) -> Settings {
    let redis = RedisSettings { master: name.to_owned(), ..RedisSettings::default() };
    Settings { redis, ..Settings::default() }
}

async fn find(url: &str) -> Stores {
    umbel::store::open(url, std::path::Path::new("."), named(NAME)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_is_used_when_the_primary_is_gone() {
    let mut fleet = Fleet::start().await;
    let stores = find(&fleet.url()).await;
    assert_whole(&stores, "before").await;
    let mut follower = raw(&fleet.replica);
    push(&stores, messages(&["m1"])).await;
    eventually(|| follower.llen::<_, u64>("celery").unwrap() == 1).await;

    fleet.primary.kill();
    goes_away(&stores).await;
    // How long the Sentinel takes is its affair. It cuts off those who are connected, or just connecting, meanwhile.
    let asked = ::redis::cmd("INFO").arg("replication").to_owned();
    let replica = ::redis::Client::open(fleet.replica.url()).unwrap();
    let ask = || -> ::redis::RedisResult<String> { asked.query(&mut replica.get_connection()?) };
    eventually(|| ask().is_ok_and(|said| said.contains("role:master"))).await;

    answers_again(&stores).await;
    assert_eq!(claim_one(&stores).await.receipt.id, id("m1"));
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_becomes_a_replica_is_left() {
    let fleet = Fleet::start().await;
    let stores = find(&fleet.url()).await;
    assert_whole(&stores, "before").await;
    let find_primary = |raw: &mut Connection| -> (String, u16) {
        ::redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(NAME).query(raw).unwrap()
    };
    let mut watching = raw(&fleet.sentinel);

    let fail_over = ::redis::cmd("SENTINEL").arg("FAILOVER").arg(NAME).to_owned();
    // A Sentinel promotes only whom it has known for a while.
    eventually(|| fail_over.query::<()>(&mut watching).is_ok()).await;
    eventually(|| find_primary(&mut watching).1 == fleet.replica.port()).await;
    // The sentinel does this, too, some seconds later.
    let replica_of = ::redis::cmd("REPLICAOF").arg("127.0.0.1").arg(fleet.replica.port()).to_owned();
    let _: () = replica_of.query(&mut raw(&fleet.primary)).unwrap();

    answers_again(&stores).await;
    let mut after = 0;
    // What waits on connections to the old one may fail once each.
    while stores.queue.claim(&celery(), 1, Duration::ZERO).await.is_err() {
        after += 1;
        assert!(after < 20, "it goes on");
    }
    assert_whole(&stores, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sentinel_that_answers_is_enough() {
    let fleet = Fleet::start().await;
    let url = format!("sentinel://127.0.0.1:{};{}", free_port(), fleet.url());

    assert_whole(&find(&url).await, "m1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_may_want_a_password() {
    let fleet = Fleet::start().await;
    let mut watching = raw(&fleet.sentinel);
    let rule = ["SETUSER", "default", "resetpass", ">tops3cret"];
    let _: () = ::redis::cmd("ACL").arg(&rule).query(&mut watching).unwrap();

    let refused = refusal(&fleet.url(), named(NAME)).await;
    let mut settings = named(NAME);
    settings.redis.sentinel_password = Secret::from("tops3cret".to_owned());
    let stores = umbel::store::open(&fleet.url(), std::path::Path::new("."), settings).await.unwrap();

    assert!(refused.contains("refuses us; its password is `redis.sentinel_password`"), "{refused}");
    assert_whole(&stores, "m1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_about_sentinels_is_told_in_words() {
    let sentinel = RedisServer::sentinel(NAME, RedisServer::start().port());
    let url = format!("sentinel://127.0.0.1:{}/0", sentinel.port());
    let nobody = format!("sentinel://127.0.0.1:{}/0", free_port());
    for (url, settings, said) in [
        (&url, named("other"), "knows no primary of that name; `redis.master` is what its `sentinel monitor` says"),
        (&url, Settings::default(), "`redis.master` is not set: Sentinels know Redis by a name"),
        (&url, named(NAME), "the primary at `127.0.0.1:"),
        (&nobody, named(NAME), "nothing listens there"),
        (&sentinel.url(), Settings::default(), "if it is a Sentinel, write `sentinel://`"),
    ] {
        let refused = refusal(url, settings).await;
        assert!(refused.contains(said), "{refused}");
    }
}
