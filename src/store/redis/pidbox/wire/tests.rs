use proptest::prelude::*;

use super::*;

fn sample(name: &str) -> Value {
    let path = format!("{}/tests/celery/captured/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The envelope that a client called out.
fn called(name: &str) -> Value {
    let sample = sample(name);
    let on_channel = |it: &&Value| it["channel"] == "/0.celery.pidbox";
    let mut envelope = sample["pubsub"].as_array().unwrap().iter().find(on_channel).unwrap()["data"].clone();
    envelope.as_object_mut().unwrap().remove("_body_decoded");
    envelope
}

/// The envelope that a worker answered with, as MONITOR printed it.
fn answered(name: &str) -> Value {
    let sample = sample(name);
    let lines = sample["redis_commands_MONITOR"].as_array().unwrap().iter().filter_map(Value::as_str);
    let pushed = lines
        .filter_map(|line| line.split_once(".reply.celery.pidbox\" "))
        .filter(|(before, _)| before.contains("LPUSH"));
    let text: String = serde_json::from_str(pushed.last().unwrap().1).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn read(envelope: &Value) -> Command {
    command(envelope.to_string().as_bytes()).unwrap()
}

fn with_body(body: &str) -> Vec<u8> {
    json!({ "body": BASE64.encode(body), "properties": { "body_encoding": "base64" } }).to_string().into_bytes()
}

#[test]
fn what_a_client_asks_is_read() {
    let ping = read(&called("ctl-01-inspect-ping"));

    assert_eq!((ping.method.as_str(), ping.clock, ping.addressees), ("ping", 1, Addressees::default()));
    assert_eq!(ping.expires.unwrap().timestamp_micros(), 1_795_349_498_820_350);
    let reply_to = ping.reply_to.unwrap();
    assert_eq!(reply_to.exchange, "reply.celery.pidbox");
    assert_eq!(reply_to.routing_key, "82d6408b-c15d-308d-ae13-a26dc69be1b1");
    assert_eq!(reply_to.ticket.as_deref(), Some("d1c7db97-7ab2-4fe8-8ff9-a9e79904cbdb"));
}

#[test]
fn whom_it_is_for_is_read() {
    let addressees = |name| read(&called(name)).addressees;

    assert_eq!(addressees("ctl-28-destination").destination, ["other@demo"]);
    let pattern = addressees("ctl-29-pattern");
    assert_eq!((pattern.pattern.as_deref(), pattern.matcher.as_deref()), (Some("w*@demo"), Some("glob")));
}

#[test]
fn a_revocation_wants_no_answer() {
    let revoke = read(&called("pub-29-broadcast-revoke"));

    assert_eq!((revoke.method.as_str(), &revoke.reply_to), ("revoke", &None));
    assert_eq!(revoke.arguments["task_id"], "11111111-1111-1111-1111-111111111111");
    assert_eq!(revoke.arguments["terminate"], false);
}

#[test]
fn an_answer_is_written_as_celerys_worker_writes_it() {
    for name in ["ctl-01-inspect-ping", "ctl-06-inspect-active", "ctl-26-unknown-command"] {
        let theirs = answered(name);
        let body: Value = serde_json::from_slice(&BASE64.decode(theirs["body"].as_str().unwrap()).unwrap()).unwrap();
        let to = read(&called(name)).reply_to.unwrap();

        let clock = theirs["headers"]["clock"].as_u64().unwrap();
        let mut ours: Value = serde_json::from_str(&reply(&to, "w1@demo", &body["w1@demo"], clock)).unwrap();

        ours["properties"]["delivery_tag"] = theirs["properties"]["delivery_tag"].clone();
        // Python writes a blank behind each comma, so that the texts differ and the values do not.
        let read = |body: &Value| -> Value {
            serde_json::from_slice(&BASE64.decode(body.as_str().unwrap()).unwrap()).unwrap()
        };
        assert_eq!(read(&ours["body"]), read(&theirs["body"]), "{name}");
        ours["body"] = theirs["body"].clone();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn what_is_no_command_is_said_to_be_none() {
    let why = |payload: &[u8]| command(payload).unwrap_err().to_string();

    assert!(why(b"").contains("is not kombu's JSON"));
    assert!(why(&vec![b' '; MAX_COMMAND + 1]).contains("bytes"));
    assert!(why(br#"{"body":"gA==","content-type":"application/x-python-serialize"}"#).contains("x-python-serialize"));
    assert!(why(br#"{"body":"%","properties":{"body_encoding":"base64"}}"#).contains("base64"));
    assert!(why(&with_body("[]")).contains("no command"));
    assert!(why(&with_body(r#"{"method":"ping","reply_to":{"exchange":"","routing_key":"x"}}"#)).contains("is empty"));
}

#[test]
fn headers_that_are_none_do_not_hurt_the_command() {
    let odd =
        br#"{"body":"{\"method\":\"ping\",\"destination\":\"w1@demo\"}","headers":{"clock":1e300,"expires":"soon"}}"#;

    let ping = command(odd).unwrap();

    assert_eq!((ping.clock, ping.expires), (0, None));
    assert_eq!(ping.addressees.destination, ["w1@demo"]);
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = command(&payload);
    }

    #[test]
    fn no_body_is_too_odd(body in ".{0,200}", clock in any::<f64>(), expires in any::<f64>()) {
        let envelope = json!({
            "body": BASE64.encode(&body),
            "headers": { "clock": clock, "expires": expires },
            "properties": { "body_encoding": "base64" },
        });
        let _ = command(envelope.to_string().as_bytes());
    }

    #[test]
    fn every_command_with_a_method_is_read(method in ".{0,40}", ticket in ".{0,40}", name in "[a-z@.-]{1,20}") {
        let body = json!({
            "method": method, "arguments": null, "destination": [name], "ticket": ticket,
            "reply_to": { "exchange": "reply", "routing_key": "key" },
        });

        let read = command(&with_body(&body.to_string())).unwrap();

        prop_assert_eq!((read.method, read.reply_to.unwrap().ticket), (method, Some(ticket)));
    }
}
