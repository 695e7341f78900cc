//! The real Celery at the other end of the wire. `tests/run` installs it.

#[path = "../support/mod.rs"]
mod support;

mod control;

use std::process::{Child, Stdio};

use serde_json::json;
use support::house::{Plan, eventually};
use support::python::{program, python};
use support::redis_server::RedisServer;

/// A Python script that runs until the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_task_that_a_celery_worker_has_is_sent_unseen_and_its_result_comes_back() {
    let redis = RedisServer::start();
    let house = Plan::new()
        .script("ask.rhai", "fn total(a, b) { delay(\"reports.total\", [a, b]) }")
        .file("umbel.toml", "[routes]\n\"reports.*\" = { queue = \"python\", remote = true }\n")
        .file("schedules.toml", "[often]\ntask = \"reports.total\"\nschedule = \"1s\"\nargs = [20, 22]\n")
        .store(&redis.url())
        .start();
    let worker = program("tests/celery/worker.py", &[&redis.url()]).stdout(Stdio::null()).spawn().unwrap();
    let _worker = Running(worker);

    let sent = house.post("/api/tasks/reports.total?wait=60s", &json!({ "args": [1, 2], "kwargs": { "factor": 10 } }));
    let child = house.post("/api/tasks/ask.total?wait=60s", &json!({ "args": [3, 4] })).json["result"].clone();
    let delayed = house.get(&format!("/api/tasks/{}?wait=60s", child.as_str().unwrap()));
    let failed = house.post("/api/tasks/reports.broken?wait=60s", &json!({}));
    let unknown = house.post("/api/tasks/report.total", &json!({}));

    assert_eq!((sent.status, &sent.json["state"]), (200, &json!("SUCCESS")), "{}", sent.json);
    assert_eq!(sent.json["result"], json!({ "total": 30, "by": "python" }));
    assert_eq!(sent.json["queue"], "python");
    assert_eq!((delayed.status, &delayed.json["result"]["total"]), (200, &json!(7)), "{}", delayed.json);
    assert_eq!((failed.status, &failed.json["state"]), (200, &json!("FAILURE")), "{}", failed.json);
    assert_eq!(
        (&failed.json["error"]["exc_type"], &failed.json["error"]["exc_message"]),
        (&json!("ValueError"), &json!("kaboom"))
    );
    assert_eq!(unknown.status, 404, "{}", unknown.json);
    eventually("beat has sent it too", || {
        house.get("/api/tasks?name=reports.total").json["tasks"].as_array().unwrap().iter().any(|run| {
            house.get(&format!("/api/tasks/{}?wait=60s", run["id"].as_str().unwrap())).json["result"]["total"] == 42
        })
    });
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

    let said = python("tests/celery/client.py", &[&redis.url()]);

    assert_eq!(said[0]["sums"], json!((1..=20).collect::<Vec<_>>()));
    assert_eq!(said[1], json!({ "named": 3, "state": "SUCCESS" }));
    assert_eq!(said[2], json!({ "later": 7 }));
    assert_eq!(said[3], json!({ "low_priority": 11 }));
    assert_eq!(said[4], json!({ "error": "ValueError", "message": "kaboom" }));
    assert_eq!(said[5], json!({ "unknown": "NotRegistered" }));
    drop(house);
}
