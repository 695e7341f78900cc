//! What one process does of all that there is to do.

use std::fmt;

use crate::config::Settings;
use crate::store;

/// A role that needs others was given a store that they cannot reach.
#[derive(Debug, thiserror::Error)]
#[error(
    "`umbel {role}` is one of many processes over Redis, and the store `{store}` is for one: give \
     `--store redis://HOST:PORT/DB`, or run everything in one process with `umbel up`"
)]
pub struct Unshared {
    role: Role,
    store: String,
}

/// What a process does. `Up` is everything; the others share the work over a store that processes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Up,
    /// Answers HTTP and WebSockets.
    Serve,
    /// Runs tasks.
    Worker,
    /// Sends what is due.
    Beat,
}

impl Role {
    /// It listens without being told where.
    pub fn is_door(self) -> bool {
        matches!(self, Self::Up | Self::Serve)
    }

    pub fn runs_tasks(self) -> bool {
        matches!(self, Self::Up | Self::Worker)
    }

    pub fn sends_ticks(self) -> bool {
        matches!(self, Self::Up | Self::Beat)
    }

    /// # Errors
    /// When the store is one that a process has for itself: the others could not see what it does.
    pub fn check(self, settings: &Settings) -> Result<(), Unshared> {
        if self == Self::Up || store::is_shared(&settings.store) {
            return Ok(());
        }
        Err(Unshared { role: self, store: store::without_password(&settings.store) })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Serve => "serve",
            Self::Worker => "worker",
            Self::Beat => "beat",
        })
    }
}
