//! What other processes call out: ended tasks, running ones to be stopped, earlier due times.
//!
//! One connection listens for all callers. They write down what they want to hear in a table, and a task brings the
//! subscriptions of the connection in line with it, as often as the table changes or the connection is a new one. A
//! new connection wakes everybody, because what was called out meanwhile is lost: they look again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::PubSubSink;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::store::{Error, Result};
use crate::task::TaskId;

use super::connection::Connection;
use super::fault::PATIENCE;

/// How many ids of tasks to stop a slow reader may be behind before it misses some.
const TERMINATIONS: usize = 1024;
/// How long nothing may be heard before Redis is asked whether it is there.
const QUIET: Duration = Duration::from_secs(2);
/// The pause between attempts to connect again.
const PAUSE: Duration = Duration::from_millis(200);

/// Hears for everybody in this process.
pub struct Subscriber {
    table: Arc<Table>,
    _task: AbortOnDropHandle<()>,
}

struct Table {
    /// The channel that says which running tasks are to be stopped.
    terminate: String,
    /// The channel that says that there is an earlier due time.
    earlier_due: String,
    wanted: Mutex<HashMap<String, Wanted>>,
    changed: Notify,
    terminations: broadcast::Sender<TaskId>,
    due: watch::Sender<()>,
}

struct Wanted {
    listeners: usize,
    news: watch::Sender<News>,
}

#[derive(Clone, Copy, Default)]
struct News {
    /// The connection listens to this channel.
    subscribed: bool,
}

impl Subscriber {
    /// # Errors
    /// `Away` when Redis cannot be reached now; later it is reached again without being asked.
    pub async fn start(connection: Connection) -> Result<Self> {
        let table = Arc::new(Table {
            terminate: connection.keys().terminate(),
            earlier_due: connection.keys().earlier_due(),
            wanted: Mutex::default(),
            changed: Notify::new(),
            terminations: broadcast::Sender::new(TERMINATIONS),
            due: watch::Sender::new(()),
        });
        let first = subscribe_always(&connection).await?;
        let task = tokio::spawn(keep_listening(connection, first, table.clone()));
        Ok(Self { table, _task: AbortOnDropHandle::new(task) })
    }

    /// Begins to listen to two channels; what is called out after this returns is heard.
    pub async fn listen(&self, channels: [String; 2]) -> Result<Listening> {
        let [first, second] = channels.map(|channel| Ear::new(&self.table, channel));
        let mut listening = Listening { first, second };
        self.table.changed.notify_one();
        let both = async {
            for ear in [&mut listening.first, &mut listening.second] {
                // The sender lives in the table as long as the ear does.
                let _ = ear.news.wait_for(|news| news.subscribed).await;
                ear.news.mark_unchanged();
            }
        };
        timeout(PATIENCE, both)
            .await
            .map_err(|_| Error::Away { reason: "redis does not take subscriptions".to_owned() })?;
        Ok(listening)
    }

    pub fn terminations(&self) -> broadcast::Receiver<TaskId> {
        self.table.terminations.subscribe()
    }

    /// Changes when there is an earlier due time than before.
    pub fn due(&self) -> watch::Receiver<()> {
        self.table.due.subscribe()
    }
}

/// Two channels that someone listens to, until it is dropped.
pub struct Listening {
    first: Ear,
    second: Ear,
}

impl Listening {
    /// Waits until something was called out on one of the channels, or may have been.
    pub async fn heard(&mut self) {
        // The sender lives in the table as long as the ear does.
        let _ = tokio::select! {
            news = self.first.news.changed() => news,
            news = self.second.news.changed() => news,
        };
    }
}

struct Ear {
    table: Arc<Table>,
    channel: String,
    news: watch::Receiver<News>,
}

impl Ear {
    fn new(table: &Arc<Table>, channel: String) -> Self {
        let mut wanted = table.wanted();
        let entry =
            wanted.entry(channel.clone()).or_insert_with(|| Wanted { listeners: 0, news: watch::Sender::default() });
        entry.listeners += 1;
        let news = entry.news.subscribe();
        drop(wanted);
        Self { table: table.clone(), channel, news }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut wanted = self.table.wanted();
        if let Some(entry) = wanted.get_mut(&self.channel) {
            entry.listeners -= 1;
            if entry.listeners == 0 {
                wanted.remove(&self.channel);
                self.table.changed.notify_one();
            }
        }
    }
}

