//! Processes that wait for messages: who is woken, what a wait may hold, and how little it asks.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use umbel::client::Client;
use umbel::plugin::{Catalogs, Loader};
use umbel::script::Limits;
use umbel::store::Queues;
use umbel::task::QueueName;
use umbel::worker::{Journal, Worker};

use super::*;
use crate::place::queue;
use crate::proxy::{Proxy, TO_CLIENT};

/// How long a busy machine may need for what takes some milliseconds.
const SOON: Duration = Duration::from_secs(1);

/// How long an idle process is looked at.
const WHILE: Duration = Duration::from_secs(8);

type Served = Arc<Mutex<Vec<QueueName>>>;

/// A worker with the tasks of the repository.
struct Idle {
    served: Served,
    catalogs: Catalogs,
    stop: CancellationToken,
    working: JoinHandle<()>,
}

impl Idle {
    /// Returns as soon as it waits in Redis.
    async fn start(stores: &Stores, raw: &mut Connection, queues: &[&str]) -> Self {
        let mut loader = Loader::new(env!("CARGO_MANIFEST_DIR").into());
        loader.load();
        let (catalogs, stop) = (loader.catalogs(), CancellationToken::new());
        let client = Client::new(stores.clone(), catalogs.clone(), "test@localhost".into());
        let served: Served = Arc::new(Mutex::new(queues.iter().map(|name| queue(name)).collect()));
        let settings = umbel::worker::Settings {
            name: "test@localhost".into(),
            slots: 2,
            limits: Limits::default(),
            grace: Duration::ZERO,
            lease: Settings::default().lease,
        };
        let named = served.clone();
        let queues = move || Queues::Named(named.lock().unwrap().clone());
        let worker = Worker::new(client, None, loader.engine(), queues, settings, Journal::new(false));
        let working = tokio::spawn(worker.run(stop.clone()));
        let idle = Self { served, catalogs, stop, working };
        idle.waits(raw).await;
        idle
    }

    async fn waits(&self, raw: &mut Connection) {
        let lists = (4 * self.served.lock().unwrap().len()).min(128);
        eventually(|| blocked(raw) == lists).await;
    }
}

