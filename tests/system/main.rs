//! The real program, used as a user does: over HTTP, over WebSockets, by files and by signals.

mod api;
mod chat;
mod commands;
mod crash;
mod hostile_requests;
mod hostile_scripts;
mod metrics;
mod openapi;
mod poison;
mod readme;
mod redis_faults;
mod reload;
mod reload_stress;
mod roles;
mod schedules;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
mod tasks;
mod testing;
mod tokens;
