//! Tasks whose processes died twice: they run with nothing beside them.

use super::*;

const ALONE: &str = r#"
fn usual() { kv::incr("running"); kv::set("begun", true); while kv::get("gate") != true { sleep(0.001); } kv::incr("running", -1); }
fn suspect() { kv::incr("beside", kv::incr("running", 0)); kv::set("alone", true); while kv::get("open") != true { sleep(0.001); } }
fn next() { kv::set("next", true); }
"#;

async fn suspects(name: &str, slots: usize) -> Shop {
    let shop = Shop::new(ALONE, slots, true).await;
    *shop.trouble.suspected.lock().unwrap() = Some((name.to_owned(), store::SUSPICIOUS_DEATHS));
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_runs_alone() {
    let mut shop = suspects("it.suspect", 4).await;
    let _open = shop.open();
    let usual = shop.send("it.usual").await;
    shop.has_begun().await;

    let suspect = shop.send("it.suspect").await;
    shop.say("gate").await;
    shop.has_said("alone").await;
    let next = shop.send("it.next").await;

    assert!(shop.client.wait(&next, Duration::from_millis(300)).await.unwrap().unwrap().started_at.is_none());
    assert_eq!(shop.client.load(&usual).await.unwrap().unwrap().state, State::Success);
    shop.say("open").await;
    assert_eq!(shop.ended(&suspect).await.state, State::Success);
    assert_eq!(shop.ended(&next).await.state, State::Success);
    assert_eq!(shop.client.stores().kv.get(&Space::Tasks.key("beside")).await.unwrap().unwrap().get(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_suspect_runs_at_a_time() {
    let mut shop = suspects("it.suspect", 4).await;
    let ids = [shop.send("it.suspect").await, shop.send("it.suspect").await, shop.send("it.suspect").await];

    let _open = shop.open();

    shop.has_said("alone").await;
    let running = |run: Run| run.state == State::Started;
    let mut runs = 0;
    for id in &ids {
        runs += usize::from(running(shop.client.load(id).await.unwrap().unwrap()));
    }
    assert_eq!(runs, 1);
    shop.say("open").await;
    for id in &ids {
        assert_eq!(shop.ended(id).await.state, State::Success);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_does_not_hold_up_a_busy_worker() {
    let mut shop = suspects("it.suspect", 2).await;
    let _open = shop.open();
    shop.send("it.usual").await;
    shop.has_begun().await;

    shop.send("it.suspect").await;

    tokio::time::timeout(PATIENCE, shop.trouble.put_back.notified()).await.expect("it is put back");
    assert_eq!(*shop.trouble.waits.lock().unwrap(), [Duration::from_secs(60)]);
    let next = shop.send("it.next").await;
    assert_eq!(shop.ended(&next).await.state, State::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_does_not_wait_for_its_suspects_turn() {
    let mut shop = suspects("it.suspect", 2).await;
    let open = shop.open();
    shop.send("it.usual").await;
    shop.has_begun().await;
    let suspect = shop.send("it.suspect").await;
    let started = async { while shop.client.load(&suspect).await.unwrap().unwrap().state != State::Started {} };
    tokio::time::timeout(PATIENCE, started).await.expect("it is claimed");

    shop.stop.cancel();
    open.await.unwrap();

    assert_eq!(shop.client.load(&suspect).await.unwrap().unwrap().state, State::Queued);
}
