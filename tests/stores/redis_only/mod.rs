//! What only the store over Redis promises: a Celery client at the other end, other processes, a Redis that goes.

mod away;
mod celery;
mod hostile;
mod idle;
mod leases;
mod traces;

use std::time::{Duration, Instant};

use ::redis::{Commands, Connection};
use chrono::Utc;
use serde_json::{Value, json};
use umbel::store::{Error, Settings, Settled, Stores};
use umbel::task::{State, to_json};

use crate::place::{
    PATIENCE, assert_nothing_comes, celery, claim, claim_one, ended, five, id, ids, load, message, messages, push,
    settle, state,
};
use crate::redis_server::RedisServer;

async fn connect(server: &RedisServer) -> Stores {
    umbel::store::open(&server.url(), std::path::Path::new("."), Settings::default()).await.unwrap()
}

async fn open() -> (RedisServer, Stores, Connection) {
    let server = RedisServer::start();
    let raw = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let stores = connect(&server).await;
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

async fn eventually(mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "it never came true");
        tokio::task::yield_now().await;
    }
}

fn celery_queue() -> umbel::task::QueueName {
    umbel::task::QueueName::default()
}
