//! How a worker goes on when the store fails, tasks outstay their welcome, and things happen between two steps.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use async_trait::async_trait;

use super::*;
use crate::client::Request;
use crate::plugin::Loader;
use crate::store::{
    self, Delivery, Depth, Error, Pushed, Queue, QueueFacts, Receipt, Revoked, Settled, Settlement, Stores, Tick,
};
use crate::task::{Message, QueueName, Run, State};

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
        let claimed = self.inner.claim(queues, max, patience).await?;
        if self.terminated.load(Ordering::Relaxed) {
            for delivery in &claimed {
                self.inner.revoke(&delivery.receipt.id, true).await?;
            }
        }
        Ok(claimed)
    }
    async fn settle(&self, settlement: Settlement) -> store::Result<Settled> {
        self.inner.settle(settlement).await
    }
    async fn acknowledge(&self, receipt: &Receipt) -> store::Result<Settled> {
        let left = self.acknowledgements_fail.load(Ordering::Relaxed);
        self.acknowledgements_fail.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 { Err(away()) } else { self.inner.acknowledge(receipt).await }
    }
    async fn put_back(&self, deliveries: Vec<Delivery>, wait: Duration) -> store::Result<()> {
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

    async fn has_begun(&self) {
        let said = async {
            while self.client.stores().kv.get("begun").await.unwrap().is_none() {
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
async fn an_acknowledgement_that_fails_is_tried_again() {
    let mut shop = Shop::new("task(\"once\", #{ acks_late: false });\nfn once() { 7 }", 1, true).await;
    shop.trouble.acknowledgements_fail.store(1, Ordering::Relaxed);
    let _open = shop.open();

    let id = shop.send("it.once").await;

    assert_eq!(shop.ended(&id).await.result.unwrap().get(), "7");
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
async fn a_run_whose_lease_cannot_be_renewed_is_stopped() {
    let mut shop = Shop::new("fn nap() { sleep(60) }", 1, false).await;
    shop.trouble.no_renewal.store(true, Ordering::Relaxed);
    let _open = shop.open();

    shop.send("it.nap").await;

    tokio::time::timeout(PATIENCE, shop.trouble.put_back.notified()).await.expect("it was put back");
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
