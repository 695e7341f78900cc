//! The real Celery at the other end of the wire. `tests/run` installs it.

mod client;
mod control;
mod crash;
mod follow_ups;
mod kills;
mod mixed;
mod remote;
#[path = "../support/mod.rs"]
mod support;
