//! kombu's envelope of a command and of its answer (`kombu/pidbox.py`), as Celery 5 writes and reads them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::store::{Addressees, Command, ReplyTo};
use crate::task::{BadName, Timestamp, check_name};

/// The largest envelope of a command, in bytes. A larger one is not read. A starting worker sends its revocations in
/// one, 36 bytes each.
const MAX_COMMAND: usize = 4 << 20;

/// A logical clock beyond this is none: Python counts on, we would not.
const MAX_CLOCK: u64 = 1 << 53;

/// Why bytes are no command.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("it has {0} bytes, and {MAX_COMMAND} are the most")]
    TooLarge(usize),
    #[error("the envelope is not kombu's JSON: {0}")]
    Envelope(serde_json::Error),
    #[error("its content type is `{0}`; only `application/json` is read")]
    ContentType(String),
    #[error("its body is not base64: {0}")]
    Base64(base64::DecodeError),
    #[error("its body is no command: {0}")]
    Body(serde_json::Error),
    #[error("its `reply_to` {0}")]
    ReplyTo(BadName),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(rename = "content-type", default)]
    content_type: Option<String>,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    properties: Properties,
}

// Of headers that are not what they should be, the rest of the command still counts.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Headers {
    clock: Value,
    expires: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Properties {
    body_encoding: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    method: String,
    #[serde(default)]
    arguments: Option<Map<String, Value>>,
    #[serde(default)]
    destination: Option<Destination>,
    #[serde(default)]
    pattern: Option<String>,
    #[serde(default)]
    matcher: Option<String>,
    #[serde(default)]
    ticket: Option<String>,
    #[serde(default)]
    reply_to: Option<Queue>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Destination {
    Many(Vec<String>),
    One(String),
}

#[derive(Deserialize)]
struct Queue {
    exchange: String,
    routing_key: String,
}

/// Reads a command.
pub fn command(payload: &[u8]) -> Result<Command, Unreadable> {
    if payload.len() > MAX_COMMAND {
        return Err(Unreadable::TooLarge(payload.len()));
    }
    let envelope: Envelope = serde_json::from_slice(payload).map_err(Unreadable::Envelope)?;
    if let Some(other) = envelope.content_type.filter(|kind| kind != "application/json") {
        return Err(Unreadable::ContentType(other));
    }
    let body = match envelope.properties.body_encoding.as_deref() {
        Some("base64") => BASE64.decode(envelope.body.as_bytes()).map_err(Unreadable::Base64)?,
        _ => envelope.body.into_owned().into_bytes(),
    };
    let body: Body = serde_json::from_slice(&body).map_err(Unreadable::Body)?;
    let ticket = body.ticket;
    Ok(Command {
        method: body.method,
        arguments: body.arguments.unwrap_or_default(),
        addressees: Addressees {
            destination: match body.destination {
                Some(Destination::Many(names)) => names,
                Some(Destination::One(name)) => vec![name],
                None => Vec::new(),
            },
            pattern: body.pattern,
            matcher: body.matcher,
        },
        clock: envelope.headers.clock.as_u64().filter(|clock| *clock <= MAX_CLOCK).unwrap_or(0),
        expires: envelope.headers.expires.as_f64().and_then(time),
        reply_to: body.reply_to.map(|queue| reply_to(queue, ticket)).transpose().map_err(Unreadable::ReplyTo)?,
    })
}

// Seconds since 1970; 0 is never.
fn time(seconds: f64) -> Option<Timestamp> {
    if seconds <= 0.0 { None } else { DateTime::from_timestamp_micros((seconds * 1e6) as i64) }
}

fn reply_to(Queue { exchange, routing_key }: Queue, ticket: Option<String>) -> Result<ReplyTo, BadName> {
    check_name(&exchange)?;
    check_name(&routing_key)?;
    Ok(ReplyTo { exchange, routing_key, ticket })
}

/// Writes what the worker `from` answers.
pub fn reply(to: &ReplyTo, from: &str, answer: &Value, clock: u64) -> String {
    let body = json!({ from: answer }).to_string();
    json!({
        "body": BASE64.encode(body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": { "ticket": to.ticket, "clock": clock },
        "properties": {
            "delivery_mode": 1,
            "delivery_info": { "exchange": to.exchange, "routing_key": to.routing_key },
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": uuid::Uuid::new_v4().to_string(),
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests;
