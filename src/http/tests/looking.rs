//! What can be looked at: runs, the catalog, plugins, workers, health.

use super::*;

#[tokio::test]
async fn what_ran_is_listed_newest_first() {
    let house = House::open().await;
    for n in 0..3 {
        house.post("/api/tasks/math.add", json!({ "args": [n, 0] })).await;
    }
    house.post("/api/tasks/math.greet", json!({ "countdown": 3600 })).await;

    let all = house.get("/api/tasks?limit=3").await.json;
    let adds = house.get("/api/tasks?name=math.add&state=QUEUED").await.json;
    let delayed = house.get("/api/tasks?state=SCHEDULED").await.json;

    let args = |listing: &Value| -> Vec<Value> {
        listing["tasks"].as_array().unwrap().iter().map(|run| run["args"][0].clone()).collect()
    };
    assert_eq!(args(&all), [json!(null), json!(2), json!(1)]);
    assert_eq!(args(&adds), [2, 1, 0]);
    assert_eq!(delayed["tasks"][0]["task"], "math.greet");
}

#[tokio::test]
async fn a_wrong_filter_is_named() {
    let house = House::open().await;

    for (query, field) in [
        ("state=DONE", "state"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("sate=X", "sate"),
    ] {
        let answer = house.get(&format!("/api/tasks?{query}")).await;
        assert_problem(&answer, 422, "bad-field");
        assert_eq!(answer.json["parameter"], field);
    }
}

#[tokio::test]
async fn the_history_is_paged_and_light() {
    let house = House::open().await;
    let large = "x".repeat(5000);
    for n in 0..5 {
        house.post("/api/tasks/math.add", json!({ "args": [n, 0] })).await;
    }
    house.post("/api/tasks/math.greet", json!({ "args": [large], "queue": "slow" })).await;

    let mut seen = Vec::new();
    let mut query = "/api/tasks?name=math.*&limit=2".to_owned();
    loop {
        let page = house.get(&query).await.json;
        seen.extend(page["tasks"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("/api/tasks?name=math.*&limit=2&cursor={}", super::super::path_part(next));
    }
    let slow = house.get("/api/tasks?queue=slow&since=1h").await.json;
    let bad = house.get("/api/tasks?cursor=nonsense").await;

    assert_eq!(seen.len(), 6);
    assert_eq!((&seen[0]["truncated"], seen[0].get("args")), (&json!(["args"]), None));
    assert_eq!((&seen[1]["args"], &seen[5]["args"]), (&json!([4, 0]), &json!([0, 0])));
    assert_eq!(slow["tasks"].as_array().unwrap().len(), 1);
    assert_problem(&bad, 422, "bad-cursor");
    assert_eq!(bad.json["parameter"], "cursor");
}

#[tokio::test]
async fn what_has_not_run_has_no_source() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "id": "mine" })).await;

    assert_problem(&house.get("/api/tasks/mine/source").await, 404, "no-source");
    assert_problem(&house.get("/api/tasks/nope/source").await, 404, "unknown-run");
}

#[tokio::test]
async fn plugins_workers_and_schedules_are_shown() {
    let house = House::open().await;

    let plugins = house.get("/api/plugins").await.json;
    let workers = house.get("/api/workers").await;
    let schedules = house.get("/api/schedules").await;

    let echo = &plugins["plugins"][0];
    assert_eq!((&echo["name"], &echo["consumers"]), (&json!("echo"), &json!(["/ws/echo/{name}/"])));
    assert_eq!((workers.status, workers.json), (200, json!({ "workers": [] })));
    let empty = json!({ "entries": [], "warnings": [], "problems": [] });
    assert_eq!((schedules.status, schedules.json), (200, empty));
}

#[tokio::test]
async fn the_catalog_tells_what_can_run_and_what_is_broken() {
    let house = House::open().await;

    let all = house.get("/api/catalog").await.json;
    let add = house.get("/api/catalog/math.add").await.json;
    let unknown = house.get("/api/catalog/math.gret").await;

    let names: Vec<&Value> = all["tasks"].as_array().unwrap().iter().map(|task| &task["name"]).collect();
    assert_eq!(names, ["math.add", "math.greet"]);
    assert_eq!(all["tasks"][1]["params"], json!([[], ["name"]]));
    assert_eq!((&add["params"], &add["doc"]), (&json!([["x", "y"]]), &json!("Adds two numbers.")));
    assert_eq!((&add["file"], &add["line"], &add["plugin"]), (&json!("tasks/math.rhai"), &json!(2), &json!(null)));
    assert_eq!((&add["options"]["queue"], &add["options"]["time_limit"]), (&json!("io"), &json!("30s")));
    assert!(add["hash"].as_str().is_some_and(|hash| hash.len() > 8));
    let broken = &all["broken"][0];
    assert_eq!((&broken["file"], &broken["line"]), (&json!("tasks/bad.rhai"), &json!(2)));
    assert!(broken["column"].is_u64() && broken["message"].is_string() && broken["excerpt"].is_string(), "{broken}");
    assert_eq!(all["plugins"][0]["name"], "echo");
    assert_eq!(all["consumers"][0]["path"], "/ws/echo/{name}/");
    assert_problem(&unknown, 404, "unknown-task");
    assert_eq!(unknown.json["nearest"], "math.greet");
}

#[tokio::test]
async fn a_task_whose_file_does_not_compile_is_missed_with_the_reason() {
    let house = House::open().await;

    let sent = house.post("/api/tasks/bad.one", json!({})).await;

    assert_problem(&sent, 404, "unknown-task");
    let detail = sent.json["detail"].as_str().unwrap();
    assert!(detail.starts_with("no task named `bad.one` now: tasks/bad.rhai:2:"), "{detail}");
}

#[tokio::test]
async fn health_is_told() {
    let house = House::open().await;

    assert_eq!(house.get("/healthz").await.status, 200);
    assert_eq!(house.get("/readyz").await.status, 200);
    assert!(house.get("/").await.json.as_str().unwrap().contains("/api/catalog"));
}

#[tokio::test]
async fn a_house_without_its_scripts_is_not_ready() {
    let house = House::open().await;
    let client = Client::new(house.state.client.stores().clone(), Default::default(), String::new());
    let app = router(AppState { client, ..house.state.clone() }, CancellationToken::new());

    let answer = House { app, ..house }.get("/readyz").await;

    assert_problem(&answer, 503, "not-ready");
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let house = House::open().await;
    house.post("/api/tasks/math.greet", json!({ "args": ["x".repeat(1_000_000)], "id": "large" })).await;
    let ask = async |path: &str| {
        let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
        house.app.clone().oneshot(request).await.unwrap()
    };
    let mut unread = Vec::new();

    let refused = loop {
        let answer = ask("/api/tasks/large").await;
        if answer.status() != 200 {
            break answer;
        }
        assert!(unread.len() < 200, "{} MB wait to be read", unread.len());
        unread.push(answer);
    };

    assert_eq!(refused.status(), 503);
    assert_eq!(house.get("/api/tasks").await.status, 200, "a small answer needs no room");
    unread.pop();
    assert_eq!(house.get("/api/tasks/large").await.json["args"][0].as_str().map(str::len), Some(1_000_000));
}
