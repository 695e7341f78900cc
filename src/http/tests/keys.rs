//! `Idempotency-Key`: what is sent again is not done again.

use super::*;

#[tokio::test]
async fn a_request_is_done_once_under_its_key() {
    let house = House::open().await;
    let (one, many) = (r#"{"args":[1,2]}"#, r#"[{"task":"math.greet"},{"task":"math.greet","id":"mine"}]"#);

    let first = house.with_key("/api/tasks/math.add", "\"k1\"", one).await;
    house.post(&format!("/api/tasks/{}/revoke", first.json["id"].as_str().unwrap()), json!({})).await;
    let again = house.with_key("/api/tasks/math.add?wait=30s", "k1", one).await;
    let batch = house.with_key("/api/tasks", "k2", many).await;
    let batch_again = house.with_key("/api/tasks", "k2", many).await;

    assert_eq!((first.status, &first.json["state"]), (202, &json!("QUEUED")));
    assert_eq!((again.status, &again.json["state"], &again.json["id"]), (200, &json!("REVOKED"), &first.json["id"]));
    assert_eq!((batch.status, batch_again.status, &batch_again.json), (202, 202, &batch.json));
    assert_eq!(ids(&batch)[1], "mine");
    assert_eq!(house.count().await, 3);
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let house = House::open().await;
    house.with_key("/api/tasks/math.add", "k", r#"{"args":[1,2]}"#).await;

    for (path, body) in [
        ("/api/tasks/math.add", r#"{"args":[1,3]}"#),
        ("/api/tasks/math.greet", r#"{"args":[1]}"#),
        ("/api/tasks", r#"[{"task":"math.add","args":[1,2]}]"#),
    ] {
        let refused = house.with_key(path, "k", body).await;
        assert_problem(&refused, 422, "key-reused");
    }
    for key in ["", "a b", &"x".repeat(256)] {
        let refused = house.with_key("/api/tasks/math.greet", key, "{}").await;
        assert_problem(&refused, 422, "bad-field");
        assert_eq!(refused.json["parameter"], "Idempotency-Key");
    }
    assert_eq!(house.count().await, 1);
}

#[tokio::test]
async fn a_key_of_a_request_that_was_refused_is_free() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "taken" })).await;

    let bad = house.with_key("/api/tasks/math.add", "k", r#"{"args":[1]}"#).await;
    let taken = house.with_key("/api/tasks/math.add", "k", r#"{"args":[1,2],"id":"taken"}"#).await;
    let good = house.with_key("/api/tasks/math.add", "k", r#"{"args":[1,2]}"#).await;

    assert_problem(&bad, 422, "bad-arguments");
    assert_problem(&taken, 409, "duplicate-id");
    assert_eq!(good.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_requests_at_the_same_time_one_is_done() {
    let house = House::open().await;
    let batch = json!(vec![json!({ "task": "math.greet" }); 20]).to_string();

    let sent = (0..8).map(|_| house.with_key("/api/tasks", "k", &batch));
    let answers = futures_util::future::join_all(sent).await;

    for answer in &answers {
        assert_eq!((answer.status, ids(answer)), (202, ids(&answers[0])));
    }
    assert_eq!(house.count().await, 20);
}
