//! A TOML table that knows where in the file its keys are, so that every refusal names line, entry and field.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};
use serde_json::{Map, Value as JsonValue};
use toml_edit::{Item, TableLike, Value};

use crate::task::{nearest, parse_duration};

/// Something in a timetable that is wrong, or that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file, as it was named to the parser.
    pub file: String,
    /// 1-based; `None` when the whole file is meant.
    pub line: Option<usize>,
    /// `None` when it is in no entry.
    pub entry: Option<String>,
    /// The path of the key, such as `schedule.hour`; `None` when the whole entry is meant.
    pub field: Option<String>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(out, ":{line}")?;
        }
        match (&self.entry, &self.field) {
            (Some(entry), Some(field)) => write!(out, ": [{entry}] {field}")?,
            (Some(entry), None) => write!(out, ": [{entry}]")?,
            (None, Some(field)) => write!(out, ": {field}")?,
            (None, None) => {}
        }
        write!(out, ": {}", self.message)
    }
}

/// The text of a file, by which places in it are named.
#[derive(Clone, Copy)]
pub struct File<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

impl File<'_> {
    /// The 1-based line of a byte offset.
    pub fn line(&self, span: &Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// One table of a file.
#[derive(Clone)]
pub struct Table<'a> {
    file: File<'a>,
    entry: Option<String>,
    /// What stands before its keys in the path of a field: empty, or such as `options.`.
    path: String,
    line: Option<usize>,
    keys: &'a dyn TableLike,
}

impl<'a> Table<'a> {
    /// The whole of a file.
    pub fn top(file: File<'a>, keys: &'a dyn TableLike) -> Self {
        Self { file, entry: None, path: String::new(), line: None, keys }
    }

    pub fn keys(&self) -> impl Iterator<Item = (&'a str, &'a Item)> {
        self.keys.iter()
    }

