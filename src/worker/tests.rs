//! A worker with a store that can be made to fail: what happens when tasks outstay their welcome, and between two steps.

mod floods;
mod follow_ups;
mod suspects;
mod troubles;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::client::Request;
use crate::plugin::Loader;
use crate::store::{
    self, DeadLetter, Delivery, Depth, Error, Pushed, Queue, QueueFacts, Receipt, Revoked, Settled, Settlement, Space,
    Stores, Tick,
};
use crate::task::{Message, QueueName, Run, State, to_json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A store in memory in which things go wrong as told.
struct Troubled {
    inner: Arc<dyn Queue>,
    /// So many acknowledgements fail.
    acknowledgements_fail: AtomicUsize,
    /// No lease is renewed.
    no_renewal: AtomicBool,
    /// What is claimed is terminated before its worker hears of it.
    terminated: AtomicBool,
    /// So many settlements are refused.
    settlements_fail: AtomicUsize,
    /// Tasks of this name have so many deaths.
    suspected: Mutex<Option<(String, u32)>>,
    /// By the clock of the store everything comes too late.
    late: AtomicBool,
    /// So many deliveries cannot be put back.
    returns_fail: AtomicUsize,
    /// The waits with which deliveries were put back.
    waits: Mutex<Vec<Duration>>,
    put_back: Notify,
}

fn away() -> Error {
    Error::Away { reason: "for this test".to_owned() }
}

#[async_trait]
impl Queue for Troubled {
    async fn push(&self, messages: Vec<Message>, unless: Option<Tick>) -> store::Result<Pushed> {
        self.inner.push(messages, unless).await
    }
    async fn claim(&self, queues: &Queues, max: usize, patience: Duration) -> store::Result<Vec<Delivery>> {
        let mut claimed = self.inner.claim(queues, max, patience).await?;
        if let Some((name, deaths)) = &*self.suspected.lock().unwrap() {
            claimed.iter_mut().filter(|one| one.message.task == *name).for_each(|one| one.deaths = *deaths);
        }
        claimed.iter_mut().for_each(|one| one.expired |= self.late.load(Ordering::Relaxed));
        if self.terminated.load(Ordering::Relaxed) {
            for delivery in &claimed {
                self.inner.revoke(&delivery.receipt.id, true).await?;
            }
        }
        Ok(claimed)
    }
    async fn settle(&self, settlement: Arc<Settlement>) -> store::Result<Settled> {
        let left = self.settlements_fail.load(Ordering::Relaxed);
        self.settlements_fail.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 {
            return Err(anyhow::anyhow!("too large").into());
        }
        self.inner.settle(settlement).await
    }
    async fn acknowledge(&self, receipt: &Receipt) -> store::Result<Settled> {
        let left = self.acknowledgements_fail.load(Ordering::Relaxed);
        self.acknowledgements_fail.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 { Err(away()) } else { self.inner.acknowledge(receipt).await }
    }
    async fn put_back(&self, deliveries: Vec<Delivery>, wait: Duration) -> store::Result<()> {
        if !deliveries.is_empty() {
            self.waits.lock().unwrap().push(wait);
        }
        let left = self.returns_fail.load(Ordering::Relaxed);
        self.returns_fail.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 {
            return Err(away());
        }
        self.inner.put_back(deliveries, wait).await?;
        self.put_back.notify_one();
        Ok(())
    }
    fn started(&self, receipt: &Receipt) {
        self.inner.started(receipt);
    }
    async fn queues(&self) -> store::Result<Vec<QueueFacts>> {
        self.inner.queues().await
    }
    async fn pause(&self, queue: &QueueName, paused: bool) -> store::Result<()> {
        self.inner.pause(queue, paused).await
    }
    async fn keep_alive(&self) -> store::Result<Vec<Receipt>> {
        if self.no_renewal.load(Ordering::Relaxed) { Err(away()) } else { self.inner.keep_alive().await }
    }
    async fn revoke(&self, id: &TaskId, terminate: bool) -> store::Result<Revoked> {
        self.inner.revoke(id, terminate).await
    }
    async fn is_revoked(&self, receipt: &Receipt) -> store::Result<bool> {
        self.inner.is_revoked(receipt).await
    }

    fn terminations(&self) -> broadcast::Receiver<TaskId> {
        self.inner.terminations()
    }
    async fn depth(&self, queue: &QueueName) -> store::Result<Depth> {
        self.inner.depth(queue).await
    }
    async fn purge(&self, queue: &QueueName) -> store::Result<u64> {
        self.inner.purge(queue).await
    }
    async fn dead_letters(&self) -> store::Result<u64> {
        self.inner.dead_letters().await
    }
    async fn read_dead_letters(&self, most: usize) -> store::Result<Vec<DeadLetter>> {
        self.inner.read_dead_letters(most).await
    }
    async fn ping(&self) -> store::Result<()> {
        self.inner.ping().await
    }
}

/// A worker with its scripts in `tasks/it.rhai`.
struct Shop {
    _folder: tempfile::TempDir,
    client: Client,
    trouble: Arc<Troubled>,
    stop: CancellationToken,
    worker: Option<Worker>,
}

impl Shop {
    async fn new(script: &str, slots: usize, exclusive: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tasks")).unwrap();
        std::fs::write(folder.path().join("tasks/it.rhai"), script).unwrap();
        let mut loader = Loader::new(folder.path().to_owned());
        loader.load();
        let stores = store::open("memory:", folder.path(), store::Settings::default()).await.unwrap();
        let trouble = Arc::new(Troubled {
            inner: stores.queue.clone(),
            acknowledgements_fail: AtomicUsize::new(0),
            no_renewal: AtomicBool::new(false),
            terminated: AtomicBool::new(false),
            settlements_fail: AtomicUsize::new(0),
            suspected: Mutex::default(),
            late: AtomicBool::new(false),
            returns_fail: AtomicUsize::new(0),
            waits: Mutex::default(),
            put_back: Notify::new(),
        });
        let stores = Stores { queue: trouble.clone(), exclusive, ..stores };
        let client = Client::new(stores, loader.catalogs(), "test@localhost".to_owned());
        let settings = Settings {
            name: "test@localhost".to_owned(),
            slots,
            grace: Duration::from_millis(50),
            lease: Duration::from_millis(300),
            limits: Limits::default(),
        };
        let worker =
            Worker::new(client.clone(), None, loader.engine(), || Queues::Every, settings, Journal::new(false));
        Self { _folder: folder, client, trouble, stop: CancellationToken::new(), worker: Some(worker) }
    }

    fn open(&mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(self.worker.take().expect("it opens once").run(self.stop.clone()))
    }

    async fn send(&self, task: &str) -> TaskId {
        self.client.submit(Request { task: task.to_owned(), ..Request::default() }).await.unwrap().id
    }

    async fn say(&self, key: &str) {
        self.client.stores().kv.set(&Space::Tasks.key(key), to_json(&true), None, false).await.unwrap();
    }

    async fn has_begun(&self) {
        self.has_said("begun").await;
    }

    async fn has_said(&self, key: &str) {
        let said = async {
            while self.client.stores().kv.get(&Space::Tasks.key(key)).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, said).await.expect("the script begins");
    }

    async fn ended(&self, id: &TaskId) -> Run {
        let run = self.client.wait(id, PATIENCE).await.unwrap().unwrap();
        assert!(run.state.is_final(), "it is still {:?}", run.state);
        run
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_may_run_once_is_not_run_again_after_the_grace() {
    let mut shop =
        Shop::new("task(\"once\", #{ acks_late: false });\nfn once() { kv::set(\"begun\", true); sleep(60) }", 1, true)
            .await;
    let open = shop.open();
    let running = shop.send("it.once").await;
    shop.has_begun().await;

    shop.stop.cancel();
    open.await.unwrap();

    let run = shop.ended(&running).await;
    assert_eq!((run.state, run.error.unwrap().exc_type.as_str()), (State::Failure, "WorkerLostError"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_stopped_after_the_grace_waits_again() {
    let mut shop = Shop::new("fn nap() { kv::set(\"begun\", true); sleep(60) }", 1, true).await;
    let open = shop.open();
    let running = shop.send("it.nap").await;
    shop.has_begun().await;

    shop.stop.cancel();
    open.await.unwrap();

    assert_eq!(shop.client.load(&running).await.unwrap().unwrap().state, State::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_says_what_has_expired() {
    let mut shop = Shop::new("fn never() { kv::set(\"begun\", true) }", 1, true).await;
    shop.trouble.late.store(true, Ordering::Relaxed);
    let _open = shop.open();

    let run = shop.ended(&shop.send("it.never").await).await;

    assert_eq!((run.state, run.error.unwrap().exc_message.as_str()), (State::Revoked, "expired"));
    assert!(shop.client.stores().kv.get(&Space::Tasks.key("begun")).await.unwrap().is_none());
}

// On one thread, so that the termination is heard before the claim is.
#[tokio::test]
async fn a_termination_on_the_way_to_the_worker_counts() {
    let mut shop = Shop::new("fn nap() { sleep(60) }", 1, true).await;
    shop.trouble.terminated.store(true, Ordering::Relaxed);
    let _open = shop.open();

    let id = shop.send("it.nap").await;

    assert_eq!(shop.ended(&id).await.state, State::Revoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_is_not_claimed_again_and_again() {
    let shop = Shop::new("fn nap() { sleep(60) }", 2, true).await;
    let floor = shop.worker.as_ref().unwrap().floor.clone();
    (0..100).for_each(|_| floor.pace.note(Duration::from_micros(5)));
    assert!(floor.pace.room(0) > 100);
    let mut shop = shop;
    let _open = shop.open();
    for _ in 0..3 {
        shop.send("it.nap").await;
    }

    tokio::time::timeout(PATIENCE, shop.trouble.put_back.notified()).await.expect("the third is put back");

    assert_eq!(floor.pace.room(2), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_on_the_roster_while_it_works() {
    let mut shop = Shop::new("fn nap() { kv::set(\"begun\", true); sleep(60) }", 3, true).await;
    let roster = shop.client.stores().roster.clone();
    assert!(roster.workers().await.unwrap().is_empty());
    let open = shop.open();
    let running = shop.send("it.nap").await;
    let announced = async {
        loop {
            let workers = roster.workers().await.unwrap();
            if let [worker] = &workers[..]
                && worker.running == std::slice::from_ref(&running)
            {
                return worker.clone();
            }
            tokio::task::yield_now().await;
        }
    };

    let worker = tokio::time::timeout(PATIENCE, announced).await.expect("it says what it runs");
    shop.stop.cancel();
    open.await.unwrap();

    assert_eq!((worker.name.as_str(), worker.slots, worker.queues.len()), ("test@localhost", 3, 0));
    assert!(worker.seen_at >= worker.started_at);
    assert!(roster.workers().await.unwrap().is_empty());
}

struct Look {
    executions: TaskTracker,
    seen: AtomicUsize,
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        self.seen.store(self.executions.len(), Ordering::SeqCst);
    }
}

#[tokio::test]
async fn who_is_woken_by_an_end_finds_the_room() {
    let shop = Shop::new("", 1, true).await;
    let floor = shop.worker.as_ref().unwrap().floor.clone();
    let executions = TaskTracker::new();
    let under_way = UnderWay { counted: Some(executions.token()), floor: floor.clone() };
    let look = Arc::new(Look { executions, seen: AtomicUsize::new(usize::MAX) });
    let mut ended = std::pin::pin!(floor.ended.notified());
    assert!(ended.as_mut().poll(&mut Context::from_waker(&Waker::from(look.clone()))).is_pending());

    drop(under_way);

    assert_eq!(look.seen.load(Ordering::SeqCst), 0);
}

// On one thread, which is the one that looks up where to count.
#[tokio::test]
async fn how_long_a_task_waited_for_its_start_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let mut shop = Shop::new("fn one() { 1 }", 1, true).await;
    let id = shop.send("it.one").await;
    let before = Instant::now();
    while before.elapsed() < Duration::from_millis(2) {
        tokio::task::yield_now().await;
    }

    let _open = shop.open();
    shop.ended(&id).await;

    let page = recorder.handle().render();
    let number = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}{{task=\"it.one\"}} ")));
        line.unwrap_or_else(|| panic!("{name}: {page}")).parse().unwrap()
    };
    assert_eq!(number("umbel_task_queue_seconds_count"), 1.0);
    assert!(number("umbel_task_queue_seconds_sum") >= 0.002, "{page}");
}
