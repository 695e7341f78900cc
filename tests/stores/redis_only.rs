//! What only the store over Redis promises: a Celery client at the other end, other processes, a Redis that goes.

use std::time::{Duration, Instant};

use ::redis::{Commands, Connection};
use chrono::Utc;
use serde_json::{Value, json};
use umbel::store::{Error, Settings, Settled, Stores};
use umbel::task::{State, to_json};

use crate::place::{
    PATIENCE, assert_nothing_comes, celery, claim, claim_one, ended, five, id, ids, load, message, messages, push,
    settle, state,
};
use crate::redis_server::RedisServer;

async fn connect(server: &RedisServer) -> Stores {
    umbel::store::open(&server.url(), std::path::Path::new("."), Settings::default()).await.unwrap()
}

async fn open() -> (RedisServer, Stores, Connection) {
    let server = RedisServer::start();
    let raw = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let stores = connect(&server).await;
    (server, stores, raw)
}

// The envelope that Celery's client LPUSHed in one captured file.
fn captured(name: &str) -> Value {
    fn envelope(sample: &Value) -> Option<Value> {
        match sample {
            Value::Object(fields) if fields.contains_key("body") && fields.contains_key("properties") => {
                let mut fields = fields.clone();
                fields.remove("_body_decoded");
                Some(Value::Object(fields))
            }
            Value::Object(fields) => fields.values().find_map(envelope),
            Value::Array(values) => values.iter().find_map(envelope),
            _ => None,
        }
    }
    let path = format!("{}/tests/celery/captured/{name}.json", env!("CARGO_MANIFEST_DIR"));
    envelope(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).unwrap()
}

fn lpush(raw: &mut Connection, list: &str, envelope: impl ToString) {
    let _: u64 = raw.lpush(list, envelope.to_string()).unwrap();
}

// How many connections wait in Redis.
fn blocked(raw: &mut Connection) -> usize {
    let info: String = ::redis::cmd("INFO").arg("clients").query(raw).unwrap();
    let blocked = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
    blocked.trim().parse().unwrap()
}

