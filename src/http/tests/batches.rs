//! Many tasks at once, as an array and one a line.

use axum::body::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::*;

/// A body that is written while it is read.
fn written() -> (mpsc::UnboundedSender<Bytes>, Body) {
    let (pen, paper) = mpsc::unbounded_channel();
    (pen, Body::from_stream(read(paper)))
}

fn read(paper: mpsc::UnboundedReceiver<Bytes>) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(paper, |mut paper| async { Some((Ok(paper.recv().await?), paper)) })
}

#[tokio::test]
async fn a_batch_is_stored_whole_and_in_order_or_not_at_all() {
    let house = House::open().await;
    let good: Vec<Value> =
        (0..20).map(|n| json!({ "task": "math.add", "args": [n, 1], "id": format!("n{n}") })).collect();
    let mut bad = good.clone();
    bad[7] = json!({ "task": "math.add", "args": [1] });

    let refused = house.post("/api/tasks", json!(bad)).await;
    let before = house.get("/api/tasks").await.json["tasks"].as_array().unwrap().len();
    let sent = house.post("/api/tasks", json!(good)).await;

    assert_problem(&refused, 422, "bad-arguments");
    assert_eq!((&refused.json["index"], &refused.json["parameter"]), (&json!(7), &json!("y")));
    assert_eq!((before, sent.status), (0, 202));
    let ids: Vec<&Value> = sent.json.as_array().unwrap().iter().map(|submitted| &submitted["id"]).collect();
    assert_eq!(ids, good.iter().map(|task| &task["id"]).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_may_be_one_task_a_line() {
    let house = House::open().await;
    let lines =
        "\n{\"task\": \"math.add\", \"args\": [1, 2], \"id\": \"a\"}\r\n\n{\"task\": \"math.greet\", \"id\": \"b\"}";

    let sent = house.ask("POST", "/api/tasks", &[], lines).await;
    let kind = [("content-type", "application/x-ndjson; charset=utf-8")];
    let none = house.ask("POST", "/api/tasks", &kind, "\n").await;
    let array = house.ask("POST", "/api/tasks", &kind, "[{\"task\": \"math.greet\"}]").await;

    assert_eq!((sent.status, ids(&sent)), (202, vec!["a", "b"]));
    assert_eq!((none.status, none.json), (202, json!([])));
    assert_problem(&array, 400, "unreadable");
    assert_eq!(array.json["index"], 0);
}

#[tokio::test]
async fn a_bad_line_refuses_all_before_the_rest_has_come() {
    let house = House::open().await;
    let (pen, body) = written();
    pen.send("{\"task\": \"math.greet\"}\n{\"task\": \"math.add\", \"args\": [1]}\n".into()).unwrap();

    let refused = house.ask("POST", "/api/tasks", &[], body).await;

    assert_problem(&refused, 422, "bad-arguments");
    assert_eq!((&refused.json["index"], &refused.json["parameter"]), (&json!(1), &json!("y")));
    assert_eq!(house.count().await, 0);
    drop(pen);
}

#[tokio::test]
async fn slow_batches_keep_no_quick_one_waiting() {
    let house = House::open().await;
    let line = Bytes::from(format!("{{\"task\": \"math.greet\", \"args\": [\"{}\"]}}\n", "x".repeat(1 << 19)));
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let (pen, body) = written();
            (0..4).for_each(|_| pen.send(line.clone()).unwrap());
            let app = house.app.clone();
            let request = Request::post("/api/tasks").header("host", "localhost").body(body).unwrap();
            (pen, tokio::spawn(app.oneshot(request)))
        })
        .collect();

    let quick = house.post("/api/tasks", json!([{ "task": "math.greet" }])).await;

    assert_eq!((quick.status, house.count().await), (202, 1));
    slow.into_iter().for_each(|(_, request)| request.abort());
}

#[tokio::test]
async fn an_id_that_is_twice_in_a_batch_is_told_where_it_comes_again() {
    let house = House::open().await;
    let task = |id: &str| json!({ "task": "math.greet", "id": id });
    let batch = json!([task("a"), task("b"), task("c"), task("b")]);

    let refused = house.post("/api/tasks", batch.clone()).await;
    let with_key = house.with_key("/api/tasks", "key", &batch.to_string()).await;

    for refused in [refused, with_key] {
        assert_problem(&refused, 422, "bad-field");
        assert_eq!((&refused.json["index"], &refused.json["parameter"]), (&json!(3), &json!("id")));
        assert!(refused.json["detail"].as_str().unwrap().contains("`b`"), "{}", refused.json);
    }
    assert_eq!(house.count().await, 0);
}
