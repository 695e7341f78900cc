//! Consumers as their authors write them, on real threads, with transports in memory.

mod ends;
mod rooms;

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
