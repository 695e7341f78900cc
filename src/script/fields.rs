//! Reads a map of options that a script gives, field by field, so that nothing in it is ignored.

use std::ops::RangeInclusive;
use std::time::Duration;

use rhai::{Dynamic, Map};

use crate::task::{Priority, QueueName, nearest, parse_duration};

/// A map of options. What is not there reads as `None`; what is wrong is told by name.
pub struct Fields(Map);

impl Fields {
    pub fn new(map: Map) -> Self {
        Self(map)
    }

    /// The names in the map that are not `known`.
    pub fn unknown<'a>(&'a self, known: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(|name| name.as_str()).filter(|name| !known.contains(name))
    }

    /// # Errors
    /// Names the first option that is not `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), String> {
        self.unknown(known).next().map_or(Ok(()), |name| Err(no_option(name, known)))
    }

    pub fn value(&self, name: &str) -> Option<&Dynamic> {
        self.0.get(name)
    }

    pub fn truth(&self, name: &str) -> Result<Option<bool>, String> {
        self.read(name, "true or false", |value| value.as_bool().ok())
    }

    pub fn text(&self, name: &str) -> Result<Option<String>, String> {
        self.read(name, "a string", |value| value.clone().into_string().ok())
    }

    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, String> {
        let form = format!("an integer from {} to {}", range.start(), range.end());
        self.read(name, &form, |value| value.as_int().ok().filter(|number| range.contains(number)))
    }

    /// A number of seconds, or a text as [`parse_duration`] reads it.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, String> {
        self.read(name, "a number of seconds or a duration like \"30s\"", duration_of)
    }

    pub fn queue(&self, name: &str) -> Result<Option<QueueName>, String> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        QueueName::parse(&text).map(Some).map_err(|bad| format!("`{name}` {bad}"))
    }

    pub fn priority(&self, name: &str) -> Result<Option<Priority>, String> {
        let number = self.integer(name, 0..=9)?;
        Ok(number.and_then(|number| u8::try_from(number).ok()).map(Priority))
    }

    /// `None` when it is not given, `Some(None)` when it is `()`: without end.
    pub fn retries(&self, name: &str) -> Result<Option<Option<u32>>, String> {
        self.read(name, "a number of retries, or () for no limit", |value| {
            if value.is_unit() {
                return Some(None);
            }
            value.as_int().ok().and_then(|number| u32::try_from(number).ok()).map(Some)
        })
    }

    fn read<T>(
        &self,
        name: &str,
        form: &str,
        as_form: impl FnOnce(&Dynamic) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        as_form(value).map(Some).ok_or_else(|| format!("`{name}` must be {form}, not {}", shown(value)))
    }
}

/// A number of seconds, or a text as [`parse_duration`] reads it; `None` for anything else.
pub fn duration_of(value: &Dynamic) -> Option<Duration> {
    let text = match (value.as_int(), value.as_float()) {
        (Ok(seconds), _) => seconds.to_string(),
        (_, Ok(seconds)) => seconds.to_string(),
        _ => value.clone().into_string().ok()?,
    };
    parse_duration(&text).ok()
}

/// Says that `name` is no option, and which one may have been meant.
pub(super) fn no_option(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("there is no option `{name}`; did you mean `{near}`?"),
        None => {
            let name = super::brief(&name.into(), 60);
            format!("there is no option `{name}`; there are {}", known.join(", "))
        }
    }
}

fn shown(value: &Dynamic) -> String {
    let text = super::brief(value, 60);
    if value.is_string() {
        format!("\"{text}\"")
    } else if value.is_unit() {
        "()".to_owned()
    } else {
        format!("`{text}`")
    }
}
