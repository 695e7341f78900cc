//! `json::`: text that is JSON, and values.

use rhai::{Dynamic, Module};

use super::{add, wrong};
use crate::script::{Native, from_json, to_json};

/// The longest text that is read, in bytes: what it becomes may take more than ten times its room.
const MAX_TEXT: usize = 8 << 20;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    add(
        &mut module,
        "parse(text: string) -> any",
        "Reads JSON: `json::parse(\"[1, 2]\")`. Integers that 64 bits do not hold are refused. Up to 8 MiB.",
        parse,
    );
    add(
        &mut module,
        "stringify(value: any) -> string",
        "Writes a value as JSON, names in order: `json::stringify(#{ a: 1 })`. Up to 1 MiB.",
        |value: Dynamic| -> Native<String> { Ok(to_json(&value)?.get().to_owned()) },
    );
    module
}

fn parse(text: &str) -> Native<Dynamic> {
    if text.len() > MAX_TEXT {
        let why = format!("`json::parse`: a text of more than {} MiB is not read", MAX_TEXT >> 20);
        return Err(wrong("MemoryError", why));
    }
    Ok(from_json(text)?)
}

#[cfg(test)]
mod tests {
    use crate::module::tests::{evaluate, fails};

    #[test]
    fn values_go_both_ways() {
        assert_eq!(
            evaluate(r#"json::parse(json::stringify(#{ b: [1, 2.5, ()], a: "한" }))"#),
            r#"{"a":"한","b":[1,2.5,null]}"#
        );
        assert_eq!(fails(r#"json::parse("{")"#).exc_type, "ValueError");
        assert_eq!(fails(r#"json::parse("18446744073709551615")"#).exc_type, "OverflowError");
        assert_eq!(fails(r#"json::parse("1e400")"#).exc_type, "ValueError");
        assert_eq!(fails("json::stringify(|| 1)").exc_type, "TypeError");
    }

    #[test]
    fn a_key_that_is_not_there_is_no_value() {
        assert_eq!(fails(r#"let m = json::parse("{}"); m.len"#).exc_message, "Property not found: len");
        assert_eq!(evaluate(r#"let m = json::parse("{\"len\": 7}"); [m.len, m.len()]"#), "[7,1]");
    }

    #[test]
    fn texts_have_a_bound() {
        let long = |times: u32| format!(r#"let t = "a"; for _i in 0..{times} {{ t += t; }}"#);

        assert_eq!(fails(&format!("{} json::parse(t)", long(24))).exc_type, "MemoryError");
        assert_eq!(fails(&format!("{} json::stringify(t)", long(20))).exc_type, "MemoryError");
    }
}
