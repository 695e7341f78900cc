//! Messages that nobody can run: each is answered or laid aside, none is lost, and the next one is claimed.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use umbel::store::{DeadLetter, Ending};
use umbel::task::MAX_BODY;

use super::*;

/// What becomes of a message.
enum Becomes {
    /// Nobody can be told, so that it only lies with the dead letters.
    Dead,
    /// The same, and Celery's result says this class.
    Told(&'static str),
    /// It is claimed, and who runs it finds this wrong with its body.
    Task(&'static str),
    /// It is claimed, and nothing is wrong with it.
    Fine,
}
use Becomes::{Dead, Fine, Task, Told};

const DISALLOWED: &str = "kombu.exceptions.ContentDisallowed";
const UNDECODED: &str = "kombu.exceptions.DecodeError";
const INVALID: &str = "celery.exceptions.InvalidTaskError";

fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut envelope = json!({
        "body": BASE64.encode("[[1, 2], {}, {}]"), "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": "math.add", "id": "bad"},
        "properties": {"body_encoding": "base64", "priority": 0, "delivery_tag": "t", "correlation_id": "bad"},
    });
    change(&mut envelope);
    envelope.to_string().into_bytes()
}

fn header(name: &str, value: Value) -> Vec<u8> {
    with(|envelope| envelope["headers"][name] = value)
}

fn body(plain: impl AsRef<[u8]>) -> Vec<u8> {
    with(|envelope| envelope["body"] = json!(BASE64.encode(plain)))
}

fn without(part: &str, name: &str) -> Vec<u8> {
    with(|envelope| drop(envelope[part].as_object_mut().unwrap().remove(name)))
}

fn of_type(kind: &str, plain: &[u8]) -> Vec<u8> {
    with(|envelope| {
        envelope["content-type"] = json!(kind);
        envelope["content-encoding"] = json!("binary");
        envelope["body"] = json!(BASE64.encode(plain));
    })
}

fn priority(priority: Value) -> Vec<u8> {
    with(|envelope| envelope["properties"]["priority"] = priority)
}

fn bomb() -> Vec<u8> {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&vec![b' '; MAX_BODY + 1]).unwrap();
    let packed = packed.finish().unwrap();
    with(|envelope| {
        envelope["headers"]["compression"] = json!("application/x-gzip");
        envelope["body"] = json!(BASE64.encode(packed));
    })
}

fn deep(open: &str, close: &str) -> String {
    format!("{}{}", open.repeat(10_000), close.repeat(10_000))
}

