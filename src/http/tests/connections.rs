//! Connections: how many, for how long, and how they end when the door closes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::http::line::Patience;
use crate::http::server::{self, Bounds};

const SHORT: Duration = Duration::from_millis(50);

/// Bounds that no test reaches by chance.
const WIDE: Bounds = Bounds {
    connections: 100,
    idle: PATIENCE,
    patience: Patience { head: PATIENCE, stall: PATIENCE, farewell: PATIENCE },
    farewells: PATIENCE,
};

impl House {
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

#[tokio::test]
async fn a_closing_door_ends_the_events() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;
    let following = house.get("/api/tasks/mine/events");

    let (followed, ()) = tokio::join!(following, async { house.close.cancel() });

    assert_eq!(followed.json.as_str().unwrap().matches("event: ").count(), 1, "{}", followed.json);
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
