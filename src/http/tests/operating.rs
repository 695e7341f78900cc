//! Revoking, running again, and the hand on the queues.

use super::*;
use crate::client::Route;
use crate::task::QueueName;

#[tokio::test]
async fn an_unknown_run_is_not_found_and_not_waited_for() {
    let house = House::open().await;

    let found = house.get("/api/tasks/nope?wait=60s").await;
    let revoked = house.post("/api/tasks/nope/revoke", json!({})).await;
    let long = house.get(&format!("/api/tasks/{}", "x".repeat(300))).await;

    for answer in [found, revoked, long] {
        assert_problem(&answer, 404, "unknown-run");
    }
}

#[tokio::test]
async fn a_revoked_task_says_so() {
    let house = House::open().await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2], "id": "mine" })).await;

    let wrong = house.post("/api/tasks/mine/revoke", json!({ "terminat": true })).await;
    let revoked = house.ask("POST", "/api/tasks/mine/revoke", &[], Body::empty()).await;
    let again = house.post("/api/tasks/mine/revoke", json!({ "terminate": true })).await;

    assert_problem(&wrong, 422, "bad-field");
    assert_eq!(wrong.json["nearest"], "terminate");
    let expected = json!({ "id": "mine", "state": "REVOKED", "terminate": false });
    assert_eq!((revoked.status, &revoked.json), (202, &expected));
    assert_eq!((again.status, &again.json), (202, &expected));
    let run = house.get("/api/tasks/mine?wait=30s").await;
    assert_eq!((run.status, &run.json["state"]), (200, &json!("REVOKED")));
}

#[tokio::test]
async fn a_queue_to_which_a_route_leads_is_known_before_anything_is_there() {
    let mut house = House::open().await;
    let route = Route { queue: QueueName::parse("far").unwrap(), remote: false };
    house.state.client = house.state.client.clone().routed([("math.add".to_owned(), route)].into_iter().collect());
    house.app = router(house.state.clone(), house.close.clone());

    let answer = house.get("/api/queues/far").await;

    assert_eq!((answer.status, &answer.json["ready"]), (200, &json!(0)));
}

#[tokio::test]
async fn queues_are_looked_at_paused_and_purged() {
    let house = House::open().await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2] })).await;
    house.post("/api/tasks/math.add", json!({ "args": [1, 2], "countdown": "1h" })).await;

    let paused = house.post("/api/queues/io/pause", json!({})).await;
    let later = house.post("/api/queues/later/pause", json!({})).await;
    let all = house.get("/api/queues").await.json;
    let resumed = house.post("/api/queues/io/resume", json!({})).await;
    let purged = house.post("/api/queues/io/purge", json!({})).await;
    let one = house.get("/api/queues/io").await.json;
    let unknown = house.get("/api/queues/nope").await;

    let io = |ready, delayed, paused| json!({ "name": "io", "ready": ready, "delayed": delayed, "claimed": 0, "paused": paused });
    assert_eq!((paused.status, &paused.json), (200, &io(1, 1, true)));
    assert_eq!((later.status, &later.json["paused"]), (200, &json!(true)));
    assert_eq!(later.json["note"], "no task or message names this queue yet");
    let names: Vec<&Value> = all["queues"].as_array().unwrap().iter().map(|queue| &queue["name"]).collect();
    assert_eq!(names, ["celery", "io", "later"]);
    assert_eq!(all["dead_letters"], 0);
    assert_eq!(house.get("/api/dead-letters?limit=5").await.json, json!({ "dead_letters": [], "count": 0 }));
    assert_eq!(house.get("/api/dead-letters?limit=101").await.status, 422);
    assert_eq!(resumed.json, io(1, 1, false));
    assert_eq!(purged.json, json!({ "name": "io", "purged": 2 }));
    assert_eq!(one, io(0, 0, false));
    assert_problem(&unknown, 404, "unknown-queue");
}

#[tokio::test]
async fn only_what_has_ended_is_run_again() {
    let house = House::open().await;
    let body = json!({ "args": [1, 2], "id": "mine", "queue": "slow", "priority": 6 });
    house.post("/api/tasks/math.add", body).await;

    let early = house.post("/api/tasks/mine/retry", json!({})).await;
    house.post("/api/tasks/mine/revoke", json!({})).await;
    let again = house.post("/api/tasks/mine/retry", json!({})).await;
    let run = house.get(again.headers["location"].to_str().unwrap()).await.json;
    let unknown = house.post("/api/tasks/nope/retry", json!({})).await;

    assert_problem(&early, 409, "not-ended");
    assert_eq!((&early.json["state"], again.status), (&json!("QUEUED"), 202));
    assert_ne!(again.json["id"], "mine");
    assert_eq!((&run["args"], &run["queue"], &run["priority"]), (&json!([1, 2]), &json!("slow"), &json!(6)));
    assert_problem(&unknown, 404, "unknown-run");
}

#[tokio::test]
async fn a_task_that_is_gone_is_not_run_again() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;
    house.post("/api/tasks/mine/revoke", json!({})).await;
    house.state.client.catalogs().swap(Default::default());

    let gone = house.post("/api/tasks/mine/retry", json!({})).await;

    assert_problem(&gone, 404, "unknown-task");
}

#[tokio::test]
async fn queues_that_nobody_knows_are_not_paused_without_end() {
    let house = House::open().await;
    let pause = async |name: &str| house.post(&format!("/api/queues/{name}/pause"), json!({})).await;
    for number in 0..1_000 {
        assert_eq!(pause(&format!("q{number}")).await.status, 200);
    }

    let (one_more, known, again) = (pause("one-more").await, pause("io").await, pause("q7").await);

    assert_problem(&one_more, 422, "bad-field");
    assert_eq!((one_more.json["parameter"].as_str(), known.status, again.status), (Some("name"), 200, 200));
}

#[tokio::test]
async fn the_revocation_of_an_unknown_task_does_nothing_to_one_that_is_sent_later() {
    let house = House::open().await;

    let revoked = house.post("/api/tasks/mine/revoke", json!({})).await;
    let sent = house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;

    assert_problem(&revoked, 404, "unknown-run");
    assert_eq!((sent.status, &sent.json["state"]), (202, &json!("QUEUED")));
    assert_eq!(house.get("/api/tasks/mine").await.json["state"], "QUEUED");
}
