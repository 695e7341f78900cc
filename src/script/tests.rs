//! Calls from start to outcome, as the rooms above see them.

mod failures;
mod limits;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytesize::ByteSize;
use rhai::{Dynamic, Engine};

use super::*;
use crate::task::{Json, Outcome};
use crate::watch::Snapshot;

/// Answers nothing, and tells when the script has started.
#[derive(Default)]
struct Nobody {
    started: Option<mpsc::SyncSender<()>>,
}

impl Host for Nobody {
    fn started(&self) {
        if let Some(started) = &self.started {
            started.send(()).unwrap();
        }
    }

    fn place(&self) -> &'static str {
        "a test"
    }

    fn may_sleep(&self) -> bool {
        true
    }

    fn log(&self, _level: Level, _text: &str) {}

    fn kv_set(&self, _key: &str, _value: Json, _ttl: Option<Duration>, _new: bool) -> Result<bool, HostError> {
        Ok(true)
    }
}

pub(super) const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(30);
pub(super) const MEMORY: ByteSize = ByteSize::mib(128);

/// An engine with a native function that panics, one that sleeps and one that fails as a host does.
fn equipped() -> Arc<Engine> {
    let mut engine = engine();
    engine.register_fn("explode", || -> i64 { panic!("boom") });
    engine.register_fn("nap", || -> Native<()> { pause(LONG) });
    engine.register_fn("refuse", || -> Native<()> { Err(HostError::new("NotRegistered", "no such task").into()) });
    Arc::new(engine)
}

fn script(engine: &Engine, source: &str) -> Arc<Script> {
    Arc::new(Script::load(engine, &Roots::default(), "tasks/math.rhai", source).unwrap())
}

pub(super) fn call(script: Arc<Script>, function: &str, arguments: &str, time_limit: Duration) -> Call {
    let arguments = arguments.to_owned();
    Call {
        script,
        function: function.to_owned(),
        arguments: Box::new(move || Ok(from_json(&arguments)?.into_array().unwrap())),
        this: None,
        host: Arc::new(Nobody::default()),
        limits: Limits { time_limit, ..Limits::default() },
    }
}

fn finish(source: &str, function: &str, arguments: &str, time_limit: Duration) -> Finished {
    let engine = equipped();
    let call = call(script(&engine, source), function, arguments, time_limit);
    Pool::new(engine, "test", 1, MEMORY).start(call).finished.blocking_recv().unwrap()
}

