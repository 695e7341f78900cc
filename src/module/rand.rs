//! `rand()` and `rand::`: chance.

use rand::Rng;
use rhai::{Array, Dynamic, Module};

use super::{add, wrong};
use crate::script::Native;

pub(super) fn module(global: &mut Module) -> Module {
    add(global, "rand() -> float", "A number from 0 up to, not including, 1: `rand()`.", || {
        rand::rng().random::<f64>()
    });
    add(
        global,
        "rand(from: int, to: int) -> int",
        "An integer, both ends included: `rand(1, 6)`.",
        |from: i64, to: i64| -> Native<i64> {
            if from > to {
                return Err(wrong("ValueError", format!("`rand`: {from} is more than {to}")));
            }
            Ok(rand::rng().random_range(from..=to))
        },
    );
    let mut module = Module::new();
    add(
        &mut module,
        "choice(list: array) -> any",
        "One item of a list: `rand::choice([\"a\", \"b\"])`.",
        |list: Array| -> Native<Dynamic> {
            if list.is_empty() {
                return Err(wrong("IndexError", "`rand::choice`: the list is empty"));
            }
            Ok(list[rand::rng().random_range(0..list.len())].clone())
        },
    );
    module
}

#[cfg(test)]
mod tests {
    use crate::module::tests::{evaluate, fails};

    #[test]
    fn both_ends_are_included() {
        let script = r#"
            let seen = [];
            for _i in 0..1000 { let n = rand(3, 5); if n !in seen { seen.push(n); } }
            seen.sort(); seen"#;

        assert_eq!(evaluate(script), "[3,4,5]");
        assert_eq!(evaluate("rand(-9223372036854775808, 9223372036854775807); rand(4, 4)"), "4");
        assert_eq!(evaluate("let n = rand(); n >= 0.0 && n < 1.0"), "true");
    }

    #[test]
    fn a_choice_is_one_of_the_list() {
        assert_eq!(evaluate(r#"rand::choice(["a"])"#), r#""a""#);
        assert_eq!(fails("rand::choice([])").exc_type, "IndexError");
        assert_eq!(fails("rand(2, 1)").exc_type, "ValueError");
    }
}
