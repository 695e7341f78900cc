//! What a run may use.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::task::{Message, Options, duration_field};

/// What every run may use unless its task declares its own: the table `[limits]` of `umbel.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest that a task may run; it cannot be caught.
    #[serde(deserialize_with = "duration_field")]
    pub time_limit: Duration,
    /// After this it is told once, at the next call of a host function, and may tidy up; `None` where it is not.
    #[serde(deserialize_with = "optional_duration")]
    pub soft_time_limit: Option<Duration>,
    /// The most memory that the values of one run may take, in bytes: `"128MiB"`.
    pub memory: ByteSize,
    /// The most operations that one run may take, about one for each call and each part of an expression; `None`
    /// where only the time is bounded.
    pub operations: Option<u64>,
    /// `memory` is what the task's plugin allows it, and not what it could have otherwise. No setting.
    #[serde(skip)]
    pub of_plugin: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time_limit: Duration::from_secs(600),
            soft_time_limit: None,
            memory: ByteSize::mib(128),
            operations: None,
            of_plugin: false,
        }
    }
}

impl Limits {
    /// The limits of one run: what its sender wants, else what its task declares, else these; never more than the
    /// task's plugin may use.
    pub fn of(self, message: &Message, options: &Options) -> Self {
        let time = message.time_limit.or(options.time_limit).unwrap_or(self.time_limit);
        let memory = options.caps.memory.map_or(self.memory, |most| self.memory.min(most));
        Self {
            time_limit: options.caps.time_limit.map_or(time, |most| time.min(most)),
            soft_time_limit: message.soft_time_limit.or(options.soft_time_limit).or(self.soft_time_limit),
            memory,
            operations: self.operations,
            of_plugin: memory < self.memory,
        }
    }
}

fn optional_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration_field(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Caps, NewMessage};

    const SECOND: Duration = Duration::from_secs(1);

    fn message(time_limit: Option<Duration>, soft_time_limit: Option<Duration>) -> Message {
        Message { time_limit, soft_time_limit, ..NewMessage::default().build() }
    }

    #[test]
    fn the_sender_is_over_the_task_and_the_task_over_the_settings() {
        let options =
            Options { time_limit: Some(20 * SECOND), soft_time_limit: Some(10 * SECOND), ..Options::default() };
        let limits = |message: Message, options: &Options| {
            let run = Limits::default().of(&message, options);
            (run.time_limit, run.soft_time_limit)
        };

        assert_eq!(limits(message(None, None), &Options::default()), (600 * SECOND, None));
        assert_eq!(limits(message(None, None), &options), (20 * SECOND, Some(10 * SECOND)));
        assert_eq!(limits(message(Some(5 * SECOND), Some(SECOND)), &options), (5 * SECOND, Some(SECOND)));
    }

    #[test]
    fn a_plugin_only_narrows() {
        let run = |time: u64, mib: u64| {
            let caps = Caps { time_limit: Some(Duration::from_secs(time)), memory: Some(ByteSize::mib(mib)) };
            let run = Limits::default().of(&message(None, None), &Options { caps, ..Options::default() });
            (run.time_limit.as_secs(), run.memory, run.of_plugin)
        };

        assert_eq!(run(20, 1), (20, ByteSize::mib(1), true));
        assert_eq!(run(6_000, 1_000), (600, ByteSize::mib(128), false));
    }

    #[test]
    fn they_are_read_from_a_table() {
        let read: Limits =
            toml::from_str("time_limit = \"5m\"\nsoft_time_limit = \"4m\"\nmemory = \"64MiB\"\noperations = 7")
                .unwrap();

        let seconds = Duration::from_secs;
        let expected = Limits {
            time_limit: seconds(300),
            soft_time_limit: Some(seconds(240)),
            memory: ByteSize::mib(64),
            operations: Some(7),
            of_plugin: false,
        };
        assert_eq!(read, expected);
        assert_eq!(toml::from_str::<Limits>("").unwrap(), Limits::default());
        assert!(toml::from_str::<Limits>("memori = 1").is_err());
    }
}
