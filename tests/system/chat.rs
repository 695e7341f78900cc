//! The client of the Channels tutorial, talking to the shipped plugin.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::house::{House, PATIENCE, Plan};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn house() -> House {
    Plan::new().shipped("plugins/chat").start()
}

async fn join(house: &House, room: &str) -> Socket {
    connect_async(format!("ws://{}/ws/chat/{room}/", house.address)).await.unwrap().0
}

async fn say(socket: &mut Socket, text: &str) {
    // What the tutorial's page sends.
    socket.send(Message::text(json!({ "message": text }).to_string())).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Value {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame").unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_in_the_room_hears_it_the_speaker_too() {
    let house = house();
    let mut ann = join(&house, "lobby").await;
    let mut bob = join(&house, "lobby").await;

    say(&mut ann, "hi").await;
    say(&mut bob, "ho").await;

    for socket in [&mut ann, &mut bob] {
        let heard = [hear(socket).await["message"].clone(), hear(socket).await["message"].clone()];
        assert!(heard.contains(&json!("hi")) && heard.contains(&json!("ho")), "{heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_room_hears_nothing() {
    let house = house();
    let mut ann = join(&house, "lobby").await;
    let mut eve = join(&house, "%EB%8C%80%ED%99%94").await;

    say(&mut ann, "secret").await;
    assert_eq!(hear(&mut ann).await["message"], "secret");
    say(&mut eve, "hello?").await;

    assert_eq!(hear(&mut eve).await["message"], "hello?");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_close_no_room() {
    let house = house();
    let mut ann = join(&house, "lobby").await;
    let mut bob = join(&house, "lobby").await;

    for bad in ["", "no json", "[]", "5", "{}", r#"{"message":5}"#, r#"{"type":"websocket.disconnect"}"#] {
        ann.send(Message::text(bad)).await.unwrap();
    }
    say(&mut ann, "still here").await;

    assert_eq!(hear(&mut bob).await["message"], "still here");
    assert_eq!(hear(&mut ann).await["message"], "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_no_consumer_has_is_not_found() {
    let house = house();

    for path in ["/ws/nope/", "/ws/chat/", "/ws/chat/a/b/"] {
        match connect_async(format!("ws://{}{path}", house.address)).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 404, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_another_site_is_refused() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let house = house();
    let mut request = format!("ws://{}/ws/chat/lobby/", house.address).into_client_request().unwrap();
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());

    match connect_async(request).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_umbel_says_goodbye() {
    let house = house();
    let mut ann = join(&house, "lobby").await;

    house.signal("TERM");

    loop {
        match tokio::time::timeout(PATIENCE, ann.next()).await.expect("a frame") {
            Some(Ok(Message::Close(Some(frame)))) => break assert_eq!(u16::from(frame.code), 1001),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
