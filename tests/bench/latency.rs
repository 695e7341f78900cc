//! What a Celery client waits for, from sending a task to its result: of Celery's worker, of ours, and of nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use redis::Commands;
use serde_json::json;

use crate::celery::{POOLS, ROUNDS, connect, ours, theirs};
use crate::support::python::python;
use crate::support::redis_server::RedisServer;
use crate::{median, quantile};

const SENDS: usize = 300;
const WARM: usize = 20;

/// Half of the sends took no longer than the first, all but one of a hundred no longer than the second, in seconds.
type Times = (f64, f64);

pub fn measure() {
    let (mut celerys, mut umbels, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        celerys.push(once(|redis| theirs(redis, POOLS[0])));
        umbels.push(once(ours));
        bares.push(once(Bare::start));
    }
    let median_of = |rounds: &[Times]| {
        let of = |part: fn(&Times) -> f64| median(rounds.iter().map(part).collect());
        (of(|times| times.0), of(|times| times.1))
    };
    let (their_p50, _) = median_of(&celerys);
    for (who, rounds) in [("celery worker", celerys), ("umbel worker", umbels), ("a loop that only answers 13", bares)]
    {
        let (p50, p99) = median_of(&rounds);
        println!(
            "celery client, send to get, one at a time, {who}: p50 {:?}, p99 {:?}; ratio {:.2}",
            Duration::from_secs_f64(p50),
            Duration::from_secs_f64(p99),
            p50 / their_p50
        );
    }
}

fn once<W>(start: impl Fn(&RedisServer) -> W) -> Times {
    let redis = RedisServer::start();
    let _worker = start(&redis);
    let said = python("tests/bench/celery_client.py", &[&redis.url(), "latency", &(WARM + SENDS).to_string()]);
    let times: Vec<f64> = serde_json::from_value(said[0].clone()).unwrap();
    let times: Vec<Duration> = times[WARM..].iter().map(|time| Duration::from_secs_f64(*time)).collect();
    (quantile(&times, 0.5).as_secs_f64(), quantile(&times, 0.99).as_secs_f64())
}

/// What a client waits for where nothing is done for it: it is answered as soon as Redis hands its message over.
struct Bare {
    stopped: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl Bare {
    fn start(redis: &RedisServer) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        Self { stopped: stopped.clone(), answering: Some(answer_at_once(redis, stopped)) }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.answering.take().expect("it is dropped once").join().unwrap();
    }
}

fn answer_at_once(redis: &RedisServer, stopped: Arc<AtomicBool>) -> JoinHandle<()> {
    let mut raw = connect(redis);
    std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let Some((_, envelope)) = raw.brpop::<_, Option<(String, String)>>("celery", 0.1).unwrap() else {
                continue;
            };
            let read: serde_json::Value = serde_json::from_str(&envelope).unwrap();
            let id = read["headers"]["id"].as_str().unwrap();
            let meta = json!({ "status": "SUCCESS", "result": 13, "traceback": null, "children": [], "task_id": id });
            let (key, meta) = (format!("celery-task-meta-{id}"), meta.to_string());
            let _: () = redis::pipe().set_ex(&key, &meta, 86_400).publish(&key, &meta).query(&mut raw).unwrap();
        }
    })
}
