//! What follows a task, what is seen of it while it runs, and how its failure is rebuilt: by the real Celery.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};
use crate::support::python::{program, python};
use crate::support::redis_server::RedisServer;
use crate::support::running::Running;

const SCRIPT: &str = r#"
    task("other", #{ queue: "elsewhere" });
    task("tracked", #{ track_started: true });
    fn add(x, y) { x + y }
    fn mul(x, y) { x * y }
    fn other() { }
    fn note(id) { id }
    fn fail() { throw #{ exc_type: "ValueError", exc_module: "builtins", message: "kaboom" } }
    fn slow() { sleep(60) }
    fn open(gate) { kv::set(gate, true) }
    private fn wait(gate) { while kv::get(gate) == () { sleep(0.01) } }
    fn tracked() { wait("tracked"); task::id() }
    fn reports() {
        task::progress(1, 3);
        wait("first");
        for done in 0..1000 { task::progress(done, 1000) }
        task::progress(2, 3, "reading");
        wait("second");
        "done"
    }
    fn again() { task::retry(#{ countdown: 3600, reason: "busy" }) }
    fn throws(exc_type, exc_module, message) { throw #{ exc_type: exc_type, exc_module: exc_module, message: message } }
    fn zero() { 1 / 0 }
    fn index() { [1][5] }
    fn property() { 5.size }
    fn deep() { deep() }
    fn large() { let t = "x"; t.pad(1000000000, 'x'); t }
    fn called() { nobody() }
"#;

fn open(redis: &RedisServer) -> House {
    Plan::new()
        .script("it.rhai", SCRIPT)
        .file("umbel.toml", "[routes]\n\"reports.*\" = { queue = \"python\", remote = true }\n")
        .store(&redis.url())
        .start()
}

fn beside(redis: &RedisServer) -> Running {
    let mut worker = program("tests/celery/follow_ups_worker.py", &[&redis.url()]);
    Running(worker.stdout(Stdio::null()).spawn().unwrap())
}

fn client(redis: &RedisServer, what: &str) -> Value {
    let said = python("tests/celery/follow_ups.py", &[&redis.url(), what]);
    said.into_iter().fold(json!({}), |mut all, line| {
        all.as_object_mut().unwrap().extend(line.as_object().unwrap().clone());
        all
    })
}

#[test]
fn callbacks_follow_to_umbel_and_to_python() {
    let redis = RedisServer::start();
    let _house = open(&redis);
    let _worker = beside(&redis);

    let said = client(&redis, "link");

    assert_eq!((&said["value"], &said["linked"]), (&json!(3), &json!(30)));
    assert_eq!((&said["children"], &said["graph"]), (&json!(["to-umbel"]), &json!([3, 30])));
    assert_eq!(said["python"], 14);
    assert_eq!((&said["middle"], &said["last"]), (&json!(30), &json!(130)));
    assert_eq!((&said["fixed"], &said["moved"]), (&json!(11), &json!(6)));
    assert_eq!((&said["after_ignored"], &said["ignored"]), (&json!(9), &json!("PENDING")));
    assert_eq!(said["back"], 42);
    assert_eq!(said["stamped"], json!({ "headers": ["tenant"], "stamps": { "tenant": "acme" } }));
}

#[test]
fn errbacks_follow_a_failure() {
    let redis = RedisServer::start();
    let _house = open(&redis);
    let _worker = beside(&redis);

    let said = client(&redis, "link_error");

    assert_eq!((&said["ours"], &said["theirs"], &said["fixed"]), (&json!(true), &json!(true), &json!("fixed")));
    assert_eq!((&said["never"], &said["state"]), (&json!("PENDING"), &json!("FAILURE")));
    assert_eq!((&said["late"], &said["chain"]), (&json!(true), &json!("NotImplementedError")));
}

#[test]
fn a_client_sees_the_states_of_a_task() {
    let redis = RedisServer::start();
    let house = open(&redis);

    let said = client(&redis, "states");

    assert_eq!(said["tracked"]["pid"], house.pid());
    assert!(said["tracked"]["hostname"].as_str().unwrap().contains('@'), "{said}");
    assert_eq!(said["state"], "SUCCESS");
    assert_eq!(said["first"], json!({ "current": 1, "total": 3 }));
    assert_eq!(said["noted"], json!({ "current": 2, "total": 3, "description": "reading" }));
    assert_eq!(said["reports"], "done");
    assert_eq!((&said["retry"], &said["message"]), (&json!("Retry"), &json!("busy")));
    assert_eq!((&said["expired"], &said["ends"]), (&json!("TaskRevokedError"), &json!("REVOKED")));
    assert_eq!((&said["failed"], &said["done"]), (&json!("done"), &json!(5)));
}

#[test]
fn the_progress_of_a_python_worker_is_seen_here() {
    let redis = RedisServer::start();
    let house = open(&redis);
    let _worker = beside(&redis);
    let sent = house.post("/api/tasks/reports.long", &json!({})).json;
    let task = format!("/api/tasks/{}", sent["id"].as_str().unwrap());

    eventually("it runs in Python", || house.get(&task).json["state"] == "STARTED");
    let running = house.get(&task).json;
    let mut raw = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    redis::cmd("SET").arg("go").arg(1).exec(&mut raw).unwrap();
    let ended = house.get(&format!("{task}?wait=60s")).json;

    assert_eq!(running["progress"], json!({ "done": 1.0, "total": 4.0, "note": "reading" }), "{running}");
    assert_eq!((&ended["state"], &ended["result"]), (&json!("SUCCESS"), &json!("done")));
}

#[test]
fn failures_are_rebuilt_as_exceptions() {
    let redis = RedisServer::start();
    let house = open(&redis);

    let said = python("tests/celery/follow_ups.py", &[&redis.url(), "exceptions"]);

    let thrown =
        |kind: &str, args: Value, known: bool| json!({ "type": kind, "args": args, "known": known, "traceback": true });
    assert_eq!(said[0], thrown("ValueError", json!(["kaboom"]), true));
    assert_eq!(said[1], thrown("KeyError", json!(["k"]), true));
    assert_eq!(said[2], thrown("Refused", json!(["no"]), false));
    assert_eq!(said[3], thrown("Custom", json!(["a", 1, { "k": "v" }]), true));
    let built: Vec<(&str, &str)> =
        said[4..11].iter().map(|line| (line["type"].as_str().unwrap(), line["module"].as_str().unwrap())).collect();
    assert_eq!(
        built,
        [
            ("NameError", "builtins"),
            ("ZeroDivisionError", "builtins"),
            ("IndexError", "builtins"),
            ("AttributeError", "builtins"),
            ("RecursionError", "builtins"),
            ("MemoryError", "builtins"),
            ("NotRegistered", "celery.exceptions"),
        ]
    );
    assert_eq!(
        said[11],
        json!({ "soft": "SoftTimeLimitExceeded", "hard": "TimeLimitExceeded", "module": "billiard.exceptions" })
    );
    assert_eq!(said[12], json!({ "wrong": "TypeError" }));
    eventually("the log names it as its sender wants", || {
        house.log_lines().iter().any(|line| line.contains("pretty.name["))
    });
}
