//! Batches, keys, events and the hand on the queues.

use std::sync::Arc;

use axum::body::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::client::Route;
use crate::store::{Receipt, Results, Stores};
use crate::task::{Progress, QueueName, Run, TaskId};

/// A body that is written while it is read.
fn written() -> (mpsc::UnboundedSender<Bytes>, Body) {
    let (pen, paper) = mpsc::unbounded_channel();
    (pen, Body::from_stream(read(paper)))
}

fn read(paper: mpsc::UnboundedReceiver<Bytes>) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(paper, |mut paper| async { Some((Ok(paper.recv().await?), paper)) })
}

fn ids(answer: &Answer) -> Vec<&str> {
    answer.json.as_array().unwrap().iter().map(|submitted| submitted["id"].as_str().unwrap()).collect()
}

impl House {
    async fn count(&self) -> usize {
        self.get("/api/tasks?limit=1000").await.json["tasks"].as_array().unwrap().len()
    }

    async fn with_key(&self, path: &str, key: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("idempotency-key", key)], body.to_owned()).await
    }
}

#[tokio::test]
async fn a_batch_may_be_one_task_a_line() {
    let house = House::open().await;
    let lines =
        "\n{\"task\": \"math.add\", \"args\": [1, 2], \"id\": \"a\"}\r\n\n{\"task\": \"math.greet\", \"id\": \"b\"}";

    let sent = house.ask("POST", "/api/tasks", &[], lines).await;
    let kind = [("content-type", "application/x-ndjson; charset=utf-8")];
    let none = house.ask("POST", "/api/tasks", &kind, "\n").await;
    let array = house.ask("POST", "/api/tasks", &kind, "[{\"task\": \"math.greet\"}]").await;

    assert_eq!((sent.status, ids(&sent)), (202, vec!["a", "b"]));
    assert_eq!((none.status, none.json), (202, json!([])));
    assert_problem(&array, 400, "unreadable");
    assert_eq!(array.json["index"], 0);
}

#[tokio::test]
async fn a_bad_line_refuses_all_before_the_rest_has_come() {
    let house = House::open().await;
    let (pen, body) = written();
    pen.send("{\"task\": \"math.greet\"}\n{\"task\": \"math.add\", \"args\": [1]}\n".into()).unwrap();

    let refused = house.ask("POST", "/api/tasks", &[], body).await;

    assert_problem(&refused, 422, "bad-arguments");
    assert_eq!((&refused.json["index"], &refused.json["parameter"]), (&json!(1), &json!("y")));
    assert_eq!(house.count().await, 0);
    drop(pen);
}

#[tokio::test]
async fn slow_batches_keep_no_quick_one_waiting() {
    let house = House::open().await;
    let line = Bytes::from(format!("{{\"task\": \"math.greet\", \"args\": [\"{}\"]}}\n", "x".repeat(1 << 19)));
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let (pen, body) = written();
            (0..4).for_each(|_| pen.send(line.clone()).unwrap());
            let app = house.app.clone();
            let request = Request::post("/api/tasks").header("host", "localhost").body(body).unwrap();
            (pen, tokio::spawn(app.oneshot(request)))
        })
        .collect();

    let quick = house.post("/api/tasks", json!([{ "task": "math.greet" }])).await;

    assert_eq!((quick.status, house.count().await), (202, 1));
    slow.into_iter().for_each(|(_, request)| request.abort());
}

