//! The whole of it at once: a Celery client, two workers, one of which dies, and a Redis that dies and comes back.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::house::Plan;
use crate::support::python::program;
use crate::support::redis_server::RedisServer;
use crate::support::running::Running;

// Slow enough that there is a middle.
const SCRIPT: &str = "fn add(x, y) { sleep(0.002); x + y }";

#[test]
fn nothing_is_lost_when_a_worker_and_redis_die_in_the_middle() {
    let mut redis = RedisServer::durable();
    let worker = || Plan::new().script("slow.rhai", SCRIPT).store(&redis.url()).command(&["worker"]).start();
    let (dies, _lives) = (worker(), worker());
    let mut client = program("tests/celery/crash.py", &[&redis.url()]);
    let mut client = Running(client.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(client.0.stdout.take().unwrap()).lines();
    let mut said = || serde_json::from_str::<Value>(&lines.next().expect("the client goes on").unwrap()).unwrap();

    assert_eq!(said(), json!({ "sent": 10_000 }));
    assert_eq!(said(), json!({ "under_way": true }));
    dies.kill();
    redis.kill();
    redis.start_again();

    assert_eq!(said(), json!({ "right": 10_000 }));
}
