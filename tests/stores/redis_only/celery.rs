//! Celery's client and worker at the other end, by their bytes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_celery_sent_is_answered_in_its_words() {
    let (server, stores, mut raw) = open().await;
    let envelope = captured("pub-01-send_task");
    let name = envelope["headers"]["id"].as_str().unwrap();
    let key = format!("celery-task-meta-{name}");
    let mut ears = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut ears = ears.as_pubsub();
    ears.subscribe(&key).unwrap();

    lpush(&mut raw, "celery", &envelope);
    let delivery = claim_one(&stores).await;
    let running = load(&stores, name).await;
    assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored);

    assert_eq!((running.state, running.task.as_str(), running.queued_at), (State::Started, "tasks.add", None));
    assert_eq!(running.args.unwrap().get(), "[2, 3]");
    let saved: String = raw.get(&key).unwrap();
    assert_eq!(ears.get_message().unwrap().get_payload::<String>().unwrap(), saved);
    let saved: Value = serde_json::from_str(&saved).unwrap();
    assert_eq!((&saved["status"], &saved["result"], &saved["task_id"]), (&json!("SUCCESS"), &json!(5), &json!(name)));
    assert!((86_000..=86_400).contains(&raw.ttl::<_, i64>(&key).unwrap()));
    let left: Vec<String> = raw.keys("celery*").unwrap();
    assert_eq!(left, [key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_send_lies_where_celerys_workers_look() {
    let (_server, stores, mut raw) = open().await;
    let mut urgent = message("m1");
    urgent.priority = umbel::task::Priority(7);

    push(&stores, vec![urgent, message("m2")]).await;

    let wire: Vec<String> = raw.lrange("celery\u{6}\u{16}6", 0, -1).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&wire[0]).unwrap()["headers"]["id"], "m1");
    assert_eq!(raw.llen::<_, u64>("celery").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_celery_sent_and_is_purged_is_told_in_its_words() {
    let (server, stores, mut raw) = open().await;
    let mut envelope = captured("pub-01-send_task");
    envelope["headers"]["parent_id"] = json!("parent \"1\"");
    let name = envelope["headers"]["id"].as_str().unwrap().to_owned();
    let mut silent = captured("pub-01-send_task");
    silent["headers"]["id"] = json!("silent");
    silent["headers"]["ignore_result"] = json!(true);
    let key = format!("celery-task-meta-{name}");
    let mut ears = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut ears = ears.as_pubsub();
    ears.subscribe(&key).unwrap();
    for sent in [envelope.to_string(), silent.to_string(), "no message".to_owned()] {
        lpush(&mut raw, "celery", sent);
    }

    assert_eq!(stores.queue.purge(&celery_queue()).await.unwrap(), 3);

    let saved: String = raw.get(&key).unwrap();
    assert_eq!(ears.get_message().unwrap().get_payload::<String>().unwrap(), saved);
    let mut saved: Value = serde_json::from_str(&saved).unwrap();
    assert!(saved["date_done"].is_string());
    saved["date_done"] = Value::Null;
    let error = json!({"exc_type": "TaskRevokedError", "exc_message": ["purged"], "exc_module": "celery.exceptions"});
    let expected = json!({
        "status": "REVOKED", "result": error, "traceback": null, "children": [], "date_done": null,
        "parent_id": "parent \"1\"", "task_id": name,
    });
    assert_eq!(saved, expected);
    let run = load(&stores, &name).await;
    assert_eq!(
        (run.state, run.task.as_str(), run.error.unwrap().exc_message.as_str()),
        (State::Revoked, "tasks.add", "purged")
    );
    assert_eq!(load(&stores, "silent").await.state, State::Revoked);
    let left: Vec<String> = raw.keys("celery*").unwrap();
    assert_eq!(left, [key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_celerys_worker_ended_is_known() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    let _: String = raw.rpop("celery", None).unwrap();
    let meta = json!({"status": "SUCCESS", "result": [7], "traceback": null, "children": [], "task_id": "m1"});

    let (run, ()) = tokio::join!(ended(&stores, "m1"), async {
        eventually(|| {
            let listeners: (String, u64) =
                ::redis::cmd("PUBSUB").arg("NUMSUB").arg("celery-task-meta-m1").query(&mut raw).unwrap();
            listeners.1 == 1
        })
        .await;
        let _: () = raw.set_ex("celery-task-meta-m1", meta.to_string(), 60).unwrap();
        let _: () = raw.publish("celery-task-meta-m1", meta.to_string()).unwrap();
    });

    assert_eq!((run.state, run.result.unwrap().get()), (State::Success, "[7]"));
}

// Somebody's worker takes the oldest message of the queue and writes this.
fn run_elsewhere(raw: &mut Connection, name: &str, meta: &Value) {
    let _: String = raw.rpop("celery", None).unwrap();
    let _: () = raw.set_ex(format!("celery-task-meta-{name}"), meta.to_string(), 60).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_celerys_worker_ended_is_known_when_its_result_is_gone() {
    let (_server, stores, mut raw) = open().await;
    let error = json!({"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"});
    let metas = [
        ("loaded", json!({"status": "SUCCESS", "result": 42, "task_id": "loaded"})),
        ("listed", json!({"status": "FAILURE", "result": error, "task_id": "listed"})),
        ("unseen", json!({"status": "SUCCESS", "result": 42, "date_done": "2024-01-01T00:00:00+00:00"})),
        ("runs", json!({"status": "PROGRESS", "result": null})),
    ];
    let keys = metas.each_ref().map(|(name, _)| format!("celery-task-meta-{name}"));
    let ten = umbel::store::Filter { limit: 10, ..Default::default() };
    for (name, meta) in &metas[..2] {
        push(&stores, messages(&[name])).await;
        run_elsewhere(&mut raw, name, meta);
        match *name {
            "loaded" => assert_eq!(load(&stores, name).await.result.unwrap().get(), "42"),
            _ => assert_eq!(stores.history.search(&ten).await.unwrap().runs.len(), 2),
        }
    }
    for (name, meta) in &metas[2..] {
        push(&stores, messages(&[name])).await;
        run_elsewhere(&mut raw, name, meta);
    }
    stores.queue.keep_alive().await.unwrap();

    let _: u64 = raw.del(&keys[..]).unwrap();

    assert_eq!(state(&stores, "loaded").await, State::Success);
    let listed = load(&stores, "listed").await;
    assert_eq!((listed.state, listed.error.unwrap().exc_message.as_str()), (State::Failure, "no"));
    let unseen = load(&stores, "unseen").await;
    assert_eq!((unseen.state, unseen.finished_at), (State::Success, "2024-01-01T00:00:00Z".parse().ok()));
    assert_eq!(state(&stores, "runs").await, State::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_celerys_workers_ended_counts_in_the_history() {
    let server = RedisServer::start();
    let settings = Settings { history: 5, ..Settings::default() };
    let stores = umbel::store::open(&server.url(), std::path::Path::new("."), settings).await.unwrap();
    let mut raw = raw(&server);
    for number in 0..31 {
        let name = format!("m{number}");
        push(&stores, messages(&[&name])).await;
        run_elsewhere(&mut raw, &name, &json!({"status": "SUCCESS", "result": number}));
    }

    stores.queue.keep_alive().await.unwrap();

    let filter = umbel::store::Filter { limit: 100, ..Default::default() };
    assert_eq!(stores.history.search(&filter).await.unwrap().runs.len(), 5);
    assert_eq!(raw.keys::<_, Vec<String>>("umbel:run:*").unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_celerys_worker_ended_is_forgotten_when_asked() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1"])).await;
    run_elsewhere(&mut raw, "m1", &json!({"status": "SUCCESS", "result": 42}));

    assert!(stores.results.forget(&id("m1")).await.unwrap());

    assert!(stores.results.load(&id("m1")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_protocol_1_that_is_purged_is_told() {
    let (_server, stores, mut raw) = open().await;
    let envelope = captured("pub-26-protocol1");
    let name = envelope["properties"]["correlation_id"].as_str().unwrap().to_owned();
    lpush(&mut raw, "celery", &envelope);

    assert_eq!(stores.queue.purge(&celery_queue()).await.unwrap(), 1);

    let run = load(&stores, &name).await;
    assert_eq!((run.state, run.error.unwrap().exc_message.as_str()), (State::Revoked, "purged"));
    let saved: String = raw.get(format!("celery-task-meta-{name}")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&saved).unwrap()["status"], "REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eta_of_celery_waits_in_the_store() {
    let (_server, stores, mut raw) = open().await;
    let due = Utc::now() + Duration::from_millis(700);
    let mut envelope = captured("pub-03-countdown");
    envelope["headers"]["eta"] = json!(due.to_rfc3339());
    envelope["headers"]["id"] = json!("m1");

    lpush(&mut raw, "celery", &envelope);
    assert_nothing_comes(&stores).await;

    let depth = stores.queue.depth(&celery_queue()).await.unwrap();
    assert_eq!((depth.ready, depth.delayed, depth.claimed), (0, 1, 0));
    assert_eq!(state(&stores, "m1").await, State::Scheduled);
    let delivery = claim_one(&stores).await;
    assert!(Utc::now() >= due);
    assert_eq!((delivery.message.retries, delivery.redelivered), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_celery_bound_is_listed() {
    let (_server, stores, mut raw) = open().await;
    let _: u64 = raw.sadd("_kombu.binding.celery", "celery\u{6}\u{16}\u{6}\u{16}celery").unwrap();
    lpush(&mut raw, "celery", captured("pub-01-send_task"));

    let listed = stores.queue.queues().await.unwrap();

    assert_eq!((listed.len(), &listed[0].name, listed[0].depth.ready), (1, &celery_queue(), 1));
}
