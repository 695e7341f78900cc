//! The body of a message: out of its encoding, and out of its compression.

use std::borrow::Cow;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::fields::Fields;
use super::unreadable::Defect;
use crate::task::MAX_BODY;

/// kombu calls it gzip and writes a zlib stream; programs of others write what the name says.
pub const GZIP: &str = "application/x-gzip";

/// The bytes of a body as it stands in an envelope.
///
/// # Errors
/// `TooLarge` before anything is copied, `Base64` when it is none.
pub(super) fn decode(text: Cow<'_, str>, encoding: Option<&str>) -> Result<Vec<u8>, Defect> {
    if encoding != Some("base64") {
        return if text.len() > MAX_BODY { Err(Defect::TooLarge) } else { Ok(text.into_owned().into_bytes()) };
    }
    if text.len() / 4 * 3 > MAX_BODY + 3 {
        return Err(Defect::TooLarge);
    }
    let decoded = BASE64.decode(text.as_bytes()).or_else(|error| {
        // As mail wraps it: Python does not mind.
        let dense: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        if dense.len() == text.len() { Err(error) } else { BASE64.decode(dense) }
    });
    let decoded = decoded.map_err(Defect::Base64)?;
    if decoded.len() > MAX_BODY { Err(Defect::TooLarge) } else { Ok(decoded) }
}

/// What was compressed as [`GZIP`].
///
/// # Errors
/// `Inflate` when it is no such stream, `TooLarge` when more comes out than a body may have.
pub fn decompress(packed: &[u8]) -> Result<Vec<u8>, Defect> {
    let mut plain = Vec::new();
    // One byte over the bound tells that there is more.
    let most = MAX_BODY as u64 + 1;
    match packed {
        [0x1f, 0x8b, ..] => flate2::read::GzDecoder::new(packed).take(most).read_to_end(&mut plain),
        _ => flate2::read::ZlibDecoder::new(packed).take(most).read_to_end(&mut plain),
    }
    .map_err(Defect::Inflate)?;
    if plain.len() > MAX_BODY { Err(Defect::TooLarge) } else { Ok(plain) }
}

/// The plain body of an envelope that was taken apart; `None` when it cannot be had.
pub(super) fn of(envelope: &Fields) -> Option<Vec<u8>> {
    let part = |name| envelope.raw(name).and_then(|part| Fields::read(part.get()).ok()).unwrap_or_default();
    let encoding: Option<String> = part("properties").get("body_encoding");
    let body = decode(envelope.get::<String>("body")?.into(), encoding.as_deref()).ok()?;
    match part("headers").get::<String>("compression") {
        None => Some(body),
        Some(kind) if kind == GZIP => decompress(&body).ok(),
        Some(_) => None,
    }
}
