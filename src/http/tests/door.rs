//! Who is let in, in what form, for how long.

use axum::http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::http::access::{self, Access, TABLE};
use crate::http::line::Patience;
use crate::http::server::{self, Bounds};
use crate::http::{Scope, Token};

const SHORT: Duration = Duration::from_millis(50);

/// Bounds that no test reaches by chance.
const WIDE: Bounds = Bounds {
    connections: 100,
    idle: PATIENCE,
    patience: Patience { head: PATIENCE, stall: PATIENCE, farewell: PATIENCE },
    farewells: PATIENCE,
};

impl House {
    /// Behind tokens that are called as their scopes, and one with none.
    async fn with_tokens() -> Self {
        let house = Self::open().await;
        let token = |name: &str, scopes: &[Scope]| Token {
            name: name.to_owned(),
            hash: Token::hash_of(name),
            scopes: scopes.to_vec(),
        };
        let mut tokens: Vec<Token> = Scope::ALL.iter().map(|scope| token(scope.as_str(), &[*scope])).collect();
        tokens.push(token("none", &[]));
        let state = AppState { tokens, local_token: Some("local".to_owned()), ..house.state.clone() };
        Self { app: router(state.clone(), house.close.clone()), state, ..house }
    }

    async fn ask_as(&self, token: &str, method: &str, path: &str) -> Answer {
        self.ask(method, path, &[("authorization", &format!("Bearer {token}"))], Body::empty()).await
    }

    async fn serve_within(&self, bounds: Bounds) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = router(self.state.clone(), self.close.clone());
        (address, tokio::spawn(server::run(listener, app, bounds, self.close.clone())))
    }
}

async fn say(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Everything that comes until the connection ends, however it does.
async fn hear(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("the connection ends");
    String::from_utf8(heard).unwrap()
}

/// One answer that has no body worth reading.
async fn hear_head(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 512];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut part)).await.expect("an answer").unwrap();
        assert!(read > 0, "the connection ended after {heard:?}");
        heard.extend_from_slice(&part[..read]);
    }
    String::from_utf8(heard).unwrap()
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn every_route_asks_for_its_scope() {
    let house = House::with_tokens().await;

    for (method, route, scopes) in TABLE {
        let path = route.replace("{task}", "x").replace("{name}", "x").replace("{id}", "x");
        assert_problem(&house.ask(method, &path, &[], Body::empty()).await, 401, "no-token");
        let wrong = house.ask_as("wrong", method, &path).await;
        assert_problem(&wrong, 401, "no-token");
        assert_eq!(wrong.headers["www-authenticate"], "Bearer");
        for scope in Scope::ALL {
            let answer = house.ask_as(scope.as_str(), method, &path).await;
            if scopes.contains(&scope) {
                assert!(![401, 403].contains(&answer.status), "{method} {path} as {scope:?}: {}", answer.json);
                assert_ne!(answer.json["type"], "urn:umbel:problem:unknown-path", "{method} {path}");
            } else {
                assert_problem(&answer, 403, "lacking-scope");
                assert_eq!(answer.json["scopes"], json!(scopes), "{method} {path}");
            }
        }
        assert_problem(&house.ask_as("none", method, &path).await, 403, "lacking-scope");
        assert!(![401, 403].contains(&house.ask_as("local", method, &path).await.status), "{method} {path}");
    }
}

#[tokio::test]
async fn health_is_told_without_a_token_and_the_rest_only_with_one() {
    let house = House::with_tokens().await;

    assert_eq!((house.get("/healthz").await.status, house.get("/readyz").await.status), (200, 200));
    for path in ["/api/nothing", "/ws/echo/me/", "/api/tasks/a/b/c", "/favicon.ico"] {
        assert_problem(&house.get(path).await, 401, "no-token");
    }
    assert_problem(&house.ask_as("none", "GET", "/api/nothing").await, 404, "unknown-path");
    assert_problem(&house.ask_as("none", "DELETE", "/api/tasks").await, 405, "wrong-method");
    assert_problem(&house.ask_as("read", "GET", "/ws/echo/me/").await, 403, "lacking-scope");
    assert_problem(&house.ask_as("send", "GET", "/ws/echo/me/").await, 426, "sockets-only");
    assert_eq!(access::needed(&Method::GET, Some("/new")), Access::Nobody);
}

