//! The real Celery at the other end of the wire. `tests/run` installs it.

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::house::Plan;
use support::redis_server::RedisServer;

/// What a Python script of this folder prints, a JSON value a line.
fn python(script: &str, arguments: &[&str]) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    assert!(python.exists(), "no Celery here: `tests/run` installs it");
    let output = Command::new(python).arg(root.join("tests/celery").join(script)).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_celery_client_sends_tasks_and_gets_their_results() {
    let redis = RedisServer::start();
    let house = Plan::new()
        .shipped("tasks/math.rhai")
        .script(
            "it.rhai",
            "fn fail() { throw #{ exc_type: \"ValueError\", exc_module: \"builtins\", message: \"kaboom\" } }",
        )
        .store(&redis.url())
        .start();

    let said = python("client.py", &[&redis.url()]);

    assert_eq!(said[0]["sums"], json!((1..=20).collect::<Vec<_>>()));
    assert_eq!(said[1], json!({ "named": 3, "state": "SUCCESS" }));
    assert_eq!(said[2], json!({ "later": 7 }));
    assert_eq!(said[3], json!({ "low_priority": 11 }));
    assert_eq!(said[4], json!({ "error": "ValueError", "message": "kaboom" }));
    assert_eq!(said[5], json!({ "unknown": "NotRegistered" }));
    drop(house);
}
