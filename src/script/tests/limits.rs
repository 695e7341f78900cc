//! What a call may use, and what becomes of one that wants more.

use super::*;

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

#[test]
fn what_runs_leave_that_nothing_frees_is_bounded_for_all_of_them_together() {
    let engine = equipped();
    let pool = Pool::new(engine.clone(), "test", 1, MEMORY);
    let limits = Limits { memory: ByteSize::mib(16), ..Limits::default() };
    let run = |script: &Arc<Script>, function: &str| {
        let call = Call { limits, ..call(script.clone(), function, "[]", LONG) };
        pool.start(call).finished.blocking_recv().unwrap().outcome.unwrap()
    };
    let circle = script(
        &engine,
        "fn f() { let a = #{}; let f = || a; a.b = blob(10000000, 7); a.f = f; 1 }
         fn g() { let a = #{}; let f = || a; a.b = blob(10000000, 7); a.f = f; a = (); 1 }",
    );
    let sound =
        script(&engine, "fn f() { let l = blob(10000000, 7); let f = |n| l.len() + n; f.call(1) } fn g() { f() }");

    let freed: Vec<_> = (0..8).map(|_| run(&circle, "g")).collect();
    let left: Vec<_> = (0..3).map(|_| run(&circle, "f")).collect();
    let other: Vec<_> = (0..8).map(|_| run(&sound, "f")).collect();

    let returned = |outcome: &Outcome| matches!(outcome, Outcome::Returned(_));
    assert!(freed.iter().chain(&left[..2]).chain(&other).all(returned), "{freed:?} {left:?} {other:?}");
    let Outcome::OverLimit(why) = &left[2] else { panic!("{left:?}") };
    assert_eq!(why.exc_type, "MemoryError");
    assert!(why.exc_message.starts_with("earlier runs of `tasks/math.rhai` left "), "{}", why.exc_message);
}

#[test]
fn runs_that_end_well_or_badly_leave_nothing() {
    let engine = equipped();
    let pool = Pool::new(engine.clone(), "test", 1, MEMORY);
    let long = "let t = \"\"; t.pad(20000, 'x');";
    for body in [
        "1".to_owned(),
        format!("{long} [t, t]"),
        format!("{long} throw t"),
        format!("{long} throw #{{ message: t, args: [t] }}"),
        "let n = 0; let f = || { n += 1; n }; f.call() + f.call()".to_owned(),
        "let l = []; loop { l.push(blob(100000)); }".to_owned(),
        "[1].map(|x| explode())".to_owned(),
        "let s = #{}; for i in 0..300 { s[`key ${i}`] = |x| x + i; } s.keys().len()".to_owned(),
    ] {
        let script = script(&engine, &format!("fn f() {{ {body} }}"));
        let limits = Limits { memory: ByteSize::mib(1), ..Limits::default() };
        for _ in 0..3 {
            let call = Call { limits, ..call(script.clone(), "f", "[]", LONG) };
            pool.start(call).finished.blocking_recv().unwrap();
        }
        assert_eq!(script.left.bytes(), 0, "{body}");
    }
}
