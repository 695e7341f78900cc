use std::fs;
use std::sync::Arc;

use super::*;
use crate::script::tests::{LONG, MEMORY, call};
use crate::script::{Pool, Roots, engine};
use crate::task::{Failure, Outcome};
use crate::watch::Snapshot;

const LIBRARY: &str = "fn total(a, b) { a + b }\nfn table() { #{ from_afar: |x| x } }\nfn int.twice() { this * 2 }\n\
                       fn hand(c) { c.call(1) }\n\
                       export const RATE = 3;\nconst HIDDEN = 4;";

fn natives() -> Engine {
    let mut engine = engine();
    let mut time = rhai::Module::new();
    time.set_native_fn("now", || Ok(1_i64));
    engine.register_static_module("time", time.into());
    let mut task = rhai::Module::new();
    task.set_native_fn("retry", |_: rhai::Map| Ok(1_i64));
    engine.register_static_module("task", task.into());
    engine.register_fn("delay", |_: &str| 1_i64).register_fn("delay", |_: &str, _: rhai::Array| 1_i64);
    engine.register_fn("apply", |_: &str, _: rhai::Array, _: rhai::Map| 1_i64);
    engine
}

/// `source` with a library that it may import.
fn load(engine: &Engine, source: &str) -> Script {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("tasks/_lib")).unwrap();
    fs::write(folder.path().join("tasks/_lib/prices.rhai"), LIBRARY).unwrap();
    let tasks = folder.path().join("tasks");
    let files = Arc::new(Snapshot::take(folder.path(), std::slice::from_ref(&tasks), &Snapshot::default()));
    let roots = Roots { project: folder.path().into(), scripts: tasks, files, ..Roots::default() };
    Script::load(engine, &roots, "tasks/a.rhai", source).unwrap_or_else(|why| panic!("{why}"))
}

/// What is said about `source`, as `line:column code message`.
fn look(source: &str) -> Vec<String> {
    let script = load(&natives(), source);
    let refusal = |sent: &Sent| match (sent.task.as_str(), &sent.arguments) {
        ("math.add", Some((2, _)) | None) => None,
        ("math.add", Some((count, names))) if count + names.len() == 2 => None,
        ("math.add", Some(_)) => Some("wrong arguments".to_owned()),
        (task, _) => Some(format!("no task named `{task}`")),
    };
    let options: &'static [(&str, &[&str])] = &[("apply", &["kwargs", "countdown"]), ("task::retry", &["countdown"])];
    let found = Lint::new(natives()).with_options(options).look(&script, &refusal);
    found
        .iter()
        .map(|it| {
            let column = it.at.column.map_or(String::new(), |column| format!(":{column}"));
            format!("{}{column} {} {}", it.at.line.unwrap_or_default(), it.code, it.at.message)
        })
        .collect()
}

/// How `f(arguments)` of `source` fails; `None` when it does not.
fn failure(source: &str, arguments: &str) -> Option<Failure> {
    let engine = Arc::new(natives());
    let call = call(Arc::new(load(&engine, source)), "f", arguments, LONG);
    match Pool::new(engine, "test", 1, MEMORY).start(call).finished.blocking_recv().unwrap().outcome.unwrap() {
        Outcome::Raised(failure) | Outcome::OverLimit(failure) => Some(failure),
        _ => None,
    }
}

fn check(source: &str, expected: &[&str]) {
    assert_eq!(look(source), expected, "{source}");
}

