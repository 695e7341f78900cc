//! kombu's envelope: how a message looks in a list of Redis, byte for byte what Celery 5 reads and writes.

use std::borrow::Cow;
use std::io::Read;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, FixedOffset, NaiveDateTime, Timelike};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Json, MAX_BODY, Message, Priority, QueueName, TaskId, to_json};

/// The envelope of a message that came from outside, as it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Foreign {
    headers: Json,
    properties: Json,
    #[serde(rename = "content-type")]
    content_type: String,
    #[serde(rename = "content-encoding")]
    content_encoding: String,
}

/// Why bytes are no message that we can run; they go to the dead letters with this reason.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("the envelope is not kombu's JSON: {0}")]
    Envelope(serde_json::Error),
    #[error("the headers are not those of a task: {0}")]
    Headers(serde_json::Error),
    #[error("it has no `task` header; only Celery's protocol 2 is read")]
    NotATask,
    #[error("it has no id")]
    NoId,
    #[error("its content type is `{0}`; only `application/json` is read")]
    ContentType(String),
    #[error("its body is not base64: {0}")]
    Base64(base64::DecodeError),
    #[error("its body is not `[args, kwargs, embed]`: {0}")]
    Body(serde_json::Error),
    #[error("its body is compressed as `{0}`; only gzip (zlib) is read")]
    Compression(String),
    #[error("its body cannot be decompressed: {0}")]
    Inflate(std::io::Error),
    #[error("its body is larger than {MAX_BODY} bytes")]
    TooLarge,
}

#[derive(Deserialize)]
struct EnvelopeIn<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(rename = "content-type", default)]
    content_type: Option<String>,
    #[serde(rename = "content-encoding", default)]
    content_encoding: Option<String>,
    #[serde(borrow)]
    headers: &'a RawValue,
    #[serde(borrow)]
    properties: &'a RawValue,
}

#[derive(Deserialize)]
struct HeadersIn {
    task: Option<String>,
    id: Option<String>,
    #[serde(default)]
    retries: Option<u32>,
    #[serde(default, deserialize_with = "wire_time")]
    eta: Option<DateTime<FixedOffset>>,
    #[serde(default, deserialize_with = "wire_time")]
    expires: Option<DateTime<FixedOffset>>,
    #[serde(default)]
    timelimit: Option<(Option<f64>, Option<f64>)>,
    #[serde(default)]
    ignore_result: Option<bool>,
    #[serde(default)]
    umbel_max_retries: Option<u32>,
    #[serde(default)]
    root_id: Option<TaskId>,
    #[serde(default)]
    parent_id: Option<TaskId>,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    group_index: Option<i64>,
    #[serde(default)]
    origin: Option<String>,
    #[serde(default)]
    compression: Option<String>,
}

#[derive(Deserialize)]
struct PropertiesIn {
    #[serde(default)]
    priority: Option<u8>,
    #[serde(default)]
    reply_to: Option<String>,
    #[serde(default)]
    body_encoding: Option<String>,
}

#[derive(Serialize)]
struct EnvelopeOut<'a> {
    body: String,
    #[serde(rename = "content-encoding")]
    content_encoding: &'a str,
    #[serde(rename = "content-type")]
    content_type: &'a str,
    headers: Map<String, Value>,
    properties: Map<String, Value>,
}

