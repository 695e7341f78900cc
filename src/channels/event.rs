//! An event of the channel layer: checked and read once, handed to every socket of its group.

use rhai::Dynamic;
use serde_json::Value;

use super::GroupError;
use super::queue::Weight;
use crate::script::from_json;

/// The largest event, as JSON, in bytes. A larger one is refused where it is sent.
pub const MAX_EVENT: usize = 1024 * 1024;

/// A checked event.
#[derive(Debug)]
pub struct Event {
    /// The function of a consumer that it calls.
    pub handler: String,
    /// The event as a script sees it.
    pub value: Dynamic,
    bytes: usize,
}

impl Event {
    /// Checks `value` and reads it for scripts.
    pub fn read(value: &Value) -> Result<Self, GroupError> {
        let kind = value.get("type").and_then(Value::as_str).ok_or(GroupError::NoType)?;
        let handler = handler(kind)?;
        let text = value.to_string();
        if text.len() > MAX_EVENT {
            return Err(GroupError::TooLarge { max: MAX_EVENT });
        }
        let value = from_json(&text).map_err(|why| GroupError::Unreadable { reason: why.exc_message })?;
        Ok(Self { handler, value, bytes: text.len() })
    }
}

impl Weight for std::sync::Arc<Event> {
    fn weight(&self) -> usize {
        self.bytes
    }
}

/// The function that an event of type `kind` calls: `chat.message` calls `on_chat_message`.
///
/// What the ASGI protocols call their own events is refused, as is what Channels would take for a private method.
fn handler(kind: &str) -> Result<String, GroupError> {
    let refuse = |reason| Err(GroupError::BadType { kind: kind.chars().take(100).collect(), reason });
    if kind.starts_with('_') {
        return refuse("begins with `_`");
    }
    if kind.split('.').any(str::is_empty) {
        return refuse("has an empty part");
    }
    if kind.len() > 100 {
        return refuse("is longer than 100 bytes");
    }
    let mut parts = kind.split('.');
    if matches!(parts.next(), Some("websocket" | "http" | "lifespan")) && parts.next().is_some() {
        return refuse("would pose as an event of the server");
    }
    Ok(format!("on_{}", kind.replace('.', "_")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: &str, expected: Result<&str, &str>) {
        let found = handler(kind);

        match (&found, expected) {
            (Ok(handler), Ok(expected)) => assert_eq!(handler, expected),
            (Err(GroupError::BadType { reason, .. }), Err(expected)) => assert_eq!(*reason, expected),
            _ => panic!("`{kind}` gave {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn dots_become_underscores() {
        check("chat.message", Ok("on_chat_message"));
        check("message", Ok("on_message"));
        check("채팅.말", Ok("on_채팅_말"));
        check("httpx.answer", Ok("on_httpx_answer"));
    }

    #[test]
    fn no_event_reaches_what_clients_reach() {
        check("connect", Ok("on_connect"));
        check("disconnect", Ok("on_disconnect"));
        check("websocket.receive", Err("would pose as an event of the server"));
        check("http.request", Err("would pose as an event of the server"));
        check("lifespan.startup", Err("would pose as an event of the server"));
        check("_private", Err("begins with `_`"));
        check("chat..message", Err("has an empty part"));
        check(".chat", Err("has an empty part"));
        check("", Err("has an empty part"));
    }

    #[test]
    fn an_event_is_a_map_with_a_type() {
        for value in [json!([]), json!("chat.message"), json!({}), json!({ "type": 1 }), json!(null)] {
            assert_eq!(Event::read(&value).unwrap_err(), GroupError::NoType, "{value}");
        }
    }

    #[test]
    fn an_event_is_bounded() {
        let event = json!({ "type": "chat.message", "message": "x".repeat(MAX_EVENT) });

        assert_eq!(Event::read(&event).unwrap_err(), GroupError::TooLarge { max: MAX_EVENT });
    }
}
