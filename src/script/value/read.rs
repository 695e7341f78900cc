//! JSON as values of scripts.

use std::fmt;

use rhai::{Array, Dynamic, Map};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::super::limit::step;
use super::super::typed;
use crate::task::Failure;

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
