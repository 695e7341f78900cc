//! Tasks over HTTP, from their sending to their end.

use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};

fn math() -> House {
    Plan::new().shipped("tasks/math.rhai").start()
}

fn script(source: &str) -> House {
    Plan::new().script("it.rhai", source).start()
}

#[test]
fn a_waiting_client_gets_the_value() {
    let house = math();

    let answer = house.post("/api/tasks/math.add?wait=5s", &json!({ "args": [10, 3] }));

    assert_eq!((answer.status, &answer.json["result"]), (200, &json!(13)));
}

#[test]
fn arguments_come_by_name_too() {
    let house = math();

    let answer = house.post("/api/tasks/math.add?wait=5s", &json!({ "args": [10], "kwargs": { "y": 3 } }));

    assert_eq!(answer.json["result"], 13);
}

#[test]
fn what_is_sent_is_known_at_once_and_kept_afterwards() {
    let house = math();

    let sent = house.post("/api/tasks/math.add", &json!({ "args": [1, 2] }));
    let location = sent.headers["location"].to_str().unwrap().to_owned();
    let run = house.get(&format!("{location}?wait=5s")).json;

    assert_eq!((sent.status, &sent.json["state"]), (202, &json!("QUEUED")));
    assert_eq!((&run["state"], &run["result"], &run["task"]), (&json!("SUCCESS"), &json!(3), &json!("math.add")));
    for field in ["queued_at", "started_at", "finished_at", "worker", "code"] {
        assert!(run[field].is_string(), "{field} in {run}");
    }
}

#[test]
fn many_are_sent_at_once_and_answered_in_order() {
    let house = math();
    let batch: Vec<Value> = (0..500).map(|n| json!({ "task": "math.add", "args": [n, 1] })).collect();

    let sent = house.post("/api/tasks", &json!(batch));

    assert_eq!(sent.status, 202);
    for (n, submitted) in sent.json.as_array().unwrap().iter().enumerate() {
        let run = house.get(&format!("/api/tasks/{}?wait=10s", submitted["id"].as_str().unwrap())).json;
        assert_eq!(run["result"], n + 1);
    }
}

#[test]
fn a_failure_tells_where_and_why() {
    let house = script("fn outer(n) {\n    inner(n)\n}\n\nfn inner(n) {\n    throw \"no such \" + n;\n}\n");

    let run = house.post("/api/tasks/it.outer?wait=5s", &json!({ "args": ["luck"] })).json;

    assert_eq!((&run["state"], &run["error"]["exc_message"]), (&json!("FAILURE"), &json!("no such luck")));
    let traceback = run["error"]["traceback"].as_str().unwrap();
    for part in ["tasks/it.rhai:6:5", "inner", "outer", "throw \"no such \" + n;"] {
        assert!(traceback.contains(part), "{part} is not in:\n{traceback}");
    }
}

#[test]
fn a_retry_runs_again_under_the_same_id() {
    let house = script(
        "task(\"flaky\", #{ max_retries: 5 });\n\
         fn flaky() { if task::retries() < 2 { task::retry(#{ countdown: 0.01 }); } `done after ${task::retries()}` }",
    );

    let run = house.post("/api/tasks/it.flaky?wait=10s", &json!({})).json;

    assert_eq!(
        (&run["state"], &run["result"], &run["retries"]),
        (&json!("SUCCESS"), &json!("done after 2"), &json!(2))
    );
}

#[test]
fn automatic_retries_end_with_the_failure() {
    let house = script(
        "task(\"bad\", #{ autoretry: true, max_retries: 2, retry_backoff: 0.01, retry_jitter: false });\n\
         fn bad() { kv::incr(\"tries\"); throw \"always\" }\n\
         fn tries() { kv::get(\"tries\") }",
    );

    let run = house.post("/api/tasks/it.bad?wait=10s", &json!({})).json;
    let tries = house.post("/api/tasks/it.tries?wait=5s", &json!({})).json;

    assert_eq!((&run["state"], &run["error"]["exc_message"]), (&json!("FAILURE"), &json!("always")));
    assert_eq!(tries["result"], 3);
}

#[test]
fn a_delayed_task_waits_in_the_store_and_then_runs() {
    let house = math();

    let sent = house.post("/api/tasks/math.add", &json!({ "args": [1, 1], "countdown": 0.3 }));
    let run = house.get(&format!("/api/tasks/{}?wait=10s", sent.json["id"].as_str().unwrap())).json;

    assert_eq!(sent.json["state"], "SCHEDULED");
    assert_eq!(run["result"], 2);
    assert!(run["started_at"].as_str() >= run["eta"].as_str(), "{run}");
}

#[test]
fn an_expired_task_never_runs() {
    let house = script("fn leave() { kv::set(\"ran\", true) }\nfn ran() { kv::get(\"ran\") }");

    let late = house.post("/api/tasks/it.leave?wait=5s", &json!({ "countdown": 0.2, "expires": 0.1 })).json;
    let ran = house.post("/api/tasks/it.ran?wait=5s", &json!({})).json;

    assert_eq!((&late["state"], &late["error"]["exc_message"]), (&json!("REVOKED"), &json!("expired")));
    assert_eq!(ran.get("result").unwrap_or(&Value::Null), &Value::Null);
}

