//! What an umbel counts, read as Prometheus reads it.

use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};
use crate::support::python::python;

const SCRIPT: &str = "fn good() { 1 }\nfn bad() { throw \"no\" }\n\
                      task(\"again\", #{ max_retries: 1, autoretry: true, default_retry_delay: 0.01 });\n\
                      fn again() { if task::retries() == 0 { throw \"not yet\" } }\n\
                      fn long() { sleep(60) }\n";

fn numbers(house: &House) -> Value {
    let said = python("tests/system/python/metrics.py", &[&house.url("")]).remove(0);
    assert_eq!(said["type"], "text/plain; version=0.0.4; charset=utf-8");
    said["numbers"].clone()
}

#[test]
fn what_happens_is_counted() {
    let house = Plan::new()
        .script("it.rhai", SCRIPT)
        .script("broken.rhai", "fn")
        .file("schedules.toml", "[often]\ntask = \"it.good\"\nschedule = \"1s\"\n")
        .setting("UMBEL_SLOTS", "3")
        .start();
    for task in ["it.bad", "it.again", "it.good"] {
        house.post(&format!("/api/tasks/{task}?wait=30s"), &json!({}));
    }
    house.post("/api/tasks/it.good", &json!({ "countdown": "1h", "queue": "io" }));
    house.post("/api/queues/io/pause", &json!({}));
    house.post("/api/tasks/it.long", &json!({ "id": "long" }));
    eventually("it runs", || house.get("/api/tasks/long").json["state"] == "STARTED");
    house.get("/api/nothing");

    let mut all = Value::Null;
    // What was counted of a task may be told a moment after its end was.
    eventually("everything is counted", || {
        all = numbers(&house);
        all["umbel_tasks_succeeded_total task=it.again"] == 1.0
            && all["umbel_tasks_failed_total task=it.bad"] == 1.0
            && all["umbel_tasks_running"] == 1.0
            && all["umbel_beat_ticks_total"].as_f64().is_some_and(|ticks| ticks >= 1.0)
    });

    for (name, number) in [
        ("umbel_tasks_received_total task=it.again", 2.0),
        ("umbel_tasks_started_total task=it.again", 2.0),
        ("umbel_tasks_retried_total task=it.again", 1.0),
        ("umbel_task_duration_seconds_count task=it.again", 2.0),
        ("umbel_task_queue_seconds_count task=it.again", 2.0),
        ("umbel_task_duration_seconds_bucket le=+Inf task=it.bad", 1.0),
        ("umbel_slots", 3.0),
        ("umbel_queue_messages queue=io state=delayed", 1.0),
        ("umbel_queue_paused queue=io", 1.0),
        ("umbel_dead_letters", 0.0),
        ("umbel_scripts_broken", 1.0),
        ("umbel_store_up", 1.0),
        ("umbel_websockets_open", 0.0),
        ("umbel_http_requests_total method=POST route=/api/tasks/{task} status=200", 3.0),
        ("umbel_http_requests_total method=GET route=other status=404", 1.0),
        (concat!("umbel_build_info version=", env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        assert_eq!(all[name], number, "{name}: {all:#}");
    }
    for name in ["umbel_process_start_time_seconds", "umbel_process_resident_memory_bytes", "umbel_catalog_loads_total"]
    {
        assert!(all[name].as_f64().is_some_and(|number| number > 0.0), "{name}: {all:#}");
    }
}
