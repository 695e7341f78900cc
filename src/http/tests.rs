//! The door with real scripts and a store in memory, and nobody who works: everything that needs no worker.

mod api;
mod door;

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{AppState, Metrics, router, serve};
use crate::beat::Board;
use crate::channels::{self, Hub};
use crate::client::Client;
use crate::plugin::Loader;
use crate::store;

/// Only a broken program needs it.
const PATIENCE: Duration = Duration::from_secs(30);

struct House {
    app: axum::Router,
    state: AppState,
    close: CancellationToken,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    json: Value,
}

const MATH: &str = "/// Adds two numbers.\nfn add(x, y) { x + y }\nfn greet(name) { name }\nfn greet() { \"you\" }\n\
                    task(\"add\", #{ queue: \"io\", time_limit: \"30s\" });\n";

const ECHO: &str = r#"fn connect(scope) { if scope.params.name != "nobody" { accept(); } }
fn receive(scope, frame) {
    if type_of(frame.message) == "string" { return send(#{ heard: frame.message }); }
    let text = "x";
    while text.len < frame.message { text += text; }
    send("small");
    send(text);
}
"#;

const MANIFEST: &str = r#"name = "echo"
version = "1.0.0"
api = 1
[[consumers]]
path = "/ws/echo/{name}/"
script = "echo.rhai"
"#;

impl House {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("tasks/math.rhai", MATH),
            ("tasks/bad.rhai", "fn one() {\n  let x = ;\n}"),
            ("plugins/echo/plugin.toml", MANIFEST),
            ("plugins/echo/echo.rhai", ECHO),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut loader = Loader::new(folder.path().to_owned());
        loader.load();
        let stores = store::open("memory:", folder.path(), store::Settings::default()).await.unwrap();
        let client = Client::new(stores, loader.catalogs(), "umbel@test".to_owned());
        let hub = Hub::new(loader.engine(), client.clone(), channels::Settings::default());
        let state = AppState {
            client,
            hub,
            hosts: vec!["umbel.example".to_owned()],
            board: Board::default(),
            tokens: Vec::new(),
            local_token: None,
            metrics: Metrics::alone(),
            stopping: CancellationToken::new(),
        };
        let close = CancellationToken::new();
        Self { app: router(state.clone(), close.clone()), state, close, _folder: folder }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost:8080");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let json = serde_json::from_slice(&text).unwrap_or_else(|_| String::from_utf8_lossy(&text).into());
        Answer { status, headers, json }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], Body::empty()).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &[], body.to_string()).await
    }

    /// Serves on a free port.
    async fn serve(&self) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, tokio::spawn(serve(listener, self.state.clone(), self.close.clone())))
    }
}

/// Checks that `answer` is a problem document of that status.
fn assert_problem(answer: &Answer, status: u16, kind: &str) {
    assert_eq!((answer.status, &answer.json["status"]), (status, &json!(status)), "{}", answer.json);
    assert_eq!(answer.json["type"], format!("urn:umbel:problem:{kind}"), "{}", answer.json);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert!(answer.json["title"].is_string() && answer.json["detail"].is_string(), "{}", answer.json);
}

#[tokio::test]
async fn a_task_is_taken_and_known_under_its_place() {
    let house = House::open().await;

    let sent = house.post("/api/tasks/math.add", json!({ "args": [10, 3] })).await;
    let run = house.get(sent.headers["location"].to_str().unwrap()).await;

    assert_eq!((sent.status, &sent.json["state"]), (202, &json!("QUEUED")));
    assert_eq!((run.status, &run.json["id"], &run.json["args"]), (200, &sent.json["id"], &json!([10, 3])));
    assert_eq!((&run.json["task"], &run.json["queue"]), (&json!("math.add"), &json!("io")));
}

