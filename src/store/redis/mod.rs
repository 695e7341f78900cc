//! The store over Redis 6.2 or newer, shared by many processes and with Celery's own.
//!
//! A Celery client or worker sees kombu's lists and Celery's result keys; everything else is ours and begins with
//! `umbel:`. What is authoritative: a message lies in exactly one of its list, the delayed ones, an idle process's
//! inbox and the claimed ones, and moves between them only inside a script (or by `BLMOVE`), so that no crash of a
//! process loses it. The record of a run is a hash that follows those moves in the same scripts.
//!
//! Each `.lua` is one step of a promise, in front of it `keys.lua`, `notices.lua`, `place.lua` and `history.lua`.
//! Times are compared by the clock of Redis, never by ours. Everything waits for a bounded time: a Redis that is away
//! is `Error::Away` soon, and the connections heal by themselves. A call that ended so may have been done: a push that
//! is repeated may then meet its own ids, a settlement its own end.

mod changes;
mod claim;
mod connection;
mod dead;
mod hands;
mod idle;
mod keys;
mod kv;
mod operate;
mod queue;
mod record;
mod results;
mod roster;
mod runs;
mod script;
mod search;
mod settle;
mod sources;
mod subscriber;
mod ticks;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::anyhow;

use crate::store::{Result, Settings, Stores};

use connection::Connection;
use hands::Hands;
use idle::Idle;
use settle::Settler;
use subscriber::Subscriber;

/// The store as one process has it.
struct Redis {
    connection: Connection,
    idle: Idle,
    /// What this process has claimed and neither settled nor put back: the leases that `keep_alive` renews.
    hands: Hands,
    settler: Settler,
    subscriber: Subscriber,
    settings: Settings,
    /// Names our inboxes; new for each opening.
    process: String,
    /// How often it looked for messages: whose turn it is among the queues.
    turn: AtomicUsize,
}

/// Opens the store at `url`: `redis://[USER:PASSWORD@]HOST[:PORT]/DB`, or `unix://` and `redis+unix://` with a path.
///
/// # Errors
/// `Away` when Redis does not answer; another one when it is older than 6.2 or refuses us.
pub async fn open(url: &str, settings: Settings) -> Result<Stores> {
    let connection = Connection::open(url, &settings.redis).await?;
    check_version(&connection).await?;
    let store = Arc::new(Redis {
        idle: Idle::new(connection.clone()),
        hands: Hands::start(connection.clone(), settings.worker.clone()),
        settler: Settler::start(connection.clone(), &settings),
        subscriber: Subscriber::start(connection.clone()).await?,
        process: uuid::Uuid::new_v4().simple().to_string(),
        turn: AtomicUsize::new(0),
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
        roster: store,
        exclusive: false,
        lock: None,
    })
}

async fn check_version(connection: &Connection) -> Result<()> {
    let info: String = connection.ask(redis::cmd("INFO").arg("server")).await?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("0").trim();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(2)) {
        return Err(anyhow!("{} is version {version}; umbel needs Redis 6.2 or newer", connection.place()).into());
    }
    Ok(())
}
