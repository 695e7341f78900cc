//! Values of scripts as JSON, both ways, and never silently as something else.
//!
//! JSON is read straight into script values and written straight from them: the way over `serde_json::Value` costs
//! several times as much. What the other side could not hold (a function, a wide integer) is refused by name.

use std::fmt;

use rhai::{Array, Dynamic, FnPtr, Map};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::limit::step;
use super::typed;
use crate::task::{Failure, Json};

/// The longest result or state, in bytes of JSON. A longer one is a failure.
pub const MAX_JSON: usize = 1 << 20;

/// The deepest nesting, as `serde_json` reads it.
pub(super) const MAX_DEPTH: usize = 127;

/// Reads JSON.
///
/// # Errors
/// `ValueError` for what is no JSON, `OverflowError` for an integer that 64 bits do not hold: as a float it would
/// come out as another number.
pub fn from_json(text: &str) -> Result<Dynamic, Failure> {
    read(text, false)
}

/// Reads JSON that may come from Celery: as [`from_json`], and values that it marks with their type as a script sees them.
///
/// # Errors
/// As [`from_json`].
pub fn from_typed_json(text: &str) -> Result<Dynamic, Failure> {
    read(text, true)
}

fn read(text: &str, typed: bool) -> Result<Dynamic, Failure> {
    let mut wide = false;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read =
        Reader { wide: &mut wide, typed }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match read {
        Ok(_) if wide && has_wide_integer(text) => Err(overflow()),
        Ok(value) => Ok(value),
        Err(error) if error.is_data() => Err(overflow()),
        Err(error) => Err(Failure::builtin("ValueError", format!("not valid JSON: {error}"))),
    }
}

fn overflow() -> Failure {
    let message = "an integer is too large: scripts hold -9223372036854775808 to 9223372036854775807; send a string";
    Failure::builtin("OverflowError", message)
}

