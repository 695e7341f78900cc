//! Consumers as their authors write them, on real threads, with transports in memory.

use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::sync::mpsc;

use super::peer::Peer;
use super::*;
use crate::plugin::{Catalog, Catalogs, Task};
use crate::script::{Roots, Script};
use crate::store;
use crate::task::{Options, State, TaskId};

/// A hub whose scripts may `note(text)` something to the test and stand still at `gate()`.
struct House {
    hub: Hub,
    client: Client,
    engine: Arc<rhai::Engine>,
    notes: mpsc::UnboundedReceiver<String>,
    gate: blocking::Sender<()>,
}

impl House {
    async fn open() -> Self {
        Self::with(Settings { threads: 2, sockets: 100 }).await
    }

    async fn with(settings: Settings) -> Self {
        let (noted, notes) = mpsc::unbounded_channel();
        let (gate, passing) = blocking::channel();
        let passing = Mutex::new(passing);
        let mut engine = crate::script::engine();
        crate::module::register(&mut engine);
        engine.register_fn("note", move |text: &str| drop(noted.send(text.to_owned())));
        engine.register_fn("gate", move || {
            let _ = passing.lock().unwrap().recv();
        });
        let engine = Arc::new(engine);
        let folder = std::path::Path::new(".");
        let stores = store::open("memory:", folder, store::Settings::default()).await.unwrap();
        let client = Client::new(stores, Catalogs::default(), "test".to_owned());
        Self { hub: Hub::new(engine.clone(), client.clone(), settings), client, engine, notes, gate }
    }

    fn script(&self, file: &str, source: &str) -> Arc<Script> {
        let roots = Roots { project: ".".into(), scripts: ".".into(), ..Roots::default() };
        Arc::new(Script::load(&self.engine, &roots, file, source).unwrap())
    }

    fn consumer(&self, source: &str) -> Arc<Consumer> {
        let script = self.script("plugins/test/test.rhai", source);
        Arc::new(Consumer { path: "/ws/{room}/".to_owned(), script, plugin: "test".to_owned() })
    }

    /// Makes `math.add` a task that can be sent.
    fn with_a_task(self) -> Self {
        let task = Task {
            name: "math.add".to_owned(),
            function: "add".to_owned(),
            overloads: vec![vec!["x".to_owned(), "y".to_owned()]],
            doc: String::new(),
            line: 1,
            options: Options::default(),
            script: self.script("tasks/math.rhai", "fn add(x, y) { x + y }"),
            plugin: None,
        };
        let tasks = [(task.name.clone(), Arc::new(task))].into();
        self.client.catalogs().swap(Catalog { tasks, ..Catalog::default() });
        self
    }

    async fn connect(&self, source: &str) -> Result<Opening, Refused> {
        self.enter(&self.consumer(source), "lobby").await
    }

    async fn enter(&self, consumer: &Arc<Consumer>, room: &str) -> Result<Opening, Refused> {
        let params = [("room".to_owned(), room.to_owned())].into();
        self.hub.open(consumer.clone(), Scope { params, ..Scope::default() }).await
    }

    /// A client of a consumer that accepts it.
    async fn client_of(&self, source: &str) -> Peer {
        Peer::join(self.connect(source).await.unwrap(), 1000)
    }

    fn send(&self, kind: &str) {
        self.hub.group_send("lobby", &json!({ "type": kind })).unwrap();
    }

    async fn noted(&mut self) -> String {
        self.notes.recv().await.unwrap()
    }

    /// Everything noted until all sockets are closed.
    async fn noted_to_the_end(mut self) -> Vec<String> {
        assert!(self.hub.close_all(Duration::from_secs(30)).await);
        std::iter::from_fn(|| self.notes.try_recv().ok()).collect()
    }
}

