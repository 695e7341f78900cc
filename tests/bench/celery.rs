//! One worker process beside Celery's on the same messages, which Celery's own client wrote; and several of ours.

use std::process::Stdio;
use std::time::{Duration, Instant};

use redis::{Commands, Connection};

use crate::support::house::{House, Plan};
use crate::support::python::{self, program, python};
use crate::support::redis_server::RedisServer;
use crate::support::running::Running;
use crate::{latency, median};

pub const ROUNDS: usize = 3;

/// How many messages are drained by ours, and by Celery's, which would take too long with as many.
const OURS: usize = 100_000;
const THEIRS: usize = 5_000;
/// Celery's pools, each with what it is best with on two processors.
pub const POOLS: [(&str, &str); 3] = [("solo", "1"), ("threads", "4"), ("prefork", "2")];

/// What each of several workers may run at the same time, and how long each task sleeps.
const SLOTS: usize = 8;
const NAP: Duration = Duration::from_millis(10);
/// For how long they are given work.
const WORK: Duration = Duration::from_secs(4);

pub fn measure() {
    if !python::is_installed() {
        return println!("beside Celery nothing is measured: there is no Python environment, `tests/run` installs it");
    }
    drain();
    latency::measure();
    scaling();
}

pub fn theirs(redis: &RedisServer, (pool, concurrency): (&str, &str)) -> Running {
    let mut command = program("tests/bench/celery_worker.py", &[&redis.url(), pool, concurrency]);
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

pub fn ours(redis: &RedisServer) -> House {
    Plan::new()
        .shipped("tasks/math.rhai")
        .script("it.rhai", &format!("fn nap(x, y) {{ sleep({}); x + y }}", NAP.as_secs_f64()))
        .store(&redis.url())
        .setting("UMBEL_SLOTS", &SLOTS.to_string())
        .command(&["worker"])
        .start()
}

pub fn connect(redis: &RedisServer) -> Connection {
    redis::Client::open(redis.url()).unwrap().get_connection().unwrap()
}

/// Puts `count` messages into the queue `celery`, each as Celery's client wrote one, with an id of its own.
fn queue(redis: &RedisServer, task: &str, count: usize) {
    python("tests/bench/celery_client.py", &[&redis.url(), "sample"]);
    let mut raw = connect(redis);
    let sample: String = raw.rpop("sample", None).unwrap();
    let read: serde_json::Value = serde_json::from_str(&sample).unwrap();
    let id = read["headers"]["id"].as_str().unwrap();
    let sample = sample.replace("\"math.add\"", &format!("\"{task}\"")).replace("\"sample\"", "\"celery\"");
    for from in (0..count).step_by(1_000) {
        let some: Vec<String> =
            (from..count.min(from + 1_000)).map(|_| sample.replace(id, &uuid::Uuid::new_v4().to_string())).collect();
        let _: u64 = raw.lpush("celery", some).unwrap();
    }
}

/// What a drain took, each task.
struct Cost {
    per_second: f64,
    redis_us: f64,
    bytes: f64,
}

/// Waits until `count` results are written from now on, and tells what that took from the first to the last.
fn drained(redis: &RedisServer, count: usize) -> Cost {
    let mut raw = connect(redis);
    // Each result is published once, whoever writes it.
    let written = |raw: &mut Connection| info(raw, "commandstats", "cmdstat_publish:calls=");
    let before = written(&mut raw);
    let mut first = None;
    loop {
        let done = written(&mut raw) - before;
        if done >= 1.0 && first.is_none() {
            first = Some((Instant::now(), done, cpu(&mut raw), bytes(&mut raw)));
        }
        if let Some((began, at, cpu_before, bytes_before)) = first.filter(|_| done >= count as f64) {
            let share = count as f64 - at;
            return Cost {
                per_second: share / began.elapsed().as_secs_f64(),
                redis_us: (cpu(&mut raw) - cpu_before) * 1e6 / share,
                bytes: (bytes(&mut raw) - bytes_before) / share,
            };
        }
        // Redis answers this itself: asked more often it would work less.
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn cpu(raw: &mut Connection) -> f64 {
    info(raw, "cpu", "used_cpu_user:") + info(raw, "cpu", "used_cpu_sys:")
}

fn bytes(raw: &mut Connection) -> f64 {
    info(raw, "stats", "total_net_input_bytes:") + info(raw, "stats", "total_net_output_bytes:")
}

/// The number after `name` in what Redis says of itself; 0 where it says nothing of that.
pub fn info(raw: &mut Connection, section: &str, name: &str) -> f64 {
    let said: String = redis::cmd("INFO").arg(section).query(raw).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |rest| rest.split(',').next().unwrap().trim().parse().unwrap())
}

fn drain() {
    let mut celerys = POOLS.map(|_| Vec::new());
    let mut ours_each = Vec::new();
    for _ in 0..ROUNDS {
        for (pool, costs) in POOLS.into_iter().zip(&mut celerys) {
            costs.push(drain_once(THEIRS, |redis| theirs(redis, pool)));
        }
        ours_each.push(drain_once(OURS, ours));
    }
    let mut best: f64 = 0.0;
    for ((pool, concurrency), costs) in POOLS.into_iter().zip(&celerys) {
        let cost = Cost::median(costs);
        tell(&format!("celery's messages, celery --pool={pool} --concurrency={concurrency}"), &cost);
        best = best.max(cost.per_second);
    }
    let cost = Cost::median(&ours_each);
    tell("celery's messages, umbel worker", &cost);
    println!("that is {:.0} times Celery's best pool", cost.per_second / best);
}

fn drain_once<W>(count: usize, start: impl Fn(&RedisServer) -> W) -> Cost {
    let redis = RedisServer::start();
    queue(&redis, "math.add", count);
    let _worker = start(&redis);
    drained(&redis, count)
}

impl Cost {
    fn median(costs: &[Self]) -> Self {
        let of = |part: fn(&Self) -> f64| median(costs.iter().map(part).collect());
        Self {
            per_second: of(|cost| cost.per_second),
            redis_us: of(|cost| cost.redis_us),
            bytes: of(|cost| cost.bytes),
        }
    }
}

fn tell(what: &str, Cost { per_second, redis_us, bytes }: &Cost) {
    println!("{what}: {per_second:.0} tasks/s; of redis {redis_us:.1} us and {bytes:.0} bytes a task");
}

fn scaling() {
    const PROCESSES: [usize; 3] = [1, 2, 4];
    let ideal = |processes: usize| SLOTS as f64 / NAP.as_secs_f64() * processes as f64;
    let mut rates = PROCESSES.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (processes, rates) in PROCESSES.into_iter().zip(&mut rates) {
            rates.push(scaled(processes, (ideal(processes) * WORK.as_secs_f64()) as usize));
        }
    }
    for (processes, rates) in PROCESSES.into_iter().zip(rates) {
        let rate = median(rates);
        println!(
            "{processes} workers with {SLOTS} slots, tasks of {NAP:?}: {rate:.0} tasks/s, {:.0} % of the ideal",
            100.0 * rate / ideal(processes)
        );
    }
}

/// Tasks per second.
fn scaled(processes: usize, count: usize) -> f64 {
    let redis = RedisServer::start();
    queue(&redis, "it.nap", count);
    // All are there before the first task may start.
    let pause: u64 = connect(&redis).sadd("umbel:paused", "celery").unwrap();
    assert_eq!(pause, 1);
    let _workers: Vec<House> = (0..processes).map(|_| ours(&redis)).collect();
    let _: u64 = connect(&redis).srem("umbel:paused", "celery").unwrap();
    let _: u64 = connect(&redis).publish("umbel:due", "").unwrap();
    drained(&redis, count).per_second
}
