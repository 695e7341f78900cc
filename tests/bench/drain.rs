//! How fast queued tasks are worked off, beside a loop that makes the same calls to the same store without scripts.
//!
//! Both run in this process; `celery` measures workers that are processes of their own.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use umbel::client::Client;
use umbel::plugin::Loader;
use umbel::script::Limits;
use umbel::store::{self, Attempt, Ending, Queue, Queues, Settlement, Stores};
use umbel::task::{Message, NewMessage, QueueName, to_json};
use umbel::worker::{Journal, Settings, Worker};

use crate::median;
use crate::support::redis_server::RedisServer;

const TASKS: usize = 50_000;
const ROUNDS: usize = 3;

/// The bare loop claims like this, on so many lanes: the best of what was tried.
const BATCH: usize = 256;
const LANES: usize = 4;

pub fn measure() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..ROUNDS {
            std::fs::create_dir(folder.path().join(round.to_string())).unwrap();
        }
        let mut sqlite = Figures::default();
        for round in 0..ROUNDS {
            let url = format!("sqlite:{round}/umbel.db");
            let stores = store::open(&url, folder.path(), store::Settings::default()).await.unwrap();
            sqlite.round(&stores, &Pusher::Ours(stores.clone()), None).await;
        }
        sqlite.print("sqlite");
        let server = RedisServer::start();
        let (mut ours, mut celerys) = (Figures::default(), Figures::default());
        for round in 0..ROUNDS {
            let url = format!("{}/{round}", server.url().trim_end_matches("/0"));
            let stores = store::open(&url, folder.path(), store::Settings::default()).await.unwrap();
            let raw = || redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
            ours.round(&stores, &Pusher::Ours(stores.clone()), Some(raw())).await;
            celerys.round(&stores, &Pusher::Celery(url.clone()), Some(raw())).await;
        }
        ours.print("redis, sent by us");
        celerys.print("redis, sent by Celery's client");
    });
}

/// Who sends the tasks that are drained.
enum Pusher {
    Ours(Stores),
    /// The URL of a Redis, where the lists are written as Celery's client does.
    Celery(String),
}

impl Pusher {
    async fn push(&self) {
        match self {
            Self::Ours(stores) => {
                for _ in 0..TASKS / 1_000 {
                    stores.queue.push((0..1_000).map(|_| message()).collect(), None).await.unwrap();
                }
            }
            Self::Celery(url) => {
                let mut raw = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
                for _ in 0..TASKS / 1_000 {
                    let envelopes: Vec<String> = (0..1_000).map(|_| celerys_envelope()).collect();
                    redis::cmd("LPUSH").arg("celery").arg(envelopes).exec(&mut raw).unwrap();
                }
            }
        }
    }
}

/// What one way of draining cost in each round.
#[derive(Default)]
struct Costs {
    tasks_per_second: Vec<f64>,
    own_cpu: Vec<f64>,
    redis_cpu: Vec<f64>,
    redis_bytes: Vec<f64>,
}

#[derive(Default)]
struct Figures {
    pushing: Vec<f64>,
    ours: Costs,
    bare: Costs,
}

impl Figures {
    async fn round(&mut self, stores: &Stores, pusher: &Pusher, mut redis: Option<redis::Connection>) {
        self.bare.note(stores, pusher, drain_bare(stores), &mut self.pushing, redis.as_mut()).await;
        self.ours.note(stores, pusher, drain_by_worker(stores), &mut self.pushing, redis.as_mut()).await;
    }

    fn print(self, name: &str) {
        let Self { pushing, ours, bare } = self;
        let (rate, bare_rate) = (median(ours.tasks_per_second.clone()), median(bare.tasks_per_second.clone()));
        println!(
            "drain on {name}: {rate:.0} tasks/s, bare loop {bare_rate:.0}/s, ratio {:.2}; pushed at {:.0}/s",
            rate / bare_rate,
            median(pushing)
        );
        println!("  of each task: ours {ours}; bare {bare}");
    }
}