struct Reader<'a> {
    /// A number may be an integer that serde_json made a float of.
    wide: &'a mut bool,
    /// Values may be marked with their type.
    typed: bool,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Dynamic;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Dynamic, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Dynamic;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value that a script can hold")
    }

    fn visit_unit<E>(self) -> Result<Dynamic, E> {
        Ok(Dynamic::UNIT)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Dynamic, E> {
        i64::try_from(value).map(Dynamic::from).map_err(|_| E::custom("the integer is too large"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Dynamic, E> {
        *self.wide |= value.abs() >= i64::MAX as f64;
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Dynamic, A::Error> {
        let mut array = Array::new();
        while let Some(item) = items.next_element_seed(Reader { wide: self.wide, typed: self.typed })? {
            go_on()?;
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Dynamic, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<std::borrow::Cow<'de, str>>()? {
            go_on()?;
            map.insert(key.as_ref().into(), entries.next_value_seed(Reader { wide: self.wide, typed: self.typed })?);
        }
        Ok(if self.typed { typed::unmarked(map) } else { map.into() })
    }
}

// A short text may become many values. The script that must end does not see the error.
fn go_on<E: Error>() -> Result<(), E> {
    step().map_err(|_| E::custom("the script must end"))
}

/// Whether a number in `text`, which is valid JSON, is an integer that 64 bits do not hold.
fn has_wide_integer(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[start..];
        if rest.starts_with('"') {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            rest = end.map_or("", |end| &rest[end + 2..]);
            continue;
        }
        let end = rest.find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if !number.contains(['.', 'e', 'E']) && number.parse::<i64>().is_err() {
            return true;
        }
        rest = after;
    }
    false
}

/// Writes a value as JSON of at most [`MAX_JSON`] bytes.
///
/// # Errors
/// `TypeError` with the type and where it is, for what JSON cannot carry (functions, timestamps, ranges, byte blobs,
/// numbers that are not finite); `RecursionError` when it is nested too deeply, `MemoryError` when it is too large.
pub fn to_json(value: &Dynamic) -> Result<Json, Failure> {
    write(value, false)
}

/// Writes JSON that Celery may read: as [`to_json`], and blobs as it marks bytes.
///
/// # Errors
/// As [`to_json`].
pub fn to_typed_json(value: &Dynamic) -> Result<Json, Failure> {
    write(value, true)
}

fn write(value: &Dynamic, typed: bool) -> Result<Json, Failure> {
    let mut writer = Writer { out: Vec::with_capacity(64), path: Vec::new(), typed };
    if let Err(refusal) = writer.write(value) {
        return Err(writer.failure(refusal));
    }
    String::from_utf8(writer.out)
        .ok()
        .and_then(|text| serde_json::value::RawValue::from_string(text).ok())
        .ok_or_else(|| Failure::builtin("SystemError", "the value could not be written as JSON"))
}

enum Refusal {
    Type(String),
    TooDeep,
    TooLarge,
}

struct Writer {
    out: Vec<u8>,
    /// Where it stands; kept as it was when something is refused.
    path: Vec<Step>,
    /// Blobs are marked as bytes.
    typed: bool,
}

enum Step {
    Item(usize),
    Field(rhai::Identifier),
}

impl Writer {
    fn write(&mut self, value: &Dynamic) -> Result<(), Refusal> {
        if self.out.len() > MAX_JSON {
            return Err(Refusal::TooLarge);
        }
        if let Ok(number) = value.as_int() {
            self.put(&number)
        } else if value.is_unit() {
            self.out.extend_from_slice(b"null");
            Ok(())
        } else if let Ok(text) = value.as_immutable_string_ref() {
            self.text(&text)
        } else if let Ok(truth) = value.as_bool() {
            self.put(&truth)
        } else if let Ok(number) = value.as_float() {
            if !number.is_finite() {
                return Err(Refusal::Type(format!("the number {number}")));
            }
            self.put(&number)
        } else if let Ok(map) = value.as_map_ref() {
            self.map(&map)
        } else if let Ok(array) = value.as_array_ref() {
            self.array(&array)
        } else if let Ok(letter) = value.as_char() {
            self.put(&letter)
        } else if let (true, Ok(bytes)) = (self.typed, value.as_blob_ref()) {
            self.blob(&bytes)
        } else {
            Err(Refusal::Type(kind(value).to_owned()))
        }
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() > MAX_JSON {
            return Err(Refusal::TooLarge);
        }
        let (kind, text) = typed::marked(bytes);
        self.out.extend_from_slice(format!(r#"{{"__type__":"{kind}","__value__":"#).as_bytes());
        self.text(&text)?;
        self.out.push(b'}');
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Refusal> {
        // Before it is written: escaped it may take six times as much.
        if text.len() > MAX_JSON { Err(Refusal::TooLarge) } else { self.put(text) }
    }

    fn put<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        serde_json::to_writer(&mut self.out, value).map_err(|error| Refusal::Type(error.to_string()))?;
        if self.out.len() > MAX_JSON { Err(Refusal::TooLarge) } else { Ok(()) }
    }

    fn array(&mut self, items: &Array) -> Result<(), Refusal> {
        self.out.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.inside(Step::Item(index), item)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(&mut self, fields: &Map) -> Result<(), Refusal> {
        self.out.push(b'{');
        for (index, (name, field)) in fields.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.text(name)?;
            self.out.push(b':');
            self.inside(Step::Field(name.clone()), field)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn inside(&mut self, step: Step, value: &Dynamic) -> Result<(), Refusal> {
        if self.path.len() == MAX_DEPTH {
            return Err(Refusal::TooDeep);
        }
        self.path.push(step);
        self.write(value)?;
        self.path.pop();
        Ok(())
    }

    fn failure(&self, refusal: Refusal) -> Failure {
        match refusal {
            Refusal::Type(what) => {
                let place = if self.path.is_empty() { String::new() } else { format!(" at `{}`", self.place()) };
                Failure::builtin("TypeError", format!("{what} cannot be JSON{place}"))
            }
            Refusal::TooDeep => {
                Failure::builtin("RecursionError", format!("the value is nested more than {MAX_DEPTH} levels deep"))
            }
            Refusal::TooLarge => {
                Failure::builtin("MemoryError", format!("the value is larger than {MAX_JSON} bytes of JSON"))
            }
        }
    }

    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            match step {
                Step::Item(index) => place.push_str(&format!("[{index}]")),
                Step::Field(name) if place.is_empty() => place.push_str(name),
                Step::Field(name) => place.push_str(&format!(".{name}")),
            }
        }
        place
    }
}

fn kind(value: &Dynamic) -> &'static str {
    if value.is_fnptr() {
        "a function"
    } else if value.is_timestamp() {
        "a timestamp"
    } else if value.is_blob() {
        "a blob of bytes (send `hash::base64` of it)"
    } else if value.is::<std::ops::Range<i64>>() || value.is::<std::ops::RangeInclusive<i64>>() {
        "a range"
    } else {
        value.type_name()
    }
}

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
