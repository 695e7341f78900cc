//! What is left of the work when the program dies or is asked to stop.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};
use crate::support::redis_server::RedisServer;

// Eight tasks hold all slots until the gate opens; the thousand behind them wait.
const SCRIPT: &str = r#"
task("once", #{ acks_late: false });
fn once() { held(0) }
fn held(n) { info("held begins"); while kv::get("gate") != true { sleep(0.01); } n }
fn queued(n) { n }
fn open() { kv::set("gate", true) }
"#;

const SLOTS: usize = 8;
const QUEUED: usize = 1_000;
/// How soon what a process held when it died runs on another one.
const ELSEWHERE: Duration = Duration::from_secs(30);

fn plan() -> Plan {
    Plan::new().script("it.rhai", SCRIPT).setting("UMBEL_SLOTS", &SLOTS.to_string())
}

fn send(house: &House, tasks: impl Iterator<Item = Value>) -> Vec<String> {
    let batch: Vec<Value> = tasks.collect();
    let sent = house.post("/api/tasks", &json!(batch));
    assert_eq!(sent.status, 202, "{}", sent.json);
    sent.json.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

// Returns all ids, with the first eight running and nothing else begun.
fn fill(house: &House) -> Vec<String> {
    let mut ids = send(house, (0..SLOTS).map(|n| json!({ "task": "it.held", "args": [n] })));
    eventually("eight run", || {
        let running = house.get("/api/tasks?state=STARTED&name=it.held").json;
        running["tasks"].as_array().unwrap().len() == SLOTS
    });
    ids.extend(send(house, (0..QUEUED).map(|n| json!({ "task": "it.queued", "args": [n] }))));
    ids
}

fn all_end_well(house: &House, ids: &[String]) {
    send(house, [json!({ "task": "it.open" })].into_iter());
    let mut open: BTreeSet<&String> = ids.iter().collect();
    eventually("all have ended", || {
        open.retain(|id| house.get(&format!("/api/tasks/{id}")).json["state"] != "SUCCESS");
        open.is_empty()
    });
}

fn kill_and_recover(plan: Plan) {
    let house = plan.setting("UMBEL_SLOTS", "9").start();
    let once = send(&house, [json!({ "task": "it.once" })].into_iter());
    let once = format!("/api/tasks/{}", once[0]);
    eventually("it runs", || house.get(&once).json["state"] == "STARTED");
    let ids = fill(&house);

    // With room for the task that opens the gate.
    let house = house.kill().setting("UMBEL_SLOTS", "10").start_again();

    all_end_well(&house, &ids);
    eventually("what may run once is a failure", || house.get(&once).json["state"] == "FAILURE");
}

#[test]
fn kill_9_loses_nothing_on_sqlite() {
    kill_and_recover(plan());
}

#[test]
fn kill_9_loses_nothing_on_redis() {
    let redis = RedisServer::start();

    kill_and_recover(plan().store(&redis.url()));
}

#[test]
fn what_the_dead_held_runs_on_another_process_within_30_seconds() {
    let redis = RedisServer::start();
    // The first has room for the eight that run, the second for those and the task that opens the gate.
    let plan = || plan().store(&redis.url()).setting("RUST_LOG", "umbel=debug");
    let dies = plan().start();
    let ids = fill(&dies);
    let lives = plan().setting("UMBEL_SLOTS", "16").start();
    let begun = |house: &House| house.log_lines().iter().filter(|line| line.contains("held begins")).count();
    let before = begun(&dies);

    dies.kill();
    let killed = Instant::now();

    eventually("they run elsewhere", || begun(&lives) == SLOTS);
    assert!(killed.elapsed() < ELSEWHERE, "after {:?}", killed.elapsed());
    assert_eq!(before, SLOTS);
    all_end_well(&lives, &ids);
}

#[test]
fn a_stopped_umbel_lets_running_tasks_end() {
    let house = Plan::new().script("it.rhai", "fn nap() { info(\"napping\"); sleep(0.5); 7 }").start();
    let sent = house.post("/api/tasks/it.nap", &json!({}));
    let path = format!("/api/tasks/{}", sent.json["id"].as_str().unwrap());
    eventually("it runs", || house.get(&path).json["state"] == "STARTED");

    let folder = house.folder.clone();
    let status = house.stop();

    assert!(status.success(), "{status}");
    let house = Plan::in_folder(folder).start();
    assert_eq!(house.get(&path).json["result"], 7);
}

#[test]
fn what_does_not_end_within_the_grace_is_put_back_and_runs_again() {
    let house = plan().setting("UMBEL_GRACE", "100ms").start();
    let ids = fill(&house);

    let folder = house.folder.clone();
    house.stop();

    let house = Plan::in_folder(folder).setting("UMBEL_SLOTS", "9").start();
    all_end_well(&house, &ids);
    let retries: Vec<Value> =
        ids.iter().map(|id| house.get(&format!("/api/tasks/{id}")).json["retries"].clone()).collect();
    assert!(retries.iter().all(|retries| retries == 0), "being put back is no attempt");
}

#[test]
fn a_second_umbel_on_the_same_folder_is_refused_by_naming_the_first() {
    let house = Plan::new().shipped("tasks/math.rhai").start();

    let second =
        crate::support::house::umbel(house.folder.path()).args(["up", "--listen", "127.0.0.1:0"]).output().unwrap();

    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    for part in [house.pid().to_string(), house.address.clone()] {
        assert!(said.contains(&part), "{part} is not in: {said}");
    }
}
