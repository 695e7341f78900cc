//! Remote control: the real Celery client asks umbel's workers and tells them things.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};
use crate::support::python::{program, python};
use crate::support::redis_server::RedisServer;
use crate::support::running::Running;

const SCRIPT: &str = r#"
task("quick", #{ max_retries: 7 });
fn quick() { 1 }

/// Runs until its gate is open.
fn wait(gate, patience) { while kv::get(gate) == () { sleep(0.01); } "opened" }

fn open(gate) { kv::set(gate, true); }
"#;

fn plan(redis: &RedisServer) -> Plan {
    Plan::new().script("it.rhai", SCRIPT).store(&redis.url())
}

/// What the house is called where Celery's workers have names.
fn name(house: &House) -> String {
    format!("umbel-{}@{}", house.pid(), gethostname::gethostname().to_string_lossy())
}

/// What the client says that does `what`.
fn client(redis: &RedisServer, prefix: &str, what: &str, names: &[&str]) -> Vec<Value> {
    let url = redis.url();
    python("tests/celery/control.py", &[&[url.as_str(), prefix, what][..], names].concat())
}

#[test]
fn a_client_asks_what_workers_do() {
    let redis = RedisServer::start();
    let houses = [plan(&redis).start(), plan(&redis).start()];
    let [first, second] = [name(&houses[0]), name(&houses[1])];

    let said = client(&redis, "", "asks", &[&first, &second]);

    let of_both = |value: Value| json!({ &first: value, &second: value });
    assert_eq!(said[0], json!({ "ping": of_both(json!({ "ok": "pong" })), "one": { &second: { "ok": "pong" } } }));
    let worker = said[1]["worker"].as_str().unwrap();
    let pid = if worker == first { houses[0].pid() } else { houses[1].pid() };
    let mut active = said[1]["active"][0].clone();
    assert!(active["time_start"].as_f64().unwrap() > 1.7e9, "{active}");
    assert_eq!(said[2]["query"], json!(["active", active]));
    active["time_start"].take();
    assert_eq!(
        active,
        json!({
            "id": active["id"], "name": "it.wait", "args": ["asked"], "kwargs": { "patience": 60 }, "type": "it.wait",
            "hostname": worker, "time_start": null, "acknowledged": false, "worker_pid": pid,
            "delivery_info": { "exchange": "", "routing_key": "celery", "priority": 0, "redelivered": false },
        })
    );
    assert_eq!(said[1]["safe"][0]["args"], r#"["asked"]"#);
    let nothing = of_both(json!([]));
    assert_eq!(said[3], json!({ "reserved": nothing, "scheduled": nothing, "revoked": nothing }));
    let tasks = of_both(json!(["it.open", "it.quick", "it.wait"]));
    let with = ["it.open [max_retries=3]", "it.quick [max_retries=7]", "it.wait [max_retries=3]"];
    assert_eq!(said[4], json!({ "registered": tasks, "with": of_both(json!(with)) }));
    assert_eq!(said[5]["queues"][&first][0]["name"], "celery");
    let stats = &said[6]["stats"];
    assert_eq!((&stats["total"], &stats["pid"]), (&json!({ "it.wait": 1 }), &json!(pid)), "{stats}");
    assert_eq!((&stats["broker"]["transport"], &stats["broker"]["userid"]), (&json!("redis"), &json!(null)));
    assert!(stats["pool"]["max-concurrency"].as_u64().unwrap() >= 8, "{stats}");
    assert!(said[6]["clock"][&first]["clock"].as_u64().unwrap() > 0);
    assert_eq!(said[7]["unknown"], of_both(json!({ "error": "KeyError('frobnicate')" })));
    assert_eq!(said[7]["shutdown"], of_both(json!({ "error": "KeyError('shutdown')" })));
    assert_eq!((&said[8]["state"], &said[8]["revoked"]), (&json!("REVOKED"), &json!("terminated")));
}

#[test]
fn a_pattern_chooses_who_is_asked() {
    let redis = RedisServer::start();
    let houses = [plan(&redis).start(), plan(&redis).start()];
    let mut names = [name(&houses[0]), name(&houses[1])];

    let said = client(&redis, "", "patterns", &[&names[0], &names[1]]);

    assert_eq!(said[1]["answered"], json!([names[0]]));
    names.sort();
    assert_eq!((&said[0]["answered"], &said[2]["answered"]), (&json!(names), &json!(names)));
    assert_eq!(said[3]["answered"], json!([]));
}

#[test]
fn a_client_revokes_tasks() {
    let redis = RedisServer::start();
    let houses = [plan(&redis).start(), plan(&redis).start()];
    let [first, second] = [name(&houses[0]), name(&houses[1])];

    let said = client(&redis, "", "revokes", &[&first, &second]);

    let revoked = json!({ "revoked": "revoked", "state": "REVOKED" });
    assert_eq!(said[0], revoked);
    assert_eq!((&said[1]["several"], &said[1]["third"]), (&json!([revoked, revoked]), &json!("PENDING")));
    assert!(said[1]["said"][&first]["ok"].as_str().unwrap().ends_with("flagged as revoked"), "{}", said[1]);
    assert_eq!(said[2], json!({ "revoked": "terminated", "state": "REVOKED" }));
    assert_eq!(said[3]["revoked"], "terminated");
    let answer = said[3]["said"].as_object().unwrap().values().next().unwrap();
    assert!(answer["ok"].as_str().unwrap().starts_with("terminate: "), "{answer}");
    assert_ne!(answer["ok"], "terminate: tasks unknown");
    assert_eq!((&said[4]["value"], &said[4]["state"]), (&json!("opened"), &json!("SUCCESS")));
    assert_eq!((&said[5]["value"], &said[5]["said"][&first]["ok"]), (&json!(1), &json!("terminate: tasks unknown")));
}

#[test]
fn a_revocation_outlives_the_worker_that_heard_it_and_is_lost_when_none_does() {
    let redis = RedisServer::start();
    let house = plan(&redis).start();
    client(&redis, "", "revoke", &[&name(&house), "heard"]);
    let killed = house.kill();
    client(&redis, "", "revoke", &["unheard"]);
    let _house = killed.start_again();

    let heard = client(&redis, "", "send", &["heard"]);
    let unheard = client(&redis, "", "send", &["unheard"]);

    assert_eq!(heard[0]["state"], "REVOKED");
    assert_eq!(unheard[0], json!({ "value": 1, "state": "SUCCESS" }));
}

#[test]
fn a_stopping_worker_still_answers_and_ends_what_it_runs() {
    let redis = RedisServer::start();
    let house = plan(&redis).setting("UMBEL_GRACE", "120s").start();
    let name = name(&house);
    client(&redis, "", "hold", &[&name]);
    house.signal("TERM");
    eventually("it stops", || house.log_lines().iter().any(|line| line.contains("waiting for 1 running tasks")));

    let alive = client(&redis, "", "once", &[&name]);
    let said = client(&redis, "", "let_go", &[&name]);

    assert_eq!(alive[0][&name], json!({ "ok": "pong" }));
    assert_eq!(said[0][&name], json!({ "ok": "terminate: held" }));
    assert_eq!(said[1]["state"], "REVOKED");
    assert!(house.stop().success());
}

#[test]
fn remote_control_comes_back_with_redis_and_stands_behind_the_prefix() {
    let mut redis = RedisServer::start();
    let house = plan(&redis).setting("UMBEL_REDIS__PREFIX", "shop:").start();
    let name = name(&house);

    let before = client(&redis, "shop:", "ping", &[&name]);
    redis.kill();
    redis.start_again();
    let after = client(&redis, "shop:", "ping", &[&name]);

    assert_eq!(before, [json!({ &name: { "ok": "pong" } })]);
    assert_eq!(after, before);
}

#[test]
fn a_celery_worker_starts_beside_umbel_and_takes_over_what_is_revoked() {
    let redis = RedisServer::start();
    let house = plan(&redis).start();
    let name = name(&house);
    client(&redis, "", "revoke", &[&name, "known-before"]);

    let mut worker = program("tests/celery/neighbour.py", &[&redis.url()]);
    let mut worker = Running(worker.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    let mut log = Vec::new();
    for line in BufReader::new(worker.0.stderr.take().unwrap()).lines() {
        log.push(line.unwrap());
        if log.last().unwrap().contains(" ready.") {
            break;
        }
    }
    let shown = client(&redis, "", "once", &["neighbour@here", &name]);
    let theirs = client(&redis, "", "revoked", &["neighbour@here"]);

    let log = log.join("\n");
    assert!(log.contains("mingle: sync with 1 nodes") && log.contains("mingle: sync complete"), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("Traceback"), "{log}");
    assert_eq!(shown[0], json!({ "neighbour@here": { "ok": "pong" }, &name: { "ok": "pong" } }));
    assert_eq!(theirs[0]["neighbour@here"], json!(["known-before"]));
    assert!(!house.log_lines().iter().any(|line| line.contains("remote control") && line.contains("WARN")));
}

#[test]
fn celerys_own_command_line_asks() {
    let redis = RedisServer::start();
    let house = plan(&redis).start();
    let name = name(&house);
    client(&redis, "", "ping", &[&name]);

    let celery = |asked: &[&str]| {
        let url = redis.url();
        let asked = [&["-b", &url, "inspect", "--timeout", "60", "--destination", &name][..], asked].concat();
        let output = program("tests/celery/command.py", &asked).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        said
    };

    let pong = celery(&["ping"]);
    assert!(pong.contains(&format!("{name}: OK")) && pong.contains("1 node online"), "{pong}");
    assert!(celery(&["registered"]).contains("* it.quick"));
    let stats: Value = serde_json::from_str(&celery(&["--json", "stats"])).unwrap();
    assert_eq!(stats[&name]["pid"], house.pid());
}
