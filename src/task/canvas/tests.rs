//! By what Celery 5.7.0 wrote: its clients into messages, its worker after them.

use chrono::Utc;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::task::{NewMessage, QueueName};

// The messages of tasks that were pushed in one captured file, oldest first.
fn captured(name: &str) -> Vec<Message> {
    let path = format!("{}/tests/celery/captured/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let sample: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let pushed = |line: &Value| {
        // MONITOR quotes as Rust does, and as JSON does but for single bytes.
        let rest = line.as_str().unwrap().split_once("\"LPUSH\" ")?.1;
        let words: Vec<String> = serde_json::from_str(&format!("[{}]", rest.replacen("\" \"", "\",\"", 1))).ok()?;
        Message::from_wire(QueueName::parse(&words[0]).ok()?, words[1].as_bytes()).ok()
    };
    sample["redis_commands_MONITOR"].as_array().unwrap().iter().filter_map(pushed).collect()
}

fn embed(message: &Message) -> Embed {
    message.read_body::<Value, Value>().unwrap().2
}

fn followers(message: &Message) -> Followers {
    let (followers, readable) = Followers::read(&embed(message));
    readable.unwrap();
    followers
}

fn linked(name: &str, signatures: &Value) -> Embed {
    serde_json::from_value(json!({ name: signatures })).unwrap()
}

fn parent() -> Message {
    NewMessage { id: Some(TaskId::parse("p1").unwrap()), ..NewMessage::default() }.build()
}

fn nothing(_: &str) -> Options {
    Options::default()
}

fn sender() -> Sender<'static> {
    Sender { origin: "umbel@here", now: "2026-01-31T09:00:00Z".parse().unwrap(), declared: &nothing }
}

// The one follower of a signature, called with 7.
fn sent(signature: &Value) -> Message {
    let (followers, readable) = Followers::read(&linked("callbacks", &json!([signature])));
    readable.unwrap();
    followers.after_success(&parent(), &to_json(&7), sender()).unwrap().remove(0)
}

fn refused(embed: &Embed) -> Failure {
    Followers::read(embed).1.unwrap_err()
}

// What two senders of the same task choose differently, and what shows the arguments for people.
fn without_choices(message: &Message) -> Value {
    let mut wire: Value = serde_json::from_slice(&message.to_wire()).unwrap();
    for name in ["lang", "id", "origin", "argsrepr", "kwargsrepr", "group", "group_index"] {
        wire["headers"].as_object_mut().unwrap().remove(name);
    }
    for name in ["correlation_id", "reply_to", "delivery_tag"] {
        wire["properties"].as_object_mut().unwrap().remove(name);
    }
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    wire["body"] = body;
    wire
}

#[test]
fn callbacks_are_sent_as_celerys_worker_sends_them() {
    let messages = captured("wrk-05-link");
    let [parent, theirs] = &messages[..] else { panic!("{messages:?}") };

    let ours = followers(parent).after_success(parent, &to_json(&3), sender()).unwrap();

    assert_eq!(ours.len(), 1);
    assert_eq!(without_choices(&ours[0]), without_choices(theirs));
}

#[test]
fn errbacks_are_sent_as_celerys_worker_sends_what_it_does_not_know() {
    let messages = captured("wrk-06-link_error");
    let (parent, theirs) = messages.split_first().unwrap();

    let ours = followers(parent).after_failure(parent, sender());

    // Celery's worker called the first one itself: that one was its own, and takes three arguments.
    assert_eq!((ours.len(), theirs.len()), (3, 2));
    for (ours, theirs) in ours[1..].iter().zip(theirs) {
        assert_eq!(without_choices(ours), without_choices(theirs));
    }
}

#[test]
fn what_a_client_links_is_read() {
    for (name, callbacks, errbacks) in
        [("pub-01-send_task", 0, 0), ("pub-09-link", 1, 0), ("pub-10-link_error", 0, 2), ("pub-12-group", 0, 0)]
    {
        for message in captured(name) {
            let read = followers(&message);
            assert_eq!((read.callbacks.len(), read.errbacks.len()), (callbacks, errbacks), "{name}");
        }
    }
}