/// What Celery's client writes for `math.add(2, 3)`, with that id.
fn sum(name: &str) -> Value {
    let mut envelope = captured("pub-01-send_task");
    envelope["headers"]["task"] = json!("math.add");
    envelope["headers"]["id"] = json!(name);
    envelope
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_hardly_asks() {
    hardly_asks(&["celery", "mail", "io"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_hardly_asks_of_more_queues_than_it_waits_for() {
    let names: Vec<String> = (0..40).map(|number| format!("q{number}")).collect();
    hardly_asks(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn hardly_asks(queues: &[&str]) {
    let (server, stores, mut raw) = open().await;
    let _idle = Idle::start(&stores, &mut raw, queues).await;

    let asked = tokio::task::spawn_blocking(move || requests(&server, WHILE)).await.unwrap();

    assert!(asked.len() < 5 * WHILE.as_secs() as usize, "{} in {WHILE:?}: {asked:#?}", asked.len());
}

// What clients send within that time; what scripts call does not go over the wire.
fn requests(server: &RedisServer, time: Duration) -> Vec<String> {
    let end = Instant::now() + time;
    let place = server.url().trim_start_matches("redis://").trim_end_matches("/0").to_owned();
    let mut stream = TcpStream::connect(place).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(stream);
    let mut found = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return found;
        }
        lines.get_ref().set_read_timeout(Some(left)).unwrap();
        let mut line = String::new();
        // The time is over, or half a line came before that.
        if lines.read_line(&mut line).is_ok() && !line.starts_with("+OK") && !line.contains(" lua] ") {
            found.push(line);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_celery_wakes_an_idle_worker_whatever_its_step() {
    let (_server, stores, mut raw) = open().await;
    let idle = Idle::start(&stores, &mut raw, &["celery", "mail"]).await;

    for (name, list) in
        [("m1", "celery"), ("m2", "mail\u{6}\u{16}3"), ("m3", "celery\u{6}\u{16}6"), ("m4", "mail\u{6}\u{16}9")]
    {
        idle.waits(&mut raw).await;
        lpush(&mut raw, list, sum(name));
        // No pace at which one could ask instead is so quick.
        eventually_within(SOON, || raw.exists(format!("celery-task-meta-{name}")).unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_stops_at_once() {
    let (_server, stores, mut raw) = open().await;
    let idle = Idle::start(&stores, &mut raw, &["celery"]).await;

    idle.stop.cancel();

    tokio::time::timeout(PATIENCE, idle.working).await.expect("it does not wait for its claim").unwrap();
    eventually(|| blocked(&mut raw) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_serves_a_queue_that_a_reload_adds() {
    let (_server, stores, mut raw) = open().await;
    let idle = Idle::start(&stores, &mut raw, &["celery"]).await;

    idle.served.lock().unwrap().push(queue("mail"));
    idle.catalogs.swap(umbel::plugin::Catalog::default());

    idle.waits(&mut raw).await;
    // Its answer is that the new catalog has no such task.
    lpush(&mut raw, "mail", sum("m1"));
    eventually(|| raw.exists("celery-task-meta-m1").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inboxes_of_an_idle_process_are_kept_with_its_leases() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    let waiting = tokio::spawn({
        let stores = stores.clone();
        async move { claim_one(&stores).await }
    });
    eventually(|| blocked(&mut raw) == 4).await;
    let inboxes: Vec<String> = raw.zrange("umbel:inboxes", 0, -1).unwrap();
    for inbox in &inboxes {
        let _: u64 = raw.zadd("umbel:inboxes", inbox, 1).unwrap();
    }

    stores.queue.keep_alive().await.unwrap();

    let now = Utc::now().timestamp_millis();
    assert_eq!(inboxes.len(), 4);
    for inbox in &inboxes {
        assert!(raw.zscore::<_, _, i64>("umbel:inboxes", inbox).unwrap() > now, "{inbox}");
    }
    push(&other, messages(&["m1"])).await;
    assert_eq!(waiting.await.unwrap().message.id, id("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_begin_anew_when_redis_answers_again() {
    let (server, stores, mut raw) = open().await;
    let waiting = tokio::spawn({
        let stores = stores.clone();
        async move { claim_one(&stores).await }
    });
    eventually(|| blocked(&mut raw) == 4).await;
    let before = waits_counted(&mut raw);

    server.signal("STOP");
    assert!(stores.queue.keep_alive().await.is_err());
    server.signal("CONT");
    eventually_ok(|| stores.queue.keep_alive()).await;

    eventually(|| waits_counted(&mut raw) >= before + 4 && blocked(&mut raw) == 4).await;
    push(&stores, messages(&["m1"])).await;
    assert_eq!(waiting.await.unwrap().message.id, id("m1"));
}

async fn eventually_ok<T, F: Future<Output = umbel::store::Result<T>>>(mut call: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = call().await {
        assert!(Instant::now() < end, "{error}");
    }
}

// How many waits there have been. Redis counts those that have begun, Valkey those that have ended.
fn waits_counted(raw: &mut Connection) -> usize {
    let info: String = ::redis::cmd("INFO").arg("commandstats").query(raw).unwrap();
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_blmove:calls="));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_queues_than_are_waited_for_each_is_served() {
    let (_server, stores, mut raw) = open().await;
    let names: Vec<String> = (0..40).map(|number| format!("q{number}")).collect();
    let queues = Queues::Named(names.iter().map(|name| queue(name)).collect());
    let waiting = tokio::spawn({
        let (stores, queues) = (stores.clone(), queues.clone());
        async move { stores.queue.claim(&queues, 1, PATIENCE).await.unwrap() }
    });
    eventually(|| blocked(&mut raw) == 128).await;

    for name in &names {
        lpush(&mut raw, &format!("{name}\u{6}\u{16}9"), sum(name));
    }

    let mut found = ids(&waiting.await.unwrap());
    while found.len() < names.len() {
        found.extend(ids(&stores.queue.claim(&queues, 40, PATIENCE).await.unwrap()));
    }
    found.sort_by_key(|name| name[1..].parse::<u32>().unwrap());
    assert_eq!(found, names);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_of_a_dead_process_is_adopted() {
    let (_server, stores, mut raw) = open().await;
    push(&stores, messages(&["m1", "m2", "m3"])).await;
    for _ in 0..2 {
        let _: String =
            ::redis::cmd("LMOVE").arg(&["celery", "umbel:inbox:dead:celery", "RIGHT", "LEFT"]).query(&mut raw).unwrap();
    }
    let _: u64 = raw.zadd("umbel:inboxes", "dead:celery", 1).unwrap();

    stores.queue.keep_alive().await.unwrap();

    assert_eq!(ids(&claim(&stores, 10).await), ["m1", "m2", "m3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_process_takes_nothing() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;

    let (claimed, ()) = tokio::join!(claim_one(&stores), async {
        eventually(|| blocked(&mut raw) == 4).await;
        push(&stores, messages(&["m1"])).await;
    });
    assert_eq!(claimed.message.id, id("m1"));
    eventually(|| blocked(&mut raw) == 0).await;
    push(&stores, messages(&["m2"])).await;

    assert_eq!(claim_one(&other).await.message.id, id("m2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_given_up_holds_nothing() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    let waiting = tokio::spawn({
        let stores = stores.clone();
        async move { stores.queue.claim(&celery(), 1, PATIENCE * 10).await }
    });
    eventually(|| blocked(&mut raw) == 4).await;

    waiting.abort();

    eventually(|| blocked(&mut raw) == 0).await;
    push(&other, messages(&["m1"])).await;
    assert_eq!(claim_one(&other).await.message.id, id("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_wakes_one_of_many_idle_processes() {
    let (server, stores, mut raw) = open().await;
    let mut idle = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let stores = connect(&server).await;
        idle.spawn(async move { stores.queue.claim(&celery(), 1, PATIENCE).await.unwrap() });
    }
    eventually(|| blocked(&mut raw) == 16).await;

    for (name, still) in [("m1", 12), ("m2", 8), ("m3", 4), ("m4", 0)] {
        push(&stores, messages(&[name])).await;
        assert_eq!(ids(&idle.join_next().await.unwrap().unwrap()), [name]);
        eventually(|| blocked(&mut raw) == still).await;
    }

    // Whoever is woken in vain waits once more.
    assert_eq!(waits_counted(&mut raw), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_process_takes_nothing_from_a_queue_that_is_paused() {
    let (server, stores, mut raw) = open().await;
    let other = connect(&server).await;
    let waiting = tokio::spawn(async move { claim_one(&other).await });
    eventually(|| blocked(&mut raw) == 4).await;

    stores.queue.pause(&celery_queue(), true).await.unwrap();
    eventually(|| blocked(&mut raw) == 0).await;
    push(&stores, messages(&["m1"])).await;
    assert_nothing_comes(&stores).await;
    assert_eq!(raw.llen::<_, u64>("celery").unwrap(), 1);
    assert!(!waiting.is_finished());
    stores.queue.pause(&celery_queue(), false).await.unwrap();

    assert_eq!(waiting.await.unwrap().message.id, id("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_any_message_does_not_come_to_an_idle_process() {
    let (server, _, mut raw) = open().await;
    let proxy = Proxy::to(server.port());
    let stores = reach(&proxy.url()).await;
    let waiting = tokio::spawn(async move {
        loop {
            // A busy machine may need longer than Redis may be silent to move so much.
            match stores.queue.claim(&celery(), 1, PATIENCE).await {
                Err(Error::Away { .. }) => {}
                claimed => return claimed.unwrap().remove(0),
            }
        }
    });
    eventually(|| blocked(&mut raw) == 4).await;

    lpush(&mut raw, "celery", "x".repeat(2 * umbel::task::MAX_WIRE));

    eventually(|| raw.llen::<_, u64>("umbel:dead").unwrap() == 1).await;
    assert!(proxy.carried(TO_CLIENT) < 1_000_000, "{} bytes came", proxy.carried(TO_CLIENT));
    lpush(&mut raw, "celery", sum("m1"));
    assert_eq!(waiting.await.unwrap().message.id, id("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_wait_has_brought_is_found_by_the_next_sweep() {
    let (server, direct, mut raw) = open().await;
    let proxy = Proxy::to(server.port());
    let stores = reach(&proxy.url()).await;
    let waiting = tokio::spawn({
        let stores = stores.clone();
        async move { stores.queue.claim(&celery(), 1, PATIENCE * 10).await.unwrap() }
    });
    eventually(|| blocked(&mut raw) == 4).await;

    // Behind the shared one and that for notices.
    (2..6).for_each(|number| proxy.lose(number));
    push(&direct, messages(&["m1"])).await;
    stores.queue.keep_alive().await.unwrap();

    let found = tokio::time::timeout(PATIENCE, waiting).await.expect("it is found").unwrap();
    assert_eq!(ids(&found), ["m1"]);
}
