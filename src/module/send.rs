//! `delay` and `apply`: sending tasks.

use std::time::Duration;

use rhai::{Array, Dynamic, Map, Module};
use serde_json::Value;

use super::{add, marked, time, wrong};
use crate::script::{Fields, Native, Submission, host, outside};
use crate::task::{TaskId, Timestamp, check_name};

pub(super) const OPTIONS: [&str; 8] =
    ["kwargs", "countdown", "eta", "expires", "queue", "priority", "id", "max_retries"];

pub(super) fn functions(global: &mut Module) {
    add(
        global,
        "delay(name: string) -> string",
        "Sends a task without arguments and returns its id at once: `delay(\"health.ping\")`.",
        |name: &str| submit("delay", name, Array::new(), Map::new()),
    );
    add(
        global,
        "delay(name: string, args: array) -> string",
        "Sends a task and returns its id at once: `delay(\"math.add\", [2, 3])`.",
        |name: &str, args: Array| submit("delay", name, args, Map::new()),
    );
    add(
        global,
        "apply(name: string, args: array, options: map) -> string",
        "Sends a task with options: `apply(\"mail.send\", [], #{ kwargs: #{ to: \"a\" }, countdown: 10 })`.",
        |name: &str, args: Array, options: Map| submit("apply", name, args, options),
    );
}

fn submit(what: &str, name: &str, args: Array, options: Map) -> Native<String> {
    let host = host(what)?;
    check_name(name).map_err(|bad| wrong("ValueError", format!("the name of the task for `{what}` {bad}")))?;
    let bad = |why: String| wrong("TypeError", format!("options of `{what}(\"{name}\")`: {why}"));
    let fields = Fields::new(options);
    fields.only(&OPTIONS).map_err(bad)?;
    let submission = Submission {
        task: name.to_owned(),
        // As one value, so that the bound on JSON is that of all arguments together.
        args: marked(&Dynamic::from(args))?,
        kwargs: kwargs(&fields).map_err(bad)??,
        countdown: fields.duration("countdown").map_err(bad)?,
        eta: eta(&fields).map_err(bad)?,
        expires: fields.duration("expires").map_err(bad)?.filter(|wait| *wait > Duration::ZERO),
        queue: fields.queue("queue").map_err(bad)?,
        priority: fields.priority("priority").map_err(bad)?,
        id: id(&fields).map_err(bad)?,
        max_retries: fields.retries("max_retries").map_err(bad)?.map(|count| count.unwrap_or(u32::MAX)),
    };
    Ok(outside(|| host.submit(submission.clone()))?.to_string())
}

fn kwargs(fields: &Fields) -> Result<Native<serde_json::Map<String, Value>>, String> {
    match fields.value("kwargs") {
        None => Ok(Ok(serde_json::Map::new())),
        Some(value) if value.is_map() => Ok(marked(value)),
        Some(_) => Err("`kwargs` must be a map".to_owned()),
    }
}

fn eta(fields: &Fields) -> Result<Option<Timestamp>, String> {
    let Some(value) = fields.value("eta") else { return Ok(None) };
    let read = |value: &Dynamic| match value.as_immutable_string_ref() {
        Ok(text) => time::read(&text),
        Err(_) => super::number(value, "eta").ok().and_then(time::instant),
    };
    read(value).map(Some).ok_or_else(|| "`eta` must be unix seconds or a time like \"2026-01-31T09:00:00Z\"".to_owned())
}

