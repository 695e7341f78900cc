//! A row of `task` as a message or a run, and back.

use std::time::Duration;

use chrono::DateTime;
use rusqlite::types::Type;
use rusqlite::{Row, Statement};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::Attempt;
use crate::task::{Message, Priority, Run, State, Timestamp};

/// The columns that [`bind_message`] fills and [`message`] reads, in their order.
pub const MESSAGE: &str = "id, name, queue, priority, retries, eta, expires, time_limit, soft_time_limit, \
    ignore_result, max_retries, root_id, parent_id, group_id, group_index, reply_to, origin, body, envelope";
/// How many they are.
pub const MESSAGE_COLUMNS: usize = 19;

/// The columns that [`run`] reads after those of the message.
pub const RUN: &str = "state, queued_at, started_at, finished_at, worker, code, result, error, log, children";

/// The same without the log and the children, which a list does not show.
pub const LISTED: &str =
    "state, queued_at, started_at, finished_at, worker, code, result, error, NULL AS log, NULL AS children";

/// Microseconds since 1970.
pub fn micros(time: Timestamp) -> i64 {
    time.timestamp_micros()
}

/// The instant of so many microseconds since 1970.
pub fn instant(micros: i64) -> Timestamp {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// Binds the columns of [`MESSAGE`] to the first parameters.
pub fn bind_message(statement: &mut Statement<'_>, message: &Message) -> rusqlite::Result<()> {
    let limit = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    statement.raw_bind_parameter(1, message.id.as_str())?;
    statement.raw_bind_parameter(2, &message.task)?;
    statement.raw_bind_parameter(3, message.queue.as_str())?;
    statement.raw_bind_parameter(4, message.priority.0)?;
    statement.raw_bind_parameter(5, message.retries)?;
    statement.raw_bind_parameter(6, message.eta.map(|time| time.to_rfc3339()))?;
    statement.raw_bind_parameter(7, message.expires.map(|time| time.to_rfc3339()))?;
    statement.raw_bind_parameter(8, message.time_limit.map(limit))?;
    statement.raw_bind_parameter(9, message.soft_time_limit.map(limit))?;
    statement.raw_bind_parameter(10, message.ignore_result)?;
    statement.raw_bind_parameter(11, message.max_retries)?;
    statement.raw_bind_parameter(12, message.root_id.as_ref().map(|id| id.as_str()))?;
    statement.raw_bind_parameter(13, message.parent_id.as_ref().map(|id| id.as_str()))?;
    statement.raw_bind_parameter(14, &message.group_id)?;
    statement.raw_bind_parameter(15, message.group_index)?;
    statement.raw_bind_parameter(16, &message.reply_to)?;
    statement.raw_bind_parameter(17, &message.origin)?;
    statement.raw_bind_parameter(18, &message.body[..])?;
    statement.raw_bind_parameter(19, message.foreign.as_ref().map(json))?;
    Ok(())
}

/// Reads the columns of [`MESSAGE`] from the first of the row.
pub fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let limit = |index| {
        Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(|it| Duration::from_micros(it.unsigned_abs())))
    };
    Ok(Message {
        id: name(row, 0)?,
        task: row.get(1)?,
        queue: name(row, 2)?,
        priority: Priority(row.get(3)?),
        retries: row.get(4)?,
        eta: time(row, 5)?,
        expires: time(row, 6)?,
        time_limit: limit(7)?,
        soft_time_limit: limit(8)?,
        ignore_result: row.get(9)?,
        max_retries: row.get(10)?,
        root_id: optional_name(row, 11)?,
        parent_id: optional_name(row, 12)?,
        group_id: row.get(13)?,
        group_index: row.get(14)?,
        reply_to: row.get(15)?,
        origin: row.get(16)?,
        body: row.get::<_, Vec<u8>>(17)?.into(),
        foreign: read_json(row, 18)?,
    })
}

/// Reads the columns of [`MESSAGE`] and [`RUN`].
pub fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let message = message(row)?;
    let at = |index: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(MESSAGE_COLUMNS + index)?.map(instant));
    // A body that cannot be read has no arguments to show; who runs the task says why.
    let (args, kwargs) = message.arguments().ok().unzip();
    Ok(Run {
        state: state(row, MESSAGE_COLUMNS)?,
        eta: message.due_at(),
        id: message.id,
        task: message.task,
        queue: message.queue,
        priority: message.priority.0,
        args,
        kwargs,
        retries: message.retries,
        parent_id: message.parent_id,
        root_id: message.root_id,
        progress: None,
        queued_at: at(1)?,
        started_at: at(2)?,
        finished_at: at(3)?,
        worker: row.get(MESSAGE_COLUMNS + 4)?,
        code: row.get(MESSAGE_COLUMNS + 5)?,
        result: read_json(row, MESSAGE_COLUMNS + 6)?,
        error: read_json(row, MESSAGE_COLUMNS + 7)?,
        log: read_json(row, MESSAGE_COLUMNS + 8)?.unwrap_or_default(),
        children: read_json(row, MESSAGE_COLUMNS + 9)?.unwrap_or_default(),
    })
}

/// The state in column `index`.
pub fn state(row: &Row<'_>, index: usize) -> rusqlite::Result<State> {
    let name = row.get_ref(index)?.as_str()?;
    State::parse(name).ok_or_else(|| unreadable(index, format!("`{name}` is no state")))
}

/// `value` as JSON text.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own values are JSON")
}

/// The log and the children of `attempt` as JSON; `None` where there are none.
pub fn notes(attempt: &Attempt) -> (Option<String>, Option<String>) {
    let log = (!attempt.log.is_empty()).then(|| json(&attempt.log));
    (log, (!attempt.children.is_empty()).then(|| json(&attempt.children)))
}

fn read_json<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    let Some(text) = row.get_ref(index)?.as_str_or_null()? else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|error| unreadable(index, error))
}

/// The checked name in column `index`.
pub fn name<T: TryFrom<String>>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T::Error: std::fmt::Display,
{
    row.get::<_, String>(index)?.try_into().map_err(|error| unreadable(index, error))
}

fn optional_name<T: TryFrom<String>>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>>
where
    T::Error: std::fmt::Display,
{
    let Some(text) = row.get::<_, Option<String>>(index)? else { return Ok(None) };
    text.try_into().map(Some).map_err(|error| unreadable(index, error))
}

fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<DateTime<chrono::FixedOffset>>> {
    let Some(text) = row.get_ref(index)?.as_str_or_null()? else { return Ok(None) };
    // RFC 3339 proper ends with the year 9999, `to_rfc3339` does not.
    text.parse().map(Some).map_err(|error| unreadable(index, error))
}

fn unreadable(index: usize, why: impl std::fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, why.to_string().into())
}
