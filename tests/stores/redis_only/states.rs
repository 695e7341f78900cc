//! What Celery's clients see of a task before it ends, and what its workers' own states are here.

use umbel::store::{Ending, Shown};
use umbel::task::{Failure, Progress};

use super::*;

fn meta(raw: &mut Connection, name: &str) -> Value {
    let saved: Option<String> = raw.get(format!("celery-task-meta-{name}")).unwrap();
    saved.map_or(Value::Null, |saved| serde_json::from_str(&saved).unwrap())
}

fn progress() -> Progress {
    Progress { done: 1.0, total: 4.0, note: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_shown_until_it_ends() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let delivery = claim_one(&stores).await;
    let show = async |shown| stores.results.show(&delivery.receipt, &delivery.message, shown).await.unwrap();

    show(Shown::Started { pid: 7, worker: "umbel@here".to_owned() }).await;
    let started = meta(&mut raw, "m1");
    show(Shown::Progress(progress())).await;
    let runs = meta(&mut raw, "m1");
    settle(&stores, &delivery, five()).await;
    show(Shown::Progress(progress())).await;

    assert_eq!((&started["status"], &started["result"]["pid"]), (&json!("STARTED"), &json!(7)));
    assert_eq!((&runs["status"], &runs["result"]), (&json!("PROGRESS"), &json!({ "current": 1, "total": 4 })));
    assert_eq!(meta(&mut raw, "m1")["result"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_receipt_shows_nothing() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let before = claim_one(&stores).await;
    stores.queue.put_back(vec![before.clone()], Duration::ZERO).await.unwrap();
    let _now = claim_one(&stores).await;

    stores.results.show(&before.receipt, &before.message, Shown::Progress(progress())).await.unwrap();

    assert_eq!(meta(&mut raw, "m1"), Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_is_kept_whatever_a_later_delivery_comes_to() {
    let (_server, stores, mut raw) = open().await;
    let theirs = r#"{"status": "SUCCESS", "result": 7, "traceback": null, "children": [], "task_id": "m1"}"#;
    for ending in [five(), Ending::Failure(Failure::builtin("ValueError", "no")), Ending::Revoked { reason: "expired" }]
    {
        let _: () = raw.del("umbel:run:m1").unwrap();
        push(&stores, messages(&["m1"])).await;
        let delivery = claim_one(&stores).await;
        let _: () = raw.set_ex("celery-task-meta-m1", theirs, 60).unwrap();

        settle(&stores, &delivery, ending).await;

        assert_eq!(meta(&mut raw, "m1")["result"], 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_states_of_a_python_worker_are_known() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let _: String = raw.rpop("celery", None).unwrap();
    let mut wrote = async |status: &str, result: Value| {
        let meta = json!({ "status": status, "result": result, "traceback": null, "children": [], "task_id": "m1" });
        let _: () = raw.set_ex("celery-task-meta-m1", meta.to_string(), 60).unwrap();
        load(&stores, "m1").await
    };

    let queued = wrote("PENDING", Value::Null).await;
    let started = wrote("STARTED", json!({ "pid": 1, "hostname": "w1@demo" })).await;
    let runs = wrote("PROGRESS", json!({ "current": 1, "total": 4 })).await;
    let halfway = wrote("HALFWAY", json!("there")).await;
    let why = json!({ "exc_type": "ValueError", "exc_message": ["try 0"], "exc_module": "builtins" });
    let retried = wrote("RETRY", why).await;

    assert_eq!((queued.state, started.state, started.progress), (State::Queued, State::Started, None));
    assert_eq!((runs.state, runs.progress), (State::Started, Some(progress())));
    assert_eq!((halfway.state, halfway.progress), (State::Started, None));
    assert_eq!((retried.state, retried.error.unwrap().exc_message.as_str()), (State::Retry, "try 0"));
}