impl Costs {
    async fn note(
        &mut self,
        stores: &Stores,
        pusher: &Pusher,
        drain: impl Future<Output = ()>,
        pushing: &mut Vec<f64>,
        mut redis: Option<&mut redis::Connection>,
    ) {
        let began = Instant::now();
        pusher.push().await;
        pushing.push(TASKS as f64 / began.elapsed().as_secs_f64());
        let before = redis.as_deref_mut().map(Spent::of);
        let own_before = own_cpu();
        let began = Instant::now();
        drain.await;
        let took = began.elapsed().as_secs_f64();
        self.tasks_per_second.push(TASKS as f64 / took);
        self.own_cpu.push((own_cpu() - own_before).as_secs_f64() * 1e6 / TASKS as f64);
        if let (Some(before), Some(redis)) = (before, redis) {
            let after = Spent::of(redis);
            self.redis_cpu.push((after.cpu - before.cpu) * 1e6 / TASKS as f64);
            self.redis_bytes.push((after.bytes - before.bytes) / TASKS as f64);
        }
        assert_eq!(stores.queue.depth(&QueueName::default()).await.unwrap(), store::Depth::default());
    }
}

impl std::fmt::Display for Costs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} us of CPU", median(self.own_cpu.clone()))?;
        if !self.redis_cpu.is_empty() {
            let (cpu, bytes) = (median(self.redis_cpu.clone()), median(self.redis_bytes.clone()));
            write!(f, ", {cpu:.1} us in Redis, {bytes:.0} bytes over the wire")?;
        }
        Ok(())
    }
}

/// What Redis has spent since it was started.
struct Spent {
    /// In seconds.
    cpu: f64,
    bytes: f64,
}

impl Spent {
    fn of(redis: &mut redis::Connection) -> Self {
        let info: String = redis::cmd("INFO").arg("everything").query(redis).unwrap();
        let number = |name: &str| -> f64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("INFO tells {name}")).trim().parse().unwrap()
        };
        Self {
            cpu: number("used_cpu_user") + number("used_cpu_sys"),
            bytes: number("total_net_input_bytes") + number("total_net_output_bytes"),
        }
    }
}

/// What this process has spent; zero where the system does not tell it in `/proc`.
fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: the 12th and 13th are ticks of 10 ms in programs and in the system.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// The captured envelope of Celery's client, for a task of ours with an id of its own.
pub fn celerys_envelope() -> String {
    static CAPTURED: LazyLock<(String, String)> = LazyLock::new(|| {
        let sample = include_str!("../celery/captured/pub-01-send_task.json");
        let sample: serde_json::Value = serde_json::from_str(sample).unwrap();
        let mut envelope = sample["keys_after"]["db0"]["celery"]["value"][0].clone();
        envelope.as_object_mut().unwrap().remove("_body_decoded");
        let id = envelope["headers"]["id"].as_str().unwrap().to_owned();
        (envelope.to_string().replace("tasks.add", "math.add"), id)
    });
    let (envelope, id) = &*CAPTURED;
    envelope.replace(id, &uuid::Uuid::new_v4().to_string())
}

/// `math.add(10, 3)`, as a client would send it.
pub fn message() -> Message {
    NewMessage { task: "math.add".into(), args: Some(to_json(&[10, 3])), ..NewMessage::default() }.build()
}

fn queues(stores: &Stores) -> Queues {
    if stores.exclusive { Queues::Every } else { Queues::Named(vec![QueueName::default()]) }
}

async fn drain_bare(stores: &Stores) {
    let queues = queues(stores);
    join_all((0..LANES).map(|_| async {
        loop {
            let deliveries = stores.queue.claim(&queues, BATCH, Duration::ZERO).await.unwrap();
            if deliveries.is_empty() {
                return;
            }
            join_all(deliveries.into_iter().map(|delivery| {
                let queue: Arc<dyn Queue> = stores.queue.clone();
                tokio::spawn(async move {
                    let ending = Ending::Success { result: Some(to_json(&13)) };
                    let settlement =
                        Settlement { delivery, ending, attempt: Attempt::default(), follow_ups: Vec::new() };
                    queue.settle(settlement.into()).await.unwrap()
                })
            }))
            .await;
        }
    }))
    .await;
}

async fn drain_by_worker(stores: &Stores) {
    let mut loader = Loader::new(env!("CARGO_MANIFEST_DIR").into());
    loader.load();
    let client = Client::new(stores.clone(), loader.catalogs(), "bench@localhost".into());
    let served = queues(stores);
    let settings = Settings {
        name: "bench@localhost".into(),
        slots: 8,
        limits: Limits::default(),
        grace: Duration::ZERO,
        lease: Duration::from_secs(15),
    };
    let worker = Worker::new(client, None, loader.engine(), move || served.clone(), settings, Journal::new(false));
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker.run(stop.clone()));
    loop {
        let depth = stores.queue.depth(&QueueName::default()).await.unwrap();
        if depth.ready + depth.claimed == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.cancel();
    // Its last claim may still be waiting; that is no part of the drain.
    working.abort();
}
