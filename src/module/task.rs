//! `task::`: what a running task knows of itself, and what it may say.

use std::sync::Arc;

use rhai::{Dynamic, Map, Module};

use super::{add, number, wrong};
use crate::script::{self, Fields, HostError, Native, TaskFacts, from_typed_json, host, outside};
use crate::task::TaskId;

pub(super) const RETRY_OPTIONS: [&str; 3] = ["countdown", "reason", "max_retries"];

/// The most of a note that is kept, in bytes; the rest is cut.
const MAX_NOTE: usize = 1 << 10;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    facts_functions(&mut module);
    add(
        &mut module,
        "time_left() -> float",
        "Seconds until the time limit: `task::time_left()`.",
        || -> Native<f64> {
            host("task::time_left")?;
            Ok(script::time_left().unwrap_or_default().as_secs_f64())
        },
    );
    add(
        &mut module,
        "is_revoked() -> bool",
        "Whether somebody wants it to end, and leaves it to the script how: `task::is_revoked()`.",
        || -> Native<bool> {
            let host = host("task::is_revoked")?;
            Ok(outside(|| host.is_revoked())?)
        },
    );
    add(
        &mut module,
        "progress(done: number, total: number)",
        "Says how far it is: `task::progress(3, 10)`.",
        |done: Dynamic, total: Dynamic| progress(&done, &total, None),
    );
    add(
        &mut module,
        "progress(done: number, total: number, note: string)",
        "Says how far it is, and what it does: `task::progress(3, 10, \"reading\")`.",
        |done: Dynamic, total: Dynamic, note: &str| {
            progress(&done, &total, Some(note[..note.floor_char_boundary(MAX_NOTE)].to_owned()))
        },
    );
    add(
        &mut module,
        "retry()",
        "Ends the task here; it is tried again after its `default_retry_delay`: `task::retry()`.",
        || retry(Map::new()),
    );
    add(
        &mut module,
        "retry(options: map)",
        "Ends the task here and says when it is tried again: `task::retry(#{ countdown: 10, reason: \"busy\" })`.",
        retry,
    );
    module
}

fn facts_functions(module: &mut Module) {
    let id = |id: Option<TaskId>| id.map_or(Dynamic::UNIT, |id| id.to_string().into());
    add(module, "id() -> string", "The id of this task: `task::id()`.", || -> Native<String> {
        Ok(facts("task::id")?.id.to_string())
    });
    add(module, "name() -> string", "The name of this task: `task::name()`.", || -> Native<String> {
        Ok(facts("task::name")?.name.clone())
    });
    add(module, "retries() -> int", "How often it was tried before: `task::retries()`.", || -> Native<i64> {
        Ok(facts("task::retries")?.retries.into())
    });
    add(module, "args() -> array", "What it was given by position: `task::args()`.", || -> Native<Dynamic> {
        Ok(from_typed_json(facts("task::args")?.args.get())?)
    });
    add(module, "kwargs() -> map", "What it was given by name: `task::kwargs()`.", || -> Native<Dynamic> {
        Ok(from_typed_json(facts("task::kwargs")?.kwargs.get())?)
    });
    add(module, "root_id() -> string | ()", "The first task of its tree: `task::root_id()`.", move || {
        facts("task::root_id").map(|facts| id(facts.root_id.clone()))
    });
    add(module, "parent_id() -> string | ()", "The task that sent it: `task::parent_id()`.", move || {
        facts("task::parent_id").map(|facts| id(facts.parent_id.clone()))
    });
    add(module, "group_id() -> string | ()", "The group it is of: `task::group_id()`.", || -> Native<Dynamic> {
        Ok(facts("task::group_id")?.group_id.clone().map_or(Dynamic::UNIT, Dynamic::from))
    });
}

fn facts(what: &str) -> Native<Arc<TaskFacts>> {
    let host = host(what)?;
    // Kept by the host.
    let _ = outside(|| {
        host.task();
        Ok(())
    });
    host.task().ok_or_else(|| HostError::not_here(what, host.place()).into())
}