impl Message {
    /// Reads kombu's envelope from the list of `queue`.
    pub fn from_wire(queue: QueueName, wire: &[u8]) -> Result<Self, Unreadable> {
        let envelope: EnvelopeIn = serde_json::from_slice(wire).map_err(Unreadable::Envelope)?;
        let headers: HeadersIn = serde_json::from_str(envelope.headers.get()).map_err(Unreadable::Headers)?;
        let properties: PropertiesIn = serde_json::from_str(envelope.properties.get()).map_err(Unreadable::Headers)?;
        let task = headers.task.filter(|task| !task.is_empty()).ok_or(Unreadable::NotATask)?;
        let id = headers.id.and_then(|id| TaskId::parse(&id).ok()).ok_or(Unreadable::NoId)?;
        let content_type = envelope.content_type.unwrap_or_else(|| "application/json".to_owned());
        if content_type != "application/json" {
            return Err(Unreadable::ContentType(content_type));
        }
        let body = match properties.body_encoding.as_deref() {
            Some("base64") => BASE64.decode(envelope.body.as_bytes()).map_err(Unreadable::Base64)?,
            _ => envelope.body.into_owned().into_bytes(),
        };
        if body.len() > MAX_BODY {
            return Err(Unreadable::TooLarge);
        }
        if let Some(other) = headers.compression.filter(|kind| kind != GZIP) {
            return Err(Unreadable::Compression(other));
        }
        let (hard, soft) = headers.timelimit.unwrap_or_default();
        Ok(Self {
            id,
            task,
            queue,
            priority: Priority(properties.priority.unwrap_or(0)),
            retries: headers.retries.unwrap_or(0),
            eta: headers.eta,
            expires: headers.expires,
            time_limit: hard.and_then(seconds),
            soft_time_limit: soft.and_then(seconds),
            ignore_result: headers.ignore_result,
            max_retries: headers.umbel_max_retries,
            root_id: headers.root_id,
            parent_id: headers.parent_id,
            group_id: headers.group,
            group_index: headers.group_index,
            reply_to: properties.reply_to,
            origin: headers.origin,
            body: body.into(),
            foreign: Some(Box::new(Foreign {
                headers: envelope.headers.to_owned(),
                properties: envelope.properties.to_owned(),
                content_type,
                content_encoding: envelope.content_encoding.unwrap_or_else(|| "utf-8".to_owned()),
            })),
        })
    }

    /// Writes kombu's envelope, with every field that a Celery 5 worker needs.
    pub fn to_wire(&self) -> Vec<u8> {
        let foreign = self.foreign.as_deref();
        let envelope = EnvelopeOut {
            body: BASE64.encode(&self.body),
            content_encoding: foreign.map_or("utf-8", |foreign| &foreign.content_encoding),
            content_type: foreign.map_or("application/json", |foreign| &foreign.content_type),
            headers: self.headers(),
            properties: self.properties(),
        };
        serde_json::to_vec(&envelope).expect("strings, numbers and maps are JSON")
    }

    /// The same with `more` among its headers, of which those that are columns of ours do not count.
    pub(super) fn with_headers(self, more: Map<String, Value>) -> Self {
        if more.is_empty() {
            return self;
        }
        let mut headers = self.headers();
        headers.extend(more);
        let (mut properties, mut content) = (to_json(&Map::new()), ("application/json", "utf-8"));
        if let Some(foreign) = &self.foreign {
            properties = foreign.properties.clone();
            content = (&foreign.content_type, &foreign.content_encoding);
        }
        let (content_type, content_encoding) = (content.0.to_owned(), content.1.to_owned());
        let foreign = Foreign { headers: to_json(&headers), properties, content_type, content_encoding };
        Self { foreign: Some(Box::new(foreign)), ..self }
    }

    /// The name under which its sender wants it shown; `None` for its own.
    pub fn shadow(&self) -> Option<String> {
        self.foreign.as_ref().and_then(|foreign| text(&foreign.headers, "shadow"))
    }

    /// What its sender named this sending of it; `None` for a message of ours that was in no Redis yet.
    pub(super) fn delivery_tag(&self) -> Option<String> {
        self.foreign.as_ref().and_then(|foreign| text(&foreign.properties, "delivery_tag"))
    }

