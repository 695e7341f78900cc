//! Writing: a message becomes kombu's envelope.
//!
//! Over what somebody else wrote stand our columns, so that fields we do not know survive a retry. `argsrepr` and
//! `kwargsrepr` are JSON where Celery writes Python: they are only for people who look at logs and events.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::Utc;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{Foreign, JSON, UTF_8, times};
use crate::task::{Json, Message, to_json};

/// The most of the arguments that `argsrepr` shows, in bytes: the body has them whole.
const MAX_REPR: usize = 1024;

/// A header of ours, which stands only where the sender decided it.
const MAX_RETRIES: &str = "umbel_max_retries";

#[derive(Serialize)]
struct Envelope<'a> {
    body: String,
    #[serde(rename = "content-encoding")]
    content_encoding: &'a str,
    #[serde(rename = "content-type")]
    content_type: &'a str,
    headers: Fields,
    properties: Fields,
}

impl Message {
    /// Writes kombu's envelope, with every field that a Celery 5 worker needs.
    pub fn to_wire(&self) -> Vec<u8> {
        let foreign = self.foreign.as_deref();
        let envelope = Envelope {
            body: BASE64.encode(&self.body),
            content_encoding: foreign.map_or(UTF_8, |foreign| &foreign.content_encoding),
            content_type: JSON,
            headers: self.headers(),
            properties: self.properties(),
        };
        serde_json::to_vec(&envelope).expect("strings, numbers and maps are JSON")
    }

    fn headers(&self) -> Fields {
        let mut headers = match &self.foreign {
            Some(foreign) => Fields::read(foreign.headers.get()).unwrap_or_default(),
            None => self.own_headers(),
        };
        for (name, value) in self.columns() {
            if value.is_some() || name != MAX_RETRIES {
                headers.put_known(name, value);
            }
        }
        headers
    }

    // What is `None` says nothing, and leaves what somebody else wrote there.
    fn columns(&self) -> [(&'static str, Option<Json>); 13] {
        let limits = [self.time_limit, self.soft_time_limit].map(|limit| limit.map(seconds));
        [
            ("task", Some(to_json(&self.task))),
            ("id", Some(to_json(&self.id))),
            ("retries", Some(to_json(&self.retries))),
            ("timelimit", Some(to_json(&limits))),
            ("eta", known(self.eta.map(times::show))),
            ("expires", known(self.expires.map(times::show))),
            ("group", known(self.group_id.as_ref())),
            ("group_index", known(self.group_index)),
            ("root_id", known(self.root_id.as_ref())),
            ("parent_id", known(self.parent_id.as_ref())),
            ("origin", known(self.origin.as_ref())),
            ("ignore_result", known(self.ignore_result)),
            (MAX_RETRIES, known(self.max_retries)),
        ]
    }

    /// The same with `more` among its headers, of which those that are columns of ours do not count.
    pub(in crate::task) fn with_headers(self, more: Map<String, Value>) -> Self {
        let columns = self.columns();
        let mut more =
            more.into_iter().filter(|(name, _)| !columns.iter().any(|(column, _)| column == name)).peekable();
        if more.peek().is_none() {
            return self;
        }
        let mut headers = self.headers();
        more.for_each(|(name, value)| headers.put(&name, &value));
        let (properties, content_encoding) = match &self.foreign {
            Some(foreign) => (foreign.properties.clone(), foreign.content_encoding.clone()),
            None => (to_json(&Map::new()), UTF_8.into()),
        };
        let foreign = Foreign { headers: to_json(&headers), properties, content_encoding, is_plain: false };
        Self { foreign: Some(Box::new(foreign)), ..self }
    }

    // What Celery's own client writes besides our columns.
    fn own_headers(&self) -> Fields {
        let (args, kwargs) = self.arguments().unwrap_or_else(|_| (to_json(&[(); 0]), to_json(&json!({}))));
        let mut headers = Fields::default();
        headers.put("lang", &"rhai");
        headers.put("shadow", &());
        headers.put("argsrepr", &excerpt(args.get()));
        headers.put("kwargsrepr", &excerpt(kwargs.get()));
        headers.put("replaced_task_nesting", &0);
        headers.put("stamped_headers", &());
        headers.put("stamps", &json!({}));
        headers
    }

    fn properties(&self) -> Fields {
        let mut properties = match &self.foreign {
            Some(foreign) => Fields::read(foreign.properties.get()).unwrap_or_default(),
            None => self.own_properties(),
        };
        properties.put("priority", &self.priority);
        properties.put_known("reply_to", self.reply_to.as_ref());
        properties.put("body_encoding", &"base64");
        properties.complete("correlation_id", &self.id);
        properties.complete("delivery_mode", &2);
        properties.complete("delivery_tag", &uuid::Uuid::new_v4().to_string());
        // A Celery worker loses a message that lacks one of the two.
        let mut delivery: Fields = properties.get("delivery_info").unwrap_or_default();
        delivery.complete("exchange", &"");
        delivery.complete("routing_key", &self.queue);
        properties.put("delivery_info", &delivery);
        properties
    }

    // AMQP's brokers read it, Redis does not: Celery's worker goes by the header `expires`.
    fn own_properties(&self) -> Fields {
        let mut properties = Fields::default();
        if let Some(expires) = self.expires {
            let left = (expires.to_utc() - Utc::now()).num_milliseconds().max(0);
            properties.put("expiration", &left.to_string());
        }
        properties
    }
}

fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_REPR)]
}

fn known(value: Option<impl Serialize>) -> Option<Json> {
    value.map(|value| to_json(&value))
}

// Celery writes whole seconds as integers.
fn seconds(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 { json!(duration.as_secs()) } else { json!(duration.as_secs_f64()) }
}
