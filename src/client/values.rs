//! Finds in JSON what no script could read, so that it is refused where it was written.
//!
//! Looks at valid JSON text without reading it, because most of it has nothing of the kind and is read by whoever runs
//! the task.

use std::ops::Range;

use super::SubmitError;
use crate::task::Json;

/// So much of a place is told, in bytes.
const SHOWN: usize = 200;

/// No integer of so many characters is too large.
const SURELY_FITS: usize = 18;

/// Checks the arguments of a task. `name` is how their place begins: `args` or `kwargs`.
///
/// # Errors
/// Names the place of the first value that no script could read, such as `args[0].price`.
pub(super) fn check(json: &Json, name: &str) -> Result<(), SubmitError> {
    match fault(json.get().as_bytes()) {
        None => Ok(()),
        Some((offset, reason)) => {
            let mut place = format!("{name}{}", place(json.get(), offset));
            place.truncate(place.floor_char_boundary(SHOWN));
            Err(SubmitError::BadValue { place, reason })
        }
    }
}

/// The offset of the first value that no script could read, and what it is.
fn fault(json: &[u8]) -> Option<(usize, &'static str)> {
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => {
                let end = end_of_text(json, at);
                if has_half_a_character(&json[at..end]) {
                    return Some((at, "has half of a surrogate pair, which is no character"));
                }
                at = end;
            }
            b'-' | b'0'..=b'9' => {
                let end = end_of_number(json, at);
                if let Some(reason) = wrong_number(&json[at..end]) {
                    return Some((at, reason));
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    None
}

/// Behind the text that begins at `start`.
fn end_of_text(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < json.len() {
        match json[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

fn end_of_number(json: &[u8], start: usize) -> usize {
    let is_of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    json[start..].iter().position(|byte| !is_of_number(byte)).map_or(json.len(), |length| start + length)
}

fn wrong_number(number: &[u8]) -> Option<&'static str> {
    let is_integer = number.iter().all(|byte| !matches!(byte, b'.' | b'e' | b'E'));
    if is_integer && number.len() <= SURELY_FITS {
        return None;
    }
    let text = std::str::from_utf8(number).ok()?;
    if is_integer {
        let fits = text.parse::<i64>().is_ok();
        return (!fits).then_some("is an integer that 64 bits do not hold; send it as a string");
    }
    let is_finite = text.parse::<f64>().is_ok_and(f64::is_finite);
    (!is_finite).then_some("is a number that 64 bits do not hold; send it as a string")
}

/// A text that is written with `\ud800` to `\udfff`, and not as a pair of both halves.
fn has_half_a_character(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        let unit = match text[at] {
            b'\\' => escaped(text, at),
            _ => {
                at += 1;
                continue;
            }
        };
        match unit {
            Some(0xD800..=0xDBFF) if matches!(escaped(text, at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => return true,
            _ => at += 2,
        }
    }
    false
}

/// The number of `\uXXXX` at `at`; `None` when something else is there.
fn escaped(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

enum Step {
    Index(usize),
    /// Where its name is written, with its quotes.
    Key(Range<usize>),
}

/// The way to the value at `offset`: `[0].price`.
fn place(json: &str, offset: usize) -> String {
    let bytes = json.as_bytes();
    let (mut path, mut text, mut at) = (Vec::new(), 0..0, 0);
    while at < offset {
        match bytes[at] {
            b'"' => {
                text = at..end_of_text(bytes, at);
                at = text.end;
                continue;
            }
            b'[' => path.push(Step::Index(0)),
            b'{' => path.push(Step::Key(0..0)),
            b']' | b'}' => drop(path.pop()),
            b',' => {
                if let Some(Step::Index(index)) = path.last_mut() {
                    *index += 1;
                }
            }
            b':' => {
                if let Some(Step::Key(key)) = path.last_mut() {
                    *key = text.clone();
                }
            }
            _ => {}
        }
        at += 1;
    }
    let shown = path.into_iter().map(|step| match step {
        Step::Index(index) => format!("[{index}]"),
        Step::Key(key) => format!(".{}", json[key].trim_matches('"')),
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::script::from_json;

    fn refused(json: &str) -> Option<String> {
        check(&serde_json::from_str(json).unwrap(), "args").err().map(|error| error.to_string())
    }

    #[test]
    fn what_no_script_could_read_is_told_with_its_place() {
        for (json, told) in [
            ("[9223372036854775808]", "`args[0]` is an integer that 64 bits do not hold; send it as a string"),
            ("[1, -9223372036854775809]", "`args[1]` is an integer"),
            ("[1, [2, {\"a\": 0, \"b c\": [true, 1e400]}]]", "`args[1][1].b c[1]` is a number that 64 bits"),
            ("[{\"a\": {\"[,\\\"\": [1, 2]}, \"b\": -1e999}]", "`args[0].b` is a number"),
            (r#"["\ud83d\ude00", "\ud83d"]"#, "`args[1]` has half of a surrogate pair"),
            (r#"["\ude00\ud83d"]"#, "`args[0]` has half"),
            (r#"["\ud83d\ud83d"]"#, "`args[0]` has half"),
        ] {
            let refused = refused(json).unwrap_or_else(|| panic!("{json} is let through"));
            assert!(refused.starts_with(told), "{json}: {refused}");
        }
    }

    #[test]
    fn the_rest_is_let_through() {
        for json in [
            "[]",
            "[9223372036854775807, -9223372036854775808, 100000000000000000]",
            "[1e308, -1.5E-400, 0.12345678901234567890123456789, 100000000000000000000.0, 1e20]",
            r#"["99999999999999999999", "1e400", "\\ud83d", "\"\\", "\ud83d\ude00", "\u0041"]"#,
        ] {
            assert_eq!(refused(json), None, "{json}");
        }
    }

    #[test]
    fn a_place_is_bounded() {
        let key = "긴".repeat(1000);
        let told = refused(&format!(r#"[{{"{key}": 1e400}}]"#)).unwrap();

        assert!(told.len() < 2 * SHOWN, "{told}");
    }

    fn any_number() -> impl Strategy<Value = String> {
        "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?"
    }

    proptest! {
        #[test]
        fn what_is_let_through_is_what_a_script_reads(numbers in prop::collection::vec(any_number(), 1..6)) {
            let json = format!("[{}]", numbers.join(", "));

            prop_assert_eq!(refused(&json).is_none(), from_json(&json).is_ok(), "{}", json);
        }

        #[test]
        fn no_json_can_hurt_it(json in "[\\[\\]{}\",:0-9e\\\\ud. -]{0,60}") {
            let _ = fault(json.as_bytes()).map(|(offset, _)| place(&json, offset));
        }
    }
}
