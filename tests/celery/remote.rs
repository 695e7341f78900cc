//! umbel sends what a Python worker has, and reads its answers.

use std::process::Stdio;

use serde_json::json;

use crate::support::house::{Plan, eventually};
use crate::support::python::program;
use crate::support::redis_server::RedisServer;
use crate::support::running::Running;

#[test]
fn a_task_that_a_celery_worker_has_is_sent_unseen_and_its_result_comes_back() {
    let redis = RedisServer::start();
    let house = Plan::new()
        .script("ask.rhai", "fn total(a, b) { delay(\"reports.total\", [a, b]) }")
        .file("umbel.toml", "[routes]\n\"reports.*\" = { queue = \"python\", remote = true }\n")
        .file("schedules.toml", "[often]\ntask = \"reports.total\"\nschedule = \"1s\"\nargs = [20, 22]\n")
        .store(&redis.url())
        .start();
    let worker = program("tests/celery/worker.py", &[&redis.url(), "python"]).stdout(Stdio::null()).spawn().unwrap();
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
