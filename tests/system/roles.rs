//! One installation of several processes, each with its part.

use std::collections::BTreeSet;
use std::sync::Arc;

use redis::Commands;
use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually, umbel};
use crate::support::redis_server::RedisServer;

// One more process of the same folder, told by `arguments` what it is.
fn start(folder: &Arc<tempfile::TempDir>, redis: &RedisServer, arguments: &[&str]) -> House {
    Plan::in_folder(folder.clone()).store(&redis.url()).command(arguments).start()
}

fn names(workers: &Value) -> BTreeSet<String> {
    workers["workers"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_door_two_workers_and_two_beats_are_one_installation() {
    let redis = RedisServer::start();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let door = Plan::in_folder(folder.clone())
        .shipped("tasks/math.rhai")
        .script("it.rhai", "fn tick() { 1 }")
        .file("schedules.toml", "[often]\ntask = \"it.tick\"\nschedule = \"1s\"\n")
        .store(&redis.url())
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .start();

    let waiting = door.post("/api/tasks/math.add?wait=10ms", &json!({ "args": [10, 3] }));
    assert_eq!((waiting.status, &waiting.json["state"]), (202, &json!("QUEUED")), "nobody runs tasks yet");
    let nobody = names(&door.get("/api/workers").json);
    let workers = ["worker", "worker"].map(|role| start(&folder, &redis, &[role]));
    let sum = door.get(&format!("/api/tasks/{}?wait=60s", waiting.json["id"].as_str().unwrap()));
    let _beats = ["beat", "beat"].map(|role| start(&folder, &redis, &[role]));

    assert_eq!(nobody, BTreeSet::new());
    assert_eq!(sum.json["result"], 13, "{}", sum.json);
    assert_eq!(workers.each_ref().map(|worker| worker.address.as_str()), ["", ""], "a worker listens only when told");
    eventually("both workers are known", || {
        let known = names(&door.get("/api/workers").json);
        known.len() == 2
            && workers.iter().all(|one| known.iter().any(|name| name.starts_with(&format!("umbel-{}@", one.pid()))))
    });
    eventually("the timetable is kept", || {
        let runs = door.get("/api/tasks?name=it.tick").json;
        runs["tasks"].as_array().unwrap().iter().filter(|run| run["state"] == "SUCCESS").count() >= 3
    });
    let entry = &door.get("/api/schedules").json["entries"][0];
    assert_eq!((&entry["name"], &entry["task"]), (&json!("often"), &json!("it.tick")));
}

#[test]
fn a_worker_may_be_given_its_queues() {
    let redis = RedisServer::start();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let worker = Plan::in_folder(folder.clone())
        .script("it.rhai", "task(\"slow\", #{ queue: \"io\" });\nfn slow() { 1 }\nfn usual() { 2 }")
        .store(&redis.url())
        .command(&["worker", "-Q", "io,mail", "--listen", "127.0.0.1:0"])
        .start();

    let usual = worker.post("/api/tasks/it.usual", &json!({})).json["id"].as_str().unwrap().to_owned();
    let slow = worker.post("/api/tasks/it.slow?wait=60s", &json!({}));
    let queues = &worker.get("/api/workers").json["workers"][0]["queues"];

    assert_eq!(slow.json["result"], 1, "{}", slow.json);
    assert_eq!(queues, &json!(["io", "mail"]));
    let path = format!("/api/tasks/{usual}");
    assert_eq!(worker.get(&path).json["state"], "QUEUED");
    let _other = start(&folder, &redis, &["worker"]);
    assert_eq!(worker.get(&format!("{path}?wait=60s")).json["result"], 2);
}

#[test]
fn what_another_process_has_just_claimed_is_not_revoked_as_unknown() {
    let redis = RedisServer::start();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let door = Plan::in_folder(folder.clone())
        .script("it.rhai", "fn wait() { loop { sleep(0.01) } }")
        .store(&redis.url())
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .start();
    let _worker = start(&folder, &redis, &["worker"]);
    let mut raw = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    // As another program sends it, so that the store knows it by its claim alone.
    let headers = json!({ "id": "theirs", "task": "it.wait" });
    let message = json!({ "body": "[[], {}, {}]", "headers": headers, "properties": {} });
    let _: u64 = raw.lpush("celery", message.to_string()).unwrap();
    eventually("it is claimed", || raw.hlen::<_, u64>("umbel:claims").unwrap() == 1);

    let told = door.post("/api/tasks/theirs/revoke", &json!({}));
    let stopped = door.post("/api/tasks/theirs/revoke", &json!({ "terminate": true }));

    assert_eq!(told.json, json!({ "id": "theirs", "state": "STARTED", "terminate": false }));
    assert_eq!(stopped.json, json!({ "id": "theirs", "state": "STARTED", "terminate": true }));
    assert_eq!(door.get("/api/tasks/theirs?wait=60s").json["state"], "REVOKED");
}

#[test]
fn a_part_is_refused_a_store_that_it_would_have_alone() {
    let folder = tempfile::tempdir().unwrap();
    for role in ["serve", "worker", "beat"] {
        let output = umbel(folder.path()).arg(role).output().unwrap();

        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in [role, "sqlite:data/umbel.db", "--store redis://HOST:PORT/DB", "`umbel up`"] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }
}
