//! What the tests lean on: a running umbel (`house`), a Redis of their own (`redis_server`), a network that can be cut
//! (`proxy`), programs in Python (`python`), and what runs beside a test (`running`).

#![allow(dead_code, reason = "each test program uses a part")]

pub mod house;
pub mod proxy;
pub mod python;
pub mod redis_server;
pub mod running;
