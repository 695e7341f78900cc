//! `assert` and its like: what tests of a project say, and nothing else.

use rhai::{Dynamic, FnPtr, Map, Module, NativeCallContext};

use super::{add, wrong};
use crate::script::{Native, caught, literal, same};

/// So much of each value is shown where two differ, in bytes.
const SHOWN: usize = 1 << 10;

pub(super) fn functions(global: &mut Module) {
    add(
        global,
        "assert(condition: bool)",
        "Fails the test when it is false: `assert(list.contains(3))`.",
        |condition: bool| holds(condition, "it is false"),
    );
    add(
        global,
        "assert(condition: bool, message: string)",
        "Fails the test with a message when it is false: `assert(total > 0, \"nothing was sold\")`.",
        holds,
    );
    add(
        global,
        "assert_eq(left: any, right: any)",
        "Fails the test when two values differ, at any depth: `assert_eq(math::add(2, 3), 5)`.",
        |context: NativeCallContext<'_>, left: Dynamic, right: Dynamic| -> Native<()> {
            if same(&context, &left, &right)? {
                return Ok(());
            }
            let [left, right] = [left, right].map(|value| literal(&value, SHOWN));
            failed(format!("the values differ\n left: {left}\nright: {right}"))
        },
    );
    add(
        global,
        "assert_throws(action: function) -> map",
        "Fails the test when nothing is thrown, else gives its class and message: `assert_throws(|| math::add(1, ()))`.",
        |context: NativeCallContext<'_>, action: FnPtr| throws(&context, &action, None),
    );
    add(
        global,
        "assert_throws(action: function, class: string) -> map",
        "The same, and it must be of that class: `assert_throws(|| json::parse(\"[\"), \"ValueError\")`.",
        |context: NativeCallContext<'_>, action: FnPtr, class: &str| throws(&context, &action, Some(class)),
    );
}

fn holds(condition: bool, message: &str) -> Native<()> {
    if condition { Ok(()) } else { failed(message) }
}

fn throws(context: &NativeCallContext<'_>, action: &FnPtr, class: Option<&str>) -> Native<Map> {
    let thrown = match action.call_within_context::<Dynamic>(context, ()) {
        Ok(value) => return failed(format!("nothing was thrown; it returned {}", literal(&value, SHOWN))),
        Err(error) => caught(error)?,
    };
    if let Some(class) = class.filter(|class| *class != thrown.exc_type) {
        return failed(format!("not {class} but {} was thrown: {}", thrown.exc_type, thrown.exc_message));
    }
    Ok(Map::from([("exc_type".into(), thrown.exc_type.into()), ("message".into(), thrown.exc_message.into())]))
}

fn failed<T>(message: impl Into<String>) -> Native<T> {
    Err(wrong("AssertionError", message))
}

#[cfg(test)]
mod tests {
    use crate::module::tests::Room;

    fn fails(body: &str) -> String {
        let why = Room::for_tests().fails(body);
        assert_eq!((why.exc_module.as_str(), why.exc_type.as_str()), ("builtins", "AssertionError"), "{why:?}");
        why.exc_message
    }

    #[test]
    fn what_holds_says_nothing() {
        let body = r#"
            assert(true);
            assert(1 < 2, "order");
            assert_eq(#{ a: [1, #{ b: "x" }] }, #{ a: [1, #{ b: "x" }] });
            assert_eq(1, 1.0);
            assert_eq((), ());
            let wrong = #{ exc_type: "ValueError", message: "no" };
            assert_throws(|| throw wrong, "ValueError");
            assert_throws(|| [][1])"#;

        let last = Room::for_tests().run(body).unwrap();

        assert!(last.starts_with(r#"{"exc_type":"IndexError","message":"Array index 1 out of bounds"#), "{last}");
    }

    #[test]
    fn what_does_not_hold_fails_where_it_is_said() {
        assert_eq!(fails("assert(1 > 2)"), "it is false");
        assert_eq!(fails(r#"assert(1 > 2, "order")"#), "order");
        assert_eq!(
            fails(r#"assert_eq([1, #{ a: "x" }], [1, #{ a: 2.0 }])"#),
            "the values differ\n left: [1, #{\"a\": \"x\"}]\nright: [1, #{\"a\": 2.0}]"
        );
        assert_eq!(fails(r#"assert_eq("1", 1)"#), "the values differ\n left: \"1\"\nright: 1");
        assert_eq!(fails("assert_throws(|| [1])"), "nothing was thrown; it returned [1]");
        assert_eq!(
            fails(r#"assert_throws(|| throw "no", "ValueError")"#),
            "not ValueError but RuntimeError was thrown: no"
        );
        let traceback = Room::for_tests().fails("1;\n  assert(false)").traceback.unwrap();
        assert!(traceback.contains("tasks/room.rhai:3:3 in main\n"), "{traceback}");
    }

    #[test]
    fn what_is_shown_of_values_has_a_bound() {
        let message = fails(r#"let list = []; list.pad(100000, "x"); assert_eq(list, [list])"#);

        assert!(message.len() < 3 << 10 && message.contains("\n left: [\"x\", ") && message.contains("…\nright: "));
    }

    #[test]
    fn a_limit_is_not_what_was_thrown() {
        let room = Room::for_tests().with_time_limit(std::time::Duration::from_millis(50));

        let outcome = room.outcome("assert_throws(|| { loop { } })");

        assert!(matches!(outcome, Some(crate::task::Outcome::OverLimit(_))), "{outcome:?}");
    }

    #[test]
    fn other_scripts_have_them_not() {
        assert_eq!(crate::module::tests::fails("assert(true)").exc_type, "NameError");
    }
}
