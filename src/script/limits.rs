//! What a run may use.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::task::duration_field;

/// What every run may use unless its task declares its own: the table `[limits]` of `umbel.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest that a task may run; it cannot be caught.
    #[serde(deserialize_with = "duration_field")]
    pub time_limit: Duration,
    /// The most memory that the values of one run may take, in bytes: `"128MiB"`.
    pub memory: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time_limit: Duration::from_secs(600), memory: ByteSize::mib(128) }
    }
}
