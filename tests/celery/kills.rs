//! Workers and Redis are killed at any point, again and again, while they run what a Celery client sent.
//!
//! Which of them, and after how many commands of Redis, comes from a seed, which a failure shows;
//! `UMBEL_TEST_SEED` repeats it, as far as times allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Sender, channel};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::Commands;
use serde_json::Value;

use crate::support::house::{House, Plan, eventually};
use crate::support::python::python;
use crate::support::redis_server::RedisServer;

// Two runs of a task give different values, so that it is seen whose was kept. None of them calls `kv`, which would
// fail while Redis is away.
const SCRIPT: &str = r#"
fn once(n) { sleep(0.03); [n, rand(0, 1000000000)] }
fn again(n) {
    sleep(0.02);
    if task::retries() < 1 { task::retry(#{ countdown: 0.2 }) }
    [n, rand(0, 1000000000)]
}
fn after(value) { sleep(0.01); value }
"#;

const WORKERS: usize = 3;
const TASKS: usize = 2_500;
/// Done long before a lease ends, so that no task is running at three deaths, which is the end of it.
const KILLS: usize = 30;
/// Of the kills, these are Redis's.
const OF_REDIS: [usize; 3] = [4, 13, 22];
/// At most so many commands of Redis lie between two of them, which are some dozens of tasks.
const COMMANDS: u64 = 2_000;

#[test]
fn nothing_is_lost_or_has_two_values_wherever_workers_and_redis_die() {
    let seed = std::env::var("UMBEL_TEST_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("UMBEL_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut redis = RedisServer::durable();
    let sent = python("tests/celery/kills.py", &[&redis.url(), &TASKS.to_string()]);
    let sent: Vec<(String, Option<String>)> =
        sent.into_iter().map(|line| serde_json::from_value(line).unwrap()).collect();
    let (tell, called_out) = channel();
    listen(&redis, tell.clone());
    let mut workers: Vec<House> = (0..WORKERS).map(|_| worker(&redis)).collect();

    for kill in 0..KILLS {
        commands_are_done(&redis, random.random_range(1..COMMANDS));
        if OF_REDIS.contains(&kill) {
            redis.kill();
            redis.start_again();
            listen(&redis, tell.clone());
        } else {
            let killed = workers.swap_remove(random.random_range(0..WORKERS)).kill();
            workers.push(killed.start_again());
        }
    }

    let kept = all_have_ended(&redis, &sent);
    let failed: Vec<_> = kept.iter().filter(|(_, value)| !value.starts_with("\"SUCCESS\"")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let called_out: Vec<_> = called_out.try_iter().collect();
    assert!(called_out.len() > TASKS / 2, "only {} were heard", called_out.len());
    let differ: Vec<_> = called_out.iter().filter(|(id, value)| kept[id] != *value).collect();
    assert!(differ.is_empty(), "these were called out with another value than is kept: {differ:#?}");
    for (parent, callback) in &sent {
        let Some(callback) = callback else { continue };
        assert_eq!(kept[callback], kept[parent], "`{callback}` got another value than `{parent}` kept");
    }
    let mut raw = connect(&redis);
    eventually("nothing is waiting or held", || {
        let left: (u64, u64) = redis::pipe().llen("celery").zcard("umbel:lease").query(&mut raw).unwrap();
        left == (0, 0)
    });
}

fn worker(redis: &RedisServer) -> House {
    let plan = Plan::new().script("it.rhai", SCRIPT).store(&redis.url()).setting("UMBEL_SLOTS", "4");
    plan.command(&["worker"]).start()
}

fn connect(redis: &RedisServer) -> redis::Connection {
    redis::Client::open(redis.url()).unwrap().get_connection().unwrap()
}

/// Waits until Redis has done so many commands more. To be asked that is one, so it ends also where nothing is done.
fn commands_are_done(redis: &RedisServer, more: u64) {
    let mut raw = connect(redis);
    let mut done = || {
        let said: String = redis::cmd("INFO").arg("stats").query(&mut raw).unwrap();
        let line = said.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = done();
    eventually("Redis works", || done() >= before + more);
}

/// Tells what is called out as the last word about a task, as long as this Redis lives.
fn listen(redis: &RedisServer, tell: Sender<(String, String)>) {
    let mut raw = connect(redis);
    let (begun, begins) = channel();
    std::thread::spawn(move || {
        let mut heard = raw.as_pubsub();
        heard.psubscribe("celery-task-meta-*").unwrap();
        begun.send(()).unwrap();
        while let Ok(message) = heard.get_message() {
            // Who has heard enough asks no more.
            let _ = last_word(message.get_payload_bytes()).map(|word| tell.send(word));
        }
    });
    begins.recv().unwrap();
}

/// The id and what came of it; `None` where it has not ended.
fn last_word(meta: &[u8]) -> Option<(String, String)> {
    let meta: Value = serde_json::from_slice(meta).unwrap();
    let ended = ["SUCCESS", "FAILURE", "REVOKED"].iter().any(|state| meta["status"] == *state);
    ended.then(|| (meta["task_id"].as_str().unwrap().to_owned(), format!("{} {}", meta["status"], meta["result"])))
}

/// What is kept of each at last.
fn all_have_ended(redis: &RedisServer, sent: &[(String, Option<String>)]) -> BTreeMap<String, String> {
    let mut raw = connect(redis);
    let mut open: BTreeSet<&String> =
        sent.iter().flat_map(|(id, callback)| [Some(id), callback.as_ref()]).flatten().collect();
    let mut kept = BTreeMap::new();
    eventually("all have ended", || {
        let keys: Vec<String> = open.iter().map(|id| format!("celery-task-meta-{id}")).collect();
        let metas: Vec<Option<Vec<u8>>> = raw.mget(keys).unwrap();
        kept.extend(metas.into_iter().flatten().filter_map(|meta| last_word(&meta)));
        open.retain(|id| !kept.contains_key(*id));
        open.is_empty()
    });
    kept
}
