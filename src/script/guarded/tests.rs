//! What rhai's own functions would make too much of.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use rhai::Dynamic;

use crate::script::{
    Call, Finished, Host, Level, Limits, Native, Pool, Roots, Script, StopReason, Ticket, engine, step,
};
use crate::task::Outcome;

/// Keeps what the script prints.
#[derive(Default)]
struct Listener(Mutex<Vec<String>>);

impl Host for Listener {
    fn place(&self) -> &'static str {
        "a test"
    }
    fn log(&self, _level: Level, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

fn start(body: &str, limits: Limits, host: Arc<Listener>) -> Ticket {
    let mut engine = engine();
    engine.register_fn("deep", deep);
    let engine = Arc::new(engine);
    let source = format!("fn f() {{ {body} }}");
    let script = Script::load(&engine, &Roots::default(), "tasks/a.rhai", &source).unwrap();
    let call = Call {
        script: Arc::new(script),
        function: "f".to_owned(),
        arguments: Box::new(|| Ok(Vec::new())),
        this: None,
        host,
        limits,
    };
    Pool::new(engine, "test", 1, limits.memory).start(call)
}

fn finish(body: &str, limits: Limits) -> Finished {
    start(body, limits, Arc::default()).finished.blocking_recv().unwrap()
}

fn outcome(body: &str, limits: Limits) -> Outcome {
    finish(body, limits).outcome.unwrap()
}

#[track_caller]
fn value(body: &str) -> String {
    match outcome(body, Limits::default()) {
        Outcome::Returned(json) => json.get().to_owned(),
        other => panic!("{body}: {other:?}"),
    }
}

/// What it fails with, of 16 MiB and a minute.
#[track_caller]
fn fails(body: &str) -> String {
    let limits = Limits { memory: ByteSize::mib(16), time_limit: Duration::from_secs(60), ..Limits::default() };
    match outcome(body, limits) {
        Outcome::OverLimit(why) | Outcome::Raised(why) => why.exc_type,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn they_do_what_those_of_rhai_do() {
    for (ours, expected) in [
        (r#"let t = "ab"; t.pad(4, 'x'); t"#, r#""abxx""#),
        (r#"let t = "ab"; t.pad(7, "xyz"); t"#, r#""abxyzxy""#),
        (r#"let t = "ab"; t.pad(1, "x"); t.pad(-1, 'x'); t"#, r#""ab""#),
        (r#"["한글abc".sub_string(1, 2), "abc".sub_string(1), "abc".sub_string(-2, 1)]"#, r#"["글a","bc","b"]"#),
        (r#"["abc".sub_string(1..2), "abc".sub_string(1..=2), "abc".sub_string(2..=0)]"#, r#"["b","bc","c"]"#),
        (
            r#"["abc".sub_string(-9, 1), "abc".sub_string(3), "abc".sub_string(0, -1), "abc".sub_string(2..0)]"#,
            r#"["a","","",""]"#,
        ),
        (r#"let t = "한글abc"; t.crop(1, 3); let u = t; u.crop(-1); [t, u]"#, r#"["글ab","b"]"#),
        (
            r#"let l = []; for c in "한글".chars() { l.push(c); } for c in "abc".chars(1..) { l.push(c); } l"#,
            r#"["한","글","b","c"]"#,
        ),
        (
            r#"let l = []; for c in "ab" { l.push(c); } for c in "ab".chars { l.push(c); } for c in "abc".chars(-2, 1) { l.push(c); } l"#,
            r#"["a","b","a","b","b"]"#,
        ),
        (
            r#"let t = "ab"; t.pad(20000, "한글"); [t.sub_string(19999), t.sub_string(-19999, 2), t.sub_string(16384, 1)]"#,
            r#"["글","b한","한"]"#,
        ),
        (r#"let t = "abab"; t.replace("ab", "c"); t"#, r#""cc""#),
        (r#"let t = "abab"; t.replace('a', "<>"); t.replace("b", '-'); t.replace('-', '+'); t"#, r#""<>+<>+""#),
        (r#""a,b,,c".split(",")"#, r#"["a","b","","c"]"#),
        (r#""a,b,c".split(',', 2)"#, r#"["a","b,c"]"#),
        (r#""a,b,c".split_rev(",", 2)"#, r#"["c","a,b"]"#),
        (r#""a,b".split_rev(',')"#, r#"["b","a"]"#),
        (r#"" a  b ".split()"#, r#"["a","b"]"#),
        (r#"["".split(","), "ab".split("x"), "ab".split("")]"#, r#"[[""],["ab"],["","a","b",""]]"#),
        (r#""한글".to_chars()"#, r#"["한","글"]"#),
        ("let l = [1]; l.pad(3, [0]); l", "[1,[0],[0]]"),
        ("[[1, [2]].contains([2]), 3 in [1, 2], [1, 2, 1].index_of(1, 1), [1, 2].index_of(2, -1)]", "[true,false,2,1]"),
        ("let l = [1, 1, 2, 1]; l.dedup(); l", "[1,2,1]"),
        (
            "[[1, #{ a: 2.0 }] == [1, #{ a: 2.0 }], [1] != [2], #{ a: 1 } == #{ b: 1 }, [1] == [\"a\"]]",
            "[true,true,false,false]",
        ),
        ("const A = [1]; A == [1] && A.contains(1)", "true"),
        ("[blob(2).len(), blob(2, 7).to_array()]", "[2,[7,7]]"),
        ("let b = blob(1, 1); b.pad(3, 258); b.to_array()", "[1,2,2]"),
        (
            r#"to_string([1, "a\n'", 'c', (), 2.5, #{ "a b": [true] }])"#,
            r##""[1, \"a\\n'\", c, (), 2.5, #{\"a b\": [true]}]""##,
        ),
        (r#"`${[1]}` + #{} + [2]"#, r##""[1]#{}[2]""##),
        (r#"#{ a: [1.5, ()] }.to_json()"#, r#""{\"a\":[1.5,null]}""#),
        (r#"parse_json("[1, {\"a\": null}]")"#, r#"[1,{"a":null}]"#),
    ] {
        assert_eq!(value(ours), expected, "{ours}");
    }
}

#[test]
fn a_list_whose_items_cannot_be_compared_stays_as_it_was() {
    let body = "let deep = []; for _i in 0..200 { deep = [deep]; } \
        let l = [1, 1, deep, deep]; let why = (); try { l.dedup(); } catch (error) { why = error; } [l.len(), why != ()]";

    assert_eq!(value(body), "[4,true]");
}

#[test]
fn what_would_make_much_of_little_is_refused_before_it_is_made() {
    let mega = r#"let t = "a"; for _i in 0..20 { t += t; }"#;
    for body in [
        "let t = \"\"; t.pad(1000000000000, 'x');".to_owned(),
        "let t = \"\"; t.pad(1000000000000, \"한글\");".to_owned(),
        "let l = []; l.pad(1000000000000, ());".to_owned(),
        "let l = []; let big = []; big.pad(100000, 1); l.pad(1000000, big);".to_owned(),
        "blob(1000000000000);".to_owned(),
        "blob(1000000000000, 5);".to_owned(),
        "let b = blob(); b.pad(1000000000000, 5);".to_owned(),
        "blob(8000000).to_array();".to_owned(),
        format!("{mega} t.replace(\"a\", t);"),
        format!("{mega} t.replace('a', t);"),
        format!("{mega} t.replace(\"\", t);"),
        format!("{mega} t.split(\"\");"),
        format!("{mega} t.split('a');"),
        format!("{mega} t.split(\"a\", 1000000000);"),
        format!("{mega} t.split_rev(\"a\");"),
        format!("{mega} t.split_rev('a', 100000000);"),
        format!("{mega} t.replace('a', \"a \"); t.split();"),
        format!("{mega} t += t; t.to_chars();"),
        format!("{mega} let l = []; l.pad(100000, t); to_string(l);"),
        format!("{mega} let l = []; l.pad(100000, t); `${{l}}`;"),
        format!("{mega} let l = []; l.pad(100000, t); \"\" + l;"),
        format!("{mega} let m = #{{}}; for i in 0..1000 {{ m[\"k\" + i] = t; }} print(m); m.to_debug();"),
        format!("{mega} let l = []; l.pad(100000, t); #{{ l: l }}.to_json();"),
        format!("{mega} t = \"[1\" + t; t.replace(\"a\", \",1\"); parse_json(t + \"]\");"),
    ] {
        assert_eq!(fails(&body), "MemoryError", "{body}");
    }
}

#[test]
fn what_is_printed_is_not_held_by_the_script() {
    let limits = Limits { memory: ByteSize::mib(16), ..Limits::default() };
    let host = Arc::<Listener>::default();

    let printing = "let t = \"x\"; for _i in 0..20 { t += t; } for _i in 0..32 { print(t); }";
    let outcome = start(printing, limits, host.clone()).finished.blocking_recv().unwrap().outcome;

    assert!(matches!(outcome, Some(Outcome::Returned(_))), "{outcome:?}");
    assert_eq!(host.0.lock().unwrap().len(), 32);
}

#[test]
fn what_looks_through_much_meets_the_time_limit() {
    let limits = Limits { time_limit: Duration::from_millis(500), ..Limits::default() };
    let nested = "let big = []; big.pad(5000, 1); let l = []; l.pad(40, big);";
    for body in [
        format!("{nested} loop {{ l.contains(0); l == l; l.index_of(big); l.dedup(); }}"),
        format!("{nested} loop {{ to_string(l); }}"),
        "let a = []; a.pad(1000, \"x\"); loop { a.contains(a); }".to_owned(),
    ] {
        let finished = finish(&body, limits);

        let outcome = finished.outcome.unwrap();
        assert!(matches!(&outcome, Outcome::OverLimit(why) if why.exc_type == "TimeLimitExceeded"), "{outcome:?}");
        assert!(finished.took < limits.time_limit + SOON, "{body}: {:?}", finished.took);
    }
}

/// Sixty-four operations of these take many times as long, also where the machine is fast. One takes a few ms in a
/// release, and a second at the most in a debug build on a busy machine.
const SOON: Duration = Duration::from_millis(1500);

const LARGE_VALUES: [&str; 4] = [
    "loop { let copy = list; }",
    "loop { switch list { 1 => 2, _ => 3 } }",
    "loop { text.index_of(\"y\"); text.contains(\"y\"); }",
    "loop { text.sub_string(1); }",
];

const MADE: &str = "let text = \"x\"; for _i in 0..24 { text += text; } \
    let list = [1]; for _i in 0..21 { list += list; } print(\"made\");";

#[test]
fn a_loop_over_large_values_meets_its_time_limit() {
    let limits = Limits { time_limit: Duration::from_secs(2), ..Limits::default() };
    for work in LARGE_VALUES {
        let finished = finish(&format!("{MADE} {work}"), limits);

        assert!(matches!(finished.outcome, Some(Outcome::OverLimit(_))), "{work}: {:?}", finished.outcome);
        assert!(finished.took < limits.time_limit + SOON, "{work}: {:?}", finished.took);
    }
}

#[test]
fn a_loop_over_large_values_ends_when_it_is_revoked() {
    for work in LARGE_VALUES {
        let host = Arc::<Listener>::default();
        let ticket = start(&format!("{MADE} {work}"), Limits::default(), host.clone());
        while host.0.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }

        let revoked = Instant::now();
        ticket.stop.stop(StopReason::Revoked);
        let outcome = ticket.finished.blocking_recv().unwrap().outcome;

        assert!(matches!(outcome, Some(Outcome::Revoked)), "{work}: {outcome:?}");
        assert!(revoked.elapsed() < SOON, "{work}: {:?}", revoked.elapsed());
    }
}

/// A value of nested lists, maps, closures or shared variables.
fn deep(kind: &str, levels: i64) -> Native<Dynamic> {
    let mut value = Dynamic::UNIT;
    for _ in 0..levels {
        step()?;
        value = match kind {
            "map" => rhai::Map::from([("a".into(), value)]).into(),
            "closure" => {
                let mut closure = rhai::FnPtr::new("x").unwrap();
                closure.add_curry(value);
                closure.into()
            }
            "shared" => Dynamic::from(vec![value]).into_shared(),
            _ => vec![value].into(),
        };
    }
    Ok(value)
}

const KINDS: [&str; 4] = ["list", "map", "closure", "shared"];

#[test]
fn nesting_without_end_is_a_failure_and_not_the_end_of_the_process() {
    for kind in KINDS {
        let outcome = outcome(&format!("deep(\"{kind}\", 10000000000)"), Limits::default());

        assert!(matches!(&outcome, Outcome::OverLimit(why) if why.exc_type == "MemoryError"), "{kind}: {outcome:?}");
    }
}

#[test]
fn a_script_that_nests_without_end_meets_a_limit() {
    for make in [
        "let v = [[1]]; loop { v = [[v.pop()]]; }",
        "let v = [1]; loop { v.push([v.pop()]); }",
        "let v = #{ a: 1 }; loop { v.a = #{ a: v.remove(\"a\") }; }",
        "let v = 1; loop { v = Fn(\"x\").curry(take(v)); }",
        "let v = [1]; loop { let w = take(v); let f = || w; v = [f]; }",
        "let v = [1]; loop { v = [v]; }",
    ] {
        let limits = Limits { time_limit: Duration::from_secs(3), ..Limits::default() };

        let outcome = outcome(make, limits);

        assert!(matches!(&outcome, Outcome::OverLimit(_)), "{make}: {outcome:?}");
    }
}

#[test]
fn a_deep_value_may_be_shown_copied_compared_thrown_and_dropped() {
    for kind in KINDS {
        let make = format!("let v = deep(\"{kind}\", 100000);");
        for act in [
            "let w = v; type_of(w)",
            "`${v}`.len() + to_string([v]).len() + to_debug(v).len() + (\"\" + [v]).len()",
            "print(v); debug(v)",
            "let f = || v; type_of(f)",
            "switch v { 1 => 2, _ => 3 }",
            "throw v",
            "try { throw v } catch (e) { 5 }",
            "no_such_function(v)",
            "v.no_such_method()",
            "v == v",
            "[v].contains(v)",
            "sleep(v)",
            "v.to_json()",
            "v",
        ] {
            let outcome = outcome(&format!("{make} {act}"), Limits::default());

            // That it answers at all is what counts: some of it fails, each kind in its own way.
            assert!(!matches!(outcome, Outcome::Revoked), "{kind}: {act}");
        }
    }
}
