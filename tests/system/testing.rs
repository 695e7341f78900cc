//! `umbel test`, as a user types it.

use std::path::Path;

use serde_json::Value;

use crate::support::house::{Plan, umbel};

/// Exit code, standard output and standard error.
fn test(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = umbel(folder).arg("test").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn tests_run_as_tasks_do_each_on_a_store_of_its_own() {
    let plan = Plan::new()
        .script("shop.rhai", "fn count() { kv::incr(\"n\") }\nfn later() { delay(\"shop.count\") }")
        .script("_lib/helpers_test.rhai", "fn is_one(x) { assert_eq(x, 1) }")
        .script(
            "shop_test.rhai",
            r#"
            import "shop" as shop;
            import "_lib/helpers_test" as helpers;
            fn first() { helpers::is_one(shop::count()) }
            fn second() { helpers::is_one(shop::count()) }
            fn what_is_sent_is_not_run() {
                assert_throws(|| delay("shop.cuont"), "NotRegistered");
                shop::later();
                group_send("room", #{ type: "a.b" });
                assert_eq(kv::get("n"), ());
            }
            fn knows_itself() { assert_eq([task::name(), task::retries()], ["shop_test.knows_itself", 0]) }"#,
        );

    let (code, said, why) = test(&plan.path(""), &[]);

    assert_eq!(
        said,
        "test shop_test.first ... ok\ntest shop_test.knows_itself ... ok\ntest shop_test.second ... ok\n\
         test shop_test.what_is_sent_is_not_run ... ok\n\n4 passed"
    );
    assert_eq!((code, why.as_str()), (Some(0), ""));
    assert!(!plan.path("data").exists(), "tests leave nothing behind");
}

#[test]
fn a_failure_is_shown_with_its_line_its_calls_and_its_log() {
    let plan = Plan::new()
        .script("math.rhai", "fn half(x) { x / 0 }")
        .script(
            "math_test.rhai",
            "import \"math\" as math;\nfn halves() { info(\"now\"); math::half(4) }\nfn differs() {\n    assert_eq([1], [2])\n}\nfn holds() { }\n\
             task(\"hangs\", #{ time_limit: \"50ms\" });\nfn hangs() { loop { } }\nfn again() { task::retry() }",
        )
        .script("bad_test.rhai", "fn f() {\n  let x = ;\n}");

    let (code, said, _) = test(&plan.path(""), &[]);
    let (_, json, _) = test(&plan.path(""), &["halves", "--json"]);

    assert_eq!(code, Some(1));
    for part in [
        "test math_test.holds ... ok\n",
        "test math_test.differs ... FAILED\n",
        "error: unexpected ';'\n --> tasks/bad_test.rhai:2:11\n",
        "math_test.differs\nerror: the values differ\n        left: [1]\n       right: [2]\n --> tasks/math_test.rhai:4:5\n  |\n4 |     assert_eq([1], [2])\n  |     ^^^^^^^^^",
        "math_test.hangs\nerror: TimeLimitExceeded: the time limit of 50ms was exceeded\n --> tasks/math_test.rhai:8:",
        "math_test.again\nerror: MaxRetriesExceededError: ",
        "called at tasks/math_test.rhai:2:34: in halves\ninfo: now\n",
        "\n1 passed, 4 failed, 1 problem in files that are not loaded",
    ] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    let reports: Value = serde_json::from_str(&json).unwrap();
    let [not_loaded, halves] = &reports.as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!((&not_loaded["test"], &not_loaded["outcome"]), (&Value::Null, &"not-loaded".into()));
    assert_eq!((&halves["test"], &halves["outcome"]), (&"math_test.halves".into(), &"failed".into()));
    assert_eq!((&halves["file"], &halves["line"]), (&"tasks/math_test.rhai".into(), &2.into()));
    let error = &halves["error"];
    assert_eq!(
        (&error["exc_type"], &error["file"], &error["line"]),
        (&"ZeroDivisionError".into(), &"tasks/math.rhai".into(), &1.into())
    );
    assert_eq!((&error["calls"][0]["line"], &halves["log"][0]["text"]), (&2.into(), &"now".into()));
    assert!(halves["duration_ms"].is_u64(), "{json}");
}

#[test]
fn a_filter_chooses_and_must_find_something() {
    let plan = Plan::new().script("a_test.rhai", "fn one() { }\nfn two() { assert(false) }");
    let empty = tempfile::tempdir().unwrap();

    let (one, said, _) = test(&plan.path(""), &["test.on"]);
    let (none, _, why) = test(&plan.path(""), &["a_test.ones"]);
    let (without, _, hint) = test(empty.path(), &[]);

    assert_eq!((one, said.as_str()), (Some(0), "test a_test.one ... ok\n\n1 passed"));
    assert!(
        none == Some(2) && why.contains("no test has `a_test.ones` in its name; did you mean `a_test.one`?"),
        "{why}"
    );
    assert!(without == Some(2) && hint.contains("there is no test in"), "{hint}");
}
