//! Values of scripts as JSON.

use rhai::{Array, Dynamic, Map};

use super::super::typed;
use super::{MAX_DEPTH, MAX_JSON};
use crate::task::{Failure, Json};

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
