//! A Redis that goes away while umbel works: it is said once, nothing is lost, and work goes on by itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::json;

use crate::support::house::{House, Plan, eventually};
use crate::support::proxy::{Proxy, TO_CLIENT, TO_SERVER, Way};
use crate::support::redis_server::RedisServer;

const TASKS: usize = 300;

/// How soon work goes on once Redis can be used again.
const RESUMES: Duration = Duration::from_secs(5);
/// Longer than a lease.
const LONG: Duration = Duration::from_secs(20);

const SCRIPT: &str = r#"
fn nap(n) { info("begins"); sleep(0.02); n }
// Ends when it is told to: a gate in `kv` cannot be asked for while Redis is away.
fn held(n) { info("begins"); while !task::is_revoked() { sleep(0.01); } n }
"#;

fn house(store: &str) -> House {
    let plan = Plan::new().script("it.rhai", SCRIPT).store(store);
    // Each run is a line of the log then.
    plan.setting("RUST_LOG", "umbel=debug").start()
}

fn send(house: &House) -> Vec<String> {
    let batch: Vec<_> = (0..TASKS).map(|n| json!({ "task": "it.nap", "args": [n] })).collect();
    let sent = house.post("/api/tasks", &json!(batch));
    assert_eq!(sent.status, 202, "{}", sent.json);
    let ids: Vec<String> =
        sent.json.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    eventually("some have run", || runs(&[house]).len() > 10);
    ids
}

/// How often each task has begun, by its id.
fn runs(houses: &[&House]) -> HashMap<String, usize> {
    let mut runs = HashMap::new();
    for line in houses.iter().flat_map(|house| house.log_lines()).filter(|line| line.contains("] begins")) {
        let id = line.split("] begins").next().unwrap().rsplit('[').next().unwrap();
        *runs.entry(id.to_owned()).or_default() += 1;
    }
    runs
}

fn said(house: &House, text: &str) -> usize {
    house.log_lines().iter().filter(|line| line.contains(text)).count()
}

fn is_red(house: &House, why: &str) {
    eventually("it is not ready", || {
        let ready = house.get("/readyz");
        ready.status == 503 && ready.json["part"] == "store" && ready.json["detail"].as_str().unwrap().contains(why)
    });
    eventually("it is said", || said(house, "the store cannot be used") > 0);
    assert_eq!(house.get("/healthz").status, 200);
}

/// To be called as soon as Redis can be used again.
fn works_soon(house: &House) {
    let mended = Instant::now();
    eventually("it is ready", || house.get("/readyz").status == 200);
    assert_eq!(house.post("/api/tasks/it.nap?wait=30s", &json!({ "args": [7] })).json["result"], 7);
    assert!(mended.elapsed() < RESUMES, "work went on after {:?}", mended.elapsed());
}

fn each_has_run_once(houses: &[&House], ids: &[String]) {
    for (n, id) in ids.iter().enumerate() {
        eventually("it has ended", || houses[0].get(&format!("/api/tasks/{id}")).json["state"] == "SUCCESS");
        assert_eq!(houses[0].get(&format!("/api/tasks/{id}")).json["result"], n);
    }
    let runs = runs(houses);
    let twice: Vec<_> = ids.iter().filter(|id| runs.get(*id) != Some(&1)).collect();
    assert!(twice.is_empty(), "{twice:?} did not begin once, of {runs:?}");
}

fn it_was_said_once(house: &House) {
    let lines = house.log_lines();
    let loud: Vec<&String> =
        lines.iter().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    assert_eq!(loud.len(), 1, "{loud:#?}");
    assert!(loud[0].contains("the store cannot be used: redis at `127.0.0.1:"), "{}", loud[0]);
    assert_eq!(said(house, "can be used again, after"), 1);
}

#[test]
fn a_restart_of_redis_loses_nothing_that_is_on_its_disk() {
    let mut redis = RedisServer::durable();
    let house = house(&redis.url());
    let ids = send(&house);

    redis.kill();
    is_red(&house, "nothing listens there");
    redis.start_again();

    works_soon(&house);
    each_has_run_once(&[&house], &ids);
    it_was_said_once(&house);
}

