//! The store over Redis 6.2 or newer, shared by many processes and with Celery's own.
//!
//! A Celery client or worker sees kombu's lists and Celery's result keys; everything else is ours and begins with
//! `umbel:`. What is authoritative: a message lies in exactly one of its list, the delayed ones, an idle process's
//! inbox and the claimed ones, and moves between them only inside a script (or by `BLMOVE`), so that no crash of a
//! process loses it. What one claim took from one list is a batch with one lease, and each message of it ends for
//! itself: claimed is what its set of open ones has, and the envelopes of the others go when the last one ends. The
//! record of a run is a hash that follows those moves in the same scripts.
//!
//! Each `.lua` is one step of a promise, in front of it `keys.lua`, `notices.lua`, `place.lua` and `history.lua`.
//! Times are compared by the clock of Redis, never by ours. Everything waits for a bounded time: a Redis that is away
//! is `Error::Away` soon, and the connections heal by themselves. A call that ended so may have been done: a push that
//! is repeated may then meet its own ids, a settlement its own end.

mod address;
mod changes;
mod claim;
mod connection;
mod dead;
mod dialer;
mod elsewhere;
mod fault;
mod hands;
mod idle;
mod keeper;
mod keys;
mod kv;
mod operate;
mod pidbox;
mod queue;
mod record;
mod results;
mod roster;
mod runs;
mod script;
mod search;
mod settle;
mod settler;
mod sources;
mod subscriber;
mod taking;
mod ticks;
mod transport;

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use anyhow::anyhow;
use tracing::warn;

use crate::store::{Result, Settings, Stores};

pub use address::is_url;
use connection::Connection;
pub use dialer::check;
use hands::Hands;
use idle::Idle;
use settler::Settler;
use subscriber::Subscriber;

/// The store as one process has it.
struct Redis {
    connection: Connection,
    idle: Arc<Idle>,
    /// What this process has claimed and neither settled nor put back: the leases that `keep_alive` renews.
    hands: Hands,
    settler: Settler,
    subscriber: Subscriber,
    settings: Settings,
    /// Who waits and claims; new for each opening.
    process: String,
    /// How often it looked for messages: whose turn it is among the queues.
    turn: AtomicUsize,
    /// Keys of queues where something else lies, as it was told.
    odd: Mutex<Vec<String>>,
    /// How many claims it has made, which gives each a name.
    claims: AtomicUsize,
    /// Tokens of what was claimed and could neither be started nor ended; they go back to their queues.
    strays: Mutex<Vec<u64>>,
}

/// Whether `url` can be one of Redis, without reaching it.
///
/// # Errors
/// Says what is wrong with it, and how it is written.
pub fn check_url(url: &str) -> anyhow::Result<()> {
    address::Address::parse(url).map(drop)
}

/// Opens the store at `url`:
///
/// - `redis://[USER:PASSWORD@]HOST[:PORT]/DB`, and `rediss://…` by TLS;
/// - `unix:///PATH?db=DB`, also as `redis+unix://…` and as kombu's `redis+socket:///PATH?virtual_host=DB`;
/// - kombu's `sentinel://HOST[:PORT][;sentinel://HOST[:PORT]…]/DB`, with the name of the primary in the settings.
///
/// # Errors
/// `Away` when Redis does not answer; another one when it is older than 6.2, is a cluster, or refuses us.
pub async fn open(url: &str, folder: &Path, settings: Settings) -> Result<Stores> {
    let connection = Connection::open(url, folder, &settings.redis).await?;
    check_server(&connection).await?;
    let process = uuid::Uuid::new_v4().simple().to_string();
    let store = Arc::new(Redis {
        idle: Arc::new(Idle::new(connection.clone(), process.clone())),
        hands: Hands::start(connection.clone(), settings.worker.clone()),
        settler: Settler::start(connection.clone(), &settings),
        subscriber: Subscriber::start(connection.clone()).await?,
        process,
        turn: AtomicUsize::new(0),
        odd: Mutex::default(),
        claims: AtomicUsize::new(0),
        strays: Mutex::default(),
        connection,
        settings,
    });
    Ok(Stores {
        queue: Arc::new(store.clone()),
        results: store.clone(),
        history: store.clone(),
        ticks: store.clone(),
        kv: store.clone(),
        sources: store.clone(),
        roster: store.clone(),
        control: Some(store),
        exclusive: false,
        lock: None,
    })
}

async fn check_server(connection: &Connection) -> Result<()> {
    let info: String = connection.ask(redis::cmd("INFO").arg("server")).await?;
    let fact = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let refuse = |why: &str| Err(anyhow!("{}: {why}", connection.place()).into());
    if fact("redis_mode") == Some("cluster") {
        return refuse(fault::CLUSTER);
    }
    let version = fact("redis_version").unwrap_or("0");
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(2)) {
        return refuse(&format!("is version {version}; umbel needs Redis 6.2 or newer"));
    }
    let info: String = connection.ask(redis::cmd("INFO").arg("memory")).await?;
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).unwrap_or_default().trim();
    if policy.starts_with("allkeys") {
        warn!(
            "{}: with its `maxmemory-policy` {policy} it drops tasks when its memory is full; set it to `noeviction`",
            connection.place()
        );
    }
    Ok(())
}
