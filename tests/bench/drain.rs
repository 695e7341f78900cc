//! How fast queued tasks are worked off, beside a loop that makes the same calls to the same store without scripts.

use std::sync::Arc;
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
        compare("sqlite", |round| format!("sqlite:{round}/umbel.db"), folder.path()).await;
        let redis = RedisServer::start();
        compare("redis", |round| format!("{}/{}", redis.url().trim_end_matches("/0"), round % 16), folder.path()).await;
    });
}

async fn compare(name: &str, url: impl Fn(usize) -> String, folder: &std::path::Path) {
    let (mut ours, mut bare, mut pushing) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let stores = store::open(&url(round), folder, store::Settings::default()).await.unwrap();
        bare.push(timed(&stores, drain_bare(&stores), &mut pushing).await);
        ours.push(timed(&stores, drain_by_worker(&stores), &mut pushing).await);
    }
    let (ours, bare, pushing) = (median(ours), median(bare), median(pushing));
    println!(
        "drain on {name}: {ours:.0} tasks/s, bare loop {bare:.0}/s, ratio {:.2}; pushed at {pushing:.0}/s",
        ours / bare
    );
}

/// Tasks per second.
async fn timed(stores: &Stores, drain: impl Future<Output = ()>, pushing: &mut Vec<f64>) -> f64 {
    let began = Instant::now();
    for _ in 0..TASKS / 1_000 {
        stores.queue.push((0..1_000).map(|_| message()).collect(), None).await.unwrap();
    }
    pushing.push(TASKS as f64 / began.elapsed().as_secs_f64());
    let began = Instant::now();
    drain.await;
    TASKS as f64 / began.elapsed().as_secs_f64()
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
                    queue.settle(settlement).await.unwrap()
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
