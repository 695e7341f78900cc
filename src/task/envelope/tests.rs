use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::body::GZIP;
use super::*;
use crate::task::{Embed, Failure, MAX_BODY, Message, NewMessage, Priority, QueueName, Timestamp, to_json};

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

fn read(envelope: &Value) -> Result<Message, Unreadable> {
    Message::from_wire(queue(), envelope.to_string().as_bytes())
}

#[test]
fn what_celery_wrote_survives_a_round_trip() {
    let mut seen = 0;
    for (name, envelope) in captured() {
        let is_task = envelope["headers"].get("task").is_some();
        match read(&envelope) {
            Ok(message) => {
                if is_task {
                    assert_eq!(json_of(&message.to_wire()), envelope, "{name}");
                }
                message.arguments().unwrap_or_else(|error| panic!("{name}: {error}"));
                seen += 1;
            }
            Err(error) => assert!(!is_task, "{name}: {error}"),
        }
    }
    assert!(seen > 30, "only {seen} captured messages were read");
}

#[test]
fn protocol_1_is_the_same_message() {
    let (_, envelope) = captured().into_iter().find(|(name, _)| name.starts_with("pub-26")).unwrap();

    let message = read(&envelope).unwrap();
    let again = Message::from_wire(queue(), &message.to_wire()).unwrap();

    for message in [message, again] {
        assert_eq!((message.id.as_str(), message.task.as_str()), ("6fe49478-7c21-4d7e-8e99-93e1a7159d88", "tasks.add"));
        assert_eq!(message.reply_to.as_deref(), envelope["properties"]["reply_to"].as_str());
        assert_eq!(message.arguments().unwrap().0.get(), "[1, 2]");
    }
}

#[test]
fn protocol_1_keeps_what_is_said_in_its_body() {
    let follow = json!({"task": "tasks.next", "args": [], "kwargs": {}, "options": {}});
    let body = json!({
        "task": "tasks.add", "id": "i", "args": [1], "kwargs": {"y": 2}, "retries": 2, "eta": "2030-01-02T03:04:05",
        "expires": "2030-01-02T04:04:05Z", "timelimit": [30, 20.5], "taskset": "g", "utc": true, "new": [1],
        "callbacks": [follow], "errbacks": [follow], "chord": follow,
    });
    let envelope = |body: &[u8], headers: Value| {
        json!({"body": BASE64.encode(body), "content-type": "application/json", "headers": headers,
            "properties": {"body_encoding": "base64"}})
    };

    for envelope in [
        envelope(body.to_string().as_bytes(), json!({"x-trace": "t"})),
        envelope(&zlib(body.to_string().as_bytes()), json!({"x-trace": "t", "compression": GZIP})),
    ] {
        let message = read(&envelope).unwrap();
        let (args, kwargs, embed): (Value, Value, Embed) = message.read_body().unwrap();
        let written = json_of(&message.to_wire());

        assert_eq!((args, kwargs), (json!([1]), json!({"y": 2})));
        let [callback] = embed.callbacks.unwrap().try_into().unwrap();
        let [errback] = embed.errbacks.unwrap().try_into().unwrap();
        for part in [callback, errback, embed.chord.unwrap()] {
            assert_eq!(part.get(), follow.to_string());
        }
        assert_eq!(message.group_id.as_deref(), Some("g"));
        assert_eq!((message.retries, message.due_at()), (2, "2030-01-02T03:04:05Z".parse().ok()));
        assert_eq!(message.expires, DateTime::parse_from_rfc3339("2030-01-02T04:04:05Z").ok());
        let limits = [message.time_limit, message.soft_time_limit].map(|limit| limit.unwrap().as_secs_f64());
        assert_eq!(limits, [30.0, 20.5]);
        assert_eq!((&written["headers"]["new"], &written["headers"]["x-trace"]), (&json!([1]), &json!("t")));
        assert_eq!(written["headers"].get("compression"), None);
    }
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(plain).unwrap();
    packed.finish().unwrap()
}

#[test]
fn a_message_of_ours_has_what_a_celery_worker_needs() {
    let message = NewMessage { task: "math.add".into(), args: Some(to_json(&[1, 2])), ..NewMessage::default() }.build();

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
    for text in
        ["2030-01-02T03:04:05Z", "2030-01-02T03:04:05", "2030-01-02T03:04:05.000+00:00", "2030-01-02T05:04:05+02:00"]
    {
        let wire = json!({"body": "[[],{},null]", "headers": {"task": "t", "id": "i", "eta": text}, "properties": {}});
        let message = Message::from_wire(queue(), wire.to_string().as_bytes()).unwrap();
        assert_eq!(message.due_at().unwrap().to_rfc3339(), "2030-01-02T03:04:05+00:00", "{text}");
    }
}

