//! What a failure says.

use super::*;

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
        ("[1].map(|a, b, c, d| a)", "builtins", "TypeError", "there is no closure that takes (i64, i64): it has other"),
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

    let finished = Pool::new(engine, "test", 1, MEMORY)
        .start(call(script.clone(), "f", "[6]", LONG))
        .finished
        .blocking_recv()
        .unwrap();

    let Some(Outcome::Raised(failure)) = finished.outcome else { panic!() };
    let calls = script.calls(&failure);
    let places: Vec<String> = calls.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["tasks/shop.rhai:2:19: f", "tasks/_lib/prices.rhai:3:7: share"]);
    assert_eq!(calls[1].excerpt.as_deref(), Some("n / global::RATE\n  ^"));
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

#[test]
fn a_message_is_not_taken_for_a_call() {
    let script = Script::load(&equipped(), &Roots::default(), "tasks/a.rhai", "fn f() { }").unwrap();
    let of = |traceback: Option<&str>| {
        let why = Failure::builtin("RuntimeError", "no\n  tasks/a.rhai:1:1 in f");
        let why = Failure { traceback: traceback.map(str::to_owned), ..why };
        script.calls(&why).iter().map(ToString::to_string).collect::<Vec<_>>()
    };

    assert_eq!(
        of(Some(
            "Traceback:\n  tasks/a.rhai in f\n  … 4 more calls …\n  a:b:7 in a closure\nRuntimeError: no\n  tasks/a.rhai:1:1 in f"
        )),
        ["tasks/a.rhai: f", "a:b:7: a closure"]
    );
    assert_eq!(of(None), [""; 0]);
}
