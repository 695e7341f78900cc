//! Names that come from outside: checked once, cheap to clone.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The queue of a task that names none; Celery's own default.
pub const DEFAULT_QUEUE: &str = "celery";

/// The longest name, in bytes. A longer one is refused.
const MAX_NAME: usize = 255;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("is empty")]
    Empty,
    #[error("is longer than {MAX_NAME} bytes")]
    TooLong,
    #[error("has a control character")]
    Control,
    #[error("is a name of a key that umbel or Celery has in Redis (`{taken}`); choose another")]
    Taken { taken: &'static str },
}

/// What the keys of umbel and of Celery begin with; a queue is a key beside them.
const TAKEN: [&str; 6] = ["umbel:", "celery-task-meta-", "celery-taskset-meta-", "chord-unlock-", "_kombu.", "unacked"];

/// Whether `text` may be a name: 1 to 255 bytes without control characters.
///
/// Those are refused because kombu joins a queue and its priority step by 0x06 0x16.
pub fn check_name(text: &str) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(BadName::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(BadName::Control);
    }
    Ok(())
}

/// The same of a queue, which is a list in Redis: its name must not be that of a key which is something else there.
fn check_queue(text: &str) -> Result<(), BadName> {
    check_name(text)?;
    match TAKEN.into_iter().find(|taken| text.starts_with(taken)) {
        Some(taken) => Err(BadName::Taken { taken }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes `text`: 1 to 255 bytes without control characters; for a queue none that a key of umbel
            /// or of Celery may have in Redis.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Name;
                impl de::Visitor<'_> for Name {
                    type Value = $name;
                    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                        out.write_str("a string")
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::parse(&text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Identifies one task through all its attempts. Ours are UUIDs; a sender may choose another text.
    TaskId, check_name
}

name! {
    /// The name of a queue, a Redis list there.
    QueueName, check_queue
}

impl TaskId {
    /// A new random id (UUID version 4, as Celery makes them).
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string().into())
    }
}

impl Default for QueueName {
    fn default() -> Self {
        Self(DEFAULT_QUEUE.into())
    }
}

/// How urgent a message is: **0 first**, as kombu's Redis transport has it.
///
/// A foreign sender may write up to 255; the number is kept as it came, and lies in its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Priority(pub u8);

impl Priority {
    /// kombu's `priority_steps`: one list each.
    pub const STEPS: [u8; 4] = [0, 3, 6, 9];

    /// The largest step that is not above this priority.
    pub fn step(self) -> u8 {
        match self.0 {
            0..3 => 0,
            3..6 => 3,
            6..9 => 6,
            _ => 9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        assert_eq!(TaskId::parse(""), Err(BadName::Empty));
        assert_eq!(QueueName::parse("a\u{6}\u{16}3"), Err(BadName::Control));
        assert_eq!(QueueName::parse(&"x".repeat(256)), Err(BadName::TooLong));
        assert_eq!(QueueName::parse("메일").unwrap().as_str(), "메일");
    }

    #[test]
    fn a_queue_is_no_key_of_umbel_or_celery() {
        for taken in ["umbel:lease", "umbel:run:i", "celery-task-meta-i", "_kombu.binding.celery", "unacked_index"] {
            let why = QueueName::parse(taken).unwrap_err();
            assert!(why.to_string().contains("choose another"), "{taken}: {why}");
            assert!(TaskId::parse(taken).is_ok());
        }
        assert_eq!(QueueName::parse("umbel").unwrap().as_str(), "umbel");
    }

    #[test]
    fn a_priority_lies_in_kombus_step() {
        let steps: Vec<u8> = [0, 1, 3, 5, 6, 9, 255].map(|number| Priority(number).step()).into();

        assert_eq!(steps, [0, 0, 3, 3, 6, 9, 9]);
    }
}