#[test]
fn a_revoked_task_never_starts() {
    let house = math();
    let sent = house.post("/api/tasks/math.add", &json!({ "args": [1, 1], "countdown": 3600 }));
    let path = format!("/api/tasks/{}", sent.json["id"].as_str().unwrap());

    let revoked = house.post(&format!("{path}/revoke"), &json!({}));

    assert_eq!(revoked.status / 100, 2, "{}", revoked.json);
    assert_eq!(house.get(&path).json["state"], "REVOKED");
}

#[test]
fn a_running_task_is_terminated() {
    let house = script("fn forever() { kv::set(\"runs\", true); loop { } }\nfn runs() { kv::get(\"runs\") }");
    let sent = house.post("/api/tasks/it.forever", &json!({}));
    let path = format!("/api/tasks/{}", sent.json["id"].as_str().unwrap());
    eventually("it runs", || house.post("/api/tasks/it.runs?wait=5s", &json!({})).json["result"] == true);

    house.post(&format!("{path}/revoke"), &json!({ "terminate": true }));

    assert_eq!(house.get(&format!("{path}?wait=10s")).json["state"], "REVOKED");
}

#[test]
fn a_running_task_that_is_only_revoked_may_end_as_it_likes() {
    let house = script("fn tidy() { while !task::is_revoked() { sleep(0.01); } info(\"tidied\"); 7 }");
    let sent = house.post("/api/tasks/it.tidy", &json!({}));
    let path = format!("/api/tasks/{}", sent.json["id"].as_str().unwrap());
    eventually("it runs", || house.get(&path).json["state"] == "STARTED");

    house.post(&format!("{path}/revoke"), &json!({}));

    let run = house.get(&format!("{path}?wait=10s")).json;
    assert_eq!((&run["result"], &run["log"][0]["text"]), (&json!(7), &json!("tidied")));
}

#[test]
fn a_task_over_its_time_is_a_failure_and_the_next_one_runs() {
    let house = script(
        "task(\"slow\", #{ time_limit: \"50ms\" });\nfn slow() { [1, 2].map(|n| { loop { } }) }\nfn quick() { 1 }",
    );

    let slow = house.post("/api/tasks/it.slow?wait=10s", &json!({})).json;
    let quick = house.post("/api/tasks/it.quick?wait=5s", &json!({})).json;

    assert_eq!((&slow["state"], &slow["error"]["exc_type"]), (&json!("FAILURE"), &json!("TimeLimitExceeded")));
    assert_eq!(quick["result"], 1);
}

#[test]
fn a_task_sends_others_and_its_log_and_progress_are_kept() {
    let house = script(
        "fn parent() { info(\"sending\"); task::progress(1, 2); delay(\"it.child\", [20]) }\nfn child(n) { n + 1 }",
    );

    let parent = house.post("/api/tasks/it.parent?wait=5s", &json!({})).json;
    let child = house.get(&format!("/api/tasks/{}?wait=5s", parent["result"].as_str().unwrap())).json;

    assert_eq!((&child["result"], &child["parent_id"]), (&json!(21), &parent["id"]));
    assert_eq!(parent["children"], json!([child["id"]]));
    assert_eq!((&parent["log"][0]["text"], &parent["log"][0]["level"]), (&json!("sending"), &json!("info")));
}

#[test]
fn history_is_newest_first_and_can_be_narrowed() {
    let house = math();
    for n in 0..3 {
        house.post("/api/tasks/math.add?wait=5s", &json!({ "args": [n, 0] }));
    }
    house.post("/api/tasks/math.xsum?wait=5s", &json!({ "args": [[1, 2, 3]] }));

    let all = house.get("/api/tasks?limit=2").json;
    let adds = house.get("/api/tasks?name=math.add&state=SUCCESS").json;

    let tasks: Vec<_> = all["tasks"].as_array().unwrap().iter().map(|run| run["task"].clone()).collect();
    assert_eq!(tasks, ["math.xsum", "math.add"]);
    let results: Vec<_> = adds["tasks"].as_array().unwrap().iter().map(|run| run["result"].clone()).collect();
    assert_eq!(results, [2, 1, 0]);
}

#[test]
fn a_wrong_name_or_argument_is_refused_where_it_was_sent() {
    let house = math();

    let unknown = house.post("/api/tasks/math.ad", &json!({ "args": [1, 2] }));
    let missing = house.post("/api/tasks/math.add", &json!({ "args": [1] }));

    assert_eq!(unknown.status, 404);
    assert!(unknown.json["detail"].as_str().unwrap().contains("math.add"), "{}", unknown.json);
    assert_eq!((missing.status, &missing.json["parameter"]), (422, &json!("y")));
}

#[test]
fn a_panic_in_native_code_is_one_failure_and_one_line_of_the_log() {
    let house = script("fn muddle() { let a = []; a.pad(5000, 1); a.sort(|x, y| rand(-1, 1)); a.len() }");

    let answer = house.post("/api/tasks/it.muddle?wait=10s", &json!({}));

    assert_eq!(answer.json["state"], "FAILURE", "{}", answer.json);
    let lines = house.log_lines();
    let panic = lines.iter().find(|line| line.contains("native code panicked at ")).expect("it is said");
    assert_eq!(serde_json::from_str::<Value>(panic).unwrap()["level"], "ERROR");
    assert!(lines.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines:#?}");
}