fn of(headers: Value, properties: Value) -> Value {
    let mut envelope = json!({"body": "[[],{},null]", "headers": {"task": "t", "id": "i"}, "properties": properties});
    envelope["headers"].as_object_mut().unwrap().extend(headers.as_object().unwrap().clone());
    envelope
}

#[test]
fn what_is_odd_and_does_not_matter_is_bent_or_left_alone() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let written = of(
        json!({"group": 5, "root_id": [], "origin": {}, "ignore_result": "yes", "eta": "", "deep": "DEEP",
        "expires": null, "retries": -3, "timelimit": null}),
        json!({"reply_to": 7, "priority": "4"}),
    )
    .to_string()
    .replace("\"DEEP\"", &deep);

    let message = Message::from_wire(queue(), written.as_bytes()).unwrap();
    let again = String::from_utf8(message.to_wire()).unwrap();

    assert_eq!((message.retries, message.priority, message.eta), (0, Priority(4), None));
    for part in [deep.as_str(), r#""group":5"#, r#""root_id":[]"#, r#""ignore_result":"yes""#, r#""reply_to":7"#] {
        assert!(again.contains(part), "{}", &part[..20.min(part.len())]);
    }
}

#[test]
fn priorities_are_bent_as_kombu_does() {
    let priority = |value: Value| read(&of(json!({}), json!({"priority": value}))).unwrap().priority.0;

    let bent = [json!(-1), json!(255), json!(1e9), json!("9"), json!("high"), json!(null), json!([1]), json!(3.0)];

    assert_eq!(bent.map(priority), [0, 255, 255, 9, 0, 0, 0, 3]);
}

#[test]
fn retries_are_bent_into_what_we_count() {
    let retries = |value: Value| read(&of(json!({"retries": value}), json!({}))).unwrap().retries;

    assert_eq!([json!(-1), json!(1e99), json!(2.0), json!(null)].map(retries), [0, u32::MAX, 2, 0]);
}

#[test]
fn what_decides_about_the_run_must_be_readable() {
    for (headers, said) in [
        (json!({"eta": "soon"}), "its `eta` cannot be read: `\"soon\"`"),
        (json!({"eta": 5}), "its `eta` cannot be read: `5`"),
        (json!({"expires": [1]}), "its `expires` cannot be read: `[1]`"),
        (json!({"retries": "many"}), "its `retries` cannot be read: `\"many\"`"),
        (json!({"timelimit": [1]}), "its `timelimit` cannot be read: `[1]`"),
        (json!({"timelimit": "1s"}), "its `timelimit` cannot be read: `\"1s\"`"),
    ] {
        let refused = read(&of(headers, json!({}))).unwrap_err();
        assert_eq!(refused.to_string(), said);
        assert_eq!(refused.why.failure().exc_type, "InvalidTaskError");
        assert_eq!(refused.known.unwrap().id.as_str(), "i");
    }
}

#[test]
fn who_waits_is_known_wherever_the_id_can_be_read() {
    let full = of(json!({"parent_id": "p", "group": "g", "ignore_result": true, "eta": 5}), json!({}));
    let known = *read(&full).unwrap_err().known.unwrap();
    assert_eq!((known.id.as_str(), known.task.as_deref(), known.ignore_result), ("i", Some("t"), true));
    assert_eq!((known.parent_id.unwrap().as_str(), known.group_id.as_deref()), ("p", Some("g")));

    let id = |wire: &[u8]| Message::from_wire(queue(), wire).unwrap_err().known.map(|known| known.id.to_string());
    for wire in [
        &br#"{"headers":{"task":"t","id":"i"},"properties":{},"body":null}"#[..],
        br#"{"headers":{"id":"i"},"properties":{},"body":"[[],{},{}]"}"#,
        br#"{"headers":{"task":"t","id":"i"},"properties":[],"body":"[[],{},{}]"}"#,
        b"{\"headers\":{\"task\":\"t\",\"id\":\"i\"},\"properties\":{},\"body\":\"\xff\"}",
        br#"{"headers":{},"properties":{},"body":"{\"id\":\"i\",\"args\":[]}"}"#,
        br#"{"headers":{},"properties":{"body_encoding":"base64"},"body":"eyJpZCI6ICJpIn0="}"#,
    ] {
        assert_eq!(id(wire).as_deref(), Some("i"), "{}", String::from_utf8_lossy(wire));
    }
    for wire in [
        &b""[..],
        b"[]",
        b"null",
        b"not json",
        br#"{"headers":{"task":"t"},"properties":{},"body":"[[],{},{}]"}"#,
        br#"{"headers":{"task":"t","id":""},"properties":{},"body":"[[],{},{}]"}"#,
        br#"{"headers":{"task":"t","id":7},"properties":{},"body":"[[],{},{}]"}"#,
        br#"{"headers":[],"properties":{},"body":"[[],{},{}]"}"#,
    ] {
        assert_eq!(id(wire), None, "{}", String::from_utf8_lossy(wire));
    }
}