async fn eventually(mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "it never came true");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_celery_sent_is_answered_in_its_words() {
    let (server, stores, mut raw) = open().await;
    let envelope = captured("pub-01-send_task");
    let name = envelope["headers"]["id"].as_str().unwrap();
    let key = format!("celery-task-meta-{name}");
    let mut ears = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut ears = ears.as_pubsub();
    ears.subscribe(&key).unwrap();

    lpush(&mut raw, "celery", &envelope);
    let delivery = claim_one(&stores).await;
    let running = load(&stores, name).await;
    assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);

    assert_eq!((running.state, running.task.as_str(), running.queued_at), (State::Started, "tasks.add", None));
    assert_eq!(running.args.unwrap().get(), "[2, 3]");
    let saved: String = raw.get(&key).unwrap();
    assert_eq!(ears.get_message().unwrap().get_payload::<String>().unwrap(), saved);
    let saved: Value = serde_json::from_str(&saved).unwrap();
    assert_eq!((&saved["status"], &saved["result"], &saved["task_id"]), (&json!("SUCCESS"), &json!(5), &json!(name)));
    assert!((86_000..=86_400).contains(&raw.ttl::<_, i64>(&key).unwrap()));
    let left: Vec<String> = raw.keys("celery*").unwrap();
    assert_eq!(left, [key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_send_lies_where_celerys_workers_look() {
    let (_server, stores, mut raw) = open().await;
    let mut urgent = message("m1");
    urgent.priority = umbel::task::Priority(7);

    push(&stores, vec![urgent, message("m2")]).await;

    let wire: Vec<String> = raw.lrange("celery\u{6}\u{16}6", 0, -1).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&wire[0]).unwrap()["headers"]["id"], "m1");
    assert_eq!(raw.llen::<_, u64>("celery").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_celerys_worker_ended_is_known() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let _: String = raw.rpop("celery", None).unwrap();
    let meta = json!({"status": "SUCCESS", "result": [7], "traceback": null, "children": [], "task_id": "m1"});

    let (run, ()) = tokio::join!(ended(&stores, "m1"), async {
        eventually(|| {
            let listeners: (String, u64) =
                ::redis::cmd("PUBSUB").arg("NUMSUB").arg("celery-task-meta-m1").query(&mut raw).unwrap();
            listeners.1 == 1
        })
        .await;
        let _: () = raw.set_ex("celery-task-meta-m1", meta.to_string(), 60).unwrap();
        let _: () = raw.publish("celery-task-meta-m1", meta.to_string()).unwrap();
    });

    assert_eq!((run.state, run.result.unwrap().get()), (State::Success, "[7]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eta_of_celery_waits_in_the_store() {
    let (_server, stores, mut raw) = open().await;
    let due = Utc::now() + Duration::from_millis(700);
    let mut envelope = captured("pub-03-countdown");
    envelope["headers"]["eta"] = json!(due.to_rfc3339());
    envelope["headers"]["id"] = json!("m1");

    lpush(&mut raw, "celery", &envelope);
    assert_nothing_comes(&stores).await;

    let depth = stores.queue.depth(&celery_queue()).await.unwrap();
    assert_eq!((depth.ready, depth.delayed, depth.claimed), (0, 1, 0));
    assert_eq!(state(&stores, "m1").await, State::Scheduled);
    let delivery = claim_one(&stores).await;
    assert!(Utc::now() >= due);
    assert_eq!((delivery.message.retries, delivery.redelivered), (0, false));
}

fn celery_queue() -> umbel::task::QueueName {
    umbel::task::QueueName::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_goes_to_the_dead_letters() {
    let (_server, stores, mut raw) = open().await;
    lpush(&mut raw, "celery", "no message");
    lpush(&mut raw, "celery", captured("pub-26-protocol1"));
    let _: u64 = raw.lpush("celery", &b"\xff\xfe"[..]).unwrap();
    push(&stores, messages(&["m1"])).await;

    assert_eq!(ids(&claim(&stores, 10).await), ["m1"]);

    assert_eq!(stores.queue.dead_letters().await.unwrap(), 3);
    assert_eq!(stores.queue.depth(&celery_queue()).await.unwrap().claimed, 1);
    let letters: Vec<Vec<u8>> = raw.lrange("umbel:dead", 0, -1).unwrap();
    let first: Value = serde_json::from_slice(&letters[2]).unwrap();
    assert_eq!((&first["envelope"], &first["queue"]), (&json!("no message"), &json!("celery")));
    assert!(first["reason"].as_str().unwrap().contains("kombu's JSON"), "{first}");
    assert_nothing_comes(&stores).await;
}

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
async fn scripts_that_redis_forgot_are_handed_over_again() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;

    let _: () = ::redis::cmd("SCRIPT").arg("FLUSH").query(&mut raw).unwrap();

    let delivery = claim_one(&stores).await;
    let _: () = ::redis::cmd("SCRIPT").arg("FLUSH").query(&mut raw).unwrap();
    assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_judged_by_the_time_that_redis_was_away() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;
    let minute_ago = (Utc::now() - Duration::from_secs(60)).timestamp_millis();
    let _: u64 = raw.zadd("umbel:lease", delivery.receipt.token, minute_ago + 10_000).unwrap();
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
    let _: u64 = raw.zadd("umbel:lease", delivery.receipt.token, 1).unwrap();

    other.queue.keep_alive().await.unwrap();

    assert_eq!(stores.queue.keep_alive().await.unwrap(), std::slice::from_ref(&delivery.receipt));
    assert!(claim_one(&other).await.redelivered);
    assert_eq!(settle(&stores, &delivery, five()).await, Settled::LeaseLost);
}

async fn assert_away<T: std::fmt::Debug>(call: impl Future<Output = umbel::store::Result<T>>) {
    let began = Instant::now();
    let answer = call.await;
    assert!(matches!(answer, Err(Error::Away { .. })), "{answer:?}");
    // Far less than the patience of the caller, far more than a slow machine needs.
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
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

async fn assert_whole(stores: &Stores, name: &str) {
    let (run, ()) = tokio::join!(ended(stores, name), async {
        push(stores, messages(&[name])).await;
        let delivery = claim_one(stores).await;
        assert_eq!(settle(stores, &delivery, five()).await, Settled::Stored);
    });
    assert_eq!(run.state, State::Success);
}

async fn answers_again(stores: &Stores) {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = stores.queue.ping().await {
        assert!(Instant::now() < end, "{error}");
    }
    // The notices have a connection of their own.
    while let Err(error) = stores.results.wait(&id("nobody"), Duration::ZERO).await {
        assert!(Instant::now() < end, "{error}");
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
async fn what_ended_while_redis_stood_still_is_kept() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;

    // Its lease is over, and nobody could take it back.
    let _: u64 = raw.zadd("umbel:lease", delivery.receipt.token, 1).unwrap();

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
    let _: u64 = raw.zadd("umbel:lease", delivery.receipt.token, now + 3_610_000).unwrap();
    let _: () = raw.set("umbel:swept", now + 3_600_000).unwrap();

    other.queue.keep_alive().await.unwrap();

    let ends: i64 = raw.zscore("umbel:lease", delivery.receipt.token).unwrap();
    assert!(ends <= Utc::now().timestamp_millis() + 15_000, "{ends}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_celery_bound_is_listed() {
    let (_server, stores, mut raw) = open().await;
    let _: u64 = raw.sadd("_kombu.binding.celery", "celery\u{6}\u{16}\u{6}\u{16}celery").unwrap();
    lpush(&mut raw, "celery", captured("pub-01-send_task"));

    let listed = stores.queue.queues().await.unwrap();

    assert_eq!((listed.len(), &listed[0].name, listed[0].depth.ready), (1, &celery_queue(), 1));
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
async fn what_nobody_watches_is_not_called_out() {
    let (server, stores, _) = open().await;
    let mut ears = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut ears = ears.as_pubsub();
    ears.psubscribe("umbel:changed:*").unwrap();
    push(&stores, messages(&["m1"])).await;
    claim_one(&stores).await;

    let _watcher = stores.results.changes(&id("m2")).await.unwrap();
    push(&stores, messages(&["m2"])).await;

    assert_eq!(ears.get_message().unwrap().get_channel_name(), "umbel:changed:m2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_leaves_no_mark_of_its_beginning() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1", "m2", "m3"])).await;
    let claimed = claim(&stores, 3).await;
    stores.queue.started(&claimed[0].receipt);
    stores.queue.keep_alive().await.unwrap();
    assert_eq!(raw.smembers::<_, Vec<u64>>("umbel:started").unwrap(), [claimed[0].receipt.token]);

    settle(&stores, &claimed[0], five()).await;
    stores.queue.started(&claimed[1].receipt);
    settle(&stores, &claimed[1], five()).await;
    stores.queue.started(&claimed[1].receipt);
    stores.queue.started(&claimed[2].receipt);
    stores.queue.put_back(claimed[2..].to_vec(), Duration::ZERO).await.unwrap();
    stores.queue.keep_alive().await.unwrap();

    assert_eq!(raw.scard::<_, u64>("umbel:started").unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_begins_when_that_is_written_down() {
    let (server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let lost = claim_one(&stores).await;
    let _: u64 = raw.zadd("umbel:lease", lost.receipt.token, 1).unwrap();
    let other = connect(&server).await;
    other.queue.keep_alive().await.unwrap();
    let again = claim_one(&other).await;

    other.queue.started(&again.receipt);

    assert_eq!(raw.smembers::<_, Vec<u64>>("umbel:started").unwrap(), [again.receipt.token]);
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

    let _: u64 = raw.zadd("umbel:lease", delivery.receipt.token, 1).unwrap();
    let other = connect(&server).await;
    other.queue.keep_alive().await.unwrap();

    assert_eq!(claim_one(&other).await.deaths, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_sources_make_room() {
    let (_server, stores, mut raw) = open().await;
    let source = |hash: &str| umbel::store::Source {
        hash: hash.into(),
        files: [("tasks/it.rhai".to_owned(), "fn it() {}".repeat(10))].into(),
    };
    stores.sources.keep(vec![source("a"), source("b")]).await.unwrap();
    let _: () = raw.set("umbel:sources:size", (64 << 20) - 10).unwrap();

    stores.sources.keep(vec![source("a"), source("c")]).await.unwrap();

    let mut kept: Vec<String> = raw.hkeys("umbel:sources").unwrap();
    kept.sort();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(stores.sources.source("c").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_forgets_what_ended_long_ago_and_nothing_else() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["old", "new", "waiting"])).await;
    for delivery in claim(&stores, 2).await {
        settle(&stores, &delivery, five()).await;
    }
    let days_ago = |days: u64| (Utc::now() - Duration::from_secs(days * 86_400)).timestamp_millis();
    let _: u64 = raw.zadd("umbel:ended", "old", days_ago(31)).unwrap();
    let _: u64 = raw.zadd("umbel:ended", "new", days_ago(29)).unwrap();

    stores.queue.keep_alive().await.unwrap();

    assert!(stores.results.load(&id("old")).await.unwrap().is_none());
    assert_eq!(state(&stores, "new").await, State::Success);
    assert_eq!(state(&stores, "waiting").await, State::Queued);
}