#[tokio::test]
async fn a_body_is_json_whatever_it_is_called() {
    let house = House::open().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];

    let sent = house.ask("POST", "/api/tasks/math.add", &form, r#"{"args":[1,2]}"#).await;
    let none = house.ask("POST", "/api/tasks/math.greet", &[], Body::empty()).await;

    assert_eq!((sent.status, none.status), (202, 202));
}

#[tokio::test]
async fn an_id_of_any_letters_has_a_place() {
    let house = House::open().await;

    let sent = house.post("/api/tasks/math.greet", json!({ "id": "한/1?#%", "countdown": "1h" })).await;
    let run = house.get(sent.headers["location"].to_str().unwrap()).await;

    assert_eq!((&sent.json["state"], &run.json["id"]), (&json!("SCHEDULED"), &json!("한/1?#%")));
}

#[tokio::test]
async fn who_waits_is_answered_when_the_time_is_over() {
    let house = House::open().await;

    let sent = house.post("/api/tasks/math.add?wait=10ms", json!({ "args": [1, 2] })).await;
    let late = house.get(&format!("/api/tasks/{}?wait=0.01", sent.json["id"].as_str().unwrap())).await;

    assert_eq!((sent.status, &sent.json["state"]), (202, &json!("QUEUED")));
    assert_eq!((late.status, &late.json["state"]), (202, &json!("QUEUED")));
}

