//! Calls from start to outcome, as the rooms above see them.

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

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(30);
const MEMORY: ByteSize = ByteSize::mib(128);

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

fn call(script: Arc<Script>, function: &str, arguments: &str, time_limit: Duration) -> Call {
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
fn a_state_that_grows_without_end_is_not_kept() {
    for body in ["for _i in 0..200 { this.n = [this.n]; }", "this.n = \"x\"; for _i in 0..20 { this.n += this.n; }"] {
        let engine = equipped();
        let mut call = call(script(&engine, &format!("fn turn() {{ {body} }}")), "turn", "[]", LONG);
        call.this = Some(from_json(r#"{"n":0}"#).unwrap());

        let finished = Pool::new(engine, "test", 1, MEMORY).start(call).finished.blocking_recv().unwrap();

        assert!(matches!(finished.outcome, Some(Outcome::Returned(_))) && finished.this.is_none(), "{body}");
    }
}

#[test]
fn an_endless_script_meets_its_time_limit_whatever_it_tries() {
    for body in [
        "loop { }",
        "let x = 0; while true { x += 1; }",
        "loop { try { loop { } } catch { } }",
        "let big = []; big.pad(2000, 1); loop { big.map(|x| x + 1); }",
        "let big = []; big.pad(2000, 1); loop { big.sort(|a, b| a - b); }",
        "let big = []; big.pad(2000, 1); loop { try { big.map(|_x| { loop { } }); } catch { } }",
        "try { [1].map(|_x| { loop { } }); } catch { } 5",
        "try { nap(); } catch { } loop { }",
        "fn_that_calls_itself()",
    ] {
        let source = format!(
            "fn fn_that_calls_itself() {{ for _i in 0..1000000 {{ fn_that_calls_itself(); }} }} fn f() {{ {body} }}"
        );
        // Ends by its depth instead, where the time limit is far away.
        let limit = if body.starts_with("fn_that") { LONG } else { SHORT };
        match finish(&source, "f", "[]", limit).outcome {
            Some(Outcome::OverLimit(why)) => {
                assert_eq!(
                    (why.exc_type.as_str(), why.exc_module.as_str()),
                    ("TimeLimitExceeded", "billiard.exceptions")
                );
                assert_eq!(why.exc_message, "the time limit of 30ms was exceeded");
            }
            Some(Outcome::Raised(why)) if limit == LONG => assert_eq!(why.exc_type, "RecursionError"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn a_time_limit_is_told_with_the_function_it_met() {
    let Some(Outcome::OverLimit(why)) = finish("\n\nfn f() { loop { } }", "f", "[]", SHORT).outcome else { panic!() };

    let traceback = why.traceback.unwrap();
    assert!(traceback.contains("tasks/math.rhai:3:8 in f"), "{traceback}");
    assert!(traceback.ends_with("\nTimeLimitExceeded: the time limit of 30ms was exceeded"), "{traceback}");
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
fn a_result_that_json_cannot_carry_is_a_failure() {
    let failure = raised("fn f() { #{ later: || 1 } }", "f", "[]");

    assert_eq!(
        (failure.exc_type.as_str(), failure.exc_message.as_str()),
        ("TypeError", "a function cannot be JSON at `later`")
    );
}

#[test]
fn what_is_thrown_and_what_goes_wrong_has_a_class_of_pythons() {
    for (body, module, class, message) in [
        (r#"throw "no""#, "builtins", "RuntimeError", "no"),
        ("throw 5", "builtins", "RuntimeError", "5"),
        (r#"throw #{ exc_type: "ValueError", message: "bad" }"#, "builtins", "ValueError", "bad"),
        (r#"throw #{ exc_type: "Odd", exc_module: "shop.errors", message: "x" }"#, "shop.errors", "Odd", "x"),
        (r#"throw #{ exc_type: "KeyError", message: 5 }"#, "builtins", "KeyError", "5"),
        (r#"throw #{ code: 42 }"#, "builtins", "RuntimeError", r#"{"code":42}"#),
        ("1 / 0", "builtins", "ZeroDivisionError", "Division by zero: 1 / 0"),
        ("try { 1 / 0 } catch (e) { throw e }", "builtins", "ZeroDivisionError", "Division by zero: 1 / 0"),
        ("9223372036854775807 + 1", "builtins", "OverflowError", "Addition overflow: 9223372036854775807 + 1"),
        ("missing(1)", "builtins", "NameError", "there is no function `missing` that takes (i64)"),
        ("f(1)", "builtins", "TypeError", "`f` takes (); 1 were given"),
        ("let x = [1]; x.map(|n| n + x.len())", "builtins", "RuntimeError", "a closure uses a variable while"),
        ("let x = [1]; let copy = x; x.map(|n| n + copy.len())[3]", "builtins", "IndexError", "Array index 3"),
        ("[1] * 2", "builtins", "TypeError", "`*` cannot be applied to (array, i64)"),
        ("[1][5]", "builtins", "IndexError", "Array index 5 out of bounds: only 1 element in array"),
        ("let m = #{ a: 1 }; m.b", "builtins", "KeyError", "Property not found: b"),
        ("let x = 5; x.name", "builtins", "AttributeError", "Unknown property"),
        ("let n = 5; for i in n { }", "builtins", "TypeError", "For loop expects iterable type"),
        ("let x = 1; if x { 2 }", "builtins", "TypeError", "Data type incorrect: i64 (expecting bool)"),
        ("this.x", "builtins", "NameError", "'this' not bound"),
        ("refuse()", "celery.exceptions", "NotRegistered", "no such task"),
        ("try { refuse() } catch (e) { throw e }", "celery.exceptions", "NotRegistered", "no such task"),
    ] {
        let failure = raised(&format!("fn f() {{ {body} }}"), "f", "[]");
        assert_eq!((failure.exc_module.as_str(), failure.exc_type.as_str()), (module, class), "{body}: {failure:?}");
        assert!(failure.exc_message.starts_with(message), "{body}: {}", failure.exc_message);
    }
}

#[test]
fn a_traceback_shows_the_calls_with_their_lines() {
    let source = r#"fn outer(x) {
    let list = [x].map(|n| {
        inner(n)
    });
    list
}

fn inner(n) {
    throw "no " + n;
}"#;

    let failure = raised(source, "outer", "[7]");

    assert_eq!(
        failure.traceback.unwrap(),
        "Traceback (most recent call last):
  tasks/math.rhai:2:20 in outer
    let list = [x].map(|n| {
                   ^
  tasks/math.rhai:3:9 in a closure
    inner(n)
    ^
  tasks/math.rhai:9:5 in inner
    throw \"no \" + n;
    ^
RuntimeError: no 7"
    );
}

#[test]
fn a_long_traceback_is_cut_in_its_middle() {
    let failure = raised("fn f(n) { if n == 0 { throw 1 } f(n - 1) }", "f", "[60]");

    let traceback = failure.traceback.unwrap();
    assert_eq!(traceback.matches(" in f").count(), 20);
    assert!(traceback.contains("… 41 more calls …"));
}

#[test]
fn a_message_without_end_is_cut() {
    let failure = raised(r#"fn f() { let s = "한"; for _i in 0..16 { s += s; } throw s }"#, "f", "[]");

    assert!(failure.exc_message.len() < 17 << 10 && failure.exc_message.ends_with('…'));
    let failure = raised(
        r#"fn f() { let s = "한"; for _i in 0..16 { s += s; } throw #{ exc_type: s, exc_module: s } }"#,
        "f",
        "[]",
    );
    assert!(failure.exc_type.len() < 300 && failure.exc_module.len() < 300 && failure.traceback.unwrap().len() < 1000);
}

#[test]
fn the_deepest_calls_of_the_deepest_expressions_fit_the_stack() {
    let sums = format!("{}f(n + 1){}", "(1 + ".repeat(12), ")".repeat(12));
    let blocks = |depth| format!("{}f(n + 1);{}", "if n >= 0 { ".repeat(depth), " }".repeat(depth));
    let loops = |depth| format!("{}f(n + 1);{}", "for _i in 0..1 { ".repeat(depth), " }".repeat(depth));
    let tries = |depth| format!("{}f(n + 1);{}", "try { ".repeat(depth), " } catch (e) { throw e; }".repeat(depth));
    let deepest = |make: &dyn Fn(usize) -> String| {
        let engine = engine();
        let fits = (1..40).rev().find(|depth| engine.compile(format!("fn f(n) {{ {} }}", make(*depth))).is_ok());
        format!("fn f(n) {{ {} }}", make(fits.unwrap()))
    };
    let arms = |depth| format!("{}f(n + 1){}", "switch n { _ => ".repeat(depth), " }".repeat(depth));
    let chains = |depth| format!("{}f(n + 1){}", "#{ a: [".repeat(depth), "] }.a[0]".repeat(depth));
    let texts = |depth| (0..depth).fold("f(n + 1)".to_owned(), |inner, _| format!("`${{{inner}}}`"));
    for source in [
        format!("fn f(n) {{ {sums} }}"),
        deepest(&arms),
        deepest(&chains),
        deepest(&texts),
        deepest(&blocks),
        deepest(&loops),
        deepest(&tries),
        "fn f(n) { [n].map(|m| { if true { for _i in 0..1 { switch m { _ => { return [f(m + 1)]; } } } } }) }"
            .to_owned(),
        "fn f(n) { let x = #{ a: #{ b: #{ c: [f(n + 1)] } } }; x.a.b.c[0] }".to_owned(),
    ] {
        assert_eq!(raised(&source, "f", "[0]").exc_type, "RecursionError", "{source}");
    }
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

#[test]
fn a_traceback_leads_into_the_library_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = folder.path().join("tasks");
    std::fs::create_dir_all(tasks.join("_lib")).unwrap();
    std::fs::write(tasks.join("_lib/prices.rhai"), "const RATE = 0;\nfn share(n) {\n    n / global::RATE\n}").unwrap();
    let files = Arc::new(Snapshot::take(folder.path(), std::slice::from_ref(&tasks), &Snapshot::default()));
    let roots = Roots { project: folder.path().to_owned(), scripts: tasks, files, ..Roots::default() };
    let engine = equipped();
    let source = "import \"_lib/prices\" as prices;\nfn f(n) { prices::share(n) }";
    let script = Arc::new(Script::load(&engine, &roots, "tasks/shop.rhai", source).unwrap());
    // What a call needs of the library was read when the script was loaded.
    drop(folder);

    let finished =
        Pool::new(engine, "test", 1, MEMORY).start(call(script, "f", "[6]", LONG)).finished.blocking_recv().unwrap();

    let Some(Outcome::Raised(failure)) = finished.outcome else { panic!() };
    assert_eq!(
        failure.traceback.unwrap(),
        "Traceback (most recent call last):
  tasks/shop.rhai:2:19 in f
    fn f(n) { prices::share(n) }
                      ^
  tasks/_lib/prices.rhai:3:7 in share
    n / global::RATE
      ^
ZeroDivisionError: Division by zero: 6 / 0"
    );
}

fn outcome(source: &str, limits: Limits) -> Outcome {
    let engine = equipped();
    let call = Call { limits, ..call(script(&engine, source), "f", "[]", LONG) };
    Pool::new(engine, "test", 1, limits.memory).start(call).finished.blocking_recv().unwrap().outcome.unwrap()
}

#[test]
fn each_limit_is_a_failure_of_its_own_and_the_next_call_runs() {
    let engine = equipped();
    let pool = Pool::new(engine.clone(), "test", 1, MEMORY);
    let endless =
        "fn f() { loop { try { [1].map(|_x| { let s = \"a\"; loop { s += s; } }); } catch { } } } fn g() { 1 }";
    let busy = "fn f() { loop { try { loop { } } catch { } } } fn g() { 1 }";
    let nested = "fn f() { f() } fn g() { 1 }";
    let memory = Limits { memory: ByteSize::mib(8), ..Limits::default() };
    let operations = Limits { operations: Some(10_000), ..Limits::default() };
    let time = Limits { time_limit: SHORT, ..Limits::default() };
    for (source, limits, class, says) in [
        (endless, memory, "MemoryError", "the memory limit of 8.0 MiB was exceeded"),
        (endless, Limits { of_plugin: true, ..memory }, "MemoryError", "in its plugin's plugin.toml raises it"),
        (busy, operations, "OperationLimitExceeded", "the limit of 10000 operations was exceeded"),
        (busy, time, "TimeLimitExceeded", "the time limit of 30ms was exceeded"),
        (nested, Limits::default(), "RecursionError", "more than 127 levels deep"),
    ] {
        let script = script(&engine, source);
        let first = pool.start(Call { limits, ..call(script.clone(), "f", "[]", LONG) });
        let next = pool.start(Call { limits, ..call(script, "g", "[]", LONG) });

        let first = first.finished.blocking_recv().unwrap().outcome;
        let Some(Outcome::OverLimit(why) | Outcome::Raised(why)) = first else { panic!("{first:?}") };
        assert_eq!(why.exc_type, class);
        assert!(why.exc_message.contains(says), "{}", why.exc_message);
        let next = next.finished.blocking_recv().unwrap().outcome;
        assert!(matches!(&next, Some(Outcome::Returned(json)) if json.get() == "1"), "{class}: {next:?}");
    }
}

#[test]
fn operations_are_counted_in_callbacks_too() {
    let limits = Limits { operations: Some(10_000), ..Limits::default() };

    let outcome = outcome("fn f() { let l = []; l.pad(1000, 1); for _i in 0..9 { l.map(|x| x + 1); } }", limits);

    assert!(matches!(&outcome, Outcome::OverLimit(why) if why.exc_type == "OperationLimitExceeded"), "{outcome:?}");
}

#[test]
fn a_soft_limit_is_told_once_and_may_be_caught() {
    let limits = |time_limit| Limits { time_limit, soft_time_limit: Some(SHORT), ..Limits::default() };
    let soft = "try { nap() } catch (e) { }";

    let uncaught = outcome("fn f() { nap() }", limits(LONG));
    let caught = outcome(&format!("fn f() {{ {soft} 5 }}"), limits(LONG));
    let again = outcome(&format!("fn f() {{ {soft} nap() }}"), limits(2 * SHORT));
    let deaf = outcome("fn f() { loop { } }", limits(2 * SHORT));

    assert!(
        matches!(&uncaught, Outcome::Raised(why) if why.exc_type == "SoftTimeLimitExceeded" && why.exc_module == "celery.exceptions"),
        "{uncaught:?}"
    );
    assert!(matches!(&caught, Outcome::Returned(json) if json.get() == "5"), "{caught:?}");
    assert!(matches!(&again, Outcome::OverLimit(why) if why.exc_type == "TimeLimitExceeded"), "{again:?}");
    assert!(matches!(&deaf, Outcome::OverLimit(why) if why.exc_type == "TimeLimitExceeded"), "{deaf:?}");
}
