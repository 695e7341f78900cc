use std::sync::Arc;

use crate::task::Message;

use super::*;

fn captured(name: &str) -> Value {
    let path = format!("{}/tests/celery/captured/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let sample: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    sample["python_return_value"]["w1@demo"].clone()
}

/// The task that Celery's worker told of, as if it were in our hands.
fn in_hand(theirs: &Value) -> InHand {
    let body = json!([theirs["args"], theirs["kwargs"], {}]).to_string();
    let envelope = json!({
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": { "id": theirs["id"], "task": theirs["name"], "lang": "py" },
        "properties": { "priority": theirs["delivery_info"]["priority"], "delivery_tag": "x" },
    });
    let queue = QueueName::parse(theirs["delivery_info"]["routing_key"].as_str().unwrap()).unwrap();
    let micros = theirs["time_start"].as_f64().map(|seconds| (seconds * 1e6).round() as i64);
    InHand {
        message: Arc::new(Message::from_wire(queue, envelope.to_string().as_bytes()).unwrap()),
        redelivered: theirs["delivery_info"]["redelivered"] == true,
        acknowledged: theirs["acknowledged"] == true,
        started_at: micros.and_then(chrono::DateTime::from_timestamp_micros),
    }
}

/// Their answer with our process in the place of theirs, and with times as exact as ours.
fn ours(mut theirs: Value) -> Value {
    if let Some(seconds) = theirs["time_start"].as_f64() {
        theirs["time_start"] = json!((seconds * 1e6).round() / 1e6);
    }
    if !theirs["worker_pid"].is_null() {
        theirs["worker_pid"] = json!(std::process::id());
    }
    theirs
}

#[test]
fn what_runs_and_what_waits_to_is_told_as_celery_does() {
    for name in ["ctl-06-inspect-active", "ctl-07-inspect-reserved"] {
        let theirs = captured(name);
        let theirs = theirs.as_array().unwrap();
        let hands: Vec<InHand> = theirs.iter().map(in_hand).collect();

        let told = tasks(&hands, "w1@demo", false);

        assert!(!theirs.is_empty());
        assert_eq!(told, theirs.iter().cloned().map(ours).collect::<Value>(), "{name}");
    }
}

#[test]
fn a_task_is_told_by_its_id_with_where_it_stands() {
    let theirs = captured("ctl-09-inspect-query_task");
    let (id, active) = theirs.as_object().unwrap().iter().find(|(_, told)| told[0] == "active").unwrap();
    let reserved = captured("ctl-07-inspect-reserved")[0].clone();
    let hands = [in_hand(&active[1]), in_hand(&reserved)];

    let told = query(&hands, &[id.clone(), "nope".to_owned()], "w1@demo");

    assert_eq!(told, json!({ id: ["active", ours(active[1].clone())] }));
    let waiting = reserved["id"].as_str().unwrap().to_owned();
    assert_eq!(query(&hands, &[waiting.clone()], "w1@demo")[&waiting][0], "reserved");
}

#[test]
fn queues_are_told_as_celery_declares_them() {
    assert_eq!(queues(&[QueueName::default()]), captured("ctl-05-inspect-active_queues"));
    assert_eq!(queues(&[]), json!([]));
}

#[test]
fn arguments_are_told_up_to_a_bound() {
    let reserved = captured("ctl-07-inspect-reserved")[0].clone();
    let small = in_hand(&reserved);
    let mut much = reserved;
    much["args"] = json!(["x".repeat(MOST_ARGUMENTS - 100)]);
    let much = in_hand(&much);

    let told = tasks(&[much.clone(), much, small.clone()], "w1@demo", false);

    assert!(told[0]["args"].is_array());
    assert_eq!(told[1]["args"], "<too large to show>");
    assert_eq!(told[2]["args"], json!([0]), "what is small still finds room");
    assert_eq!(tasks(&[small], "w1@demo", true)[0]["args"], "[0]");
}

#[test]
fn a_task_is_told_with_what_was_asked_of_it() {
    let attributes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tasks")).unwrap();
    let script =
        "task(\"slow\", #{ time_limit: \"90s\", acks_late: false });\nfn slow() { 1 }\nfn add(a, b) { a + b }\n";
    std::fs::write(folder.path().join("tasks/it.rhai"), script).unwrap();
    let mut loader = crate::plugin::Loader::new(folder.path().to_owned());
    loader.load();
    let catalog = loader.catalogs().current();

    assert_eq!(registered(&catalog, &[]), json!(["it.add", "it.slow"]));
    assert_eq!(
        registered(&catalog, &attributes(&["time_limit", "acks_late", "rate_limit", "__class__"])),
        json!(["it.add [acks_late=True]", "it.slow [time_limit=90 acks_late=False]"])
    );
}