impl Table {
    fn wanted(&self) -> MutexGuard<'_, HashMap<String, Wanted>> {
        self.wanted.lock().expect("no one panics while holding the table")
    }

    fn hear(&self, message: &redis::Msg) {
        match message.get_channel_name() {
            channel if channel == self.earlier_due => self.due.send_replace(()),
            channel if channel == self.terminate => self.tell_termination(message.get_payload_bytes()),
            channel => {
                if let Some(wanted) = self.wanted().get(channel) {
                    wanted.news.send_modify(|_| ());
                }
            }
        }
    }

    // What has to change so that `subscribed` is what is wanted.
    fn difference(&self, subscribed: &HashSet<String>) -> (Vec<String>, Vec<String>) {
        let wanted = self.wanted();
        let new = wanted.keys().filter(|channel| !subscribed.contains(*channel)).cloned().collect();
        let gone = subscribed.iter().filter(|channel| !wanted.contains_key(*channel)).cloned().collect();
        (new, gone)
    }

    // Tells who waits for it that the connection listens now.
    fn confirm(&self, subscribed: &HashSet<String>) {
        for (channel, wanted) in self.wanted().iter() {
            if subscribed.contains(channel) {
                wanted.news.send_if_modified(|news| !std::mem::replace(&mut news.subscribed, true));
            }
        }
    }

    fn tell_termination(&self, id: &[u8]) {
        let id = std::str::from_utf8(id).ok().and_then(|id| TaskId::parse(id).ok());
        // Nobody may be running anything.
        id.into_iter().for_each(|id| drop(self.terminations.send(id)));
    }

    fn connection_lost(&self) {
        for wanted in self.wanted().values() {
            wanted.news.send_modify(|news| news.subscribed = false);
        }
        self.due.send_replace(());
    }
}

type Ears = (PubSubSink, redis::aio::PubSubStream);

async fn subscribe_always(connection: &Connection) -> Result<Ears> {
    let (mut sink, stream) = connection.pubsub().await?.split();
    timeout(PATIENCE, sink.subscribe(&[connection.keys().terminate(), connection.keys().earlier_due()]))
        .await
        .map_err(|_| connection.silent())?
        .map_err(|error| connection.explain(error))?;
    Ok((sink, stream))
}

async fn keep_listening(connection: Connection, first: Ears, table: Arc<Table>) {
    let mut ears = Some(first);
    loop {
        let number = connection.number();
        if let Some(ears) = ears.take() {
            tokio::select! {
                () = listen_until_lost(ears, &table) => connection.notices_lost(),
                // To another server, perhaps.
                () = connection.renewed(number) => {}
            }
            debug!("the connection for notices from {} is made again", connection.place());
            table.connection_lost();
        }
        match subscribe_always(&connection).await {
            Ok(new) => {
                // What was called out meanwhile nobody heard.
                let look = redis::cmd("ZRANGE").arg(&table.terminate).arg(0).arg(-1).to_owned();
                let Ok(ids) = connection.ask::<Vec<Vec<u8>>>(&look).await else { continue };
                ids.iter().for_each(|id| table.tell_termination(id));
                ears = Some(new);
            }
            // That Redis is away is told by who keeps the connection.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn listen_until_lost((mut sink, mut stream): Ears, table: &Table) {
    let mut subscribed = HashSet::new();
    loop {
        let (new, gone) = table.difference(&subscribed);
        if !new.is_empty() {
            if !matches!(timeout(PATIENCE, sink.subscribe(&new)).await, Ok(Ok(()))) {
                return;
            }
            subscribed.extend(new);
        }
        if !gone.is_empty() {
            if !matches!(timeout(PATIENCE, sink.unsubscribe(&gone)).await, Ok(Ok(()))) {
                return;
            }
            subscribed.retain(|channel| !gone.contains(channel));
        }
        table.confirm(&subscribed);
        tokio::select! {
            () = table.changed.notified() => {}
            message = stream.next() => match message {
                Some(message) => table.hear(&message),
                None => return,
            },
            // A network that swallows everything looks like a quiet one.
            () = sleep(QUIET) => {
                if !matches!(timeout(PATIENCE, sink.ping::<redis::Value>()).await, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}