fn id(fields: &Fields) -> Result<Option<TaskId>, String> {
    let Some(text) = fields.text("id")? else { return Ok(None) };
    TaskId::parse(&text).map(Some).map_err(|bad| format!("`id` {bad}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::module::tests::{Room, fails};

    #[test]
    fn a_delayed_task_is_submitted_and_its_id_returned() {
        let room = Room::default();

        let id = room.run(r#"delay("math.add", [2, #{ a: 1.5 }])"#).unwrap();

        let sent = &room.submissions()[0];
        assert_eq!((sent.task.as_str(), &sent.args), ("math.add", &vec![json!(2), json!({ "a": 1.5 })]));
        assert_eq!(id, r#""id-1""#);
    }

    #[test]
    fn bytes_are_sent_as_celery_marks_them() {
        let room = Room::default();

        room.run(r#"let b = blob(1, 255); apply("a.b", [b], #{ kwargs: #{ b: b } })"#).unwrap();

        let bytes = json!({ "__type__": "base64", "__value__": "/w==" });
        let sent = &room.submissions()[0];
        assert_eq!((&sent.args, &sent.kwargs["b"]), (&vec![bytes.clone()], &bytes));
    }

    #[test]
    fn every_option_is_passed_on() {
        let room = Room::default();

        room.run(
            r#"apply("a.b", [], #{ kwargs: #{ x: [1] }, countdown: 1.5, eta: "2026-01-31T09:00:00+09:00",
                expires: "1h", queue: "io", priority: 3, id: "mine", max_retries: 0 })"#,
        )
        .unwrap();

        let sent = &room.submissions()[0];
        assert_eq!(serde_json::to_string(&sent.kwargs).unwrap(), r#"{"x":[1]}"#);
        assert_eq!(sent.countdown, Some(Duration::from_millis(1_500)));
        assert_eq!(sent.eta.unwrap().to_rfc3339(), "2026-01-31T00:00:00+00:00");
        assert_eq!(sent.expires, Some(Duration::from_secs(3_600)));
        assert_eq!(sent.queue.as_ref().unwrap().as_str(), "io");
        assert_eq!(sent.priority.unwrap().0, 3);
        assert_eq!(sent.id.as_ref().unwrap().as_str(), "mine");
        assert_eq!(sent.max_retries, Some(0));
    }

    #[test]
    fn an_option_that_is_wrong_is_named() {
        for (options, named) in [
            ("#{ cuontdown: 1 }", "there is no option `cuontdown`; did you mean `countdown`?"),
            ("#{ countdown: -1 }", "`countdown` must be"),
            ("#{ eta: \"tomorrow\" }", "`eta` must be"),
            ("#{ kwargs: [1] }", "`kwargs` must be a map"),
            ("#{ id: \"\" }", "`id` is empty"),
        ] {
            let failure = fails(&format!("apply(\"a.b\", [], {options})"));
            assert!(failure.exc_message.contains(named), "{options}: {}", failure.exc_message);
            assert_eq!(failure.exc_type, "TypeError");
        }
        assert_eq!(fails(r#"delay("a.b", [|| 1])"#).exc_type, "TypeError");
    }

    #[test]
    fn a_name_longer_than_any_is_refused_at_once() {
        for (call, class, message) in [
            ("delay(t)", "ValueError", "the name of the task for `delay` is longer than 255 bytes"),
            ("apply(t, [], #{})", "ValueError", "the name of the task for `apply` is longer than 255 bytes"),
            ("let o = #{}; o[t] = 1; task::retry(o)", "TypeError", "xx`; there are "),
        ] {
            let failure = fails(&format!("let t = \"\"; t.pad(1000000, 'x'); {call}"));
            assert_eq!(failure.exc_type, class, "{call}");
            assert!(
                failure.exc_message.contains(message) && failure.exc_message.len() < 400,
                "{}",
                failure.exc_message
            );
        }
    }

    #[test]
    fn all_arguments_together_have_a_bound() {
        let half = r#"let t = "a"; for _i in 0..19 { t += t; }"#;

        let failure = fails(&format!(r#"{half} delay("a.b", [t, t])"#));
        let named = fails(&format!(r#"{half} apply("a.b", [], #{{ kwargs: #{{ x: t, y: t }} }})"#));

        assert_eq!((failure.exc_type.as_str(), named.exc_type.as_str()), ("MemoryError", "MemoryError"));
    }

    #[test]
    fn a_refusal_of_the_host_can_be_caught() {
        let room = Room::default();

        let caught =
            room.run(r#"try { delay("unknown") } catch (e) { return [e.exc_type, e.exc_module, e.message]; }"#);

        assert_eq!(caught.unwrap(), "[\"NotRegistered\",\"celery.exceptions\",\"no task named `unknown`\"]");
    }
}
