//! The real Celery at the other end of the wire. `tests/run` installs it.

#[path = "../support/mod.rs"]
mod support;

use serde_json::json;
use support::house::Plan;
use support::python::python;
use support::redis_server::RedisServer;

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