    /// `None` when the key is not there.
    pub fn get(&self, key: &str) -> Option<&'a Item> {
        self.keys.get(key)
    }

    /// The table at `key` of the top, as the entry of that name. `None` when there is another thing.
    pub fn entry(&self, key: &str) -> Option<Table<'a>> {
        let keys = self.get(key)?.as_table_like()?;
        Some(Self { entry: Some(key.to_owned()), line: self.line(key), keys, ..self.clone() })
    }

    /// The table within at `key`. `None` when it is not there.
    ///
    /// # Errors
    /// When there is another thing.
    pub fn table(&self, key: &str) -> Result<Option<Table<'a>>, Problem> {
        let Some(item) = self.get(key) else { return Ok(None) };
        let keys = item.as_table_like().ok_or_else(|| self.wrong(key, "a table", item))?;
        Ok(Some(Self { path: format!("{}{key}.", self.path), line: self.line(key), keys, ..self.clone() }))
    }

    /// # Errors
    /// When a key is none of `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let Some((key, _)) = self.keys().find(|(key, _)| !known.contains(key)) else { return Ok(()) };
        let way_out = match nearest(key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        Err(self.problem(key, format!("unknown field; {way_out}")))
    }

    /// A problem with the value at `key`.
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        Problem { line: self.line(key), field: Some(format!("{}{key}", self.path)), ..self.whole(message) }
    }

    /// A problem with the table itself.
    pub fn whole(&self, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.name.to_owned(),
            line: self.line,
            entry: self.entry.clone(),
            field: None,
            message: message.into(),
        }
    }

    // Keys of implicit tables, as `[a.b]` makes `a`, have no place of their own in some cases.
    fn line(&self, key: &str) -> Option<usize> {
        let (key, item) = self.keys.get_key_value(key)?;
        key.span().or_else(|| item.span()).map(|span| self.file.line(&span)).or(self.line)
    }

    /// Says that `item` at `key` is not `form`.
    pub fn wrong(&self, key: &str, form: &str, item: &Item) -> Problem {
        self.problem(key, format!("must be {form}, not {}", kind(item)))
    }

    /// The text at `key`. `None` when it is not there.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Problem> {
        let Some(item) = self.get(key) else { return Ok(None) };
        item.as_str().map(Some).ok_or_else(|| self.wrong(key, "a text in quotes", item))
    }

    /// The truth value at `key`. `None` when it is not there.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        let Some(item) = self.get(key) else { return Ok(None) };
        item.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false", item))
    }

    /// The choice at `key`, one of `choices` by name. `None` when it is not there.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(Some(*choice));
        }
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        Err(self.problem(key, format!("`{text}` is none of {}", names.join(", "))))
    }

    /// The duration at `key`, a text such as `30s` or a number of seconds. `None` when it is not there.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Problem> {
        let Some(item) = self.get(key) else { return Ok(None) };
        let text = match item.as_value() {
            Some(Value::String(text)) => text.value().clone(),
            Some(Value::Integer(number)) => number.value().to_string(),
            Some(Value::Float(number)) => number.value().to_string(),
            _ => return Err(self.wrong(key, "a duration such as \"30s\" or a number of seconds", item)),
        };
        parse_duration(&text).map(Some).map_err(|error| self.problem(key, error.to_string()))
    }

    /// The IANA time zone at `key`. `None` when it is not there.
    pub fn zone(&self, key: &str) -> Result<Option<Tz>, Problem> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            // People remember the city.
            let city = |zone: &&Tz| zone.name().rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(text));
            let near = TZ_VARIANTS.iter().find(city).map(|zone| zone.name());
            let near = near.or_else(|| nearest(text, TZ_VARIANTS.iter().map(|zone| zone.name())));
            let way_out = near
                .map_or("IANA names are such as `Europe/Paris`".to_owned(), |near| format!("did you mean `{near}`?"));
            self.problem(key, format!("no time zone named `{text}`; {way_out}"))
        })
    }

    /// The value at `key` as JSON. `None` when it is not there.
    ///
    /// # Errors
    /// For a date or time, which JSON does not have, and for numbers that are none.
    pub fn json(&self, key: &str) -> Result<Option<JsonValue>, Problem> {
        let Some(item) = self.get(key) else { return Ok(None) };
        to_json(item).map(Some).map_err(|reason| self.problem(key, reason))
    }
}

fn to_json(item: &Item) -> Result<JsonValue, String> {
    match item {
        Item::Value(value) => value_to_json(value),
        Item::Table(table) => table_to_json(table),
        Item::ArrayOfTables(tables) => tables.iter().map(|table| table_to_json(table)).collect(),
        Item::None => Ok(JsonValue::Null),
    }
}

fn value_to_json(value: &Value) -> Result<JsonValue, String> {
    match value {
        Value::String(text) => Ok(text.value().as_str().into()),
        Value::Integer(number) => Ok((*number.value()).into()),
        Value::Float(number) => {
            let number = *number.value();
            let number = serde_json::Number::from_f64(number).ok_or(format!("`{number}` is no number in JSON"))?;
            Ok(number.into())
        }
        Value::Boolean(flag) => Ok((*flag.value()).into()),
        Value::Datetime(time) => {
            let time = time.value();
            Err(format!("JSON has no times, so write `\"{time}\"` in quotes and let the task read it"))
        }
        Value::Array(values) => values.iter().map(value_to_json).collect(),
        Value::InlineTable(table) => table_to_json(table),
    }
}

fn table_to_json(table: &dyn TableLike) -> Result<JsonValue, String> {
    let fields = table.iter().map(|(key, item)| Ok((key.to_owned(), to_json(item)?)));
    Ok(JsonValue::Object(fields.collect::<Result<Map<_, _>, String>>()?))
}

fn kind(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Table(_) | Item::Value(Value::InlineTable(_)) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
        Item::Value(Value::String(_)) => "a text",
        Item::Value(Value::Integer(_) | Value::Float(_)) => "a number",
        Item::Value(Value::Boolean(_)) => "a truth value",
        Item::Value(Value::Datetime(_)) => "a date or time",
        Item::Value(Value::Array(_)) => "an array",
    }
}
