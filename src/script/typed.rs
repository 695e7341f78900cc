//! The values that Celery's JSON marks with their type (`kombu/utils/json.py`): dates, UUIDs, decimals, bytes.
//!
//! A script sees bytes as a blob, and everything else as text: `time::parse` reads a datetime and a date, and a decimal
//! keeps its digits, which a float would not. Blobs are written as kombu writes bytes. Any other type is written by a
//! script as the map that it is on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rhai::{Dynamic, Map};

const TYPE: &str = "__type__";
const VALUE: &str = "__value__";

/// What a script sees of a map; one that marks no type that we know stays as it is.
pub(super) fn unmarked(map: Map) -> Dynamic {
    value(&map).unwrap_or_else(|| map.into())
}

fn value(map: &Map) -> Option<Dynamic> {
    if map.len() != 2 {
        return None;
    }
    let kind = map.get(TYPE)?.as_immutable_string_ref().ok()?;
    let value = map.get(VALUE)?;
    if kind.as_str() == "uuid" {
        let fields = value.as_map_ref().ok()?;
        let hex = fields.get("hex")?.as_immutable_string_ref().ok()?;
        return uuid::Uuid::parse_str(&hex).ok().map(|uuid| uuid.to_string().into());
    }
    let text = value.as_immutable_string_ref().ok()?;
    match kind.as_str() {
        "datetime" | "date" | "time" | "decimal" => Some(text.clone().into()),
        "bytes" => Some(Dynamic::from_blob(text.as_bytes().to_vec())),
        "base64" => BASE64.decode(text.as_str()).ok().map(Dynamic::from_blob),
        _ => None,
    }
}

/// The mark and the text of bytes, as kombu writes them: plain where they are UTF-8.
pub(super) fn marked(bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => ("bytes", text.to_owned()),
        Err(_) => ("base64", BASE64.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use crate::script::value::{from_typed_json, to_json, to_typed_json};

    fn seen(typed: &str) -> rhai::Dynamic {
        from_typed_json(typed).unwrap()
    }

    // Captured from Celery 5.7.0: `pub-25-special-json-types`.
    #[test]
    fn a_script_sees_texts_and_blobs() {
        for (kind, value, text) in [
            ("datetime", r#""2024-01-02T03:04:05.678900+00:00""#, "2024-01-02T03:04:05.678900+00:00"),
            ("date", r#""2024-01-02""#, "2024-01-02"),
            ("time", r#""03:04:05""#, "03:04:05"),
            ("uuid", r#"{"hex": "00000000000000000000000000000001"}"#, "00000000-0000-0000-0000-000000000001"),
            ("decimal", r#""1.10""#, "1.10"),
        ] {
            let seen = seen(&format!(r#"{{"__type__": "{kind}", "__value__": {value}}}"#));
            assert_eq!(seen.into_string().unwrap(), text, "{kind}");
        }
        for (kind, value, bytes) in [("base64", "AP8=", &b"\x00\xff"[..]), ("bytes", "한", "한".as_bytes())] {
            let wire = format!(r#"[{{"__type__":"{kind}","__value__":"{value}"}}]"#);
            let seen = seen(&wire);
            assert_eq!(*seen.as_array_ref().unwrap()[0].as_blob_ref().unwrap(), bytes);
            assert_eq!(to_typed_json(&seen).unwrap().get(), wire);
        }
    }

    #[test]
    fn what_marks_no_type_that_is_known_stays_as_it_is() {
        for map in [
            r#"{"__type__":"money","__value__":"1 EUR"}"#,
            r#"{"__type__":"datetime","__value__":1}"#,
            r#"{"__type__":"base64","__value__":"%"}"#,
            r#"{"__type__":"uuid","__value__":{"hex":"x"}}"#,
            r#"{"__type__":"date"}"#,
            r#"{"__type__":"date","__value__":"2024-01-02","more":1}"#,
        ] {
            assert_eq!(to_typed_json(&seen(map)).unwrap().get(), map);
        }
    }

    #[test]
    fn only_messages_and_results_are_marked() {
        let blob = rhai::Dynamic::from_blob(b"x".to_vec());

        assert_eq!(to_json(&blob).unwrap_err().exc_type, "TypeError");
        assert_eq!(to_typed_json(&rhai::Dynamic::from_blob(vec![0; 2 << 20])).unwrap_err().exc_type, "MemoryError");
    }
}
