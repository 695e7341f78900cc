//! The events of a run.

use std::sync::Arc;

use tokio::sync::watch;

use super::*;
use crate::store::{Receipt, Results, Stores};
use crate::task::{Progress, Run, TaskId};

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
