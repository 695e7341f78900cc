//! Measures, and prints each figure beside the bare limit of the same machine in the same run.
//!
//! `cargo bench` runs all; `cargo bench -- drain` one of them: `script`, `drain`, `celery`, `door`, `idle`. Nothing here
//! is asserted: a figure is read by a person. Rates are medians of several rounds, in which what is compared takes
//! turns, so that a machine that grows slower weighs on all; times are quantiles of many. Only the million tasks of
//! `door` run once.

mod celery;
mod door;
mod drain;
mod idle;
mod latency;
mod script;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

/// As the program does it: what a script holds says how often it is looked at.
#[global_allocator]
static ALLOCATOR: umbel::script::CountingAllocator = umbel::script::CountingAllocator;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|one| one == name);
    if wanted("script") {
        script::measure();
    }
    if wanted("drain") {
        drain::measure();
    }
    if wanted("celery") {
        celery::measure();
    }
    if wanted("door") {
        door::measure();
    }
    if wanted("idle") {
        idle::measure();
    }
}

/// The middle of `values`.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that the share `part` of `values` does not exceed.
fn quantile(values: &[Duration], part: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    sorted[((sorted.len() as f64 * part) as usize).min(sorted.len() - 1)]
}