#[test]
fn a_sender_is_told_in_celerys_classes() {
    let body = |body: &str| json!({"body": body, "headers": {"task": "t", "id": "i"}, "properties": {}});
    let of_type = |kind: &str| json!({"body": "", "content-type": kind, "headers": {"task": "t", "id": "i"}});
    let failure = |envelope: &Value| -> Failure {
        match read(envelope) {
            Err(refused) => refused.why.failure(),
            Ok(message) => message.read_body::<Vec<Value>, serde_json::Map<String, Value>>().unwrap_err().failure(),
        }
    };
    for (envelope, class) in [
        (of_type("application/x-python-serialize"), "kombu.exceptions.ContentDisallowed"),
        (of_type("application/x-yaml"), "kombu.exceptions.ContentDisallowed"),
        (body("not json"), "kombu.exceptions.DecodeError"),
        (body("[[],{}]"), "celery.exceptions.InvalidTaskError"),
        (body("[[],null,{}]"), "celery.exceptions.InvalidTaskError"),
        (body("[7,{},{}]"), "celery.exceptions.InvalidTaskError"),
        (body("null"), "celery.exceptions.InvalidTaskError"),
        (of(json!({"compression": "application/x-bz2"}), json!({})), "kombu.exceptions.DecodeError"),
        (of(json!({"compression": GZIP}), json!({})), "kombu.exceptions.DecodeError"),
        (of(json!({}), json!({"body_encoding": "base64"})), "kombu.exceptions.DecodeError"),
    ] {
        let failure = failure(&envelope);
        assert_eq!(format!("{}.{}", failure.exc_module, failure.exc_type), class, "{envelope}");
    }
}

#[test]
fn both_kinds_of_gzip_are_read_and_wrapped_base64() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"[[1],{},null]").unwrap();
    for packed in [gzip.finish().unwrap(), zlib(b"[[1],{},null]")] {
        let mut text = BASE64.encode(packed);
        text.insert_str(8, "\r\n");
        let mut envelope = of(json!({"compression": GZIP}), json!({"body_encoding": "base64"}));
        envelope["body"] = json!(text);
        assert_eq!(read(&envelope).unwrap().arguments().unwrap().0.get(), "[1]");
    }
}

#[test]
fn a_body_that_is_or_grows_too_large_is_refused() {
    let mut envelope = of(json!({"compression": GZIP}), json!({"body_encoding": "base64"}));
    envelope["body"] = json!(BASE64.encode(zlib(&vec![b' '; MAX_BODY + 1])));
    assert!(matches!(read(&envelope).unwrap().arguments(), Err(Defect::TooLarge)));

    for properties in [json!({}), json!({"body_encoding": "base64"})] {
        let mut envelope = of(json!({}), properties);
        envelope["body"] = json!("A".repeat(MAX_BODY / 3 * 4 + 8));
        let refused = read(&envelope).unwrap_err();
        assert!(matches!(refused.why, Defect::TooLarge));
        assert_eq!(refused.known.unwrap().id.as_str(), "i");
    }
}

#[test]
fn what_a_small_client_left_out_is_there_for_a_celery_worker() {
    let envelope = json!({"body": "[[],{},null]", "headers": {"task": "t", "id": "i"},
        "properties": {"delivery_info": {"priority": 3}, "delivery_tag": null}});

    let wire = json_of(&read(&envelope).unwrap().retry(Utc::now()).to_wire());

    assert_eq!(wire["properties"]["delivery_info"], json!({"exchange": "", "priority": 3, "routing_key": "celery"}));
    assert!(wire["properties"]["delivery_tag"].is_string() && wire["properties"]["correlation_id"] == "i");
    assert_eq!((&wire["content-type"], &wire["content-encoding"]), (&json!("application/json"), &json!("utf-8")));
}

#[test]
fn what_expires_says_when_to_brokers_too() {
    let message =
        NewMessage { expires: Some(Utc::now() + chrono::Duration::hours(1)), ..NewMessage::default() }.build();

    let wire = json_of(&message.to_wire());

    let left: u64 = wire["properties"]["expiration"].as_str().unwrap().parse().unwrap();
    assert!((3_000_000..=3_600_000).contains(&left), "{left}");
    assert_eq!(json_of(&NewMessage::default().build().to_wire())["properties"].get("expiration"), None);
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
