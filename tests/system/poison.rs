//! A task that kills its process: it does not take the next ones down for ever, nor its neighbours with it.

use redis::Commands;
use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};
use crate::support::redis_server::RedisServer;

// Neither of them ends in the first two processes.
const SCRIPT: &str = r#"
fn killer() { warn("the killer runs"); while true { sleep(0.01); } }
fn neighbour() {
    if kv::incr("neighbour") > 2 { return "survived"; }
    warn("the neighbour runs");
    while true { sleep(0.01); }
}
"#;

fn says(house: &House, text: &str) {
    eventually(text, || house.log_lines().iter().any(|line| line.contains(text)));
}

fn send(house: &House, task: &str) -> String {
    let sent = house.post(&format!("/api/tasks/{task}"), &json!({}));
    format!("/api/tasks/{}", sent.json["id"].as_str().unwrap_or_else(|| panic!("{}", sent.json)))
}

// `began` waits until the store has written down that so many tasks have begun.
fn kill_three_times(plan: Plan, began: impl Fn(usize)) {
    let mut house = plan.script("it.rhai", SCRIPT).setting("UMBEL_SLOTS", "4").start();
    let killer = send(&house, "it.killer");
    let neighbour = send(&house, "it.neighbour");
    for _ in 0..2 {
        says(&house, "the killer runs");
        says(&house, "the neighbour runs");
        began(2);
        house = house.kill().start_again();
    }
    says(&house, "so it runs alone");
    says(&house, "the killer runs");
    began(1);

    let house = house.kill().start_again();

    let mut run = Value::Null;
    eventually("it is not tried again", || {
        run = house.get(&killer).json;
        run["state"] == "FAILURE"
    });
    let said = run["error"]["exc_message"].as_str().unwrap();
    assert!(said.contains("poisoned"), "{said}");
    eventually("the neighbour ends", || house.get(&neighbour).json["result"] == "survived");
    says(&house, "poisoned");
    assert!(!house.log_lines().iter().any(|line| line.contains("the killer runs")), "it ran a fourth time");
}

#[test]
fn a_task_that_kills_its_process_is_poisoned_alone_on_sqlite() {
    kill_three_times(Plan::new(), |_| {});
}

#[test]
fn a_task_that_kills_its_process_is_poisoned_alone_on_redis() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();

    kill_three_times(Plan::new().store(&server.url()), |tasks| {
        let mut raw = client.get_connection().unwrap();
        eventually("the beginnings are written down", || raw.hlen::<_, usize>("umbel:begun").unwrap() == tasks);
    });
}
