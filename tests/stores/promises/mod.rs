//! What every store promises, one fact a function, touching nothing but the traits of `umbel::store`.

pub mod changes;
pub mod crowd;
pub mod death;
pub mod due;
pub mod history;
pub mod pausing;
pub mod purging;
pub mod queue;
pub mod results;
pub mod revoking;
pub mod roster;
pub mod search;
pub mod settling;
pub mod sources;
pub mod ticks;
pub mod values;
