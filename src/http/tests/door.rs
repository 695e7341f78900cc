//! Who is let in, in what form, and how a refusal looks.

use axum::http::Method;

use super::*;
use crate::http::access::{self, Access, TABLE};
use crate::http::{Scope, Token};

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
}

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
async fn health_is_told_whatever_the_host_is_called() {
    let house = House::open().await;
    let probe = [("host", "10.1.2.3:8080"), ("user-agent", "kube-probe/1.33")];

    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/", 403), ("/api/tasks", 403)] {
        assert_eq!(house.ask("GET", path, &probe, Body::empty()).await.status, status, "{path}");
    }
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
            [("host", "evil.example"), ("origin", "https://evil.example")],
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
