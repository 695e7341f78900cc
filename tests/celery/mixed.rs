//! Workers of both kinds on one queue: tasks can move one at a time.

use std::process::Stdio;

use crate::support::house::Plan;
use crate::support::python::{program, python};
use crate::support::redis_server::RedisServer;
use crate::support::running::Running;

// Slow enough that Python gets its share.
const SCRIPT: &str = r#"
fn square(n) {
    kv::incr("run " + task::id());
    sleep(0.01);
    [n * n, "umbel"]
}
"#;

#[test]
fn a_mixed_fleet_loses_nothing_and_does_nothing_twice() {
    let redis = RedisServer::start();
    let worker = || {
        Plan::new()
            .script("both.rhai", SCRIPT)
            .store(&redis.url())
            .setting("UMBEL_SLOTS", "2")
            .command(&["worker"])
            .start()
    };
    let _ours = [worker(), worker()];
    let _theirs = ["celery", "celery"].map(|queue| {
        let worker = program("tests/celery/worker.py", &[&redis.url(), queue]).stdout(Stdio::null()).spawn();
        Running(worker.unwrap())
    });

    let said = &python("tests/celery/mixed.py", &[&redis.url()])[0];

    assert_eq!((said["right"].as_u64(), said["once"].as_u64()), (Some(5_000), Some(5_000)), "{said}");
    for kind in ["umbel", "python"] {
        assert!(said["by"][kind].as_u64().is_some_and(|share| share > 0), "{said}");
    }
}
