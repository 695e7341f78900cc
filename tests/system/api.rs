//! The API while tasks run: events, batches, keys, code, queues, workers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::house::{House, PATIENCE, Plan, eventually};

/// Waits at a gate that `kv` keeps, and tells how far it is.
const STEPS: &str = r#"
fn steps(total) {
    for done in 1..=total {
        task::progress(done, total, `step ${done}`);
        while kv::get(`gate ${done}`) == () { sleep(0.01); }
    }
    total
}

fn open(gate) { kv::set(`gate ${gate}`, true); }
fn fail() { throw "no" }
"#;

fn house() -> House {
    Plan::new().script("it.rhai", STEPS).start()
}

/// The events of a run as they come.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(house: &House, path: &str) -> Self {
        let mut stream = TcpStream::connect(&house.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
        let mut events = Self(BufReader::new(stream));
        while !events.line().is_empty() {}
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The id, the name and the data of the next one; `None` at the end.
    fn next(&mut self) -> Option<(String, String, Value)> {
        let (mut id, mut event) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", text)) => id = text.to_owned(),
                Some(("event", text)) => event = text.to_owned(),
                Some(("data", text)) => return Some((id, event, serde_json::from_str(text).unwrap())),
                _ => {}
            }
        }
    }
}

fn send(house: &House, path: &str, body: Value) -> String {
    house.post(path, &body).json["id"].as_str().unwrap().to_owned()
}

fn open(house: &House, gate: u32) {
    let opened = house.post("/api/tasks/it.open?wait=30s", &json!({ "args": [gate] }));
    assert_eq!(opened.json["state"], "SUCCESS");
}

#[test]
fn progress_is_told_as_it_happens_and_who_comes_back_goes_on() {
    let house = house();
    let id = send(&house, "/api/tasks/it.steps", json!({ "args": [2] }));
    let mut events = Events::of(&house, &format!("/api/tasks/{id}/events"));

    let first = std::iter::from_fn(|| events.next()).find(|(_, event, _)| event == "progress").unwrap();
    drop(events);
    let mut back = Events::of(&house, &format!("/api/tasks/{id}/events?after={}", first.0));
    open(&house, 1);
    let second = back.next().unwrap();
    open(&house, 2);
    let last = back.next().unwrap();

    assert_eq!(first.2, json!({ "done": 1.0, "total": 2.0, "note": "step 1" }));
    assert_eq!((second.1.as_str(), &second.2["note"]), ("progress", &json!("step 2")));
    assert_eq!((last.1.as_str(), &last.2["state"], &last.2["run"]["result"]), ("state", &json!("SUCCESS"), &json!(2)));
    assert!(back.next().is_none());
}

#[test]
fn an_event_is_known_after_a_restart() {
    let house = house();
    let id = send(&house, "/api/tasks/it.open?wait=30s", json!({ "args": [7] }));
    let mut events = Events::of(&house, &format!("/api/tasks/{id}/events"));
    let last = std::iter::from_fn(|| events.next()).last().unwrap();

    let house = house.kill().start_again();

    assert_eq!(house.get(&format!("/api/tasks/{id}/events?after={}", last.0)).status, 204);
}

#[test]
fn a_failed_task_is_run_again() {
    let house = house();
    let failed = house.post("/api/tasks/it.fail?wait=30s", &json!({})).json;

    let again = house.post(&format!("/api/tasks/{}/retry", failed["id"].as_str().unwrap()), &json!({}));
    let run = house.get(&format!("{}?wait=30s", again.headers["location"].to_str().unwrap())).json;

    assert_eq!((again.status, &run["state"], &run["task"]), (202, &json!("FAILURE"), &json!("it.fail")));
    assert_ne!(run["id"], failed["id"]);
}