#[tokio::test]
async fn what_no_script_could_read_is_refused_with_its_place() {
    let house = House::open().await;

    for (args, place) in [
        ("[99999999999999999999]", "args[0]"),
        ("[[1, {\"price\": 1e400}]]", "args[0][1].price"),
        (r#"["\ud83d"]"#, "args[0]"),
    ] {
        let refused = house.ask("POST", "/api/tasks/math.greet", &[], format!("{{\"args\": {args}}}")).await;
        assert_problem(&refused, 422, "bad-value");
        assert_eq!(refused.json["parameter"], place);
    }
    let batch = "[{\"task\": \"math.greet\"}, {\"task\": \"math.greet\", \"kwargs\": {\"name\": -1e999}}]";
    let refused = house.ask("POST", "/api/tasks", &[], batch).await;
    assert_problem(&refused, 422, "bad-value");
    assert_eq!((&refused.json["parameter"], &refused.json["index"]), (&json!("kwargs.name"), &json!(1)));
}

#[tokio::test]
async fn a_request_is_done_once_under_its_key() {
    let house = House::open().await;
    let (one, many) = (r#"{"args":[1,2]}"#, r#"[{"task":"math.greet"},{"task":"math.greet","id":"mine"}]"#);

    let first = house.with_key("/api/tasks/math.add", "\"k1\"", one).await;
    house.post(&format!("/api/tasks/{}/revoke", first.json["id"].as_str().unwrap()), json!({})).await;
    let again = house.with_key("/api/tasks/math.add?wait=30s", "k1", one).await;
    let batch = house.with_key("/api/tasks", "k2", many).await;
    let batch_again = house.with_key("/api/tasks", "k2", many).await;

    assert_eq!((first.status, &first.json["state"]), (202, &json!("QUEUED")));
    assert_eq!((again.status, &again.json["state"], &again.json["id"]), (200, &json!("REVOKED"), &first.json["id"]));
    assert_eq!((batch.status, batch_again.status, &batch_again.json), (202, 202, &batch.json));
    assert_eq!(ids(&batch)[1], "mine");
    assert_eq!(house.count().await, 3);
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let house = House::open().await;
    house.with_key("/api/tasks/math.add", "k", r#"{"args":[1,2]}"#).await;

    for (path, body) in [
        ("/api/tasks/math.add", r#"{"args":[1,3]}"#),
        ("/api/tasks/math.greet", r#"{"args":[1]}"#),
        ("/api/tasks", r#"[{"task":"math.add","args":[1,2]}]"#),
    ] {
        let refused = house.with_key(path, "k", body).await;
        assert_problem(&refused, 422, "key-reused");
    }
    for key in ["", "a b", &"x".repeat(256)] {
        let refused = house.with_key("/api/tasks/math.greet", key, "{}").await;
        assert_problem(&refused, 422, "bad-field");
        assert_eq!(refused.json["parameter"], "Idempotency-Key");
    }
    assert_eq!(house.count().await, 1);
}

#[tokio::test]
async fn a_key_of_a_request_that_was_refused_is_free() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "taken" })).await;

    let bad = house.with_key("/api/tasks/math.add", "k", r#"{"args":[1]}"#).await;
    let taken = house.with_key("/api/tasks/math.add", "k", r#"{"args":[1,2],"id":"taken"}"#).await;
    let good = house.with_key("/api/tasks/math.add", "k", r#"{"args":[1,2]}"#).await;

    assert_problem(&bad, 422, "bad-arguments");
    assert_problem(&taken, 409, "duplicate-id");
    assert_eq!(good.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_requests_at_the_same_time_one_is_done() {
    let house = House::open().await;
    let batch = json!(vec![json!({ "task": "math.greet" }); 20]).to_string();

    let sent = (0..8).map(|_| house.with_key("/api/tasks", "k", &batch));
    let answers = futures_util::future::join_all(sent).await;

    for answer in &answers {
        assert_eq!((answer.status, ids(answer)), (202, ids(&answers[0])));
    }
    assert_eq!(house.count().await, 20);
}

#[tokio::test]
async fn the_history_is_paged_and_light() {
    let house = House::open().await;
    let large = "x".repeat(5000);
    for n in 0..5 {
        house.post("/api/tasks/math.add", json!({ "args": [n, 0] })).await;
    }
    house.post("/api/tasks/math.greet", json!({ "args": [large], "queue": "slow" })).await;

    let mut seen = Vec::new();
    let mut query = "/api/tasks?name=math.*&limit=2".to_owned();
    loop {
        let page = house.get(&query).await.json;
        seen.extend(page["tasks"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("/api/tasks?name=math.*&limit=2&cursor={}", super::super::path_part(next));
    }
    let slow = house.get("/api/tasks?queue=slow&since=1h").await.json;
    let bad = house.get("/api/tasks?cursor=nonsense").await;

    assert_eq!(seen.len(), 6);
    assert_eq!((&seen[0]["truncated"], seen[0].get("args")), (&json!(["args"]), None));
    assert_eq!((&seen[1]["args"], &seen[5]["args"]), (&json!([4, 0]), &json!([0, 0])));
    assert_eq!(slow["tasks"].as_array().unwrap().len(), 1);
    assert_problem(&bad, 422, "bad-cursor");
    assert_eq!(bad.json["parameter"], "cursor");
}

#[tokio::test]
async fn a_queue_to_which_a_route_leads_is_known_before_anything_is_there() {
    let mut house = House::open().await;
    let route = Route { queue: QueueName::parse("far").unwrap(), remote: false };
    house.state.client = house.state.client.clone().routed([("math.add".to_owned(), route)].into_iter().collect());
    house.app = router(house.state.clone(), house.close.clone());

    let answer = house.get("/api/queues/far").await;

    assert_eq!((answer.status, &answer.json["ready"]), (200, &json!(0)));
}

#[tokio::test]
async fn queues_are_looked_at_paused_and_purged() {
    let house = House::open().await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2] })).await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2], "countdown": "1h" })).await;

    let paused = house.post("/api/queues/io/pause", json!({})).await;
    let later = house.post("/api/queues/later/pause", json!({})).await;
    let all = house.get("/api/queues").await.json;
    let resumed = house.post("/api/queues/io/resume", json!({})).await;
    let purged = house.post("/api/queues/io/purge", json!({})).await;
    let one = house.get("/api/queues/io").await.json;
    let unknown = house.get("/api/queues/nope").await;

    let io = |ready, delayed, paused| json!({ "name": "io", "ready": ready, "delayed": delayed, "claimed": 0, "paused": paused });
    assert_eq!((paused.status, &paused.json), (200, &io(1, 1, true)));
    assert_eq!((later.status, &later.json["paused"]), (200, &json!(true)));
    assert_eq!(later.json["note"], "no task or message names this queue yet");
    let names: Vec<&Value> = all["queues"].as_array().unwrap().iter().map(|queue| &queue["name"]).collect();
    assert_eq!(names, ["celery", "io", "later"]);
    assert_eq!(all["dead_letters"], 0);
    assert_eq!(house.get("/api/dead-letters?limit=5").await.json, json!({ "dead_letters": [], "count": 0 }));
    assert_eq!(house.get("/api/dead-letters?limit=101").await.status, 422);
    assert_eq!(resumed.json, io(1, 1, false));
    assert_eq!(purged.json, json!({ "name": "io", "purged": 2 }));
    assert_eq!(one, io(0, 0, false));
    assert_problem(&unknown, 404, "unknown-queue");
}

#[tokio::test]
async fn only_what_has_ended_is_run_again() {
    let house = House::open().await;
    let body = json!({ "args": [1, 2], "id": "mine", "queue": "slow", "priority": 6 });
    house.post("/api/tasks/math.add", body).await;

    let early = house.post("/api/tasks/mine/retry", json!({})).await;
    house.post("/api/tasks/mine/revoke", json!({})).await;
    let again = house.post("/api/tasks/mine/retry", json!({})).await;
    let run = house.get(again.headers["location"].to_str().unwrap()).await.json;
    let unknown = house.post("/api/tasks/nope/retry", json!({})).await;

    assert_problem(&early, 409, "not-ended");
    assert_eq!((&early.json["state"], again.status), (&json!("QUEUED"), 202));
    assert_ne!(again.json["id"], "mine");
    assert_eq!((&run["args"], &run["queue"], &run["priority"]), (&json!([1, 2]), &json!("slow"), &json!(6)));
    assert_problem(&unknown, 404, "unknown-run");
}

#[tokio::test]
async fn a_task_that_is_gone_is_not_run_again() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;
    house.post("/api/tasks/mine/revoke", json!({})).await;
    house.state.client.catalogs().swap(Default::default());

    let gone = house.post("/api/tasks/mine/retry", json!({})).await;

    assert_problem(&gone, 404, "unknown-task");
}

