//! What one user feels: how soon it starts, how soon a result is there, how soon a saved script counts.

use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::json;

use crate::celery::{connect, info};
use crate::drain::celerys_envelope;
use crate::support::house::{House, Plan};
use crate::support::redis_server::RedisServer;
use crate::{median, quantile};

const SENDS: usize = 500;
const SAVES: usize = 20;
const STARTS: usize = 5;
const WAKES: usize = 800;

pub fn measure() {
    start_up();
    let house = Plan::new().shipped("tasks/math.rhai").start();
    send_to_result(&house);
    save_to_next_run(&house);
    push_to_result();
}

fn start_up() {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let plan = Plan::new().shipped("tasks/math.rhai");
        let began = Instant::now();
        let house = plan.start();
        assert_eq!(house.get("/readyz").status, 200);
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    println!("start to ready: {:.0} ms", median(times));
}

fn send_to_result(house: &House) {
    let agent = ureq::Agent::new_with_defaults();
    let send = || {
        let began = Instant::now();
        let url = house.url("/api/tasks/math.add?wait=5s");
        agent.post(url).send(r#"{"args":[10,3]}"#).unwrap().body_mut().read_to_string().unwrap();
        began.elapsed()
    };
    for _ in 0..50 {
        send();
    }
    let times: Vec<Duration> = (0..SENDS).map(|_| send()).collect();
    println!(
        "send to result over HTTP, one at a time: p50 {:?}, p99 {:?}",
        quantile(&times, 0.5),
        quantile(&times, 0.99)
    );
}

fn save_to_next_run(house: &House) {
    let mut times = Vec::new();
    for version in 0..SAVES {
        house.write("tasks/it.rhai", &format!("fn version() {{ {version} }}"));
        let began = Instant::now();
        while house.post("/api/tasks/it.version?wait=5s", &json!({})).json["result"] != version {}
        times.push(began.elapsed());
    }
    println!("save to next run: p50 {:?}, most {:?}", quantile(&times, 0.5), quantile(&times, 1.0));
}

/// How soon a worker that waits in Redis is woken, whatever the queue and the priority step.
fn push_to_result() {
    let redis = RedisServer::start();
    let plan = Plan::new().shipped("tasks/math.rhai").store(&redis.url()).setting("UMBEL_QUEUES", "mail");
    let _worker = plan.command(&["worker"]).start();
    let lists: Vec<String> = ["celery", "mail"]
        .into_iter()
        .flat_map(|queue| ["", "\u{6}\u{16}3", "\u{6}\u{16}6", "\u{6}\u{16}9"].map(|step| format!("{queue}{step}")))
        .collect();
    let (mut raw, mut answers) = (connect(&redis), connect(&redis));
    let mut answers = answers.as_pubsub();
    answers.psubscribe("celery-task-meta-*").unwrap();
    let mut push = |list: &String| {
        while info(&mut raw, "clients", "blocked_clients:") < lists.len() as f64 {}
        let began = Instant::now();
        let _: u64 = raw.lpush(list, celerys_envelope()).unwrap();
        answers.get_message().unwrap();
        began.elapsed()
    };
    let times: Vec<Duration> = lists.iter().cycle().take(WAKES).map(&mut push).collect();
    println!(
        "push to result over Redis, an idle worker, {} lists in turn: p50 {:?}, p99 {:?}, most {:?}",
        lists.len(),
        quantile(&times, 0.5),
        quantile(&times, 0.99),
        quantile(&times, 1.0)
    );
}