fn progress(done: &Dynamic, total: &Dynamic, note: Option<String>) -> Native<()> {
    let (done, total) = (number(done, "`done` of `task::progress`")?, number(total, "`total` of `task::progress`")?);
    let host = host("task::progress")?;
    Ok(outside(|| host.progress(done, total, note.clone()))?)
}

fn retry(options: Map) -> Native<()> {
    facts("task::retry")?;
    let bad = |why: String| wrong("TypeError", format!("options of `task::retry`: {why}"));
    let fields = Fields::new(options);
    fields.only(&RETRY_OPTIONS).map_err(bad)?;
    let countdown = fields.duration("countdown").map_err(bad)?;
    let max_retries = fields.retries("max_retries").map_err(bad)?.map(|count| count.unwrap_or(u32::MAX));
    let reason = fields.text("reason").map_err(bad)?.unwrap_or_else(|| "the task asked to be retried".to_owned());
    Err(script::retry(countdown, max_retries, reason))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::module::tests::{Room, evaluate, fails};
    use crate::task::Outcome;

    #[test]
    fn a_task_knows_itself() {
        let script = "[task::id(), task::name(), task::retries(), task::args(), task::kwargs(), task::root_id(), \
                      task::parent_id(), task::group_id(), task::is_revoked()]";

        assert_eq!(evaluate(script), r#"["t1","room.test",2,[1,"a"],{"k":null},"r1",null,"g1",false]"#);
        assert_eq!(evaluate("let left = task::time_left(); left > 0.0 && left <= 60.0"), "true");
    }

    #[test]
    fn progress_reaches_the_host() {
        let room = Room::default();

        room.run(r#"task::progress(1, 3); task::progress(2.5, 3, "almost")"#).unwrap();

        assert_eq!(room.lines(), ["1/3 None", "2.5/3 Some(\"almost\")"]);
        assert_eq!(fails(r#"task::progress("a", 1)"#).exc_type, "TypeError");
    }

    #[test]
    fn a_retry_cannot_be_caught_not_even_from_a_callback() {
        let ask = r#"task::retry(#{ countdown: 10, reason: "busy", max_retries: 7 })"#;
        for script in [
            ask.to_owned(),
            format!("try {{ {ask} }} catch {{ 1 }}"),
            format!("[1].map(|_x| {ask})"),
            format!("try {{ [1].map(|_x| {ask}); }} catch {{ }}"),
            format!("try {{ [2, 1].sort(|_a, _b| {ask}); }} catch {{ }} 5"),
        ] {
            let outcome = Room::default().outcome(&script);
            let Some(Outcome::RetryAsked { countdown, max_retries, why }) = outcome else {
                panic!("{script}: {outcome:?}")
            };
            assert_eq!((countdown, max_retries), (Some(Duration::from_secs(10)), Some(7)), "{script}");
            assert_eq!((why.exc_type.as_str(), why.exc_message.as_str()), ("Retry", "busy"));
        }
    }

    #[test]
    fn what_is_told_of_a_run_is_cut() {
        let room = Room::default();
        let long = r#"let t = "한"; for _i in 0..16 { t += t; }"#;

        let outcome = room.outcome(&format!("{long} task::retry(#{{ reason: t }})"));
        room.run(&format!("{long} task::progress(1, 2, t)")).unwrap();

        let Some(Outcome::RetryAsked { why, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(why.exc_message.len() < 17 << 10);
        assert!(room.lines()[0].len() < 2 << 10);
    }

    #[test]
    fn a_retry_that_is_asked_wrongly_is_a_failure() {
        assert_eq!(fails("task::retry(#{ countdwn: 1 })").exc_type, "TypeError");
        assert!(matches!(Room::default().outcome("task::retry()"), Some(Outcome::RetryAsked { countdown: None, .. })));
    }
}