#[tokio::test]
async fn what_has_not_run_has_no_source() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;

    assert_problem(&house.get("/api/tasks/mine/source").await, 404, "no-source");
    assert_problem(&house.get("/api/tasks/nope/source").await, 404, "unknown-run");
}

#[tokio::test]
async fn plugins_workers_and_schedules_are_shown() {
    let house = House::open().await;

    let plugins = house.get("/api/plugins").await.json;
    let workers = house.get("/api/workers").await;
    let schedules = house.get("/api/schedules").await;

    let echo = &plugins["plugins"][0];
    assert_eq!((&echo["name"], &echo["consumers"]), (&json!("echo"), &json!(["/ws/echo/{name}/"])));
    assert_eq!((workers.status, workers.json), (200, json!({ "workers": [] })));
    let empty = json!({ "entries": [], "warnings": [], "problems": [] });
    assert_eq!((schedules.status, schedules.json), (200, empty));
}

#[tokio::test]
async fn a_run_is_followed_to_its_end() {
    let house = House::open().await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2], "id": "mine" })).await;
    let request = Request::get("/api/tasks/mine/events").header("host", "localhost").body(Body::empty()).unwrap();

    let response = house.app.clone().oneshot(request).await.unwrap();
    let kind = response.headers()["content-type"].clone();
    let mut parts = response.into_body().into_data_stream();
    let mut text = String::new();
    while let Some(part) = parts.next().await {
        text += std::str::from_utf8(&part.unwrap()).unwrap();
        if text.ends_with("\n\n") && text.contains("QUEUED") && !text.contains("REVOKED") {
            house.post("/api/tasks/mine/revoke", json!({})).await;
        }
    }

    assert_eq!(kind, "text/event-stream");
    assert!(text.starts_with("retry: 1000\n\nid: 0.QUEUED\nevent: state\ndata: {\"state\":\"QUEUED\""), "{text}");
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("id: 0.REVOKED\nevent: state\ndata: "), "{text}");
    let data: Value = serde_json::from_str(last.rsplit("data: ").next().unwrap()).unwrap();
    assert_eq!((&data["run"]["id"], &data["run"]["state"]), (&json!("mine"), &json!("REVOKED")));
}