#[test]
fn a_redis_that_forgot_everything_is_worked_with_again() {
    let mut redis = RedisServer::start();
    let house = house(&redis.url());
    send(&house);

    redis.kill();
    is_red(&house, "nothing listens there");
    redis.start_again();

    works_soon(&house);
    assert_eq!(said(&house, "the store cannot be used"), 1);
    assert_eq!(said(&house, "can be used again, after"), 1);
}

#[test]
fn remote_control_adds_nothing_to_what_is_said() {
    let redis = RedisServer::start();
    let house = house(&redis.url());
    let mut raw = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    eventually("remote control is heard", || {
        let heard: Vec<(String, u64)> =
            redis::cmd("PUBSUB").arg("NUMSUB").arg("/0.celery.pidbox").query(&mut raw).unwrap();
        heard[0].1 == 1
    });

    let _: () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query(&mut raw).unwrap();
    is_red(&house, "has no memory left");
    let revoke =
        json!({ "method": "revoke", "arguments": { "task_id": "x", "terminate": false }, "destination": null });
    let envelope = json!({ "body": revoke.to_string(), "properties": {} });
    let _: u64 = raw.publish("/0.celery.pidbox", envelope.to_string()).unwrap();
    eventually("it is not done", || said(&house, "remote control: `revoke` is not done") == 1);
    let _: () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "0"]).query(&mut raw).unwrap();

    works_soon(&house);
    it_was_said_once(&house);
}

#[test]
fn nothing_runs_twice_because_redis_stood_still() {
    let redis = RedisServer::start();
    let house = house(&redis.url());
    let ids = send(&house);

    redis.signal("STOP");
    is_red(&house, "did not answer within 900 ms");
    redis.signal("CONT");

    works_soon(&house);
    each_has_run_once(&[&house], &ids);
    it_was_said_once(&house);
}

#[test]
fn nothing_runs_twice_because_redis_stood_still_for_longer_than_a_lease() {
    let redis = RedisServer::start();
    let houses = [house(&redis.url()), house(&redis.url())];
    let held: Vec<String> = (0..4).map(|n| format!("held-{n}")).collect();
    for (n, id) in held.iter().enumerate() {
        houses[n % 2].post("/api/tasks/it.held", &json!({ "args": [n], "id": id }));
    }
    eventually("all are held", || runs(&[&houses[0], &houses[1]]).len() == held.len());
    let ids = send(&houses[0]);

    redis.signal("STOP");
    let stopped = Instant::now();
    houses.iter().for_each(|house| is_red(house, "did not answer within 900 ms"));
    eventually("it stands still for long", || {
        assert!(houses.iter().all(|house| house.get("/readyz").status == 503));
        stopped.elapsed() > LONG
    });
    redis.signal("CONT");

    works_soon(&houses[0]);
    for id in &held {
        assert_eq!(houses[1].post(&format!("/api/tasks/{id}/revoke"), &json!({})).json["state"], "STARTED");
    }
    each_has_run_once(&[&houses[0], &houses[1]], &held);
    each_has_run_once(&[&houses[0], &houses[1]], &ids);
    for house in &houses {
        assert_eq!(said(house, "the store cannot be used"), 1);
        assert_eq!(said(house, "can be used again, after"), 1);
    }
}

#[test]
fn nothing_runs_twice_because_the_network_was_silent() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port());
    let house = house(&proxy.url());
    let ids = send(&house);

    proxy.set(TO_SERVER, Way::Stalled);
    proxy.set(TO_CLIENT, Way::Stalled);
    is_red(&house, "did not answer within 900 ms");
    proxy.mend();

    works_soon(&house);
    each_has_run_once(&[&house], &ids);
    it_was_said_once(&house);
}

#[test]
fn a_redis_that_would_drop_tasks_is_warned_of() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);

    let house = house(&server.url());

    assert_eq!(said(&house, "set it to `noeviction`"), 1);
}
