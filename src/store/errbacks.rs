//! What follows a task that a store itself ends, because its process died and it is not tried again.

use std::fmt;
use std::sync::Arc;

use chrono::Utc;

use super::Settings;
use crate::task::{Followers, Message, Options, Sender};

/// What is declared of the tasks that there are, with the queue where each goes when nobody says another. By default
/// nothing is.
#[derive(Clone)]
pub struct Declared(Arc<dyn Fn(&str) -> Options + Send + Sync>);

impl Declared {
    /// Asked whenever a message is made.
    pub fn by(declared: impl Fn(&str) -> Options + Send + Sync + 'static) -> Self {
        Self(Arc::new(declared))
    }
}

impl Default for Declared {
    fn default() -> Self {
        Self::by(|_| Options::default())
    }
}

impl fmt::Debug for Declared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Declared")
    }
}

/// The errbacks of `message`, to be sent in the step that ends its task.
pub fn of(message: &Message, settings: &Settings) -> Vec<Message> {
    let sender = Sender { origin: &settings.worker, now: Utc::now(), declared: &*settings.declared.0 };
    Followers::of_unread(message, sender)
}
