//! Where a promise is held: a real store, and words to speak with it.

use std::time::Duration;

use umbel::store::{Delivery, Ending, Pushed, Queues, Settings, Settled, Settlement, Stores};
use umbel::task::{Message, NewMessage, QueueName, Run, State, TaskId, to_json};

/// How long something that must happen may take; never waited out when the promise holds.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long to look before saying that nothing comes.
pub const MOMENT: Duration = Duration::from_millis(150);
/// A lease that a test can outwait.
pub const SHORT_LEASE: Duration = Duration::from_secs(1);

/// One real store, used by one process that can die.
pub trait Place: Sized {
    /// An empty store.
    async fn open(settings: Settings) -> Self;

    /// The store as the living process sees it.
    fn stores(&self) -> &Stores;

    /// The process is gone without a word; what is returned is the next one's.
    async fn die(self) -> Self;

    /// What a second living process sees; the first one's where the store is one process's alone.
    async fn beside(&self) -> Stores;
}

/// An empty store with the settings of a user.
pub async fn open<P: Place>() -> P {
    P::open(Settings::default()).await
}

/// An empty store whose leases end within a test.
pub async fn open_with_short_leases<P: Place>() -> P {
    P::open(Settings { lease: SHORT_LEASE, ..Settings::default() }).await
}

pub fn id(text: &str) -> TaskId {
    TaskId::parse(text).unwrap()
}

pub fn queue(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

pub fn celery() -> Queues {
    Queues::Named(vec![QueueName::default()])
}

/// A task `math.add` of that id, to change and to build.
pub fn draft(name: &str) -> NewMessage {
    NewMessage { id: Some(id(name)), task: "math.add".into(), args: Some(to_json(&[2, 3])), ..NewMessage::default() }
}

pub fn message(name: &str) -> Message {
    draft(name).build()
}

pub fn messages(names: &[&str]) -> Vec<Message> {
    names.iter().map(|name| message(name)).collect()
}

pub async fn push(stores: &Stores, messages: Vec<Message>) {
    assert_eq!(stores.queue.push(messages, None).await.unwrap(), Pushed::Stored);
}

/// Claims up to `max` of the default queue, waiting for the first.
pub async fn claim(stores: &Stores, max: usize) -> Vec<Delivery> {
    stores.queue.claim(&celery(), max, PATIENCE).await.unwrap()
}

pub async fn claim_one(stores: &Stores) -> Delivery {
    claim(stores, 1).await.pop().expect("a message within the patience")
}

/// Claims as a process does that also keeps its leases and takes over those of the dead; empty when it sees nothing
/// within `patience`.
pub async fn claim_with_sweeps(stores: &Stores, max: usize, patience: Duration) -> Vec<Delivery> {
    let end = tokio::time::Instant::now() + patience;
    loop {
        stores.queue.keep_alive().await.unwrap();
        let claimed = stores.queue.claim(&celery(), max, SHORT_LEASE / 6).await.unwrap();
        if !claimed.is_empty() || tokio::time::Instant::now() > end {
            return claimed;
        }
    }
}

/// Nothing of the default queue can be claimed.
pub async fn assert_nothing_comes(stores: &Stores) {
    let claimed = stores.queue.claim(&celery(), 10, MOMENT).await.unwrap();
    assert!(claimed.is_empty(), "came although nothing should: {:?}", ids(&claimed));
}

pub fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.message.id.to_string()).collect()
}

pub fn settlement(delivery: &Delivery, ending: Ending) -> Settlement {
    Settlement { delivery: delivery.clone(), ending, attempt: umbel::store::Attempt::default(), follow_ups: Vec::new() }
}

/// The ending of a task that returned 5.
pub fn five() -> Ending {
    Ending::Success { result: Some(to_json(&5)) }
}

pub async fn settle(stores: &Stores, delivery: &Delivery, ending: Ending) -> Settled {
    stores.queue.settle(settlement(delivery, ending).into()).await.unwrap()
}

/// Pushes a task and runs it to its end.
pub async fn run(stores: &Stores, message: Message, ending: Ending) {
    push(stores, vec![message]).await;
    let delivery = claim_one(stores).await;
    assert_eq!(settle(stores, &delivery, ending).await, Settled::Stored);
}

pub async fn load(stores: &Stores, name: &str) -> Run {
    stores.results.load(&id(name)).await.unwrap().unwrap_or_else(|| panic!("`{name}` is unknown"))
}

pub async fn state(stores: &Stores, name: &str) -> State {
    load(stores, name).await.state
}

/// The run of a task that ends by itself.
pub async fn ended(stores: &Stores, name: &str) -> Run {
    let run = stores.results.wait(&id(name), PATIENCE).await.unwrap().expect("a run within the patience");
    assert!(run.state.is_final(), "`{name}` is still {:?}", run.state);
    run
}
