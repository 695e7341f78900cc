//! What only the store over Redis promises: a Celery client at the other end, other processes, a Redis that goes.

mod away;
mod batches;
mod celery;
mod doors;
mod hostile;
mod idle;
mod leases;
mod marks;
mod network;
mod odd;
mod refusing;
mod sentinel;
mod states;
mod traces;

use std::time::{Duration, Instant};

use ::redis::{Commands, Connection};
use chrono::Utc;
use serde_json::{Value, json};
use umbel::store::{Delivery, Ending, Error, Settings, Settled, Stores};
use umbel::task::{State, to_json};

use crate::place::{
    PATIENCE, assert_nothing_comes, celery, claim, claim_one, ended, five, id, ids, load, message, messages, push,
    settle, settlement, state,
};
use crate::redis_server::RedisServer;

async fn connect(server: &RedisServer) -> Stores {
    reach(&server.url()).await
}

async fn reach(url: &str) -> Stores {
    umbel::store::open(url, std::path::Path::new("."), Settings::default()).await.unwrap()
}

async fn refusal(url: &str, settings: Settings) -> String {
    let refused = umbel::store::open(url, std::path::Path::new("."), settings).await;
    refused.err().expect("it is refused").to_string()
}

fn raw(server: &RedisServer) -> Connection {
    ::redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

// By which its lease is known.
fn batch_of(delivery: &Delivery) -> u64 {
    delivery.receipt.token / 1000
}

async fn assert_whole(stores: &Stores, name: &str) {
    let (run, ()) = tokio::join!(ended(stores, name), async {
        push(stores, messages(&[name])).await;
        let delivery = claim_one(stores).await;
        assert_eq!(settle(stores, &delivery, five()).await, Settled::Stored);
    });
    assert_eq!(run.state, State::Success);
}

// Until the store says so of itself; what it says.
async fn goes_away(stores: &Stores) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        match stores.queue.ping().await {
            Err(error @ (Error::Away { .. } | Error::Full { .. })) => return error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(()) => assert!(Instant::now() < end, "it is there still"),
        }
    }
}

// Until the reason is this one.
async fn is_away_because(stores: &Stores, why: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = goes_away(stores).await;
        if said.contains(why) {
            return;
        }
        assert!(Instant::now() < end, "{said}");
        tokio::task::yield_now().await;
    }
}

// To be called as soon as Redis can be used again: work goes on within five seconds.
async fn answers_again(stores: &Stores) {
    let end = Instant::now() + Duration::from_secs(5);
    while let Err(error) = stores.queue.ping().await {
        assert!(Instant::now() < end, "{error}");
        tokio::task::yield_now().await;
    }
    // The notices have a connection of their own.
    while let Err(error) = stores.results.wait(&id("nobody"), Duration::ZERO).await {
        assert!(Instant::now() < end, "{error}");
        tokio::task::yield_now().await;
    }
}

async fn open() -> (RedisServer, Stores, Connection) {
    let server = RedisServer::start();
    let (raw, stores) = (raw(&server), connect(&server).await);
    (server, stores, raw)
}

// The envelope that Celery's client LPUSHed in one captured file.
fn captured(name: &str) -> Value {
    fn envelope(sample: &Value) -> Option<Value> {
        match sample {
            Value::Object(fields) if fields.contains_key("body") && fields.contains_key("properties") => {
                let mut fields = fields.clone();
                fields.remove("_body_decoded");
                Some(Value::Object(fields))
            }
            Value::Object(fields) => fields.values().find_map(envelope),
            Value::Array(values) => values.iter().find_map(envelope),
            _ => None,
        }
    }
    let path = format!("{}/tests/celery/captured/{name}.json", env!("CARGO_MANIFEST_DIR"));
    envelope(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).unwrap()
}

fn lpush(raw: &mut Connection, list: &str, envelope: impl ToString) {
    let _: u64 = raw.lpush(list, envelope.to_string()).unwrap();
}

// How many connections wait in Redis.
fn blocked(raw: &mut Connection) -> usize {
    let info: String = ::redis::cmd("INFO").arg("clients").query(raw).unwrap();
    let blocked = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
    blocked.trim().parse().unwrap()
}

async fn eventually(fact: impl FnMut() -> bool) {
    // A Sentinel that finds itself slow, on a busy machine, does nothing for half a minute.
    eventually_within(3 * PATIENCE, fact).await;
}

async fn eventually_within(patience: Duration, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !fact() {
        assert!(Instant::now() < end, "it never came true");
        tokio::task::yield_now().await;
    }
}

fn celery_queue() -> umbel::task::QueueName {
    umbel::task::QueueName::default()
}