#[tokio::test]
async fn a_token_is_not_taken_from_the_query_of_a_plain_request() {
    let house = House::with_tokens().await;

    let plain = house.get("/api/tasks?token=read").await;
    assert_problem(&plain, 401, "no-token");
    assert!(plain.json["detail"].as_str().unwrap().starts_with("`?token=` counts only for"), "{}", plain.json);
    let events = [("accept", "text/event-stream")];
    assert_eq!(house.ask("GET", "/api/tasks?limit=1&token=read", &events, Body::empty()).await.status, 200);
    assert_problem(&house.ask("POST", "/api/tasks?token=send", &events, Body::empty()).await, 401, "no-token");
}

#[tokio::test]
async fn where_no_token_is_asked_for_one_that_is_shown_does_no_harm() {
    let open = House::open().await;
    let closed = House::with_tokens().await;
    let read = [("authorization", "Bearer read")];

    assert_eq!(open.get("/api/tasks?limit=1&token=any").await.status, 200);
    assert_eq!(open.ask("GET", "/api/tasks", &read, Body::empty()).await.status, 200);
    assert_eq!(closed.ask("GET", "/api/tasks?token=other", &read, Body::empty()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_may_show_its_token_in_the_query() {
    let house = House::with_tokens().await;
    let (address, _) = house.serve().await;

    let (mut socket, _) = connect_async(format!("ws://{address}/ws/echo/me/?token=send")).await.unwrap();
    socket.send(Message::text(r#"{"message":"hello"}"#)).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text(r#"{"heard":"hello"}"#));

    for (query, status) in [("", 401), ("?token=wrong", 401), ("?token=read", 403)] {
        match connect_async(format!("ws://{address}/ws/echo/me/{query}")).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status().as_u16(), status, "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn bodies_that_are_not_plain_are_refused_with_the_way_out() {
    let house = House::open().await;
    let body = r#"{"args":[1,2]}"#;

    for header in [
        ("content-encoding", "gzip"),
        ("content-encoding", "identity, br"),
        ("content-type", "Multipart/form-data; boundary=x"),
    ] {
        let answer = house.ask("POST", "/api/tasks/math.add", &[header], body).await;
        assert_problem(&answer, 415, "unsupported-body");
        assert!(answer.json["detail"].as_str().unwrap().contains("; send "), "{}", answer.json);
    }
    let plain = house.ask("POST", "/api/tasks/math.add", &[("content-encoding", "identity")], body).await;
    assert_eq!(plain.status, 202);
}

#[tokio::test]
async fn a_long_uri_is_refused() {
    let house = House::open().await;

    let long = house.get(&format!("/api/tasks?name={}", "x".repeat(8 << 10))).await;

    assert_problem(&long, 414, "long-uri");
    assert_eq!(long.json["limit"], 8 << 10);
}

#[tokio::test]
async fn answers_are_neither_guessed_nor_kept() {
    let house = House::open().await;

    for path in ["/api/tasks", "/api/nothing", "/healthz"] {
        let answer = house.get(path).await;
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers.contains_key("cache-control"), path.starts_with("/api"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_wait_for_a_seat() {
    let house = House::open().await;
    let (address, _) = house.serve_within(Bounds { connections: 1, ..WIDE }).await;

    let mut first = say(address, HEALTH).await;
    assert!(hear_head(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = say(address, HEALTH).await;
    assert!(tokio::time::timeout(SHORT, second.read_u8()).await.is_err(), "there is no seat yet");
    drop(first);

    assert!(hear_head(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_is_asked_ends() {
    let house = House::open().await;
    let (address, _) = house.serve_within(Bounds { idle: SHORT, ..WIDE }).await;

    let heard = hear(&mut say(address, HEALTH).await).await;

    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_ends_its_connection() {
    let house = House::open().await;
    let (address, _) = house.serve_within(Bounds { patience: Patience { head: SHORT, ..WIDE.patience }, ..WIDE }).await;

    for text in ["", "GET /healthz HTTP/1.1\r\nhost: local"] {
        assert_eq!(hear(&mut say(address, text).await).await, "");
    }
    let mut second = say(address, HEALTH).await;
    hear_head(&mut second).await;
    second.write_all(b"GET").await.unwrap();
    hear(&mut second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_not_a_head_that_does_not_come() {
    let house = House::open().await;
    let bounds = Bounds { idle: SHORT, patience: Patience { head: SHORT, ..WIDE.patience }, ..WIDE };
    let (address, _) = house.serve_within(bounds).await;
    let (mut socket, _) = connect_async(format!("ws://{address}/ws/echo/me/")).await.unwrap();

    for _ in 0..3 {
        assert!(tokio::time::timeout(2 * SHORT, socket.next()).await.is_err());
        socket.send(Message::text(r#"{"message":"hello"}"#)).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text(r#"{"heard":"hello"}"#));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_still_reads_that_it_is_too_much() {
    let house = House::open().await;
    let (address, _) = house.serve_within(WIDE).await;
    let length = 8 << 20;
    let head = format!("POST /api/tasks/math.greet HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    let mut stream = say(address, &head).await;

    // All of it, before a byte of the answer is read.
    stream.write_all(&vec![b' '; length]).await.expect("what is sent is taken");
    stream.shutdown().await.unwrap();

    assert!(hear(&mut stream).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_door_ends_what_is_idle_and_answers_what_is_asked() {
    let house = House::open().await;
    let (address, serving) = house.serve_within(WIDE).await;
    let mut idle = say(address, HEALTH).await;
    hear_head(&mut idle).await;
    let mut waiting = Vec::new();
    for n in 0..20 {
        let head = concat!(
            "POST /api/tasks/math.add?wait=60s HTTP/1.1\r\nhost: localhost\r\n",
            "expect: 100-continue\r\ncontent-length: 14\r\n\r\n"
        );
        let mut stream = say(address, head).await;
        // The server asks for the body, so it has taken the request.
        assert!(hear_head(&mut stream).await.starts_with("HTTP/1.1 100"));
        if n % 2 == 0 {
            stream.write_all(br#"{"args":[1,2]}"#).await.unwrap();
        }
        waiting.push(stream);
    }

    house.close.cancel();
    for stream in waiting.iter_mut().skip(1).step_by(2) {
        stream.write_all(br#"{"args":[1,2]}"#).await.unwrap();
    }

    for stream in &mut waiting {
        let answer = hear(stream).await;
        assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("\"QUEUED\""), "{answer}");
    }
    assert!(!hear(&mut idle).await.contains("HTTP/1.1"));
    tokio::time::timeout(PATIENCE, serving).await.expect("its end").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_stopping_process_is_not_ready_and_answers_all_the_same() {
    let house = House::open().await;
    assert_eq!(house.get("/readyz").await.status, 200);

    house.state.stopping.cancel();

    let ready = house.get("/readyz").await;
    assert_problem(&ready, 503, "not-ready");
    assert_eq!(ready.json["part"], "process");
    assert_eq!(house.get("/healthz").await.status, 200);
    assert_eq!(house.post("/api/tasks/math.add", json!({ "args": [1, 2] })).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_door_does_not_wait_for_ever() {
    let house = House::open().await;
    let (address, serving) = house.serve_within(Bounds { farewells: SHORT, ..WIDE }).await;
    let head =
        "POST /api/tasks/math.greet HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let mut sending = say(address, head).await;
    hear_head(&mut sending).await;

    house.close.cancel();

    tokio::time::timeout(PATIENCE, serving).await.expect("its end").unwrap();
}
