//! How fast HTTP takes tasks, beside callers that push the same to a store of the same kind without HTTP; what a
//! million tasks leave behind in memory; what it costs to be idle.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use umbel::store::{self, Stores};

use crate::drain::message;
use crate::median;
use crate::support::house::{House, Plan};

const CONNECTIONS: usize = 32;
const ONE_BY_ONE: usize = 30_000;
const IN_BATCHES: usize = 100_000;
const BATCH: usize = 1_000;
const MILLION: usize = 1_000_000;
const ROUNDS: usize = 3;
const IDLE_FOR: Duration = Duration::from_secs(20);

pub fn measure() {
    // The clients share the machine with the server, so they get one thread, as one busy program would have.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        sending().await;
        afterwards().await;
    });
}

async fn sending() {
    let (mut single, mut single_bare, mut batched, mut batched_bare) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let stores = store::open("sqlite:umbel.db", folder.path(), store::Settings::default()).await.unwrap();
        single_bare.push(rate(ONE_BY_ONE, push_one_by_one(&stores)).await);
        batched_bare.push(rate(IN_BATCHES, push_in_batches(&stores)).await);

        let house = Plan::new().shipped("tasks/math.rhai").start();
        // Only the sending is measured here; `drain` measures the rest.
        assert_eq!(house.post("/api/queues/celery/pause", &json!({})).status, 200);
        single.push(rate(ONE_BY_ONE, send_one_by_one(&house)).await);
        batched.push(rate(IN_BATCHES, send_in_batches(&house, IN_BATCHES)).await);
    }
    for (name, ours, bare) in [
        (format!("sent one by one from {CONNECTIONS} connections"), single, single_bare),
        (format!("sent in batches of {BATCH}"), batched, batched_bare),
    ] {
        let (ours, bare) = (median(ours), median(bare));
        println!("{name}: {ours:.0} tasks/s, pushed without HTTP {bare:.0}/s, ratio {:.2}", ours / bare);
    }
}

async fn afterwards() {
    let house = Plan::new().shipped("tasks/math.rhai").start();
    println!("resident memory after start: {:.1} MB", resident_mb(&house));
    let began = Instant::now();
    send_in_batches(&house, MILLION).await;
    while house.get("/api/tasks?state=QUEUED&limit=1").json["tasks"].as_array().is_some_and(|left| !left.is_empty()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rate = MILLION as f64 / began.elapsed().as_secs_f64();
    println!("{MILLION} tasks sent in batches and run at the same time: {rate:.0} tasks/s");
    println!("resident memory afterwards: {:.1} MB", resident_mb(&house));
    let before = processor_seconds(&house);
    tokio::time::sleep(IDLE_FOR).await;
    let share = (processor_seconds(&house) - before) / IDLE_FOR.as_secs_f64();
    println!("processor while idle: {:.2} % of one", share * 100.0);
}

/// Tasks per second.
async fn rate(tasks: usize, doing: impl Future<Output = ()>) -> f64 {
    let began = Instant::now();
    doing.await;
    tasks as f64 / began.elapsed().as_secs_f64()
}

async fn push_one_by_one(stores: &Stores) {
    join_all((0..CONNECTIONS).map(|_| async {
        for _ in 0..ONE_BY_ONE / CONNECTIONS {
            stores.queue.push(vec![message()], None).await.unwrap();
        }
    }))
    .await;
}

async fn push_in_batches(stores: &Stores) {
    for _ in 0..IN_BATCHES / BATCH {
        stores.queue.push((0..BATCH).map(|_| message()).collect(), None).await.unwrap();
    }
}

async fn send_one_by_one(house: &House) {
    join_all((0..CONNECTIONS).map(|_| async {
        let mut connection = Connection::open(house).await;
        for _ in 0..ONE_BY_ONE / CONNECTIONS {
            connection.post("/api/tasks/math.add", r#"{"args":[10,3]}"#).await;
        }
    }))
    .await;
}

async fn send_in_batches(house: &House, tasks: usize) {
    let one = r#"{"task":"math.add","args":[10,3]}"#;
    let body = format!("[{}]", vec![one; BATCH].join(","));
    let mut connection = Connection::open(house).await;
    for _ in 0..tasks / BATCH {
        connection.post("/api/tasks", &body).await;
    }
}

/// A connection that is kept open, with as little around it as can be: the client is not what is measured.
struct Connection {
    stream: TcpStream,
    host: String,
    read: Vec<u8>,
}

impl Connection {
    async fn open(house: &House) -> Self {
        let stream = TcpStream::connect(&house.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, host: house.address.clone(), read: Vec::new() }
    }

    async fn post(&mut self, path: &str, body: &str) {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", self.host, body.len());
        self.stream.write_all((head + body).as_bytes()).await.unwrap();
        self.read.clear();
        while !self.is_answered() {
            assert_ne!(self.stream.read_buf(&mut self.read).await.unwrap(), 0, "the connection was closed");
        }
    }

    fn is_answered(&self) -> bool {
        let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
        let head = std::str::from_utf8(&self.read[..end]).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 202"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        self.read.len() >= end + 4 + length.parse::<usize>().unwrap()
    }
}

fn resident_mb(house: &House) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", house.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
}

/// What its threads have used so far. The system counts in hundredths of a second.
fn processor_seconds(house: &House) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", house.pid())).unwrap();
    // The name before the last bracket may have spaces; behind it user and system time are the 12th and 13th.
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