// Each runs, with these arguments.
#[test]
fn closures_of_the_same_words_are_no_line_behind_another() {
    let found = look(
        "fn a() { let a = []; let f = || a; a.push(f); throw a }\nfn b() { let a = []; let f = || a; a.push(f); a }",
    );

    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn what_can_run_is_left_alone() {
    for (source, arguments) in [
        ("fn add(x, y) { x + y } fn f() { add(1, 2) }", "[]"),
        ("fn f(a) { f() } fn f() { 1 }", "[1]"),
        ("fn f(list) { list.map(|x| x * 2).filter(|x| x > 1).len() }", "[[1]]"),
        ("fn f(list) { list.reduce(|sum, n| sum + n, 0); list.sort(|a, b| a - b); list.len }", "[[1, 2]]"),
        ("fn f(list) { list.map(|x, i| x + i); list.reduce(|sum, x, i| sum + x + i, 0) }", "[[1, 2]]"),
        ("fn f(list) { let a = 1; let b = 2; list.map(|x, i| x + i + a + b); list.map(|| a + b) }", "[[1, 2]]"),
        ("fn f(map) { map.filter(|k, v| v > 1); if \"a\" in map { map.a } else { map.get(\"b\") ?? -1 } }", "[{}]"),
        ("fn f() { let g = |x, y| x + y; g.call(1, 2); let h = |x, y, z, w| x; h.call(1, 2, 3, 4) }", "[]"),
        ("fn f() { let h = Fn(\"g\"); h.call(); call(h) } fn g() { 1 }", "[]"),
        ("fn f() { let m = #{ greet: |x| x }; m.greet(1) }", "[]"),
        ("fn f(m) { m.later = |x, y| x; m.later(1, 2) }", "[{}]"),
        ("fn f(m) { m[\"by_name\"] = |x, y, z| x; m.by_name(1, 2, 3) }", "[{}]"),
        ("fn twice(n) { this * 2 * n } fn f() { 5.twice(1) }", "[]"),
        ("fn int.half() { this / 2 } fn f() { 8.half() }", "[]"),
        ("fn f() { print(1); debug(2); type_of(3); is_def_fn(\"nothing\", 1) }", "[]"),
        ("fn f() { let text = `a ${time::now()} b`; text.pad(5, ' '); text.to_upper() }", "[]"),
        ("fn f() { for i in range(0, 10, 2) { if i == 3 { continue; } if i > 5 { break; } } }", "[]"),
        ("fn f(x) { switch x { 1 => f(2), 2..5 if x > 3 => return 5, _ => 6 } }", "[1]"),
        ("fn f() { try { throw 1; } catch (e) { return e; } }", "[]"),
        ("fn f(x) { if x { return 1; } 2 }", "[false]"),
        ("fn f(x) { if x { return 1; } else if x == 1 { return 3; } 2 }", "[false]"),
        ("fn f(x) { loop { if x { break; } loop { return 1; } } 2 }", "[true]"),
        ("fn f(x) { loop { let y = if x { break } else { 1 }; } 2 }", "[true]"),
        ("fn f(x) { while x { return 1; } 2 }", "[false]"),
        ("fn f(x) { switch x { 1 => return 1, 2 => return 2 } 3 }", "[3]"),
        ("fn f(x) { switch x { 1 => return 1, _ => { x += 1; } } x }", "[3]"),
        ("fn f(x) { try { return x.y; } catch { } 2 }", "[{}]"),
        ("const RATE = 3; fn f() { global::RATE }", "[]"),
        ("import \"_lib/prices\" as prices; fn f() { prices::total(1, prices::RATE) }", "[]"),
        ("import \"_lib/prices\" as prices; fn f() { 5.twice() }", "[]"),
        ("fn f() { delay(\"math.add\", [1, 2]); apply(\"math.add\", [1], #{ kwargs: #{ y: 2 } }) }", "[]"),
        ("fn f() { \"math.add\".delay([1, 2]); \"math.add\".apply([1, 2], #{ countdown: 1 }) }", "[]"),
        ("fn f(args, name) { delay(\"math.add\", args); delay(name); delay(name + \".x\", [1]) }", "[[1, 2], \"a\"]"),
        ("fn delay(name, a) { name + a } fn f() { delay(\"nothing\", 5) }", "[]"),
        ("fn retry(options) { 1 } fn f() { retry(#{ what: 1 }); task::retry(#{ countdown: 1 }) }", "[]"),
        ("private fn helper() { 1 } fn f() { helper() }", "[]"),
        ("private fn helper(x) { x } fn f(list) { list.map(Fn(\"helper\")); list.map(helper) }", "[[1]]"),
        ("task(\"f\", #{ autoretry: true, retry_backoff: true, retry_jitter: false }); fn f() { 1 }", "[]"),
        ("task(\"f\", #{ max_retries: 0, retry_backoff: false }); fn f() { 1 }", "[]"),
    ] {
        check(source, &[]);
        let failure = failure(source, arguments);
        assert!(failure.is_none(), "{source}: {failure:?}");
    }
}

// A map may hold anything, so nothing is said of this, which is a limit of rhai's: the closure stays in its file.
#[test]
fn a_closure_that_an_import_returns_is_not_judged_and_does_not_run() {
    let source = "import \"_lib/prices\" as prices; fn f() { prices::table().from_afar(1) }";

    check(source, &[]);
    assert!(failure(source, "[]").unwrap().exc_message.ends_with("or is one that an import returned"));
    let source = "import \"_lib/prices\" as prices; fn f() { let n = 2; prices::hand(|x| x + n) }";
    assert!(failure(source, "[]").is_none());
}

#[test]
fn a_name_that_nothing_has_is_found() {
    check("fn f() {\n  wxyz(1)\n}", &["2:3 unknown-function there is no function `wxyz`"]);
    check(
        "fn greet(x) { x }\nfn f() { let a = greeet(1); a }",
        &["2:18 unknown-function there is no function `greeet`; did you mean `greet`?"],
    );
    check(
        "fn f(text) { text.to_uper() }",
        &["1:19 unknown-function there is no method `to_uper`; did you mean `to_upper`?"],
    );
    check("fn f(list) { list.map(|x| zq(x)) }", &["1:27 unknown-function there is no function `zq`"]);
    check("fn f() { if false { zq() } }", &["1:21 unknown-function there is no function `zq`"]);
    check("fn f() { Fn(\"zq\") }", &["1:13 unknown-function there is no function `zq`"]);
    check(
        "fn f() { let g = |x| x; g(1) }",
        &["1:25 unknown-function `g` is a variable: what it holds is called by `g.call(…)`"],
    );
    check(
        "fn f() { time::noww() }",
        &["1:16 unknown-function the module `time` has no function `noww`; did you mean `now`?"],
    );
    check(
        "import \"_lib/prices\" as prices;\nfn f() { prices::totl(1, 2) }",
        &["2:18 unknown-function the module `prices` has no function `totl`; did you mean `total`?"],
    );
}

#[test]
fn a_wrong_number_of_arguments_is_found() {
    check(
        "fn add(x, y) { x + y } fn add(x) { x } fn f() { add(1, 2, 3) }",
        &["1:49 wrong-arity `add` takes 1 or 2 arguments; 3 were given"],
    );
    check("fn f() { time::now(1) }", &["1:16 wrong-arity `now` takes 0 arguments; 1 was given"]);
    check("fn f(t) { t.to_upper(1) }", &["1:13 wrong-arity `to_upper` takes 0 arguments; 1 was given"]);
    check(
        "import \"_lib/prices\" as prices; fn f() { prices::total(1) }",
        &["1:50 wrong-arity `total` takes 2 arguments; 1 was given"],
    );
}

#[test]
fn what_is_called_with_too_few_arguments_for_it_is_found() {
    check(
        "fn plus(x, y) { x + y } fn f() { 5.plus(2) }",
        &["1:36 wrong-arity `plus` takes 2 arguments; 1 was given, because what stands before the dot is `this`"],
    );
    check(
        "fn f(list) { list.map(|x, y, z| x) }",
        &["1:23 wrong-arity `map` calls this with 2 arguments at most; it takes 3"],
    );
    check(
        "fn f(list) { let a = 1; list.reduce(|x, y, z, w| x + a, 0) }",
        &["1:37 wrong-arity `reduce` calls this with 3 arguments at most; it takes 4"],
    );
}

#[test]
fn a_constant_that_is_not_there_is_found() {
    check(
        "const RATE = 3; fn f() { global::RAET }",
        &["1:34 unknown-constant the file has no constant `RAET`; did you mean `RATE`?"],
    );
    check(
        "import \"_lib/prices\" as prices; fn f() { prices::HIDDEN }",
        &["1:50 unknown-constant the module `prices` exports no `HIDDEN`: write `export const HIDDEN = …;` there"],
    );
    check(
        "fn g(x) { x } fn f() { global::g(1) }",
        &["1:32 unknown-function `global` has constants and no functions: write `g` for `global::g`"],
    );
}

#[test]
fn an_option_that_there_is_not_is_found() {
    check(
        "fn f() { apply(\"math.add\", [1, 2], #{ countdwon: 1 }) }",
        &["1:39 unknown-option `apply`: there is no option `countdwon`; did you mean `countdown`?"],
    );
    check(
        "fn f() { \"math.add\".apply([1, 2], #{ countdwon: 1 }) }",
        &["1:38 unknown-option `apply`: there is no option `countdwon`; did you mean `countdown`?"],
    );
    check(
        "fn f() { task::retry(#{ zz: 1 }) }",
        &["1:25 unknown-option `task::retry`: there is no option `zz`; there are countdown"],
    );
}

#[test]
fn a_task_that_could_not_be_sent_is_found() {
    check("fn f() { delay(\"math.ad\", [1]) }", &["1:16 unsendable-task no task named `math.ad`"]);
    check("fn f() { delay(\"math.add\") }", &["1:16 unsendable-task wrong arguments"]);
    check("fn f() { delay(\"math.add\", [1, 2, 3]) }", &["1:16 unsendable-task wrong arguments"]);
    check("fn f(o) { apply(\"math.ad\", [], o) }", &["1:17 unsendable-task no task named `math.ad`"]);
    check("fn f() { \"math.ad\".delay([1, 2]) }", &["1:10 unsendable-task no task named `math.ad`"]);
    check("fn f() { \"math.add\".delay([1]).len() }", &["1:10 unsendable-task wrong arguments"]);
    check(
        "fn f() { delay(\"math.add\", #{ countdown: 1 }) }",
        &[
            "1:28 unsendable-task `delay` takes a list of arguments: write `apply(\"math.add\", [], #{ … })` for options",
        ],
    );
}

#[test]
fn what_is_never_reached_is_found() {
    check(
        "fn f() {\n  return 1;\n  f();\n}",
        &["3:3 unreachable-code this is never reached: the line before it returns"],
    );
    check(
        "fn f(x) {\n  if x { throw 1; f(2); } else { 3 }\n}",
        &["2:19 unreachable-code this is never reached: the line before it throws"],
    );
    check(
        "fn f() {\n  loop { break; f(); }\n}",
        &["2:17 unreachable-code this is never reached: the line before it breaks the loop"],
    );
}

#[test]
fn what_follows_a_line_that_never_goes_on_is_found() {
    let in_every_case = "unreachable-code this is never reached: the lines before it leave in every case";
    for (lines, told) in [
        ("if x { return 1; } else { throw 2; }", in_every_case),
        ("if x { return 1; } else if x == 2 { return 3; } else { return 2; }", in_every_case),
        ("switch x { 1 => return 1, _ => { let y = 2; return y; } }", in_every_case),
        ("switch x { 1 if x > 3 => return 1, _ => throw 2 }", in_every_case),
        ("try { return 1; } catch { throw 2; }", in_every_case),
        ("{ return 1; }", in_every_case),
        ("loop { if x { return 1; } }", "unreachable-code this is never reached: the loop before it has no end"),
        (
            "while true { for y in 0..3 { break; } }",
            "unreachable-code this is never reached: the loop before it has no end",
        ),
    ] {
        check(&format!("fn f(x) {{\n  {lines}\n  f(2);\n}}"), &[&format!("3:3 {told}")]);
        check(&format!("fn f(x) {{ if x {{\n  {lines}\n  f(2);\n}} }}"), &[&format!("3:3 {told}")]);
    }
}

#[test]
fn what_is_never_used_is_found() {
    check(
        "private fn helper() { 1 }\nfn f() { 1 }",
        &["1 unused-function nothing in this file calls the private function `helper`"],
    );
}

#[test]
fn an_option_without_effect_is_found() {
    let check = |options: &str, expected: &[&str]| {
        check(&format!("task(\"f\", #{{ {options} }});\nfn f() {{ 1 }}"), expected);
    };
    let line = "1:1 useless-option options of `f`:";

    check(
        "retry_backoff: true",
        &[&format!(
            "{line} `retry_backoff` has no effect without `autoretry: true`; `task::retry` waits for `default_retry_delay`"
        )],
    );
    check(
        "autoretry: true, retry_jitter: false",
        &[&format!("{line} `retry_jitter` has no effect without `retry_backoff`")],
    );
    check(
        "soft_time_limit: 30, time_limit: \"30s\"",
        &[&format!("{line} `soft_time_limit` has no effect where it is not shorter than `time_limit`")],
    );
    check("soft_time_limit: 29, time_limit: \"30s\"", &[]);
    check("autoretry: true, max_retries: 0", &[&format!("{line} `autoretry` has no effect with `max_retries: 0`")]);
}
