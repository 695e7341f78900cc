//! Celery's protocol 1 (its document "Message Protocol", version 1): no headers, and a body that is one object.
//!
//! It is read only: as protocol 2, in the way of `proto1_to_proto2` in `celery/worker/strategy.py`, and it is written
//! so when it is tried again. A time without an offset is UTC, also where `utc` is false: we know no local time.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::fields::Fields;
use super::unreadable::Defect;
use crate::task::{Json, to_json};

/// The body of a message of protocol 1.
///
/// # Errors
/// `NotATask` when it is none.
pub(super) fn fields(plain: &[u8]) -> Result<Fields, Defect> {
    std::str::from_utf8(plain).ok().and_then(|text| Fields::read(text).ok()).ok_or(Defect::NotATask)
}

/// The headers and the body of protocol 2 that say the same. Fields that we do not know become headers.
///
/// # Errors
/// `NotATask` when `plain` is no body of protocol 1.
pub(super) fn upgrade(plain: &[u8], headers: &RawValue) -> Result<(Json, Bytes), Defect> {
    let mut fields = fields(plain)?;
    let mut take = |name| fields.take(name);
    let (args, kwargs) = (take("args"), take("kwargs"));
    let (callbacks, errbacks, chord, taskset) = (take("callbacks"), take("errbacks"), take("chord"), take("taskset"));
    let args = args.as_deref().map_or("[]", RawValue::get);
    let kwargs = kwargs.as_deref().map_or("{}", RawValue::get);
    let [callbacks, errbacks, chord] =
        [&callbacks, &errbacks, &chord].map(|part| part.as_deref().map_or("null", RawValue::get));
    let body =
        format!(r#"[{args},{kwargs},{{"callbacks":{callbacks},"errbacks":{errbacks},"chain":null,"chord":{chord}}}]"#);
    fields.complete("group", &taskset);
    fields.extend(Fields::read(headers.get()).map_err(Defect::Headers)?);
    // The body is plain now.
    fields.take("compression");
    Ok((to_json(&fields), body.into()))
}