#[track_caller]
fn returned(source: &str, function: &str, arguments: &str) -> String {
    match finish(source, function, arguments, LONG).outcome {
        Some(Outcome::Returned(json)) => json.get().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn raised(source: &str, function: &str, arguments: &str) -> Failure {
    match finish(source, function, arguments, LONG).outcome {
        Some(Outcome::Raised(failure)) => failure,
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn a_function_returns_its_value_as_json() {
    assert_eq!(returned("fn add(x, y) { x + y }", "add", "[2, 3]"), "5");
    assert_eq!(returned("fn 더하기(x, y) { x + y }", "더하기", "[2, 3]"), "5");
    assert_eq!(returned("fn nothing() { }", "nothing", "[]"), "null");
    assert_eq!(
        returned(r#"fn shape(x) { return #{ b: x, a: [1.0, 'c', "d", true] }; }"#, "shape", "[null]"),
        r#"{"a":[1.0,"c","d",true],"b":null}"#
    );
    assert_eq!(returned("fn leave() { exit(7); 8 }", "leave", "[]"), "7");
}

#[test]
fn the_overload_is_chosen_by_the_number_of_arguments() {
    let source = "fn f(x) { f(x, 10) } fn f(x, y) { x + y }";

    assert_eq!((returned(source, "f", "[1]"), returned(source, "f", "[1, 2]")), ("11".to_owned(), "3".to_owned()));
    let failure = raised(source, "f", "[]");
    assert_eq!(
        (failure.exc_type.as_str(), failure.exc_message.as_str()),
        ("TypeError", "`f` takes (x) or (x, y); 0 were given")
    );
}

#[test]
fn private_functions_closures_and_native_ones_cannot_be_called_from_outside() {
    let source = "private fn hidden() { 1 } fn open() { let f = || 2; hidden() + f.call() }";

    assert_eq!(returned(source, "open", "[]"), "3");
    for name in ["hidden", "explode", "print", "missing"] {
        assert_eq!(raised(source, name, "[]").exc_type, "NameError", "{name}");
    }
}

#[test]
fn constants_helpers_and_closures_of_the_file_are_seen() {
    let source = "const RATE = 3; private fn twice(x) { x * 2 } fn f(x) { [x].map(|n| twice(n) * global::RATE) }";

    assert_eq!(returned(source, "f", "[5]"), "[30]");
}

#[test]
fn this_is_the_state_of_a_consumer() {
    let engine = equipped();
    let mut call = call(script(&engine, "fn turn(by) { this.n += by; this.n }"), "turn", "[2]", LONG);
    call.this = Some(from_json(r#"{"n":40}"#).unwrap());

    let finished = Pool::new(engine, "test", 1, MEMORY).start(call).finished.blocking_recv().unwrap();

    assert!(matches!(finished.outcome, Some(Outcome::Returned(json)) if json.get() == "42"));
    assert_eq!(to_json(&finished.this.unwrap()).unwrap().get(), r#"{"n":42}"#);
}

#[test]
fn a_running_script_is_stopped_from_outside() {
    for (reason, body) in [
        (StopReason::Revoked, "loop { }"),
        (StopReason::Revoked, "nap()"),
        (StopReason::Revoked, "loop { try { [1].map(|_x| nap()); } catch { } }"),
        (StopReason::LeaseLost, "loop { }"),
        (StopReason::Shutdown, "nap()"),
    ] {
        let engine = equipped();
        let (started, has_started) = mpsc::sync_channel(1);
        let mut call = call(script(&engine, &format!("fn f() {{ {body} }}")), "f", "[]", LONG);
        call.host = Arc::new(Nobody { started: Some(started) });
        let ticket = Pool::new(engine, "test", 1, MEMORY).start(call);
        has_started.recv().unwrap();

        assert!(!ticket.withdraw(), "it has started");
        ticket.stop.stop(reason);
        // Only the first reason counts.
        ticket.stop.stop(StopReason::Revoked);

        let outcome = ticket.finished.blocking_recv().unwrap().outcome;
        assert_eq!(matches!(outcome, Some(Outcome::Revoked)), reason == StopReason::Revoked, "{reason:?}: {outcome:?}");
        assert_eq!(outcome.is_none(), reason != StopReason::Revoked);
    }
}

#[test]
fn a_script_that_is_held_stands_still_on_time_of_its_own() {
    for end in [None, Some(StopReason::LeaseLost)] {
        let engine = equipped();
        // It begins when it is heard that it begins.
        let (started, has_started) = mpsc::sync_channel(0);
        let limit = Duration::from_millis(500);
        let mut call = call(script(&engine, "fn f() { let n = 0; while n < 1000 { n += 1; } n }"), "f", "[]", limit);
        call.host = Arc::new(Nobody { started: Some(started) });
        let mut ticket = Pool::new(engine, "test", 1, MEMORY).start(call);
        ticket.stop.hold();
        has_started.recv().unwrap();

        // Longer than it may run.
        let waited = std::time::Instant::now();
        while waited.elapsed() < 2 * limit {
            assert!(ticket.finished.try_recv().is_err(), "it goes on");
            std::thread::yield_now();
        }
        match end {
            None => ticket.stop.release(),
            Some(reason) => ticket.stop.stop(reason),
        }

        let outcome = ticket.finished.blocking_recv().unwrap().outcome;
        match end {
            None => assert!(matches!(outcome, Some(Outcome::Returned(_))), "{outcome:?}"),
            Some(_) => assert!(outcome.is_none(), "{outcome:?}"),
        }
    }
}

#[test]
fn what_has_not_started_can_be_withdrawn_or_revoked() {
    let engine = equipped();
    let script = script(&engine, "fn f() { 1 } fn wait() { nap() }");
    let pool = Pool::new(engine, "test", 1, MEMORY);
    let (started, has_started) = mpsc::sync_channel(1);
    let mut first = call(script.clone(), "wait", "[]", LONG);
    first.host = Arc::new(Nobody { started: Some(started) });
    let first = pool.start(first);
    has_started.recv().unwrap();

    let withdrawn = pool.start(call(script.clone(), "f", "[]", LONG));
    let revoked = pool.start(call(script.clone(), "f", "[]", LONG));
    let last = pool.start(call(script, "f", "[]", LONG));
    assert!(withdrawn.withdraw());
    revoked.stop.stop(StopReason::Revoked);
    first.stop.stop(StopReason::Revoked);

    assert!(withdrawn.finished.blocking_recv().is_err());
    assert!(matches!(revoked.finished.blocking_recv().unwrap().outcome, Some(Outcome::Revoked)));
    assert!(matches!(last.finished.blocking_recv().unwrap().outcome, Some(Outcome::Returned(_))));
}

#[test]
fn a_panic_is_one_failure_and_the_thread_goes_on() {
    let engine = equipped();
    let script = script(&engine, "fn bad() { explode() } fn good() { 1 }");
    let pool = Pool::new(engine, "test", 1, MEMORY);

    let bad = pool.start(call(script.clone(), "bad", "[]", LONG));
    let worse =
        pool.start(Call { arguments: Box::new(|| panic!("no arguments")), ..call(script.clone(), "good", "[]", LONG) });
    let good = pool.start(call(script, "good", "[]", LONG));

    let Some(Outcome::Raised(why)) = bad.finished.blocking_recv().unwrap().outcome else { panic!() };
    assert_eq!(
        (why.exc_type.as_str(), why.exc_message.as_str()),
        ("SystemError", "native code panicked in a test: boom")
    );
    assert!(matches!(worse.finished.blocking_recv().unwrap().outcome, Some(Outcome::Raised(_))));
    assert!(matches!(good.finished.blocking_recv().unwrap().outcome, Some(Outcome::Returned(_))));
}

#[test]
fn calls_that_wait_are_done_before_a_dropped_pool_ends() {
    let engine = equipped();
    let script = script(&engine, "fn f(x) { x }");
    let pool = Pool::new(engine, "test", 2, MEMORY);
    let tickets: Vec<Ticket> =
        (0..50).map(|number| pool.start(call(script.clone(), "f", &format!("[{number}]"), LONG))).collect();

    drop(pool);

    for (number, ticket) in tickets.into_iter().enumerate() {
        let outcome = ticket.finished.blocking_recv().unwrap().outcome;
        assert!(matches!(outcome, Some(Outcome::Returned(json)) if json.get() == number.to_string()));
    }
}

#[test]
fn a_failure_of_the_arguments_is_the_outcome() {
    let failure = raised("fn f(x) { x }", "f", "[18446744073709551615]");

    assert_eq!(failure.exc_type, "OverflowError");
}

#[test]
fn an_abandoned_call_still_runs() {
    let ran = Arc::new(AtomicBool::new(false));
    let mut engine = engine();
    let seen = ran.clone();
    engine.register_fn("mark", move || seen.store(true, Ordering::SeqCst));
    let engine = Arc::new(engine);
    let script = script(&engine, "fn f() { mark(); }");
    let pool = Pool::new(engine, "test", 1, MEMORY);

    drop(pool.start(call(script.clone(), "f", "[]", LONG)));
    pool.start(call(script, "f", "[]", LONG)).finished.blocking_recv().unwrap();

    assert!(ran.load(Ordering::SeqCst));
}

#[test]
fn one_script_runs_on_many_threads_at_once() {
    let engine = equipped();
    let script = script(&engine, "fn f(n) { let list = []; for i in 0..n { list.push(i); } list.len() }");
    let pool = Pool::new(engine, "test", 4, MEMORY);

    let tickets: Vec<Ticket> = (0..40).map(|_| pool.start(call(script.clone(), "f", "[500]", LONG))).collect();

    for ticket in tickets {
        let outcome = ticket.finished.blocking_recv().unwrap().outcome;
        assert!(matches!(outcome, Some(Outcome::Returned(json)) if json.get() == "500"));
    }
}

#[test]
fn values_move_to_the_thread_that_needs_them() {
    fn may_travel<T: Send>() {}
    fn may_be_shared<T: Send + Sync>() {}

    may_travel::<Call>();
    may_travel::<Finished>();
    may_travel::<Dynamic>();
    may_be_shared::<Script>();
    may_be_shared::<Pool>();
    may_be_shared::<Stop>();
}