#[test]
fn a_key_still_counts_after_a_restart() {
    let house = house();
    let once = |house: &House| {
        let request = ureq::post(house.url("/api/tasks")).header("idempotency-key", "k");
        let mut answer = request.send("{\"task\": \"it.fail\"}\n{\"task\": \"it.fail\"}\n").unwrap();
        answer.body_mut().read_json::<Value>().unwrap()
    };
    let first = once(&house);

    let house = house.kill().start_again();
    let again = once(&house);

    let ids = |answer: &Value| [answer[0]["id"].clone(), answer[1]["id"].clone()];
    assert_eq!(ids(&first), ids(&again));
    eventually("both have failed once", || {
        house.get("/api/tasks?state=FAILURE").json["tasks"].as_array().unwrap().len() == 2
    });
    assert_eq!(house.get("/api/tasks").json["tasks"].as_array().unwrap().len(), 2);
}

#[test]
fn the_code_that_ran_is_shown_also_after_a_change() {
    let house = house();
    let id = send(&house, "/api/tasks/it.open?wait=30s", json!({ "args": [1] }));

    let now = house.get(&format!("/api/tasks/{id}/source")).json;
    house.write("tasks/it.rhai", "fn open(gate) { gate }");
    eventually("the new version serves", || house.get("/api/catalog/it.open").json["hash"] != now["hash"]);
    let later = house.get(&format!("/api/tasks/{id}/source"));

    assert_eq!((&now["file"], &now["files"]["tasks/it.rhai"]), (&json!("tasks/it.rhai"), &json!(STEPS)));
    assert_eq!((later.status, &later.json), (200, &now));
}

#[test]
fn a_paused_queue_waits_and_a_purged_one_is_empty() {
    let house = house();
    house.post("/api/queues/celery/pause", &json!({}));

    let id = send(&house, "/api/tasks/it.open", json!({ "args": [1] }));
    let kept = send(&house, "/api/tasks/it.open?wait=30s", json!({ "args": [2], "queue": "other" }));
    let waits = house.get(&format!("/api/tasks/{id}")).json;
    house.post("/api/queues/celery/resume", &json!({}));
    let ran = house.get(&format!("/api/tasks/{id}?wait=30s")).json;

    assert_eq!(house.get(&format!("/api/tasks/{kept}")).json["state"], "SUCCESS");
    assert_eq!((&waits["state"], &ran["state"]), (&json!("QUEUED"), &json!("SUCCESS")));
}

#[test]
fn a_worker_says_what_it_runs() {
    let house = house();
    let id = send(&house, "/api/tasks/it.steps", json!({ "args": [1] }));

    eventually("a worker says that it runs the task", || {
        house.get("/api/workers").json["workers"][0]["running"] == json!([id])
    });
    let queue = house.get("/api/queues/celery").json;

    assert_eq!(queue["claimed"], 1);
}

#[test]
fn schedules_are_shown_with_what_is_wrong_with_them() {
    let good = "[e]\ntask = \"it.open\"\nschedule = \"1h\"\nargs = [1]\n";
    let house = Plan::new().script("it.rhai", STEPS).file("schedules.toml", good).start();
    let schedules = || house.get("/api/schedules").json;
    eventually("the entry is kept", || schedules()["entries"][0]["name"] == "e");
    let kept = schedules();

    house.write("schedules.toml", "[e]\ntask = 5\n");
    eventually("the mistake is told", || schedules()["problems"][0]["line"] == 2);

    assert_eq!((&kept["entries"][0]["schedule"], &kept["problems"]), (&json!("1h"), &json!([])));
    assert_eq!(kept["entries"][0]["next"].as_array().unwrap().len(), 3);
    assert_eq!(schedules()["entries"][0]["task"], "it.open");
}

#[test]
fn a_batch_of_many_lines_is_stored_while_it_comes() {
    let house = house();
    let lines: String =
        (0..10_000).map(|n| format!("{{\"task\":\"it.open\",\"args\":[{n}],\"countdown\":9999}}\n")).collect();

    let sent = house.post_text("/api/tasks", &lines);
    let more = house.post_text("/api/tasks", &(lines + "{\"task\":\"it.fail\"}"));

    assert_eq!((sent.status, sent.json.as_array().unwrap().len()), (202, 10_000));
    assert_eq!((more.status, &more.json["limit"]), (413, &json!(10_000)));
    assert_eq!(house.get("/api/queues/celery").json["delayed"], 10_000);
}
