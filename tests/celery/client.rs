//! Every way in which a Celery client sends a task, and what it hears of it.

use serde_json::{Map, json};

use crate::support::house::Plan;
use crate::support::python::python;
use crate::support::redis_server::RedisServer;

const SCRIPT: &str = r#"fn fail() { throw #{ exc_type: "ValueError", exc_module: "builtins", message: "kaboom" } }
task("slow", #{ queue: "io" });
fn slow(n) { n }
fn endless() { loop {} }
fn soft() { try { loop { sleep(0.01); } } catch { return "caught"; } }
fn waits() { 1 }
fn echo(value) { value }
task("retried", #{ autoretry: true, retry_backoff: 0.05 });
fn retried() { if task::retries() < 2 { throw "not yet" } task::retries() }
"#;

#[test]
fn a_celery_client_sends_in_every_way_and_hears_what_came_of_it() {
    let redis = RedisServer::start();
    let _house = Plan::new()
        .shipped("tasks/math.rhai")
        .script("it.rhai", SCRIPT)
        .store(&redis.url())
        .command(&["worker"])
        .start();

    let lines = python("tests/celery/client.py", &[&redis.url()]);

    let mut said = Map::new();
    for (fact, value) in lines.iter().flat_map(|line| line.as_object().unwrap().clone()) {
        assert!(said.insert(fact.clone(), value).is_none(), "`{fact}` is said twice");
    }
    assert_eq!(said["sums"], json!((1..=20).collect::<Vec<_>>()));
    for (fact, value) in [
        ("delayed", json!(42)),
        ("by_name", json!(3)),
        ("group", json!([0, 2, 4, 6, 8])),
        ("set", json!([2, 3, 4])),
        ("done_state", json!("SUCCESS")),
        ("ready", json!(true)),
        ("successful", json!(true)),
        ("has_failed", json!(false)),
        ("parent", json!(null)),
        ("countdown", json!(7)),
        ("early", json!("PENDING")),
        ("countdown_waited", json!(true)),
        ("eta", json!(11)),
        ("eta_waited", json!(true)),
        ("elsewhere", json!(12)),
        ("expired_state", json!("REVOKED")),
        ("unexpired", json!(2)),
        ("priorities", json!([0, 1, 3, 5, 6, 9, 255])),
        ("queue", json!(1)),
        ("task_id", json!(3)),
        ("id_kept", json!(3)),
        ("ignored", json!("PENDING")),
        ("softly", json!("caught")),
        ("failed_state", json!("FAILURE")),
        ("quietly", json!("kaboom")),
        ("traceback", json!(true)),
        ("retried", json!(2)),
        ("retried_state", json!("SUCCESS")),
        ("compressed", json!(5)),
        ("stamped", json!(9)),
        ("echo", json!({ "text": "안녕 🌱", "list": [1, 2.5, null, true], "deep": { "a": [{}] } })),
        ("revoked_state", json!("REVOKED")),
        ("forgotten", json!("PENDING")),
    ] {
        assert_eq!(said[fact], value, "{fact}");
    }
    for (fact, class, module) in [
        ("failed", "ValueError", "builtins"),
        ("unknown", "NotRegistered", "celery.exceptions"),
        ("wrong", "TypeError", "builtins"),
        ("expired", "TaskRevokedError", "celery.exceptions"),
        ("revoked", "TaskRevokedError", "celery.exceptions"),
        ("limited", "TimeLimitExceeded", "billiard.exceptions"),
        ("unpickled", "ContentDisallowed", "kombu.exceptions"),
    ] {
        assert_eq!((&said[fact]["type"], &said[fact]["module"]), (&json!(class), &json!(module)), "{fact}");
    }
    assert_eq!(said["failed"]["args"], json!(["kaboom"]));
}