#[tokio::test]
async fn what_is_wrong_with_a_task_is_named() {
    let house = House::open().await;

    let unknown = house.post("/api/tasks/math.ad", json!({})).await;
    let missing = house.post("/api/tasks/math.add", json!({ "args": [1] })).await;
    let extra = house.post("/api/tasks/math.add", json!({ "args": [1], "kwargs": { "z": 1 } })).await;
    let no_array = house.post("/api/tasks/math.add", json!({ "args": 5 })).await;
    let field = house.post("/api/tasks/math.add", json!({ "arg": [1, 2] })).await;
    let broken = house.ask("POST", "/api/tasks/math.add", &[], "{").await;
    let wait = house.post("/api/tasks/math.add?wait=soon", json!({ "args": [1, 2] })).await;
    let query = house.post("/api/tasks/math.add?wiat=5s", json!({ "args": [1, 2] })).await;

    assert_problem(&unknown, 404, "unknown-task");
    assert_eq!(unknown.json["nearest"], "math.add");
    assert_problem(&missing, 422, "bad-arguments");
    assert_eq!((&missing.json["parameter"], &missing.json["task"]), (&json!("y"), &json!("math.add")));
    assert_problem(&extra, 422, "bad-arguments");
    assert_eq!(extra.json["parameter"], "z");
    assert_problem(&no_array, 422, "bad-field");
    assert_eq!(no_array.json["parameter"], "args");
    assert_problem(&field, 422, "bad-field");
    assert_eq!((&field.json["parameter"], &field.json["nearest"]), (&json!("arg"), &json!("args")));
    assert_problem(&broken, 400, "unreadable");
    assert_problem(&wait, 422, "bad-field");
    assert_problem(&query, 422, "bad-field");
    assert_eq!(query.json["nearest"], "wait");
    assert_eq!(house.get("/api/tasks").await.json["tasks"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn one_id_is_taken_once() {
    let house = House::open().await;
    let body = json!({ "args": [1, 2], "id": "mine" });

    let first = house.post("/api/tasks/math.add", body.clone()).await;
    let second = house.post("/api/tasks/math.add", body).await;
    let batch = json!([{ "task": "math.greet" }, { "task": "math.greet", "id": "mine" }]);
    let third = house.post("/api/tasks", batch).await;

    assert_eq!(first.status, 202);
    assert_problem(&second, 409, "duplicate-id");
    assert_eq!(second.json["id"], "mine");
    assert_problem(&third, 409, "duplicate-id");
    assert_eq!(third.json["index"], 1);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let house = House::open().await;

    let one = house.post("/api/tasks/math.greet", json!({ "args": ["x".repeat(1 << 20)] })).await;
    let many = house.ask("POST", "/api/tasks", &[], vec![b' '; (32 << 20) + 1]).await;
    let tasks = house.post("/api/tasks", json!(vec![json!({ "task": "math.greet" }); 10_001])).await;

    assert_problem(&one, 413, "too-large");
    assert_eq!(one.json["limit"], 1 << 20);
    assert_problem(&many, 413, "too-large");
    assert_problem(&tasks, 413, "too-large");
    assert_eq!(tasks.json["limit"], 10_000);
}

#[tokio::test]
async fn a_batch_is_stored_whole_and_in_order_or_not_at_all() {
    let house = House::open().await;
    let good: Vec<Value> =
        (0..20).map(|n| json!({ "task": "math.add", "args": [n, 1], "id": format!("n{n}") })).collect();
    let mut bad = good.clone();
    bad[7] = json!({ "task": "math.add", "args": [1] });

    let refused = house.post("/api/tasks", json!(bad)).await;
    let before = house.get("/api/tasks").await.json["tasks"].as_array().unwrap().len();
    let sent = house.post("/api/tasks", json!(good)).await;

    assert_problem(&refused, 422, "bad-arguments");
    assert_eq!((&refused.json["index"], &refused.json["parameter"]), (&json!(7), &json!("y")));
    assert_eq!((before, sent.status), (0, 202));
    let ids: Vec<&Value> = sent.json.as_array().unwrap().iter().map(|submitted| &submitted["id"]).collect();
    assert_eq!(ids, good.iter().map(|task| &task["id"]).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_ran_is_listed_newest_first() {
    let house = House::open().await;
    for n in 0..3 {
        house.post("/api/tasks/math.add", json!({ "args": [n, 0] })).await;
    }
    house.post("/api/tasks/math.greet", json!({ "countdown": 3600 })).await;

    let all = house.get("/api/tasks?limit=3").await.json;
    let adds = house.get("/api/tasks?name=math.add&state=QUEUED").await.json;
    let delayed = house.get("/api/tasks?state=SCHEDULED").await.json;

    let args = |listing: &Value| -> Vec<Value> {
        listing["tasks"].as_array().unwrap().iter().map(|run| run["args"][0].clone()).collect()
    };
    assert_eq!(args(&all), [json!(null), json!(2), json!(1)]);
    assert_eq!(args(&adds), [2, 1, 0]);
    assert_eq!(delayed["tasks"][0]["task"], "math.greet");
}

#[tokio::test]
async fn a_wrong_filter_is_named() {
    let house = House::open().await;

    for (query, field) in [
        ("state=DONE", "state"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("sate=X", "sate"),
    ] {
        let answer = house.get(&format!("/api/tasks?{query}")).await;
        assert_problem(&answer, 422, "bad-field");
        assert_eq!(answer.json["parameter"], field);
    }
}

#[tokio::test]
async fn an_unknown_run_is_not_found_and_not_waited_for() {
    let house = House::open().await;

    let found = house.get("/api/tasks/nope?wait=60s").await;
    let revoked = house.post("/api/tasks/nope/revoke", json!({})).await;
    let long = house.get(&format!("/api/tasks/{}", "x".repeat(300))).await;

    for answer in [found, revoked, long] {
        assert_problem(&answer, 404, "unknown-run");
    }
}

#[tokio::test]
async fn a_revoked_task_says_so() {
    let house = House::open().await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2], "id": "mine" })).await;

    let wrong = house.post("/api/tasks/mine/revoke", json!({ "terminat": true })).await;
    let revoked = house.ask("POST", "/api/tasks/mine/revoke", &[], Body::empty()).await;
    let again = house.post("/api/tasks/mine/revoke", json!({ "terminate": true })).await;

    assert_problem(&wrong, 422, "bad-field");
    assert_eq!(wrong.json["nearest"], "terminate");
    let expected = json!({ "id": "mine", "state": "REVOKED", "terminate": false });
    assert_eq!((revoked.status, &revoked.json), (202, &expected));
    assert_eq!((again.status, &again.json), (202, &expected));
    let run = house.get("/api/tasks/mine?wait=30s").await;
    assert_eq!((run.status, &run.json["state"]), (200, &json!("REVOKED")));
}

#[tokio::test]
async fn the_catalog_tells_what_can_run_and_what_is_broken() {
    let house = House::open().await;

    let all = house.get("/api/catalog").await.json;
    let add = house.get("/api/catalog/math.add").await.json;
    let unknown = house.get("/api/catalog/math.gret").await;

    let names: Vec<&Value> = all["tasks"].as_array().unwrap().iter().map(|task| &task["name"]).collect();
    assert_eq!(names, ["math.add", "math.greet"]);
    assert_eq!(all["tasks"][1]["params"], json!([[], ["name"]]));
    assert_eq!((&add["params"], &add["doc"]), (&json!([["x", "y"]]), &json!("Adds two numbers.")));
    assert_eq!((&add["file"], &add["line"], &add["plugin"]), (&json!("tasks/math.rhai"), &json!(2), &json!(null)));
    assert_eq!((&add["options"]["queue"], &add["options"]["time_limit"]), (&json!("io"), &json!("30s")));
    assert!(add["hash"].as_str().is_some_and(|hash| hash.len() > 8));
    let broken = &all["broken"][0];
    assert_eq!((&broken["file"], &broken["line"]), (&json!("tasks/bad.rhai"), &json!(2)));
    assert!(broken["column"].is_u64() && broken["message"].is_string() && broken["excerpt"].is_string(), "{broken}");
    assert_eq!(all["plugins"][0]["name"], "echo");
    assert_eq!(all["consumers"][0]["path"], "/ws/echo/{name}/");
    assert_problem(&unknown, 404, "unknown-task");
    assert_eq!(unknown.json["nearest"], "math.greet");
}

#[tokio::test]
async fn a_task_whose_file_does_not_compile_is_missed_with_the_reason() {
    let house = House::open().await;

    let sent = house.post("/api/tasks/bad.one", json!({})).await;

    assert_problem(&sent, 404, "unknown-task");
    let detail = sent.json["detail"].as_str().unwrap();
    assert!(detail.starts_with("no task named `bad.one` now: tasks/bad.rhai:2:"), "{detail}");
}

#[tokio::test]
async fn health_is_told() {
    let house = House::open().await;

    assert_eq!(house.get("/healthz").await.status, 200);
    assert_eq!(house.get("/readyz").await.status, 200);
    assert!(house.get("/").await.json.as_str().unwrap().contains("/api/catalog"));
}

#[tokio::test]
async fn a_house_without_its_scripts_is_not_ready() {
    let house = House::open().await;
    let client = Client::new(house.state.client.stores().clone(), Default::default(), String::new());
    let app = router(AppState { client, ..house.state.clone() }, CancellationToken::new());

    let answer = House { app, ..house }.get("/readyz").await;

    assert_problem(&answer, 503, "not-ready");
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let house = House::open().await;

    assert_problem(&house.get("/api/nothing").await, 404, "unknown-path");
    assert_problem(&house.get("/api/tasks/%FF").await, 400, "unreadable");
    assert_problem(&house.get("/api/tasks?limit=%FF").await, 422, "bad-field");
    let wrong = house.ask("DELETE", "/api/tasks/x", &[], Body::empty()).await;
    assert_problem(&wrong, 405, "wrong-method");
    assert_eq!(wrong.headers["allow"], "GET,HEAD,POST");
    assert_problem(&house.ask("PUT", "/healthz", &[], Body::empty()).await, 405, "wrong-method");
    assert_problem(&house.get("/ws/echo/me/").await, 426, "sockets-only");
}

#[tokio::test]
async fn pages_of_other_sites_are_kept_out_everywhere() {
    let house = House::open().await;

    for path in ["/", "/healthz", "/api/tasks", "/api/nothing", "/ws/echo/me/"] {
        for headers in [
            [("host", "evil.example"), ("accept", "*/*")],
            [("host", "localhost"), ("origin", "https://evil.example")],
            [("host", "localhost"), ("origin", "null")],
            [("host", "localhost"), ("sec-fetch-site", "cross-site")],
        ] {
            let answer = house.ask("GET", path, &headers, Body::empty()).await;
            assert_problem(&answer, 403, "foreign-request");
        }
    }
    let known = [("host", "umbel.example"), ("origin", "https://umbel.example")];
    assert_eq!(house.ask("GET", "/healthz", &known, Body::empty()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_talks_to_its_consumer() {
    let house = House::open().await;
    let (address, _) = house.serve().await;
    let (mut socket, _) = connect_async(format!("ws://{address}/ws/echo/me/")).await.unwrap();

    socket.send(Message::text(r#"{"message":"hello"}"#)).await.unwrap();
    let heard = next(&mut socket).await;
    socket.send(Message::text("x".repeat(channels::MAX_FRAME + 1))).await.unwrap();
    let ended = next(&mut socket).await;

    assert_eq!(heard, Message::text(r#"{"heard":"hello"}"#));
    let Message::Close(Some(frame)) = ended else { panic!("{ended:?}") };
    assert_eq!(u16::from(frame.code), 1009);
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame").expect("a frame").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_frame_that_a_consumer_may_send_arrives() {
    let house = House::open().await;
    let (address, _) = house.serve().await;
    let (mut socket, _) = connect_async(format!("ws://{address}/ws/echo/me/")).await.unwrap();

    socket.send(Message::text(json!({ "message": channels::MAX_SENT }).to_string())).await.unwrap();

    assert_eq!(next(&mut socket).await, Message::text("small"));
    assert_eq!(next(&mut socket).await.len(), channels::MAX_SENT);
}

/// What a browser sends for a page of `origin` that opens a socket.
fn from_page(address: SocketAddr, origin: &str, site: &str) -> Request<()> {
    let mut request = format!("ws://{address}/ws/echo/me/").into_client_request().unwrap();
    request.headers_mut().insert("origin", origin.parse().unwrap());
    request.headers_mut().insert("sec-fetch-site", site.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_port_of_this_machine_opens_a_socket() {
    let house = House::open().await;
    let (address, _) = house.serve().await;

    for (origin, site) in [("http://127.0.0.1:8000", "same-site"), ("http://localhost:8000", "cross-site")] {
        let (mut socket, _) = connect_async(from_page(address, origin, site)).await.unwrap();
        socket.send(Message::text(r#"{"message":"hello"}"#)).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text(r#"{"heard":"hello"}"#), "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_nobody_takes_is_refused() {
    let house = House::open().await;
    let (address, _) = house.serve().await;
    let foreign = from_page(address, "https://evil.example", "cross-site");
    let plain = |path: &str| format!("ws://{address}{path}").into_client_request().unwrap();

    for (request, status) in [(plain("/ws/echo/nobody/"), 403), (foreign, 403), (plain("/ws/nothing/"), 404)] {
        match connect_async(request).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), StatusCode::from_u16(status).unwrap()),
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_door_lets_nobody_wait() {
    let house = House::open().await;
    let (address, serving) = house.serve().await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2], "id": "mine" })).await;
    let mut waiting = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /api/tasks/mine?wait=60s HTTP/1.1\r\nhost: localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut waiting, request.as_bytes()).await.unwrap();

    house.close.cancel();
    let mut answer = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut waiting, &mut answer);
    let read = tokio::time::timeout(PATIENCE, read).await.expect("an answer");

    tokio::time::timeout(PATIENCE, serving).await.expect("its end").unwrap();
    // The request may also come when the door is closed already, and then the connection is only cut.
    assert!(read.is_ok() || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 202"), "{answer}");
}
