//! The door with real scripts and a store in memory, and nobody who works: everything that needs no worker.

mod batches;
mod connections;
mod door;
mod following;
mod keys;
mod looking;
mod operating;
mod sending;
mod sockets;

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::connect_async;
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

    async fn count(&self) -> usize {
        self.get("/api/tasks?limit=1000").await.json["tasks"].as_array().unwrap().len()
    }

    async fn with_key(&self, path: &str, key: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("idempotency-key", key)], body.to_owned()).await
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

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame").expect("a frame").unwrap()
}

fn code(frame: Message) -> u16 {
    let Message::Close(Some(close)) = frame else { panic!("{frame:?} closes nothing") };
    close.code.into()
}

fn ids(answer: &Answer) -> Vec<&str> {
    answer.json.as_array().unwrap().iter().map(|submitted| submitted["id"].as_str().unwrap()).collect()
}