#[tokio::test]
async fn who_follows_or_waits_for_what_is_purged_is_told_at_once() {
    let house = House::open().await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2], "id": "mine" })).await;
    let request = Request::get("/api/tasks/mine/events").header("host", "localhost").body(Body::empty()).unwrap();
    let mut parts = house.app.clone().oneshot(request).await.unwrap().into_body().into_data_stream();
    let first = parts.next().await.unwrap().unwrap();

    let (waited, purged) =
        tokio::join!(house.get("/api/tasks/mine?wait=30s"), house.post("/api/queues/io/purge", json!({})));
    let mut followed = String::from_utf8(first.to_vec()).unwrap();
    while let Some(part) = parts.next().await {
        followed += std::str::from_utf8(&part.unwrap()).unwrap();
    }

    assert_eq!(purged.json["purged"], 1);
    let (state, reason) = (&waited.json["state"], &waited.json["error"]["exc_message"]);
    assert_eq!((waited.status, state, reason), (200, &json!("REVOKED"), &json!("purged")));
    assert!(followed.contains("id: 0.REVOKED"), "{followed}");
}

#[tokio::test]
async fn who_comes_back_is_told_what_is_new_and_then_nothing() {
    let house = House::open().await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2], "id": "mine" })).await;
    house.post("/api/tasks/mine/revoke", json!({})).await;
    let path = "/api/tasks/mine/events?after=0.QUEUED";

    let missed = house.get(path).await;
    let over = house.ask("GET", path, &[("last-event-id", "0.REVOKED")], Body::empty()).await;
    let unknown = house.get("/api/tasks/nope/events").await;

    assert_eq!(missed.json.as_str().unwrap().matches("event: ").count(), 1, "{}", missed.json);
    assert_eq!((over.status, over.json), (204, json!("")));
    assert_problem(&unknown, 404, "unknown-run");
}

#[tokio::test]
async fn followers_are_bounded() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;
    let follow = || {
        let request = Request::get("/api/tasks/mine/events").header("host", "localhost").body(Body::empty()).unwrap();
        house.app.clone().oneshot(request)
    };
    let mut open = Vec::new();
    for _ in 0..crate::http::events::FOLLOWERS {
        open.push(follow().await.unwrap());
    }

    let refused = house.get("/api/tasks/mine/events").await;
    drop(open.pop());
    let admitted = follow().await.unwrap();

    assert_problem(&refused, 503, "busy");
    assert_eq!(admitted.status(), 200);
}

