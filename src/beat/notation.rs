//! The three ways of writing a schedule: an interval, five fields in one text, a table of fields.

use std::time::Duration;

use chrono_tz::Tz;
use toml_edit::{Item, Value};

use super::crontab::{Crontab, Field};
use super::schedule::Schedule;
use super::table::{Problem, Table};
use crate::task::{parse_duration, show_duration};

/// The shortest interval.
const SHORTEST: Duration = Duration::from_millis(100);

const FORMS: &str = "an interval (`\"30s\"`), five crontab fields (`\"*/15 * * * *\"`) or a table of them (`{ minute = 0, hour = 11 }`)";

/// Reads the `schedule` of an entry. What is allowed but probably not meant is added to `warnings`.
pub fn read_schedule(entry: &Table, zone: Tz, warnings: &mut Vec<Problem>) -> Result<Schedule, Problem> {
    let Some(item) = entry.get("schedule") else {
        return Err(entry.whole(format!("has no schedule: write {FORMS}")));
    };
    let crontab = match item {
        Item::Value(Value::String(text)) if parse_duration(text.value()).is_err() => in_one_text(entry, text.value())?,
        Item::Value(Value::String(_) | Value::Integer(_) | Value::Float(_)) => return interval(entry),
        item if item.is_table_like() => in_a_table(entry, warnings)?,
        item => return Err(entry.wrong("schedule", FORMS, item)),
    };
    Ok(Schedule::Crontab { crontab: Box::new(crontab), zone })
}

fn interval(entry: &Table) -> Result<Schedule, Problem> {
    let every = entry.duration("schedule")?.filter(|every| *every >= SHORTEST);
    let every = every
        .ok_or_else(|| entry.problem("schedule", format!("an interval is at least {}", show_duration(SHORTEST))))?;
    // The id of a run tells ticks apart by the millisecond.
    Ok(Schedule::Every(Duration::from_millis(every.as_millis().try_into().unwrap_or(u64::MAX))))
}

fn in_one_text(entry: &Table, text: &str) -> Result<Crontab, Problem> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let Ok(fields) = <[&str; 5]>::try_from(fields) else {
        return Err(entry.problem("schedule", format!("`{text}` is not {FORMS}")));
    };
    Crontab::parse(fields).map_err(|error| {
        let field = error.field.map_or(String::new(), |field| format!("{}: ", field.as_str()));
        entry.problem("schedule", format!("{field}{error}"))
    })
}

fn in_a_table(entry: &Table, warnings: &mut Vec<Problem>) -> Result<Crontab, Problem> {
    let Some(fields) = entry.table("schedule")? else { return Err(entry.whole("has no schedule")) };
    fields.only(&Field::ALL.map(Field::as_str))?;
    warnings.extend(every_minute(&fields));
    let mut texts = Vec::with_capacity(Field::ALL.len());
    for field in Field::ALL {
        texts.push(field_text(&fields, field.as_str())?);
    }
    Crontab::parse(std::array::from_fn(|index| texts[index].as_str())).map_err(|error| match error.field {
        Some(field) => fields.problem(field.as_str(), error.to_string()),
        None => entry.problem("schedule", error.to_string()),
    })
}

/// A field of a crontab as Celery's text: `59`, `"*/3"` or `[0, 30]`; left out it is `*`.
fn field_text(fields: &Table, key: &str) -> Result<String, Problem> {
    let Some(item) = fields.get(key) else { return Ok("*".to_owned()) };
    let one = |value: &Value| match value {
        Value::Integer(number) => Some(number.value().to_string()),
        Value::String(text) => Some(text.value().clone()),
        _ => None,
    };
    let text = match item {
        Item::Value(Value::Array(values)) => {
            values.iter().map(one).collect::<Option<Vec<_>>>().map(|all| all.join(","))
        }
        Item::Value(value) => one(value),
        _ => None,
    };
    text.ok_or_else(|| fields.wrong(key, "a number, a text such as `\"*/15\"` or an array of them", item))
}

/// Warns of `{ hour = 11 }`, which is meant as 11:00 by most who write it.
fn every_minute(fields: &Table) -> Option<Problem> {
    if fields.get("minute").is_some() || fields.keys().next().is_none() {
        return None;
    }
    let Some(hour) = fields.get("hour") else {
        return Some(fields.whole(
            "without `minute` and `hour` this runs every minute of the day; for midnight add `minute = 0, hour = 0`, \
             and if it is meant `minute = \"*\"`",
        ));
    };
    let at = match hour.as_integer() {
        Some(hour) => format!("{hour}:00 write `{{ minute = 0, hour = {hour} }}`"),
        None => "the full hour add `minute = 0`".to_owned(),
    };
    Some(fields.problem(
        "hour",
        format!("without `minute` this runs 60 times an hour; for {at}, and if it is meant add `minute = \"*\"`"),
    ))
}
