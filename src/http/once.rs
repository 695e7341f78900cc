//! `Idempotency-Key`: a request that is sent again under its key is not done again.
//!
//! Follows draft-ietf-httpapi-idempotency-key-header, where the value is a string in quotes; one without quotes, as
//! most programs send it, is read too. What is the same request: the same path and the same bytes in the body.

use axum::http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::Problem;
use super::body::bad;
use crate::client::Once;
use crate::task::TaskId;

const NAME: &str = "Idempotency-Key";

/// The longest key, in bytes.
const LONGEST: usize = 255;

/// The key of a request, and what of the request has come.
pub(super) struct Key {
    text: String,
    request: Sha256,
}

impl Key {
    /// `None` when the request has no key.
    ///
    /// # Errors
    /// When there is more than one, or it is empty, too long or not visible ASCII.
    pub fn of(headers: &HeaderMap, path: &str) -> Result<Option<Self>, Problem> {
        const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
        let mut values = headers.get_all(HEADER).iter();
        let (value, other) = (values.next(), values.next());
        let Some(value) = value else { return Ok(None) };
        if other.is_some() {
            return Err(bad(NAME, "is given more than once"));
        }
        let value = value.as_bytes().trim_ascii();
        let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
        if inner.is_empty() || inner.len() > LONGEST || !inner.iter().all(u8::is_ascii_graphic) {
            return Err(bad(NAME, &format!("must be 1 to {LONGEST} visible ASCII characters, such as a UUID")));
        }
        let text = String::from_utf8_lossy(inner).into_owned();
        let request = Sha256::new_with_prefix(format!("POST {path}\n"));
        Ok(Some(Self { text, request }))
    }

    /// The id of the task of that index, the same each time.
    pub fn id(&self, index: usize) -> TaskId {
        let hash = Sha256::digest(format!("umbel once\n{}\n{index}", self.text));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string().try_into().expect("a UUID is an id")
    }

    /// Takes the next part of the body.
    pub fn read(&mut self, part: &[u8]) {
        self.request.update(part);
    }

    /// The whole body was read.
    pub fn end(self) -> Once {
        Once { key: self.text, fingerprint: format!("{:x}", self.request.finalize()) }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([("idempotency-key".parse().unwrap(), HeaderValue::from_bytes(value).unwrap())])
    }

    fn key(value: &[u8]) -> Result<Option<Key>, Problem> {
        Key::of(&headers(value), "/")
    }

    fn text(value: &[u8]) -> String {
        key(value).unwrap().unwrap().text
    }

    #[test]
    fn a_key_is_read_with_and_without_quotes() {
        assert_eq!((text(b"abc"), text(b"\"abc\""), text(b" a\"b ")), ("abc".into(), "abc".into(), "a\"b".into()));
        assert!(Key::of(&HeaderMap::new(), "/").unwrap().is_none());
        assert_eq!(text(&[b'x'; LONGEST]).len(), LONGEST);
    }

    #[test]
    fn a_bad_key_is_refused() {
        for value in [&b""[..], b"\"\"", b"  ", b"a b", b"a\tb", b"\xff", "키".as_bytes(), &[b'x'; LONGEST + 1]] {
            assert!(matches!(key(value), Err(Problem::BadField { .. })), "{value:?}");
        }
        let mut twice = headers(b"a");
        twice.append("idempotency-key", HeaderValue::from_static("a"));
        assert!(matches!(Key::of(&twice, "/"), Err(Problem::BadField { .. })));
    }

    #[test]
    fn ids_follow_from_the_key_and_the_place() {
        let (one, same, other) =
            (key(b"a").unwrap().unwrap(), key(b"\"a\"").unwrap().unwrap(), key(b"b").unwrap().unwrap());

        assert_eq!(one.id(3), same.id(3));
        assert!(one.id(3) != one.id(4) && one.id(3) != other.id(3));
        assert!(uuid::Uuid::parse_str(one.id(0).as_str()).is_ok());
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint() {
        let fingerprint = |path: &str, parts: &[&[u8]]| {
            let mut key = Key::of(&headers(b"a"), path).unwrap().unwrap();
            parts.iter().for_each(|part| key.read(part));
            key.end().fingerprint
        };

        assert_eq!(fingerprint("/a", &[b"xy"]), fingerprint("/a", &[b"x", b"y"]));
        assert_ne!(fingerprint("/a", &[b"xy"]), fingerprint("/b", &[b"xy"]));
        assert_ne!(fingerprint("/a", &[b"xy"]), fingerprint("/a", &[b"xz"]));
    }
}
