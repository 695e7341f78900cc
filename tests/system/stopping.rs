//! What others see of an umbel that stops, as a proxy before it and a page in a browser do.

use futures_util::StreamExt;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::house::{House, PATIENCE, Plan, eventually};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

// Ends when it is told to, because no other task could open a gate for it while umbel stops.
const SCRIPT: &str = "fn wait() { while !task::is_revoked() { sleep(0.01); } \"done\" }\nfn next() { 1 }";

fn with_something_running() -> House {
    let house = Plan::new().shipped("plugins/chat").script("it.rhai", SCRIPT).setting("UMBEL_GRACE", "120s").start();
    house.post("/api/tasks/it.wait", &json!({ "id": "running" }));
    eventually("it runs", || house.get("/api/tasks/running").json["state"] == "STARTED");
    house
}

fn stops(house: &House) {
    house.signal("TERM");
    eventually("it is not ready", || house.get("/readyz").status == 503);
}

#[test]
fn the_door_is_open_until_what_runs_has_ended() {
    let house = with_something_running();
    stops(&house);

    let (alive, ready) = (house.get("/healthz"), house.get("/readyz"));
    let sent = house.post("/api/tasks/it.next", &json!({ "id": "kept" }));
    let ended = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| house.get("/api/tasks/running?wait=60s"));
        assert_eq!(house.post("/api/tasks/running/revoke", &json!({})).json["state"], "STARTED");
        waiting.join().unwrap()
    });

    assert_eq!((alive.status, ready.status, &ready.json["part"]), (200, 503, &json!("process")));
    assert_eq!(sent.status, 202);
    assert_eq!((ended.status, &ended.json["result"]), (200, &json!("done")));
    let folder = house.folder.clone();
    assert!(house.ends().success());
    let house = Plan::in_folder(folder).start();
    assert_eq!(house.get("/api/tasks/kept?wait=60s").json["result"], 1);
}

/// The code with which the socket is closed, and the last text before that.
async fn end_of(mut socket: Socket) -> (u16, String) {
    let mut last = String::new();
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame").expect("a farewell").unwrap() {
            Message::Text(text) => last = text.to_string(),
            Message::Close(frame) => return (frame.expect("a code").code.into(), last),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_closed_when_what_runs_has_ended() {
    let house = with_something_running();
    let open = async |path: &str| connect_async(format!("ws://{}{path}", house.address)).await.unwrap().0;
    let (of_running, chat) = (open("/ws/tasks/running/").await, open("/ws/chat/lobby/").await);
    stops(&house);
    house.post("/api/tasks/it.next", &json!({ "id": "kept" }));
    let of_kept = open("/ws/tasks/kept/").await;

    house.post("/api/tasks/running/revoke", &json!({}));

    let (code, last) = end_of(of_running).await;
    assert!(code == 1000 && last.contains("\"result\":\"done\""), "{code}: {last}");
    assert_eq!(end_of(chat).await.0, 1001);
    let (code, last) = end_of(of_kept).await;
    assert!(code == 1001 && last.contains("\"state\":\"QUEUED\""), "{code}: {last}");
    assert!(house.ends().success());
}
