//! Single tasks: what is taken, and what is refused with what words.

use super::*;

#[tokio::test]
async fn a_task_is_taken_and_known_under_its_place() {
    let house = House::open().await;

    let sent = house.post("/api/tasks/math.add", json!({ "args": [10, 3] })).await;
    let run = house.get(sent.headers["location"].to_str().unwrap()).await;

    assert_eq!((sent.status, &sent.json["state"]), (202, &json!("QUEUED")));
    assert_eq!((run.status, &run.json["id"], &run.json["args"]), (200, &sent.json["id"], &json!([10, 3])));
    assert_eq!((&run.json["task"], &run.json["queue"]), (&json!("math.add"), &json!("io")));
}

#[tokio::test]
async fn a_body_is_json_whatever_it_is_called() {
    let house = House::open().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];

    let sent = house.ask("POST", "/api/tasks/math.add", &form, r#"{"args":[1,2]}"#).await;
    let none = house.ask("POST", "/api/tasks/math.greet", &[], Body::empty()).await;

    assert_eq!((sent.status, none.status), (202, 202));
}

#[tokio::test]
async fn an_id_of_any_letters_has_a_place() {
    let house = House::open().await;

    let sent = house.post("/api/tasks/math.greet", json!({ "id": "한/1?#%", "countdown": "1h" })).await;
    let run = house.get(sent.headers["location"].to_str().unwrap()).await;

    assert_eq!((&sent.json["state"], &run.json["id"]), (&json!("SCHEDULED"), &json!("한/1?#%")));
}

#[tokio::test]
async fn who_waits_is_answered_when_the_time_is_over() {
    let house = House::open().await;

    let sent = house.post("/api/tasks/math.add?wait=10ms", json!({ "args": [1, 2] })).await;
    let late = house.get(&format!("/api/tasks/{}?wait=0.01", sent.json["id"].as_str().unwrap())).await;

    assert_eq!((sent.status, &sent.json["state"]), (202, &json!("QUEUED")));
    assert_eq!((late.status, &late.json["state"]), (202, &json!("QUEUED")));
}

#[tokio::test]
async fn what_is_wrong_with_a_task_is_named() {
    let house = House::open().await;

    let unknown = house.post("/api/tasks/math.ad", json!({})).await;
    let missing = house.post("/api/tasks/math.add", json!({ "args": [1] })).await;
    let extra = house.post("/api/tasks/math.add", json!({ "args": [1], "kwargs": { "z": 1 } })).await;
    let no_array = house.post("/api/tasks/math.add", json!({ "args": 5 })).await;
    let field = house.post("/api/tasks/math.add", json!({ "arg": [1, 2] })).await;
    let broken = house.ask("POST", "/api/tasks/math.add", &[], "{").await;
    let wait = house.post("/api/tasks/math.add?wait=soon", json!({ "args": [1, 2] })).await;
    let query = house.post("/api/tasks/math.add?wiat=5s", json!({ "args": [1, 2] })).await;

    assert_problem(&unknown, 404, "unknown-task");
    assert_eq!(unknown.json["nearest"], "math.add");
    assert_problem(&missing, 422, "bad-arguments");
    assert_eq!((&missing.json["parameter"], &missing.json["task"]), (&json!("y"), &json!("math.add")));
    assert_problem(&extra, 422, "bad-arguments");
    assert_eq!(extra.json["parameter"], "z");
    assert_problem(&no_array, 422, "bad-field");
    assert_eq!(no_array.json["parameter"], "args");
    assert_problem(&field, 422, "bad-field");
    assert_eq!((&field.json["parameter"], &field.json["nearest"]), (&json!("arg"), &json!("args")));
    assert_problem(&broken, 400, "unreadable");
    assert_problem(&wait, 422, "bad-field");
    assert_problem(&query, 422, "bad-field");
    assert_eq!(query.json["nearest"], "wait");
    assert_eq!(house.get("/api/tasks").await.json["tasks"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn one_id_is_taken_once() {
    let house = House::open().await;
    let body = json!({ "args": [1, 2], "id": "mine" });

    let first = house.post("/api/tasks/math.add", body.clone()).await;
    let second = house.post("/api/tasks/math.add", body).await;
    let batch = json!([{ "task": "math.greet" }, { "task": "math.greet", "id": "mine" }]);
    let third = house.post("/api/tasks", batch).await;

    assert_eq!(first.status, 202);
    assert_problem(&second, 409, "duplicate-id");
    assert_eq!(second.json["id"], "mine");
    assert_problem(&third, 409, "duplicate-id");
    assert_eq!(third.json["index"], 1);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let house = House::open().await;

    let one = house.post("/api/tasks/math.greet", json!({ "args": ["x".repeat(1 << 20)] })).await;
    let many = house.ask("POST", "/api/tasks", &[], vec![b' '; (32 << 20) + 1]).await;
    let tasks = house.post("/api/tasks", json!(vec![json!({ "task": "math.greet" }); 10_001])).await;

    assert_problem(&one, 413, "too-large");
    assert_eq!(one.json["limit"], 1 << 20);
    assert_problem(&many, 413, "too-large");
    assert_problem(&tasks, 413, "too-large");
    assert_eq!(tasks.json["limit"], 10_000);
}

#[tokio::test]
async fn what_no_script_could_read_is_refused_with_its_place() {
    let house = House::open().await;

    for (args, place) in [
        ("[99999999999999999999]", "args[0]"),
        ("[[1, {\"price\": 1e400}]]", "args[0][1].price"),
        (r#"["\ud83d"]"#, "args[0]"),
    ] {
        let refused = house.ask("POST", "/api/tasks/math.greet", &[], format!("{{\"args\": {args}}}")).await;
        assert_problem(&refused, 422, "bad-value");
        assert_eq!(refused.json["parameter"], place);
    }
    let batch = "[{\"task\": \"math.greet\"}, {\"task\": \"math.greet\", \"kwargs\": {\"name\": -1e999}}]";
    let refused = house.ask("POST", "/api/tasks", &[], batch).await;
    assert_problem(&refused, 422, "bad-value");
    assert_eq!((&refused.json["parameter"], &refused.json["index"]), (&json!("kwargs.name"), &json!(1)));
}
