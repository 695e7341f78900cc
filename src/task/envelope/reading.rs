//! Reading: kombu's envelope becomes a message.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::{self, GZIP};
use super::fields::Fields;
use super::headers::{Headers, Properties};
use super::unreadable::{Defect, Known, Unreadable};
use super::{Foreign, JSON, UTF_8, protocol_1};
use crate::task::{Json, MAX_WIRE, Message, Priority, QueueName, TaskId, to_json};

/// How much of each end of a message is looked at that is too large.
const END: usize = 32 << 10;

/// Within an `Option` serde would copy it.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(rename = "content-type", borrow, default)]
    content_type: Option<Text<'a>>,
    #[serde(rename = "content-encoding", borrow, default)]
    content_encoding: Option<Text<'a>>,
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
    #[serde(borrow, default)]
    properties: Option<&'a RawValue>,
}

impl Message {
    /// Reads kombu's envelope from the list of `queue`: protocol 2, and protocol 1 as the same.
    ///
    /// A body is read by who runs it. One that is too large, in no known encoding, or of protocol 1 and not to be read
    /// is refused here.
    pub fn from_wire(queue: QueueName, wire: &[u8]) -> Result<Self, Unreadable> {
        if wire.len() > MAX_WIRE {
            let [head, tail] = [&wire[..END], &wire[wire.len() - END..]];
            return Err(Unreadable::oversized(&[head, tail].concat()));
        }
        read(queue, wire).map_err(|why| Unreadable { why, known: Known::search(wire).map(Box::new) })
    }

    /// The name under which its sender wants it shown; `None` for its own.
    pub fn shadow(&self) -> Option<String> {
        self.foreign.as_ref().and_then(|foreign| text(&foreign.headers, "shadow"))
    }

    /// What its sender named this sending of it; `None` for a message of ours that was in no Redis yet.
    pub(in crate::task) fn delivery_tag(&self) -> Option<String> {
        self.foreign.as_ref().and_then(|foreign| text(&foreign.properties, "delivery_tag"))
    }

    /// The body as JSON text, decompressed where the envelope says so.
    pub(in crate::task) fn plain_body(&self) -> Result<Cow<'_, [u8]>, Defect> {
        #[derive(Deserialize)]
        struct Compression {
            #[serde(default)]
            compression: Option<String>,
        }
        let Some(foreign) = self.foreign.as_ref().filter(|foreign| !foreign.is_plain) else {
            return Ok(Cow::Borrowed(&self.body));
        };
        let headers = foreign.headers.get();
        // Most are not, and then their headers need not be read once more. A name may be written with escapes.
        if !headers.contains("compression") && !headers.contains('\\') {
            return Ok(Cow::Borrowed(&self.body));
        }
        let headers: Compression = serde_json::from_str(headers).map_err(Defect::Headers)?;
        match headers.compression {
            None => Ok(Cow::Borrowed(&self.body)),
            Some(_) => body::decompress(&self.body).map(Cow::Owned),
        }
    }
}

// `None` where there is no such text, or an empty one.
fn text(json: &RawValue, name: &str) -> Option<String> {
    Fields::read(json.get()).ok()?.get(name).filter(|text: &String| !text.is_empty())
}

fn read(queue: QueueName, wire: &[u8]) -> Result<Message, Defect> {
    let envelope: Envelope = serde_json::from_slice(wire).map_err(Defect::Envelope)?;
    let written = |part: Option<&RawValue>| part.map_or_else(|| to_json(&serde_json::Map::new()), ToOwned::to_owned);
    let properties = written(envelope.properties);
    let Properties { priority, reply_to, body_encoding } = Properties::read(&properties)?;
    let mut written: Json = written(envelope.headers);
    let mut headers = Headers::read(&written)?;
    if let Some(Text(other)) = envelope.content_type.filter(|kind| kind.0 != JSON) {
        return Err(Defect::ContentType(other.into_owned()));
    }
    if let Some(other) = headers.compression.take_if(|kind| kind != GZIP) {
        return Err(Defect::Compression(other));
    }
    let mut body = Bytes::from(body::decode(envelope.body, body_encoding.as_deref())?);
    if headers.task.is_none() {
        let plain = if headers.compression.is_some() { body::decompress(&body)?.into() } else { body };
        (written, body) = protocol_1::upgrade(&plain, &written)?;
        headers = Headers::read(&written)?;
    }
    let (time_limit, soft_time_limit) = headers.limits();
    let is_plain = headers.compression.is_none();
    Ok(Message {
        id: headers.id.and_then(|id| TaskId::parse(&id).ok()).ok_or(Defect::NoId)?,
        task: headers.task.filter(|task| !task.is_empty()).ok_or(Defect::NotATask)?,
        queue,
        priority: Priority(priority.unwrap_or(0)),
        retries: headers.retries.unwrap_or(0),
        eta: headers.eta,
        expires: headers.expires,
        time_limit,
        soft_time_limit,
        ignore_result: headers.ignore_result,
        max_retries: headers.umbel_max_retries,
        root_id: headers.root_id,
        parent_id: headers.parent_id,
        group_id: headers.group,
        group_index: headers.group_index,
        reply_to,
        origin: headers.origin,
        body,
        foreign: Some(Box::new(Foreign {
            headers: written,
            properties,
            content_encoding: match envelope.content_encoding {
                Some(Text(other)) if other != UTF_8 => other.into_owned().into(),
                _ => UTF_8.into(),
            },
            is_plain,
        })),
    })
}