#[test]
fn workflows_are_refused_by_name() {
    for (name, what) in [
        ("pub-11-chain", "a chain"),
        ("pub-14-chord", "a chord"),
        ("pub-15-chord-with-chain-member", "a ch"),
        ("pub-16-chain-group-chain", "a chain"),
        ("pub-17-chord-of-groups", "a chord"),
    ] {
        let refused: Vec<Failure> =
            captured(name).iter().filter_map(|message| Followers::read(&embed(message)).1.err()).collect();
        assert!(!refused.is_empty(), "{name}");
        for failure in refused {
            assert_eq!(failure.exc_type, "NotImplementedError");
            assert!(failure.exc_message.contains(what), "{name}: {}", failure.exc_message);
        }
    }
    for kind in ["chain", "group", "chord", "map", "starmap", "chunks"] {
        let signature = json!({ "task": "celery.it", "subtask_type": kind });
        let failure = refused(&linked("callbacks", &json!([signature])));
        assert_eq!(failure.exc_type, "NotImplementedError", "{kind}");
        assert!(
            failure
                .exc_message
                .contains(&format!("callbacks[0] of its body cannot be sent: this version does not run a {kind}"))
        );
    }
}

#[test]
fn who_is_refused_has_its_errbacks_still() {
    let embed = serde_json::from_value(json!({ "chain": [{}], "errbacks": [{ "task": "a.b" }, { "no": "task" }] }));

    let (followers, readable) = Followers::read(&embed.unwrap());

    assert!(readable.unwrap_err().exc_message.starts_with("errbacks[1] of its body cannot be sent"));
    assert_eq!(followers.after_failure(&parent(), sender()).len(), 1);
}