    fn headers(&self) -> Map<String, Value> {
        let mut headers = match &self.foreign {
            Some(foreign) => object(&foreign.headers),
            None => self.own_headers(),
        };
        let ours = [
            ("task", json!(self.task)),
            ("id", json!(self.id)),
            ("eta", json!(self.eta.map(show_time))),
            ("expires", json!(self.expires.map(show_time))),
            ("group", json!(self.group_id)),
            ("group_index", json!(self.group_index)),
            ("retries", json!(self.retries)),
            ("timelimit", json!([self.time_limit.map(whole_seconds), self.soft_time_limit.map(whole_seconds)])),
            ("root_id", json!(self.root_id)),
            ("parent_id", json!(self.parent_id)),
            ("origin", json!(self.origin)),
            ("ignore_result", json!(self.ignore_result)),
        ];
        for (name, value) in ours {
            headers.insert(name.to_owned(), value);
        }
        if let Some(max) = self.max_retries {
            headers.insert("umbel_max_retries".to_owned(), json!(max));
        }
        headers
    }

    // What Celery's own client writes besides our columns.
    fn own_headers(&self) -> Map<String, Value> {
        let (args, kwargs) = self.arguments().unwrap_or_else(|_| (to_json(&[(); 0]), to_json(&json!({}))));
        let headers = json!({
            "lang": "rhai",
            "shadow": null,
            "argsrepr": excerpt(args.get()),
            "kwargsrepr": excerpt(kwargs.get()),
            "replaced_task_nesting": 0,
            "stamped_headers": null,
            "stamps": {},
        });
        match headers {
            Value::Object(headers) => headers,
            _ => unreachable!("the literal above is an object"),
        }
    }

    fn properties(&self) -> Map<String, Value> {
        let mut properties = self.foreign.as_ref().map(|foreign| object(&foreign.properties)).unwrap_or_default();
        properties.insert("priority".to_owned(), json!(self.priority));
        properties.insert("reply_to".to_owned(), json!(self.reply_to));
        properties.insert("body_encoding".to_owned(), json!("base64"));
        let needed = [
            ("correlation_id", json!(self.id)),
            ("delivery_mode", json!(2)),
            ("delivery_info", json!({"exchange": "", "routing_key": self.queue})),
        ];
        for (name, value) in needed {
            properties.entry(name).or_insert(value);
        }
        properties.entry("delivery_tag").or_insert_with(|| json!(uuid::Uuid::new_v4().to_string()));
        properties
    }

    /// The body as JSON text, decompressed where the envelope says so.
    pub(super) fn plain_body(&self) -> Result<Cow<'_, [u8]>, Unreadable> {
        #[derive(Deserialize)]
        struct Compression {
            #[serde(default)]
            compression: Option<String>,
        }
        let Some(foreign) = &self.foreign else { return Ok(Cow::Borrowed(&self.body)) };
        let headers: Compression = serde_json::from_str(foreign.headers.get()).map_err(Unreadable::Headers)?;
        if headers.compression.is_none() {
            return Ok(Cow::Borrowed(&self.body));
        }
        let mut plain = Vec::new();
        // kombu calls it gzip and writes zlib. One byte over the bound tells that there is more.
        flate2::read::ZlibDecoder::new(&self.body[..])
            .take(MAX_BODY as u64 + 1)
            .read_to_end(&mut plain)
            .map_err(Unreadable::Inflate)?;
        if plain.len() > MAX_BODY { Err(Unreadable::TooLarge) } else { Ok(Cow::Owned(plain)) }
    }
}

const GZIP: &str = "application/x-gzip";

/// The most of the arguments that `argsrepr` shows, in bytes: it is for people, the body has them whole.
const MAX_REPR: usize = 1024;

fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_REPR)]
}

fn object(json: &RawValue) -> Map<String, Value> {
    serde_json::from_str(json.get()).unwrap_or_default()
}

// `None` where there is no such text, or an empty one.
fn text(json: &RawValue, name: &str) -> Option<String> {
    match object(json).remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

pub(super) fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}

// Celery writes whole seconds as integers.
fn whole_seconds(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 { json!(duration.as_secs()) } else { json!(duration.as_secs_f64()) }
}

