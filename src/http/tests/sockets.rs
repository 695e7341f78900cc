//! The sockets of consumers.

use axum::http::StatusCode;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;

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