#[tokio::test]
async fn a_closing_door_ends_the_events() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;
    let following = house.get("/api/tasks/mine/events");

    let (followed, ()) = tokio::join!(following, async { house.close.cancel() });

    assert_eq!(followed.json.as_str().unwrap().matches("event: ").count(), 1, "{}", followed.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_events_come_over_a_socket() {
    let house = House::open().await;
    let (address, _) = house.serve().await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2], "id": "mine" })).await;
    let open = |path: &'static str| connect_async(format!("ws://{address}{path}"));
    let (mut socket, _) = open("/ws/tasks/mine/").await.unwrap();

    let first: Value = serde_json::from_str(next(&mut socket).await.to_text().unwrap()).unwrap();
    house.post("/api/tasks/mine/revoke", json!({})).await;
    let last: Value = serde_json::from_str(next(&mut socket).await.to_text().unwrap()).unwrap();
    let closed = next(&mut socket).await;

    assert_eq!(
        (&first["id"], &first["event"], &first["data"]["state"]),
        (&json!("0.QUEUED"), &json!("state"), &json!("QUEUED"))
    );
    assert_eq!((&last["id"], &last["data"]["run"]["id"]), (&json!("0.REVOKED"), &json!("mine")));
    assert_eq!(code(closed), 1000);
    let (mut over, _) = open("/ws/tasks/mine?after=0.REVOKED").await.unwrap();
    assert_eq!(code(next(&mut over).await), 1000);
    for (path, status) in [("/ws/tasks/nope/", 404), ("/ws/tasks/mine/?before=x", 422)] {
        let Err(Error::Http(answer)) = open(path).await else { panic!("{path} is opened") };
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    assert_problem(&house.get("/ws/tasks/mine/").await, 426, "sockets-only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_door_waits_until_each_socket_is_closed() {
    for path in ["/ws/tasks/mine/?after=0.QUEUED", "/ws/echo/me/"] {
        let house = House::open().await;
        let (address, mut serving) = house.serve().await;
        house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;
        let (mut socket, _) = connect_async(format!("ws://{address}{path}")).await.unwrap();

        house.close.cancel();

        // This client answers the close frame once it reads it.
        assert!(
            tokio::time::timeout(Duration::from_millis(100), &mut serving).await.is_err(),
            "{path} is not waited for"
        );
        assert_eq!(code(next(&mut socket).await), 1001, "{path}");
        while let Some(Ok(_)) = socket.next().await {}
        tokio::time::timeout(PATIENCE, serving).await.expect("its end").unwrap();
    }
}

fn code(frame: Message) -> u16 {
    let Message::Close(Some(close)) = frame else { panic!("{frame:?} closes nothing") };
    close.code.into()
}

/// The results of a store, which tell how many wait for one.
struct Counted {
    results: Arc<dyn Results>,
    waiting: watch::Sender<usize>,
}

#[async_trait::async_trait]
impl Results for Counted {
    async fn wait(&self, id: &TaskId, patience: Duration) -> store::Result<Option<Run>> {
        struct Place<'a>(&'a watch::Sender<usize>);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|waiting| *waiting -= 1);
            }
        }
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _place = Place(&self.waiting);
        self.results.wait(id, patience).await
    }

    async fn load(&self, id: &TaskId) -> store::Result<Option<Run>> {
        self.results.load(id).await
    }

    async fn forget(&self, id: &TaskId) -> store::Result<bool> {
        self.results.forget(id).await
    }

    async fn progress(&self, receipt: &Receipt, progress: Progress) -> store::Result<()> {
        self.results.progress(receipt, progress).await
    }

    async fn changes(&self, id: &TaskId) -> store::Result<watch::Receiver<u64>> {
        self.results.changes(id).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_a_client_that_has_gone() {
    let mut house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;
    let client = &house.state.client;
    let counted = Arc::new(Counted { results: client.stores().results.clone(), waiting: watch::Sender::new(0) });
    let stores = Stores { results: counted.clone(), ..client.stores().clone() };
    house.state.client = Client::new(stores, client.catalogs().clone(), String::new());
    let (address, _) = house.serve().await;
    let mut waiting = counted.waiting.subscribe();

    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /api/tasks/mine?wait=60s HTTP/1.1\r\nhost: localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut connection, request.as_bytes()).await.unwrap();
    tokio::time::timeout(PATIENCE, waiting.wait_for(|count| *count == 1)).await.expect("it waits").unwrap();
    drop(connection);

    tokio::time::timeout(PATIENCE, waiting.wait_for(|count| *count == 0)).await.expect("nothing waits").unwrap();
}
