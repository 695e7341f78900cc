use std::fs;
use std::sync::Arc;

use super::*;
use crate::script::{Roots, engine};
use crate::watch::Snapshot;

/// What is said about `source`, as `line:column code message`, with a library that it may import.
fn look(source: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let library = "fn total(a, b) { a + b }\nfn table() { #{ from_afar: |x| x } }\nfn int.twice() { this * 2 }";
    fs::create_dir_all(folder.path().join("tasks/_lib")).unwrap();
    fs::write(folder.path().join("tasks/_lib/prices.rhai"), library).unwrap();
    let tasks = folder.path().join("tasks");
    let files = Arc::new(Snapshot::take(folder.path(), std::slice::from_ref(&tasks), &Snapshot::default()));
    let roots = Roots { project: folder.path().into(), scripts: tasks, files, ..Roots::default() };
    let mut natives = rhai::Module::new();
    natives.set_native_fn("now", || Ok(1_i64));
    let with_natives = || {
        let mut engine = engine();
        engine.register_static_module("time", natives.clone().into());
        engine.register_fn("delay", |_: &str| 1_i64).register_fn("delay", |_: &str, _: rhai::Array| 1_i64);
        engine.register_fn("apply", |_: &str, _: rhai::Array, _: rhai::Map| 1_i64);
        engine
    };
    let script = Script::load(&with_natives(), &roots, "tasks/a.rhai", source).unwrap_or_else(|why| panic!("{why}"));
    let refusal = |sent: &Sent| match (sent.task.as_str(), &sent.arguments) {
        ("math.add", Some((2, _)) | None) => None,
        ("math.add", Some((count, names))) if count + names.len() == 2 => None,
        ("math.add", Some(_)) => Some("wrong arguments".to_owned()),
        (task, _) => Some(format!("no task named `{task}`")),
    };
    let found = Lint::new(with_natives()).look(&script, &refusal);
    found
        .iter()
        .map(|it| {
            let column = it.at.column.map_or(String::new(), |column| format!(":{column}"));
            format!("{}{column} {} {}", it.at.line.unwrap_or_default(), it.code, it.at.message)
        })
        .collect()
}

fn check(source: &str, expected: &[&str]) {
    assert_eq!(look(source), expected, "{source}");
}

#[test]
fn what_can_run_is_left_alone() {
    for source in [
        "fn add(x, y) { x + y } fn f() { add(1, 2) }",
        "fn f(a) { f() } fn f() { f(1) }",
        "fn f(list) { list.map(|x| x * 2).filter(|x| x > 1).len() }",
        "fn f(list) { list.reduce(|sum, n| sum + n, 0); list.sort(|a, b| a - b); list.len }",
        "fn f(map) { if \"a\" in map { map.a } else { map.get(\"b\") ?? -1 } }",
        "fn f() { let g = |x, y| x + y; g.call(1, 2); let h = Fn(\"f\"); h.call(); call(h) }",
        "fn f() { let m = #{ greet: |x| x }; m.greet(1) }",
        "fn f(m) { m.later = |x, y| x; m.later(1, 2) }",
        "fn f(m) { m[\"by_name\"] = |x| x; m.by_name(1, 2, 3) }",
        "fn twice(n) { this * 2 * n } fn f() { 5.twice(1) }",
        "fn int.half() { this / 2 } fn f() { 8.half() }",
        "fn f() { print(1); debug(2); type_of(3); is_def_fn(\"nothing\", 1) }",
        "fn f() { let text = `a ${time::now()} b`; text.to_upper() + text.pad(5, ' ') }",
        "fn f() { for i in range(0, 10, 2) { if i == 3 { continue; } if i > 5 { break; } } }",
        "fn f(x) { switch x { 1 => f(2), 2..5 if x > 3 => return 5, _ => throw \"no\" } }",
        "fn f() { try { throw 1; } catch (e) { return e; } }",
        "import \"_lib/prices\" as prices; fn f() { prices::total(1, 2) }",
        "import \"_lib/prices\" as prices; fn f() { prices::table().from_afar(1) }",
        "import \"_lib/prices\" as prices; fn f() { 5.twice() }",
        "fn f() { delay(\"math.add\", [1, 2]); apply(\"math.add\", [1], #{ kwargs: #{ y: 2 } }) }",
        "fn f(args, name) { delay(\"math.add\", args); delay(name); delay(name + \".x\", [1]) }",
        "fn delay(name, a) { name + a } fn f() { delay(\"nothing\", 5) }",
        "private fn helper() { 1 } fn f() { helper() }",
        "private fn helper(x) { x } fn f(list) { list.map(Fn(\"helper\")); list.map(helper) }",
        "task(\"f\", #{ autoretry: true, retry_backoff: true, retry_jitter: false, max_retries: 2 }); fn f() { 1 }",
        "task(\"f\", #{ max_retries: 0, retry_backoff: false }); fn f() { 1 }",
    ] {
        check(source, &[]);
    }
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
fn a_task_that_could_not_be_sent_is_found() {
    check("fn f() { delay(\"math.ad\", [1]) }", &["1:16 unsendable-task no task named `math.ad`"]);
    check("fn f() { delay(\"math.add\") }", &["1:16 unsendable-task wrong arguments"]);
    check("fn f() { delay(\"math.add\", [1, 2, 3]) }", &["1:16 unsendable-task wrong arguments"]);
    check("fn f(o) { apply(\"math.ad\", [], o) }", &["1:17 unsendable-task no task named `math.ad`"]);
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
