//! Values of scripts as JSON, both ways, and never silently as something else.
//!
//! JSON is read straight into script values and written straight from them: the way over `serde_json::Value` costs
//! several times as much. What the other side could not hold (a function, a wide integer) is refused by name.

mod read;
mod write;

use rhai::{Dynamic, FnPtr};

pub use read::{from_json, from_typed_json};
pub use write::{to_json, to_typed_json};

/// The longest result or state, in bytes of JSON. A longer one is a failure.
pub const MAX_JSON: usize = 1 << 20;

/// The deepest nesting, as `serde_json` reads it.
pub(super) const MAX_DEPTH: usize = 127;

/// Whether `value` may be kept between calls: it takes about [`MAX_JSON`] bytes at the most, and it is not nested so
/// deeply that dropping it on a thread with a small stack could end the process.
pub(super) fn may_be_kept(value: &Dynamic) -> bool {
    let mut room = MAX_JSON;
    fits(value, &mut room, MAX_DEPTH)
}

// Ends where no room is left, so that its time is bounded too.
fn fits(value: &Dynamic, room: &mut usize, levels: usize) -> bool {
    let text = value.as_immutable_string_ref().map_or(0, |text| text.len() + 1);
    let bytes = value.as_blob_ref().map_or(0, |blob| blob.len());
    if !takes(room, 1 + text + bytes) {
        return false;
    }
    if let Ok(array) = value.as_array_ref() {
        return levels > 0 && array.iter().all(|item| fits(item, room, levels - 1));
    }
    if let Ok(map) = value.as_map_ref() {
        return levels > 0
            && map.iter().all(|(name, item)| takes(room, name.len() + 3) && fits(item, room, levels - 1));
    }
    // What a closure has captured.
    if let Some(closure) = value.read_lock::<FnPtr>() {
        return levels > 0 && closure.curry().iter().all(|captured| fits(captured, room, levels - 1));
    }
    true
}

fn takes(room: &mut usize, bytes: usize) -> bool {
    let left = room.checked_sub(bytes);
    *room = left.unwrap_or(0);
    left.is_some()
}

#[cfg(test)]
mod tests {
    use rhai::Map;

    use super::*;

    fn round(text: &str) -> String {
        to_json(&from_json(text).unwrap()).unwrap().get().to_owned()
    }

    #[test]
    fn json_comes_out_as_it_went_in() {
        for text in [
            "null",
            "true",
            "-9223372036854775808",
            "9223372036854775807",
            "3.0",
            "1e300",
            r#""\"\\한글\n""#,
            r#"[1,[2.5,[]],{}]"#,
            r#"{"a":{"b":[null]},"c":""}"#,
        ] {
            let number: Option<f64> = text.parse().ok();
            assert!(round(text) == text || round(text).parse().ok() == number, "{text} {}", round(text));
        }
    }

    #[test]
    fn three_point_zero_stays_a_float() {
        assert!(from_json("3.0").unwrap().is_float());
        assert_eq!(round("3.0"), "3.0");
    }

    #[test]
    fn an_integer_that_would_become_another_number_is_refused() {
        for text in [
            "9223372036854775808",
            "18446744073709551615",
            "-9223372036854775809",
            "123456789012345678901234567890",
            r#"{"a":[1e300,"x",99999999999999999999]}"#,
        ] {
            assert_eq!(from_json(text).unwrap_err().exc_type, "OverflowError", "{text}");
        }
        for text in [r#"["99999999999999999999",1e300]"#, r#"["\"99999999999999999999",1e300]"#, "1e19", "-1.5e30"] {
            assert!(from_json(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_a_value_error() {
        for text in ["", "{", "[1,]", "1 2", "NaN", "'a'"] {
            assert_eq!(from_json(text).unwrap_err().exc_type, "ValueError", "{text}");
        }
    }

    #[test]
    fn what_json_cannot_carry_is_refused_with_its_place() {
        let engine = rhai::Engine::new();
        for (script, message) in [
            ("#{ a: [1, #{ b: || 1 }] }", "a function cannot be JSON at `a[1].b`"),
            ("timestamp()", "a timestamp cannot be JSON"),
            ("[0..3]", "a range cannot be JSON at `[0]`"),
            ("[0..=3]", "a range cannot be JSON at `[0]`"),
            ("blob(3)", "a blob of bytes (send `hash::base64` of it) cannot be JSON"),
            ("[0.0 / 0.0]", "the number NaN cannot be JSON at `[0]`"),
            ("1.0 / 0.0", "the number inf cannot be JSON"),
        ] {
            let failure = to_json(&engine.eval::<Dynamic>(script).unwrap()).unwrap_err();
            assert_eq!((failure.exc_type.as_str(), failure.exc_message.as_str()), ("TypeError", message), "{script}");
        }
    }

    #[test]
    fn a_shared_value_is_written_like_any_other() {
        let shared = Dynamic::from(vec![Dynamic::from(1_i64)]).into_shared();

        assert_eq!(to_json(&shared).unwrap().get(), "[1]");
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |levels| (0..levels).fold(Dynamic::UNIT, |inner, _| Dynamic::from(vec![inner]));
        assert!(from_json(to_json(&nested(127)).unwrap().get()).is_ok());
        assert_eq!(to_json(&nested(128)).unwrap_err().exc_type, "RecursionError");
        assert!(may_be_kept(&nested(127)) && !may_be_kept(&nested(128)));

        assert!(to_json(&Dynamic::from("x".repeat(MAX_JSON - 2))).is_ok());
        assert_eq!(to_json(&Dynamic::from("x".repeat(MAX_JSON - 1))).unwrap_err().exc_type, "MemoryError");
        assert!(may_be_kept(&Dynamic::from("x".repeat(MAX_JSON - 2))));
        for large in [
            Dynamic::from("x".repeat(MAX_JSON - 1)),
            Dynamic::from(vec![Dynamic::from("x".repeat(MAX_JSON / 2)); 2]),
            Dynamic::from(vec![Dynamic::UNIT; MAX_JSON]),
            Dynamic::from(Map::from([("x".repeat(MAX_JSON).into(), Dynamic::UNIT)])),
            Dynamic::from_blob(vec![0; MAX_JSON]),
            FnPtr::new("f").unwrap().add_curry("x".repeat(MAX_JSON).into()).clone().into(),
        ] {
            assert!(!may_be_kept(&large));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"[\[\]{}",:0-9eE.\\a -]{0,40}"#) {
            if let Ok(value) = from_json(&text) {
                let again = to_json(&value).unwrap();
                let twice = to_json(&from_json(again.get()).unwrap()).unwrap();
                proptest::prop_assert_eq!(twice.get(), again.get());
            }
        }

        #[test]
        fn any_string_survives(text in ".{0,60}") {
            let json = serde_json::to_string(&text).unwrap();
            proptest::prop_assert_eq!(from_json(&json).unwrap().into_string().unwrap(), text);
        }
    }
}