#[rustfmt::skip]
fn hostile() -> Vec<(&'static str, Vec<u8>, Becomes)> {
    let pickle = b"\x80\x02}q\x00(U\x04taskq\x01U\x01tq\x02u.";
    vec![
        ("an empty entry", Vec::new(), Dead),
        ("no JSON", b"no message".to_vec(), Dead),
        ("no UTF-8", b"\xff\xfe\x00".to_vec(), Dead),
        ("JSON that is no object", b"[1, 2]".to_vec(), Dead),
        ("null", b"null".to_vec(), Dead),
        ("an array of 10,000 levels", deep("[", "]").into_bytes(), Dead),
        ("half a message", with(|_| ())[..100].to_vec(), Dead),
        ("no headers and no body", b"{}".to_vec(), Dead),
        ("headers that are a text", with(|envelope| envelope["headers"] = json!("task")), Dead),
        ("no id", without("headers", "id"), Dead),
        ("an id that is none", header("id", json!(7)), Dead),
        ("an id of 10,000 letters", header("id", json!("x".repeat(10_000))), Dead),
        ("no headers, a body that is no object", with(|envelope| envelope["headers"] = json!({})), Dead),
        ("no task", without("headers", "task"), Told(INVALID)),
        ("an empty task", header("task", json!("")), Told(INVALID)),
        ("protocol 1 without a task",
            with(|envelope| { envelope["headers"] = json!({}); envelope["body"] = json!(BASE64.encode(r#"{"id": "bad"}"#)); }),
            Told(INVALID)),
        ("pickle", of_type("application/x-python-serialize", pickle), Told(DISALLOWED)),
        ("yaml", of_type("application/x-yaml", b"- []\n- {}\n- {}\n"), Told(DISALLOWED)),
        ("msgpack", of_type("application/x-msgpack", b"\x93\x90\x80\x80"), Told(DISALLOWED)),
        ("bzip2", header("compression", json!("application/x-bz2")), Told(UNDECODED)),
        ("zstd", header("compression", json!("application/zstd")), Told(UNDECODED)),
        ("a compression that is none", header("compression", json!(7)), Told(INVALID)),
        ("a body that is no base64", with(|envelope| envelope["body"] = json!("%%%")), Told(UNDECODED)),
        ("a body that is null", with(|envelope| envelope["body"] = json!(null)), Told(UNDECODED)),
        ("a body that is an object", with(|envelope| envelope["body"] = json!({"args": []})), Told(UNDECODED)),
        ("properties that are a text", with(|envelope| envelope["properties"] = json!("none")), Told(INVALID)),
        ("a body that is no UTF-8", {
            let mut wire = with(|envelope| envelope["body"] = json!("BODY"));
            let at = wire.windows(4).position(|part| part == b"BODY").unwrap();
            wire[at] = 0xff;
            wire
        }, Told(UNDECODED)),
        ("an eta that is none", header("eta", json!("soon")), Told(INVALID)),
        ("an eta that is a number", header("eta", json!(1e99)), Told(INVALID)),
        ("an expiry that is none", header("expires", json!({})), Told(INVALID)),
        ("retries that are a text", header("retries", json!("many")), Told(INVALID)),
        ("a time limit that is a text", header("timelimit", json!("1s")), Told(INVALID)),
        ("100 MB", with(|envelope| envelope["body"] = json!("A".repeat(100_000_000))), Told(UNDECODED)),
        ("JSON of a text", body("not json"), Task(UNDECODED)),
        ("a body that is empty", body(""), Task(UNDECODED)),
        ("a body of binary", body(pickle), Task(UNDECODED)),
        ("a body of 2 elements", body("[[], {}]"), Task(INVALID)),
        ("a body of null", body("null"), Task(INVALID)),
        ("named arguments that are null", body("[[], null, {}]"), Task(INVALID)),
        ("arguments that are a text", body(r#"["ab", {}, {}]"#), Task(INVALID)),
        ("no zlib", header("compression", json!("application/x-gzip")), Task(UNDECODED)),
        ("a bomb of zlib", bomb(), Task(UNDECODED)),
        ("arguments of 10,000 levels", body(format!("[[{}], {{}}, {{}}]", deep("[", "]"))), Fine),
        ("a header of 10,000 levels",
            String::from_utf8(header("deep", json!("DEEP"))).unwrap().replace("\"DEEP\"", &deep("{\"a\":[", "]}")).into_bytes(),
            Fine),
        ("fewer than no retries", header("retries", json!(-1)), Fine),
        ("more retries than are counted", header("retries", json!(1e30)), Fine),
        ("an eta before all times", header("eta", json!("0001-01-01T00:00:00")), Fine),
        ("priority 255", priority(json!(255)), Fine),
        ("priority -1", priority(json!(-1)), Fine),
        ("priority high", priority(json!("high")), Fine),
        ("an unknown task", header("task", json!("no.such.task")), Fine),
        ("no type, no encoding, plain text",
            br#"{"body": "[[], {}, null]", "headers": {"task": "t", "id": "bad"}, "properties": {}}"#.to_vec(), Fine),
    ]
}

// A busy machine may need longer for 100 MB than a claim waits; what Redis grants then is given back.
async fn claim_patiently(stores: &Stores) -> Vec<umbel::store::Delivery> {
    match stores.queue.claim(&celery(), 10, PATIENCE).await {
        Err(Error::Away { .. }) => Vec::new(),
        claimed => claimed.unwrap(),
    }
}

async fn newest_letter(stores: &Stores) -> DeadLetter {
    stores.queue.read_dead_letters(1).await.unwrap().pop().expect("a dead letter")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_message_is_answered_or_laid_aside_and_stops_nobody() {
    let (_server, stores, mut raw) = open().await;
    let mut dead = 0;
    for (name, wire, becomes) in hostile() {
        let _: u64 = raw.lpush("celery", &wire).unwrap();
        push(&stores, vec![message("good")]).await;

        let mut claimed = Vec::new();
        let end = Instant::now() + 10 * PATIENCE;
        while !ids(&claimed).contains(&"good".to_owned()) {
            assert!(Instant::now() < end, "{name}: what stands behind it does not come");
            claimed.extend(claim_patiently(&stores).await);
        }

        let told: Option<String> = raw.get("celery-task-meta-bad").unwrap();
        let told = told.map(|meta| serde_json::from_str::<Value>(&meta).unwrap());
        let runs = claimed.iter().find(|delivery| delivery.message.id.as_str() == "bad");
        let body = runs.map(|delivery| {
            delivery
                .message
                .read_body::<Vec<umbel::task::Json>, std::collections::BTreeMap<String, umbel::task::Json>>()
        });
        match (&becomes, &told, body) {
            (Dead, None, None) | (Fine, None, Some(Ok(_))) => {}
            (Told(class), Some(meta), None) => {
                let result = &meta["result"];
                let said =
                    format!("{}.{}", result["exc_module"].as_str().unwrap(), result["exc_type"].as_str().unwrap());
                assert_eq!((said.as_str(), &meta["status"]), (*class, &json!("FAILURE")), "{name}: {meta}");
                let run = load(&stores, "bad").await;
                assert_eq!(
                    (run.state, run.error.unwrap().exc_type.as_str()),
                    (State::Failure, said.rsplit('.').next().unwrap())
                );
            }
            (Task(class), None, Some(Err(defect))) => {
                let failure = defect.failure();
                assert_eq!(format!("{}.{}", failure.exc_module, failure.exc_type), *class, "{name}: {defect}");
            }
            (_, told, body) => panic!("{name}: told {told:?}, {:?}", body.map(|body| body.err())),
        }
        if matches!(becomes, Dead | Told(_)) {
            dead += 1;
            let letter = newest_letter(&stores).await;
            assert_eq!(letter.id.is_some(), matches!(becomes, Told(_)), "{name}: {letter:?}");
            assert_eq!(letter.size, wire.len(), "{name}");
            let kept = letter
                .envelope
                .map_or_else(|| BASE64.decode(letter.envelope_base64.unwrap()).unwrap(), String::into_bytes);
            let end = 32 << 10;
            let ends = |wire: &[u8]| [&wire[..end], &b" ... "[..], &wire[wire.len() - end..]].concat();
            assert!(kept == if wire.len() > 2 * end { ends(&wire) } else { wire.clone() }, "{name}");
        }
        for delivery in claimed {
            assert_eq!(settle(&stores, &delivery, five()).await, Settled::Stored, "{name}");
        }
        assert_eq!(stores.queue.dead_letters().await.unwrap(), dead, "{name}");
        let left: (u64, u64, u64) =
            (raw.zcard("umbel:lease").unwrap(), raw.hlen("umbel:claims").unwrap(), raw.llen("celery").unwrap());
        assert_eq!(left, (0, 0, 0), "{name}");
        for id in ["good", "bad"] {
            stores.results.forget(&umbel::task::TaskId::parse(id).unwrap()).await.unwrap();
        }
    }
    assert!(dead > 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_message_that_cannot_be_run_is_told_at_once() {
    let (_server, stores, mut raw) = open().await;
    let waits = stores.clone();
    let waiting = tokio::spawn(async move { ended(&waits, "bad").await });

    lpush(&mut raw, "celery", String::from_utf8(header("eta", json!("soon"))).unwrap());
    assert_nothing_comes(&stores).await;

    let error = waiting.await.unwrap().error.unwrap();
    assert_eq!(error.exc_message, "its `eta` cannot be read: `\"soon\"`");
    let ttl: i64 = raw.ttl("celery-task-meta-bad").unwrap();
    assert!((86_000..=86_400).contains(&ttl), "{ttl}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_run_ends_no_other_of_its_id() {
    let (_server, stores, mut raw) = open().await;
    let bad = || String::from_utf8(header("eta", json!("soon"))).unwrap();
    let meta = json!({"status": "SUCCESS", "result": 5, "task_id": "bad"}).to_string();

    // It ended with a worker of Celery.
    let _: () = raw.set("celery-task-meta-bad", &meta).unwrap();
    lpush(&mut raw, "celery", bad());
    assert_nothing_comes(&stores).await;
    assert_eq!(raw.get::<_, String>("celery-task-meta-bad").unwrap(), meta);

    // It ended with us.
    let _: () = raw.del("celery-task-meta-bad").unwrap();
    push(&stores, messages(&["bad"])).await;
    let delivery = claim_one(&stores).await;
    settle(&stores, &delivery, Ending::Success { result: Some(to_json(&6)) }).await;
    lpush(&mut raw, "celery", bad());
    assert_nothing_comes(&stores).await;
    assert_eq!(load(&stores, "bad").await.result.unwrap().get(), "6");
    assert_eq!(stores.queue.dead_letters().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_result_is_not_told_to_celery() {
    let (_server, stores, mut raw) = open().await;
    let wire = with(|envelope| {
        envelope["headers"]["ignore_result"] = json!(true);
        envelope["headers"]["eta"] = json!("soon");
    });

    lpush(&mut raw, "celery", String::from_utf8(wire).unwrap());
    assert_nothing_comes(&stores).await;

    assert_eq!(state(&stores, "bad").await, State::Failure);
    assert!(!raw.exists::<_, bool>("celery-task-meta-bad").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_read_newest_first() {
    let (_server, stores, mut raw) = open().await;
    for name in ["one", "two", "three"] {
        lpush(&mut raw, "celery", name);
        assert_nothing_comes(&stores).await;
    }

    let letters = stores.queue.read_dead_letters(2).await.unwrap();

    let texts: Vec<&str> = letters.iter().map(|letter| letter.envelope.as_deref().unwrap()).collect();
    assert_eq!(texts, ["three", "two"]);
    assert!(letters[0].at >= letters[1].at && Utc::now() - letters[0].at < chrono::Duration::minutes(1));
    assert!(letters[0].reason.contains("kombu's JSON"), "{letters:?}");
    assert!(stores.queue.read_dead_letters(0).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_protocol_1_outlives_its_process() {
    let (server, stores, mut raw) = open().await;
    let settings = Settings { lease: crate::place::SHORT_LEASE, ..Settings::default() };
    let dies = umbel::store::open(&server.url(), std::path::Path::new("."), settings).await.unwrap();
    lpush(&mut raw, "celery", captured("pub-26-protocol1"));

    drop(claim(&dies, 1).await);
    drop(dies);
    let again = crate::place::claim_with_sweeps(&stores, 1, PATIENCE).await;

    assert_eq!((again[0].message.task.as_str(), again[0].redelivered), ("tasks.add", true));
    assert_eq!(settle(&stores, &again[0], five()).await, Settled::Stored);
    assert_eq!(stores.queue.dead_letters().await.unwrap(), 0);
}