// Python's `datetime.isoformat()`: microseconds only where there are any.
fn show_time(time: DateTime<FixedOffset>) -> String {
    let form = if time.nanosecond() == 0 { "%Y-%m-%dT%H:%M:%S%:z" } else { "%Y-%m-%dT%H:%M:%S%.6f%:z" };
    time.format(form).to_string()
}

fn wire_time<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<DateTime<FixedOffset>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(input)? else { return Ok(None) };
    parse_time(&text).map(Some).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not an ISO 8601 time")))
}

/// Reads an ISO 8601 time; one without an offset is UTC, as Celery takes it. `None` when `text` is none.
pub fn parse_time(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| text.parse::<NaiveDateTime>().map(|naive| naive.and_utc().fixed_offset()))
        .ok()
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use proptest::prelude::*;

    use super::*;
    use crate::task::{NewMessage, Timestamp};

    fn queue() -> QueueName {
        QueueName::default()
    }

    fn json_of(wire: &[u8]) -> Value {
        serde_json::from_slice(wire).unwrap()
    }

    // Captured from Celery 5.7.0's client; every envelope in these files was LPUSHed by it.
    fn captured() -> Vec<(String, Value)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/celery/captured");
        let mut found = Vec::new();
        for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with("pub-") {
                let sample: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
                collect_envelopes(&name, &sample, &mut found);
            }
        }
        found
    }

    fn collect_envelopes(name: &str, sample: &Value, found: &mut Vec<(String, Value)>) {
        match sample {
            Value::Object(fields) if fields.contains_key("body") && fields.contains_key("properties") => {
                let mut envelope = fields.clone();
                envelope.remove("_body_decoded");
                found.push((name.to_owned(), Value::Object(envelope)));
            }
            Value::Object(fields) => fields.values().for_each(|value| collect_envelopes(name, value, found)),
            Value::Array(values) => values.iter().for_each(|value| collect_envelopes(name, value, found)),
            _ => {}
        }
    }

    #[test]
    fn what_celery_wrote_survives_a_round_trip() {
        let mut seen = 0;
        for (name, envelope) in captured() {
            let is_task = envelope["headers"].get("task").is_some();
            match Message::from_wire(queue(), envelope.to_string().as_bytes()) {
                Ok(message) => {
                    assert_eq!(json_of(&message.to_wire()), envelope, "{name}");
                    message.arguments().unwrap_or_else(|error| panic!("{name}: {error}"));
                    seen += 1;
                }
                Err(error) => assert!(!is_task, "{name}: {error}"),
            }
        }
        assert!(seen > 30, "only {seen} captured messages were read");
    }

    #[test]
    fn protocol_1_is_refused_with_its_reason() {
        let wire = br#"{"body":"e30=","content-type":"application/json","content-encoding":"utf-8","headers":{},"properties":{"body_encoding":"base64"}}"#;

        assert!(matches!(Message::from_wire(queue(), wire), Err(Unreadable::NotATask)));
    }

    #[test]
    fn a_message_of_ours_has_what_a_celery_worker_needs() {
        let message =
            NewMessage { task: "math.add".into(), args: Some(to_json(&[1, 2])), ..NewMessage::default() }.build();

        let wire = json_of(&message.to_wire());

        for pointer in ["/headers/lang", "/headers/argsrepr", "/headers/stamps", "/properties/delivery_tag"] {
            assert!(!wire.pointer(pointer).unwrap().is_null(), "{pointer}");
        }
        assert_eq!(wire["properties"]["delivery_info"], json!({"exchange": "", "routing_key": "celery"}));
        assert_eq!(wire["headers"]["root_id"], wire["headers"]["id"]);
        assert_eq!(wire["headers"]["timelimit"], json!([null, null]));
    }

    #[test]
    fn a_retry_keeps_what_it_does_not_know() {
        let (_, envelope) = captured().into_iter().find(|(name, _)| name.starts_with("pub-20")).unwrap();
        let message = Message::from_wire(queue(), envelope.to_string().as_bytes()).unwrap();

        let again = json_of(&message.retry(Utc::now()).to_wire());

        assert_eq!(again["headers"]["stamps"], envelope["headers"]["stamps"]);
        assert_eq!(again["headers"]["retries"], 1);
        assert_eq!(again["headers"]["parent_id"], envelope["headers"]["id"]);
    }

    #[test]
    fn times_are_read_with_and_without_an_offset() {
        for text in [
            "2030-01-02T03:04:05Z",
            "2030-01-02T03:04:05",
            "2030-01-02T03:04:05.000+00:00",
            "2030-01-02T05:04:05+02:00",
        ] {
            let wire =
                json!({"body": "[[],{},null]", "headers": {"task": "t", "id": "i", "eta": text}, "properties": {}});
            let message = Message::from_wire(queue(), wire.to_string().as_bytes()).unwrap();
            assert_eq!(message.due_at().unwrap().to_rfc3339(), "2030-01-02T03:04:05+00:00", "{text}");
        }
    }

    #[test]
    fn a_body_that_grows_too_large_is_refused() {
        use std::io::Write;
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&vec![b' '; MAX_BODY + 1]).unwrap();
        let wire = json!({
            "body": BASE64.encode(packed.finish().unwrap()),
            "headers": {"task": "t", "id": "i", "compression": GZIP},
            "properties": {"body_encoding": "base64"},
        });

        let message = Message::from_wire(queue(), wire.to_string().as_bytes()).unwrap();

        assert!(matches!(message.arguments(), Err(Unreadable::TooLarge)));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(|map| json!(map)),
            ]
        })
    }

    fn any_time() -> impl Strategy<Value = Option<Timestamp>> {
        prop::option::of((0i64..4_000_000_000_000_000).prop_map(|us| DateTime::from_timestamp_micros(us).unwrap()))
    }

    proptest! {
        #[test]
        fn any_message_of_ours_is_read_back(
            task in "[a-z.]{1,20}",
            args in prop::collection::vec(any_json(), 0..4),
            kwargs in prop::collection::btree_map("[a-z_]{1,8}", any_json(), 0..4),
            priority in any::<u8>(),
            eta in any_time(),
            expires in any_time(),
            max_retries in any::<Option<u32>>(),
        ) {
            let message = NewMessage {
                task, args: Some(to_json(&args)), kwargs: Some(to_json(&kwargs)), priority: Priority(priority),
                eta, expires, max_retries, ..NewMessage::default()
            }.build();

            let wire = message.to_wire();
            let again = Message::from_wire(queue(), &wire).unwrap();

            prop_assert_eq!(json_of(&again.to_wire()), json_of(&wire));
            prop_assert_eq!((&again.id, &again.task, again.priority), (&message.id, &message.task, message.priority));
            prop_assert_eq!((again.eta, again.expires, again.max_retries), (message.eta, message.expires, message.max_retries));
            prop_assert_eq!(again.body, message.body);
        }

        #[test]
        fn unknown_fields_of_any_kind_are_kept(name in "[a-z]{1,3}-[a-z]{1,9}", value in any_json()) {
            let wire = json!({
                "body": "W10=", "content-type": "application/json", "content-encoding": "utf-8",
                "headers": {"task": "t", "id": "i", name.clone(): value},
                "properties": {"body_encoding": "base64", name.clone(): value},
            });

            let again = json_of(&Message::from_wire(queue(), wire.to_string().as_bytes()).unwrap().to_wire());

            prop_assert_eq!(&again["headers"][&name], &value);
            prop_assert_eq!(&again["properties"][&name], &value);
        }

        #[test]
        fn no_bytes_can_hurt_the_reader(wire in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Message::from_wire(queue(), &wire);
        }
    }
}