#[test]
fn every_option_is_honoured() {
    let follower = sent(&json!({
        "task": "mail.send", "args": ["x"], "kwargs": {"n": 123456789012345678901234567890u128.to_string()},
        "options": {
            "task_id": "mine", "queue": "video", "priority": 6, "countdown": 1.5, "expires": 60, "retries": 2,
            "time_limit": 30, "soft_time_limit": 20.5, "ignore_result": true, "reply_to": "me", "shadow": "pretty",
            "group_id": "g1", "group_index": 4, "headers": {"x-trace": "abc", "compression": "zip"},
            "stamped_headers": ["tenant"], "tenant": ["acme"], "link": {"task": "a.b"},
            "link_error": [{"task": "c.d"}], "chain": [{"task": "e.f"}], "chord": {"task": "g.h"}, "unknown": 1,
        },
    }));

    let wire: Value = serde_json::from_slice(&follower.to_wire()).unwrap();
    let again = Message::from_wire(follower.queue.clone(), &follower.to_wire()).unwrap();
    assert_eq!((follower.queue.as_str(), follower.priority.0, follower.id.as_str()), ("video", 6, "mine"));
    assert_eq!(wire["headers"]["eta"], "2026-01-31T09:00:01.500000+00:00");
    assert_eq!(wire["headers"]["expires"], "2026-01-31T09:01:00+00:00");
    assert_eq!(wire["headers"]["timelimit"], json!([30, 20.5]));
    assert_eq!((&wire["headers"]["retries"], &wire["headers"]["ignore_result"]), (&json!(2), &json!(true)));
    assert_eq!((&wire["headers"]["group"], &wire["headers"]["group_index"]), (&json!("g1"), &json!(4)));
    assert_eq!(wire["headers"]["stamped_headers"], json!(["tenant"]));
    assert_eq!(wire["headers"]["stamps"], json!({"tenant": ["acme"]}));
    assert_eq!((&wire["headers"]["x-trace"], wire["headers"].get("compression")), (&json!("abc"), None));
    assert_eq!(
        (&wire["properties"]["reply_to"], &wire["properties"]["correlation_id"]),
        (&json!("me"), &json!("mine"))
    );
    assert_eq!(again.shadow().as_deref(), Some("pretty"));
    let (args, _, embed) = again.read_body::<Value, Value>().unwrap();
    assert_eq!(args, json!([7, "x"]));
    assert_eq!(embed.callbacks.unwrap()[0].get(), r#"{"task":"a.b"}"#);
    assert_eq!(embed.errbacks.unwrap().len(), 1);
    assert!(embed.chain.is_some() && embed.chord.is_some());
}

#[test]
fn a_time_may_be_text_or_kombus_datetime() {
    for (eta, expected) in [
        (json!("2030-01-02T03:04:05+02:00"), "2030-01-02T03:04:05+02:00"),
        (json!({"__type__": "datetime", "__value__": "2030-01-02T03:04:05"}), "2030-01-02T03:04:05+00:00"),
    ] {
        let follower = sent(&json!({ "task": "a.b", "options": { "eta": eta, "expires": eta, "countdown": 9 } }));
        assert_eq!(follower.eta.unwrap().to_rfc3339(), expected);
        assert_eq!(follower.expires.unwrap().to_rfc3339(), expected);
    }
    let far = sent(&json!({ "task": "a.b", "options": { "countdown": 1e300, "expires": -5 } }));
    assert!(Message::from_wire(far.queue.clone(), &far.to_wire()).is_ok(), "{:?}", far.eta);
    assert_eq!(far.expires.unwrap(), sender().now.fixed_offset());
}

#[test]
fn what_is_declared_counts_where_the_signature_says_nothing() {
    let io = QueueName::parse("io").unwrap();
    let declared = |_: &str| Options {
        queue: io.clone(),
        priority: crate::task::Priority(3),
        ignore_result: true,
        expires: Some(std::time::Duration::from_secs(1)),
        ..Options::default()
    };
    let signatures = json!([{ "task": "a.b", "immutable": true, "options": { "queue": null } }, { "task": "a.b", "options": { "routing_key": "video", "priority": 0, "ignore_result": false } }]);
    let (followers, _) = Followers::read(&linked("callbacks", &signatures));

    let sender = Sender { declared: &declared, ..sender() };
    let sent = followers.after_success(&parent(), &to_json(&7), sender).unwrap();

    assert_eq!((&sent[0].queue, sent[0].priority.0, sent[0].ignore_result), (&io, 3, Some(true)));
    assert_eq!(sent[0].expires.unwrap(), sender.now + chrono::Duration::seconds(1));
    assert_eq!(sent[0].arguments().unwrap().0.get(), "[]");
    assert_eq!((sent[1].queue.as_str(), sent[1].priority.0, sent[1].ignore_result), ("video", 0, Some(false)));
}

#[test]
fn what_is_no_signature_is_named() {
    for (signature, why) in [
        (json!(5), "invalid type"),
        (json!({ "args": [] }), "missing field `task`"),
        (json!({ "task": "" }), "its task is empty"),
        (json!({ "task": "a", "args": 5 }), "invalid type"),
        (json!({ "task": "a", "kwargs": [1] }), "its kwargs are no JSON object"),
        (json!({ "task": "a", "options": { "eta": "soon" } }), "is no time"),
        (json!({ "task": "a", "options": { "expires": [] } }), "neither seconds nor a time"),
        (json!({ "task": "a", "options": { "link": 5 } }), "its `link` is neither"),
        (json!({ "task": "a", "options": { "task_id": "a\u{6}b" } }), "has a control character"),
    ] {
        let failure = refused(&linked("errbacks", &json!([{ "task": "fine" }, signature])));
        assert_eq!(failure.exc_type, "ValueError");
        assert!(failure.exc_message.starts_with("errbacks[1] of its body cannot be sent: "), "{}", failure.exc_message);
        assert!(failure.exc_message.contains(why), "{signature}: {}", failure.exc_message);
    }
    let many = vec![json!({ "task": "a" }); MOST + 1];
    assert_eq!(refused(&linked("callbacks", &json!(many))).exc_message, "it has 1001 callbacks; 1000 are allowed");
}

#[test]
fn an_id_is_the_same_for_the_same_sending_only() {
    let first = captured("pub-09-link").remove(0);
    let again = first.retry(Utc::now());
    let mut elsewhere = first.clone();
    elsewhere.id = TaskId::parse("another").unwrap();
    let anew = captured("wrk-05-link").remove(0);
    let anew = Message { id: first.id.clone(), ..anew };
    let id =
        |message: &Message| followers(message).after_success(message, &to_json(&3), sender()).unwrap()[0].id.clone();

    assert_eq!(id(&first), id(&again));
    assert_ne!(id(&first), id(&elsewhere));
    // The same task, sent once more by its sender.
    assert_ne!(id(&first), id(&anew));
}

#[test]
fn each_follower_has_an_id_of_its_own() {
    let embed: Embed = serde_json::from_value(
        json!({ "callbacks": [{ "task": "a" }, { "task": "a" }], "errbacks": [{ "task": "a" }] }),
    )
    .unwrap();
    let (followers, _) = Followers::read(&embed);

    let mut ids: Vec<TaskId> =
        followers.after_success(&parent(), &to_json(&1), sender()).unwrap().into_iter().map(|it| it.id).collect();
    ids.extend(followers.after_failure(&parent(), sender()).into_iter().map(|it| it.id));
    ids.sort();
    ids.dedup();

    assert_eq!(ids.len(), 3);
}

#[test]
fn a_value_that_would_be_copied_too_often_is_refused() {
    let value = to_json(&"x".repeat(1 << 20));
    let signature = |immutable| json!({ "task": "a", "immutable": immutable });
    let after = |signatures: Vec<Value>| {
        Followers::read(&linked("callbacks", &json!(signatures))).0.after_success(&parent(), &value, sender())
    };

    assert!(after(vec![signature(false); 15]).is_ok());
    assert!(after(vec![signature(true); 100]).is_ok());
    assert!(after(vec![signature(false); 16]).unwrap_err().to_string().starts_with("its 16 callbacks would be"));
}

#[test]
fn links_of_any_depth_are_passed_on() {
    let mut signature = r#"{"task":"last"}"#.to_owned();
    for _ in 0..10_000 {
        signature = format!(r#"{{"task":"a","options":{{"link":[{signature}]}}}}"#);
    }
    let text = format!(r#"[[],{{}},{{"callbacks":[{signature}]}}]"#);
    let message = Message { body: text.into(), ..parent() };

    let sent = followers(&message).after_success(&message, &to_json(&1), sender()).unwrap();

    let linked = embed(&sent[0]).callbacks.unwrap().remove(0);
    assert!(linked.get().contains("last") && message.body.len() - linked.get().len() < 200);
}

fn any_signature() -> impl Strategy<Value = Value> {
    let option = prop_oneof![
        ("[a-z_]{1,12}", any::<Option<i64>>()).prop_map(|(name, value)| (name, json!(value))),
        Just(("countdown".to_owned(), json!(3))),
        Just(("queue".to_owned(), json!("io"))),
        Just(("link".to_owned(), json!({ "task": "a" }))),
        any::<i64>().prop_map(|number| ("priority".to_owned(), json!(number))),
    ];
    let args = prop::collection::vec(any::<String>(), 0..4);
    let options = prop::collection::vec(option, 0..4);
    ("[a-z.]{0,6}", args, options, any::<Option<bool>>()).prop_map(|(task, args, options, immutable)| {
        let options: serde_json::Map<String, Value> = options.into_iter().collect();
        json!({ "task": task, "args": args, "kwargs": {}, "options": options, "immutable": immutable })
    })
}

proptest! {
    #[test]
    fn what_is_read_makes_a_message_that_is_read(signatures in prop::collection::vec(any_signature(), 0..5), value in any::<String>()) {
        let (followers, readable) = Followers::read(&linked("callbacks", &json!(signatures)));

        let sent = followers.after_success(&parent(), &to_json(&value), sender()).unwrap();

        prop_assert_eq!(sent.len() == signatures.len(), readable.is_ok());
        for message in sent {
            let again = Message::from_wire(message.queue.clone(), &message.to_wire()).unwrap();
            let (args, _, _) = again.read_body::<Vec<Value>, Value>().unwrap();
            prop_assert!(args.len() <= 5);
            prop_assert_eq!(again.parent_id, Some(parent().id));
        }
    }

    #[test]
    fn no_text_can_hurt_the_reader(text in "[\\[\\]{}\",:a-z0-9 ]{0,60}") {
        if let Ok(embed) = serde_json::from_str::<Embed>(&text) {
            let _ = Followers::read(&embed);
        }
    }
}