/// Echoes, tells of its end, fails and hangs on demand.
const ECHO: &str = r#"
    fn connect(scope) { accept(); group_add("lobby"); this.turns = 0; }
    fn receive(scope, frame) {
        this.turns += 1;
        switch frame.get("do") {
            "fail" => throw "on demand",
            "gate" => { note("at the gate"); gate(); }
            "loop" => loop { }
            "close" => close(4321),
            "flood" => {
                let text = "x";
                text.pad(100_000, 'x');
                for number in 0..40 { send(text); }
            }
            _ => send(#{ turns: this.turns }),
        }
    }
    fn on_hello(scope, event) { send(#{ hello: true }); }
    fn on_fail(scope, event) { throw "on demand"; }
    fn disconnect(scope, code) { note("closed " + code); }
"#;

fn asks(what: &str) -> Incoming {
    Incoming::Text(json!({ "do": what }).to_string())
}

fn chat() -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/chat/chat.rhai");
    std::fs::read_to_string(file).unwrap()
}

#[tokio::test]
async fn what_one_says_everyone_in_the_room_hears() {
    let house = House::open().await;
    let consumer = house.consumer(&chat());
    let mut lobby = Vec::new();
    for _ in 0..3 {
        lobby.push(Peer::join(house.enter(&consumer, "로비 1").await.unwrap(), 9));
    }
    let mut other = Peer::join(house.enter(&consumer, "other").await.unwrap(), 9);

    lobby[0].says_text(r#"{"message": "안녕"}"#);
    other.says_text(r#"{"message": "elsewhere"}"#);

    for peer in &mut lobby {
        assert_eq!(peer.hears_text().await, r#"{"message":"안녕"}"#);
    }
    assert_eq!(other.hears_text().await, r#"{"message":"elsewhere"}"#);
}

#[tokio::test]
async fn the_tutorials_page_gets_only_messages() {
    let house = House::open().await;
    let mut peer = house.client_of(&chat()).await;

    for bad in [r#"{}"#, r#"{"message": 1}"#, r#"{"message": null}"#, r#"{"text": "hi"}"#, "[]", "no JSON", ""] {
        peer.says_text(bad);
    }
    house.hub.group_send("chat_lobby", &json!({ "type": "chat.message", "message": 7 })).unwrap();
    house.hub.group_send("chat_lobby", &json!({ "type": "chat.message" })).unwrap();
    peer.says_text(r#"{"message": "hi", "extra": 1}"#);

    assert_eq!(peer.hears_text().await, r#"{"message":"hi"}"#);
}

#[tokio::test]
async fn a_room_has_a_name_of_64_characters_at_most() {
    let house = House::open().await;
    let consumer = house.consumer(&chat());

    assert!(house.enter(&consumer, &"방".repeat(64)).await.is_ok());
    assert_eq!(house.enter(&consumer, &"방".repeat(65)).await.err(), Some(Refused::NotAccepted));
}

#[tokio::test]
async fn connect_decides() {
    let house = House::open().await;
    for (connect, expected) in [
        ("accept();", None),
        ("group_add(\"lobby\"); accept(); send(#{});", None),
        ("", Some(Refused::NotAccepted)),
        ("close(4000);", Some(Refused::NotAccepted)),
        ("throw \"no\";", Some(Refused::Failed)),
        ("accept(); throw \"no\";", Some(Refused::Failed)),
        ("send(#{}); accept();", Some(Refused::Failed)),
        ("accept(); close(7);", Some(Refused::Failed)),
        ("accept(); sleep(0.1);", Some(Refused::Failed)),
        ("accept(); group_add(\"\");", Some(Refused::Failed)),
        ("accept(); group_send(\"lobby\", #{ type: \"websocket.receive\" });", Some(Refused::Failed)),
    ] {
        let refused = house.connect(&format!("fn connect(scope) {{ {connect} }}")).await.err();

        assert_eq!(refused, expected, "{connect}");
    }
}

#[tokio::test]
async fn a_consumer_without_connect_accepts() {
    let house = House::open().await;

    assert!(house.connect("fn receive(scope, frame) { }").await.is_ok());
}

#[tokio::test]
async fn a_private_function_handles_nothing() {
    let house = House::open().await;
    let mut peer = house.client_of(&format!("{ECHO} private fn on_secret(scope, event) {{ send(#{{}}); }}")).await;

    house.send("secret");
    house.send("hello");

    assert_eq!(peer.hears_text().await, r#"{"hello":true}"#);
}

#[tokio::test]
async fn what_came_before_the_transport_is_delivered() {
    let house = House::open().await;
    let opening = house.connect(ECHO).await.unwrap();

    house.send("hello");

    assert_eq!(Peer::join(opening, 9).hears_text().await, r#"{"hello":true}"#);
}

#[tokio::test]
async fn this_lives_from_turn_to_turn_also_through_errors() {
    let house = House::open().await;
    let mut peer = house.client_of(ECHO).await;

    peer.says_text("{}");
    peer.says(asks("fail"));
    peer.says_text("{}");

    assert_eq!(peer.hears_text().await, r#"{"turns":1}"#);
    assert_eq!(peer.hears_text().await, r#"{"turns":3}"#);
}

#[tokio::test]
async fn a_state_that_grows_without_end_counts_as_failures() {
    let mut house = House::open().await;
    let grows = r#"
        fn connect(scope) { accept(); this.turns = 0; this.text = "x"; }
        fn receive(scope, frame) {
            this.turns = 1;
            this.text = "x";
            for _i in 0..21 { this.text += this.text; }
        }
        fn disconnect(scope, code) { note("closed " + code + " with " + this.len()); }
    "#;
    let mut peer = house.client_of(grows).await;

    for _ in 0..FAILURES_IN_A_ROW {
        peer.says_text("{}");
    }

    assert_eq!(peer.hears_close().await, code::SCRIPT_ERRORS);
    assert_eq!(house.noted().await, "closed 1011 with 0");
}

#[tokio::test]
async fn a_turn_that_does_not_end_is_ended() {
    let house = House::open().await;
    let mut peer = house.client_of(ECHO).await;

    peer.says(asks("loop"));
    peer.says_text("{}");

    assert_eq!(peer.hears_text().await, r#"{"turns":2}"#);
}

#[tokio::test]
async fn a_missing_handler_is_reported_once() {
    let house = House::open().await;
    let (one, other) = (house.consumer(ECHO), house.consumer(&chat()));

    assert!(house.hub.is_news(&one, "on_nothing"));
    assert!(!house.hub.is_news(&one, "on_nothing"));
    assert!(house.hub.is_news(&other, "on_nothing"));
}

#[tokio::test]
async fn bad_events_close_nothing() {
    let house = House::open().await;
    let mut peer = house.client_of(ECHO).await;

    for _ in 0..3 * FAILURES_IN_A_ROW {
        house.send("fail");
        house.send("unknown");
    }
    house.send("hello");

    assert_eq!(peer.hears_text().await, r#"{"hello":true}"#);
}

#[tokio::test]
async fn bad_frames_are_ignored_up_to_a_limit() {
    let mut house = House::open().await;
    let mut peer = house.client_of(ECHO).await;

    for _ in 0..BAD_FRAMES_IN_A_ROW {
        peer.says(Incoming::Binary);
    }
    peer.says_text("{}");
    for _ in 0..BAD_FRAMES_IN_A_ROW {
        peer.says_text("[1]");
    }
    peer.says_text("no JSON");

    assert_eq!(peer.hears_text().await, r#"{"turns":1}"#);
    assert_eq!(peer.hears_close().await, code::BAD_FRAMES);
    assert_eq!(house.noted().await, "closed 4400");
}

#[tokio::test]
async fn a_client_whose_frames_always_fail_is_closed() {
    let mut house = House::open().await;
    let mut peer = house.client_of(ECHO).await;

    for _ in 1..FAILURES_IN_A_ROW {
        peer.says(asks("fail"));
    }
    peer.says_text("{}");
    for _ in 0..FAILURES_IN_A_ROW {
        peer.says(asks("fail"));
    }

    assert_eq!(peer.hears_text().await, r#"{"turns":20}"#);
    assert_eq!(peer.hears_close().await, code::SCRIPT_ERRORS);
    assert_eq!(house.noted().await, "closed 1011");
}

#[tokio::test]
async fn disconnect_runs_once_with_the_code_of_the_end() {
    for (ending, expected) in [
        (Some(Incoming::Closed(Some(1000))), "closed 1000"),
        (Some(Incoming::Closed(None)), "closed 1005"),
        (None, "closed 1006"),
        (Some(Incoming::TooBig), "closed 1009"),
        (Some(asks("close")), "closed 4321"),
    ] {
        let mut house = House::open().await;
        let mut peer = Some(house.client_of(ECHO).await);

        match ending {
            Some(frame) => peer.iter().for_each(|peer| peer.says(frame.clone())),
            None => peer = None,
        }

        assert_eq!(house.noted().await, expected);
        drop(peer);
        assert!(house.noted_to_the_end().await.is_empty());
    }
}

#[tokio::test]
async fn disconnect_runs_for_every_socket_that_was_accepted() {
    let house = House::open().await;
    let ends = "fn disconnect(scope, code) { note(\"closed \" + code); }";

    drop(house.connect(&format!("fn connect(scope) {{ accept(); }} {ends}")).await.unwrap());
    house.connect(&format!("fn connect(scope) {{ accept(); throw 1; }} {ends}")).await.err().unwrap();
    house.connect(&format!("fn connect(scope) {{ }} {ends}")).await.err().unwrap();

    let mut noted = house.noted_to_the_end().await;
    noted.sort();
    assert_eq!(noted, ["closed 1006", "closed 1011"]);
}

#[tokio::test]
async fn what_a_client_said_before_it_went_is_handled() {
    let mut house = House::open().await;
    let peer = house.client_of("fn receive(scope, frame) { note(frame.text); }").await;

    peer.says_text(r#"{"text": "one"}"#);
    peer.says_text(r#"{"text": "two"}"#);
    drop(peer);

    assert_eq!(house.noted().await, "one");
    assert_eq!(house.noted().await, "two");
}

#[tokio::test]
async fn disconnect_waits_for_no_other_socket() {
    let mut house = House::with(Settings { threads: 1, sockets: 9 }).await;
    let busy = house.client_of(ECHO).await;
    let waiting = house.client_of(ECHO).await;
    busy.says(asks("gate"));
    assert_eq!(house.noted().await, "at the gate");

    drop(waiting);

    assert_eq!(house.noted().await, "closed 1006");
    house.gate.send(()).unwrap();
}

#[tokio::test]
async fn a_client_that_goes_while_it_connects_is_told_off() {
    let mut house = House::open().await;
    let consumer = house.consumer(
        "fn connect(scope) { accept(); note(\"at the gate\"); gate(); }
         fn disconnect(scope, code) { note(\"closed \" + code); }",
    );
    let hub = house.hub.clone();
    let connecting = tokio::spawn(async move { hub.open(consumer, Scope::default()).await });
    assert_eq!(house.noted().await, "at the gate");

    connecting.abort();
    assert!(connecting.await.is_err());
    house.gate.send(()).unwrap();

    assert_eq!(house.noted().await, "closed 1006");
}

#[tokio::test]
async fn a_socket_that_does_not_keep_up_with_events_is_closed() {
    let mut house = House::open().await;
    let mut peer = house.client_of(ECHO).await;
    peer.says(asks("gate"));
    assert_eq!(house.noted().await, "at the gate");

    for _ in 0..2000 {
        house.send("hello");
    }
    house.gate.send(()).unwrap();

    assert_eq!(peer.hears_close().await, code::SLOW);
    assert_eq!(house.noted().await, "closed 4410");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    let mut house = House::open().await;
    let peer = Peer::join(house.connect(ECHO).await.unwrap(), 1);

    peer.says(asks("flood"));

    assert_eq!(house.noted().await, "closed 4410");
}

#[tokio::test]
async fn stopping_closes_every_socket_and_refuses_new_ones() {
    let mut house = House::open().await;
    let (mut one, mut two) = (house.client_of(ECHO).await, house.client_of(ECHO).await);
    one.says(asks("gate"));
    assert_eq!(house.noted().await, "at the gate");
    assert_eq!(house.hub.sockets(), 2);

    let hub = house.hub.clone();
    let closing = tokio::spawn(async move { hub.close_all(Duration::from_secs(30)).await });
    assert_eq!(two.hears_close().await, code::GOING_AWAY);
    assert_eq!(house.noted().await, "closed 1001");
    two.says(Incoming::Closed(Some(1001)));
    house.gate.send(()).unwrap();
    assert_eq!(one.hears_close().await, code::GOING_AWAY);
    assert_eq!(house.noted().await, "closed 1001");
    drop((one, two));

    assert!(closing.await.unwrap());
    assert_eq!(house.hub.sockets(), 0);
    assert_eq!(house.connect(ECHO).await.err(), Some(Refused::Stopping));
}

#[tokio::test]
async fn sockets_are_bounded() {
    let house = House::with(Settings { threads: 1, sockets: 1 }).await;
    let _first = house.client_of(ECHO).await;

    assert_eq!(house.connect(ECHO).await.err(), Some(Refused::Full));
}

#[tokio::test]
async fn a_consumer_keeps_values_and_is_told_of_wrong_tasks() {
    let house = House::open().await;
    let mut peer = house
        .client_of(
            r#"fn receive(scope, frame) {
                   kv::set("n", 41);
                   let why = "sent";
                   try { delay("math.nothing", []); } catch (error) { why = error.exc_type; }
                   send(#{ n: kv::incr("n", 1), why: why });
               }"#,
        )
        .await;

    peer.says_text("{}");

    assert_eq!(peer.hears_text().await, r#"{"n":42,"why":"NotRegistered"}"#);
}

#[tokio::test]
async fn a_consumer_sends_tasks() {
    let house = House::open().await.with_a_task();
    let script = r#"fn receive(scope, frame) {
        send(apply("math.add", [1], #{ kwargs: #{ y: 2 }, queue: "sums", countdown: 60 }));
    }"#;
    let mut peer = house.client_of(script).await;

    peer.says_text("{}");

    let id = TaskId::parse(&peer.hears_text().await).unwrap();
    let run = house.client.load(&id).await.unwrap().unwrap();
    assert_eq!((run.task.as_str(), run.queue.as_str(), run.state), ("math.add", "sums", State::Scheduled));
    assert_eq!((run.args.unwrap().get(), run.kwargs.unwrap().get()), ("[1]", r#"{"y":2}"#));
}
