//! What a client writes about a task it sends, read into a [`Request`]: every mistake is told with its field.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Problem;
use super::body::{ONE, bad};
use crate::client::{Expires, Request};
use crate::task::{Json, Priority, QueueName, TaskId, duration_field, parse_duration, read_time};

/// How deep arguments may be nested. Readers of JSON stop at about 128, and the message puts its own levels around.
const DEEPEST: usize = 100;

pub(super) const FIELDS: [&str; 9] =
    ["args", "kwargs", "countdown", "eta", "expires", "queue", "priority", "id", "max_retries"];

/// Reads the body that is sent for `task`; an empty one asks for nothing special.
pub(super) fn one(task: String, body: &[u8]) -> Result<Request, Problem> {
    let mut request = Request { task, ..Request::default() };
    if body.trim_ascii().is_empty() {
        return Ok(request);
    }
    for (name, value) in object(body)? {
        set(&mut request, &name, value)?;
    }
    Ok(request)
}

/// Reads one task of a batch, which is the same with its `task`.
pub(super) fn of_batch(text: &[u8]) -> Result<Request, Problem> {
    if text.len() > ONE {
        return Err(Problem::TooLarge { what: "a task", limit: ONE, unit: "bytes" });
    }
    let mut fields = object(text)?;
    let task = fields.remove("task").ok_or_else(|| bad("task", "is missing: it names the task to run"))?;
    let mut request = Request { task: field("task", &task, "a text")?, ..Request::default() };
    for (name, value) in fields {
        set(&mut request, &name, value)?;
    }
    Ok(request)
}

/// Reads the body of a revocation: whether a running task is to be stopped. An empty one is no.
pub(super) fn terminate(body: &[u8]) -> Result<bool, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(false);
    }
    let mut terminate = false;
    for (name, value) in object(body)? {
        match name.as_str() {
            "terminate" => terminate = field(&name, &value, "true or false")?,
            _ => return Err(Problem::unknown_field(&name, "a revocation", &["terminate"])),
        }
    }
    Ok(terminate)
}

/// `problem` is that of the batch's task `index`.
pub(super) fn at(index: usize, problem: impl Into<Problem>) -> Problem {
    Problem::At { index, problem: Box::new(problem.into()) }
}

fn object(body: &[u8]) -> Result<BTreeMap<String, Json>, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::Unreadable { reason: format!("not a JSON object: {error}") })
}

// A null is what clients write for a value they do not have.
fn set(request: &mut Request, name: &str, value: Json) -> Result<(), Problem> {
    if !FIELDS.contains(&name) {
        return Err(Problem::unknown_field(name, "a task", &FIELDS));
    }
    if value.get() == "null" {
        return Ok(());
    }
    match name {
        "args" => request.args = Some(shallow(name, value)?),
        "kwargs" => request.kwargs = Some(shallow(name, value)?),
        "countdown" => request.countdown = Some(field::<Span>(name, &value, "seconds or a duration, as in `30s`")?.0),
        "eta" => {
            request.eta = Some(read_time(&field::<String>(name, &value, ETA)?).ok_or_else(|| bad(name, &must_be(ETA)))?)
        }
        "expires" => request.expires = Some(expires(&value)?),
        "queue" => request.queue = Some(named(name, &value, QueueName::parse)?),
        "priority" => request.priority = Some(priority(&value)?),
        "id" => request.id = Some(named(name, &value, TaskId::parse)?),
        "max_retries" => request.max_retries = Some(field(name, &value, "a whole number, 0 or more")?),
        _ => unreachable!("the names of `FIELDS` are those of this match"),
    }
    Ok(())
}

const ETA: &str = "a time in ISO 8601, as in `2030-01-31T09:00:00+09:00`";

