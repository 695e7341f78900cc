//! umbel runs scripts as background tasks, on schedules and behind WebSockets, in one process or many.
//!
//! The floors of the house, lowest first. A room uses the rooms below it, or beside it one way, never above and
//! never in a circle; `tests/floors.rs` holds that.

// Floor 0: what things are.
pub mod task;

// Floor 1: where things are kept.
pub mod store;
pub mod watch;

// Floor 2: code that is not ours, and what it may call.
pub mod module;
pub mod plugin;
pub mod script;

// Floor 3: the doers.
pub mod beat;
pub mod channels;
pub mod client;
pub mod worker;

// Floor 4: the watchers.
pub mod celery;

// Floor 5: the door.
pub mod http;

// Roof: puts the pieces together.
pub mod app;
pub mod cli;
pub mod config;
pub mod log;

/// Tests measure memory too.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: script::CountingAllocator = script::CountingAllocator;
