//! What one user feels: how soon it starts, how soon a result is there, how soon a saved script counts.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::house::{House, Plan};
use crate::{median, quantile};

const SENDS: usize = 500;
const SAVES: usize = 20;
const STARTS: usize = 5;

pub fn measure() {
    start_up();
    let house = Plan::new().shipped("tasks/math.rhai").start();
    send_to_result(&house);
    save_to_next_run(&house);
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