#[derive(Deserialize)]
struct Span(#[serde(deserialize_with = "duration_field")] Duration);

fn field<T: DeserializeOwned>(name: &str, value: &Json, form: &str) -> Result<T, Problem> {
    serde_json::from_str(value.get()).map_err(|_| bad(name, &must_be(form)))
}

fn must_be(form: &str) -> String {
    format!("must be {form}")
}

fn named<T, E: fmt::Display>(name: &str, value: &Json, parse: fn(&str) -> Result<T, E>) -> Result<T, Problem> {
    parse(&field::<String>(name, value, "a text")?).map_err(|why| bad(name, &why.to_string()))
}

fn priority(value: &Json) -> Result<Priority, Problem> {
    const FORM: &str = "a whole number from 0, the most urgent, to 9";
    match field("priority", value, FORM)? {
        priority @ 0..=9 => Ok(Priority(priority)),
        _ => Err(bad("priority", &must_be(FORM))),
    }
}

// Celery takes seconds or a time; a duration is ours.
fn expires(value: &Json) -> Result<Expires, Problem> {
    const FORM: &str = "seconds, a duration as in `1h`, or a time in ISO 8601";
    if !value.get().starts_with('"') {
        return field::<Span>("expires", value, FORM).map(|span| Expires::After(span.0));
    }
    let text: String = field("expires", value, FORM)?;
    let after = parse_duration(&text).ok().map(Expires::After);
    after.or_else(|| read_time(&text).map(Expires::At)).ok_or_else(|| bad("expires", &must_be(FORM)))
}

fn shallow(name: &str, value: Json) -> Result<Json, Problem> {
    if depth(value.get()) > DEEPEST {
        return Err(Problem::Unreadable { reason: format!("`{name}` is nested deeper than {DEEPEST} levels") });
    }
    Ok(value)
}

// Of valid JSON: what is in strings does not count.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &str) -> Result<Request, Problem> {
        one("math.add".to_owned(), body.as_bytes())
    }

    fn refusal(body: &str) -> String {
        read(body).expect_err(body).to_string()
    }

    #[test]
    fn an_empty_body_asks_for_nothing_special() {
        for body in ["", " \n", "{}", r#"{"args":null,"eta":null}"#] {
            let request = read(body).unwrap();
            assert_eq!(
                (request.task.as_str(), request.args.is_none(), request.eta),
                ("math.add", true, None),
                "{body}"
            );
        }
    }

    #[test]
    fn every_field_is_read() {
        let request = read(
            r#"{"args":[1e400, 2],"kwargs":{"y":3},"countdown":1.5,"eta":"2030-01-02T03:04:05+09:00","expires":60,
                "queue":"io","priority":3,"id":"mine","max_retries":0}"#,
        )
        .unwrap();

        assert_eq!((request.args.unwrap().get(), request.kwargs.unwrap().get()), ("[1e400, 2]", r#"{"y":3}"#));
        assert_eq!(request.countdown, Some(Duration::from_millis(1500)));
        assert_eq!(request.eta.unwrap().to_rfc3339(), "2030-01-01T18:04:05+00:00");
        assert_eq!(request.expires, Some(Expires::After(Duration::from_secs(60))));
        assert_eq!((request.queue.unwrap().as_str(), request.priority), ("io", Some(Priority(3))));
        assert_eq!((request.id.unwrap().as_str(), request.max_retries), ("mine", Some(0)));
    }

    #[test]
    fn an_expiry_is_seconds_a_duration_or_a_time() {
        let expires = |value: Value| read(&json!({ "expires": value }).to_string()).unwrap().expires.unwrap();

        assert_eq!(expires(json!("1h")), Expires::After(Duration::from_secs(3600)));
        assert_eq!(expires(json!(0.5)), Expires::After(Duration::from_millis(500)));
        assert!(matches!(expires(json!("2030-01-02T03:04:05")), Expires::At(_)));
    }

    #[test]
    fn a_mistake_is_told_with_its_field() {
        for (body, told) in [
            (r#"{"arg":[1]}"#, "`arg` is not a field of a task; there are args, kwargs, countdown"),
            (r#"{"arg":[1]}"#, "; did you mean `args`?"),
            (r#"{"countdown":"soon"}"#, "`countdown` must be seconds or a duration"),
            (r#"{"countdown":-1}"#, "`countdown` must be"),
            (r#"{"eta":"tomorrow"}"#, "`eta` must be a time in ISO 8601"),
            (r#"{"eta":5}"#, "`eta` must be"),
            (r#"{"expires":"never"}"#, "`expires` must be"),
            (r#"{"priority":10}"#, "`priority` must be a whole number from 0"),
            (r#"{"priority":-1}"#, "`priority` must be"),
            (r#"{"queue":""}"#, "`queue` is empty"),
            (r#"{"id":7}"#, "`id` must be a text"),
            (r#"{"max_retries":1.5}"#, "`max_retries` must be"),
            ("[]", "not a JSON object"),
            ("{", "not a JSON object"),
            (r#"{"args":[1}"#, "not a JSON object"),
        ] {
            assert!(refusal(body).contains(told), "{body}: {}", refusal(body));
        }
    }

    #[test]
    fn deep_arguments_are_refused_before_they_are_stored() {
        let nested = |levels: usize| format!(r#"{{"args":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));

        assert!(read(&nested(DEEPEST)).is_ok());
        assert!(refusal(&nested(DEEPEST + 1)).contains("`args` is nested deeper"));
        assert!(refusal(&nested(200_000)).contains("`args` is nested deeper"));
        let quoted = json!({ "args": ["[".repeat(1000), "\\\"[".repeat(1000)] }).to_string();
        assert!(read(&quoted).is_ok());
    }

    #[test]
    fn a_task_of_a_batch_names_its_task() {
        let task = of_batch(br#"{"args":[1],"task":"a"}"#).unwrap();
        assert_eq!((task.task.as_str(), task.args.unwrap().get()), ("a", "[1]"));

        for (text, told) in [
            (r#"{"args":[]}"#, "`task` is missing"),
            (r#"{"task":"c","prio":1}"#, "`prio` is not a field"),
            (r#"{"task":5}"#, "`task` must be a text"),
            ("5", "not a JSON object"),
            (r#"{"task":"a"} {"task":"b"}"#, "not a JSON object"),
            ("", "not a JSON object"),
        ] {
            let refused = of_batch(text.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains(told), "{text}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_can_hurt_the_readers(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = one("x".to_owned(), &body);
            let _ = of_batch(&body);
            let _ = terminate(&body);
        }

        #[test]
        fn arguments_come_through_as_they_were_written(args in prop::collection::vec(any::<(i64, String)>(), 0..5)) {
            let request = read(&json!({ "args": args }).to_string()).unwrap();

            let read = request.args.unwrap();
            prop_assert_eq!(read.get(), json!(args).to_string());
        }
    }
}
