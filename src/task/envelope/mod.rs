//! kombu's envelope: how a message looks in a list of Redis, byte for byte what Celery 5 reads and writes.
//!
//! `reading` takes it apart and `writing` puts it together. What every client writes is read by its types, on a short
//! road; only what is refused there is looked at field by field (`fields`), which knows no depth and no number that is
//! too large. What is no message that we can run is `unreadable`: it says why, and whose it is where that can be told.
//! A body is left as it came, but for protocol 1, where everything is in it.

mod body;
mod fields;
mod headers;
mod protocol_1;
mod reading;
mod times;
mod unreadable;
mod writing;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Json;

pub use body::{GZIP, decompress};
pub(in crate::task) use headers::seconds;
pub use times::parse_time;
pub use unreadable::{Defect, Known, Unreadable};

/// The envelope of a message that came from outside, as it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Foreign {
    headers: Json,
    properties: Json,
    #[serde(rename = "content-encoding")]
    content_encoding: Cow<'static, str>,
    /// Its headers say nothing of compression; false where nobody has looked.
    #[serde(skip)]
    is_plain: bool,
}

/// The type of a body; one of another cannot be run.
const JSON: &str = "application/json";

/// How a body is encoded whose sender says nothing else.
const UTF_8: &str = "utf-8";

#[cfg(test)]
mod tests;
