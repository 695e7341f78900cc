//! How much memory the script on this thread holds.
//!
//! The allocator below adds up what each thread allocates and frees. It only observes: an allocation that failed
//! would end the process. So the sum is compared with the limit at each operation of a script, and a native function
//! whose result may be many times as large as what it is given asks first (see `guarded`). What the doubling of a
//! value takes beyond the limit before the next operation looks is at most as much again.
//!
//! Dropping, copying and showing a nested value takes a piece of the thread's stack for each level, and the end of
//! the stack is the end of the process. Nothing tells us when values nest. But each level is an allocation, so the
//! memory limit bounds the levels, and the stack of a script's thread is made large enough for the most of them:
//! see [`stack_for`]. So no value leaves such a thread but one whose nesting was looked at: what a module level leaves
//! (`kept`), and what is kept between two calls of a consumer.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use mimalloc::MiMalloc;

use super::HostError;
use crate::task::{Json, TaskId};

/// An allocator that counts for [`Limits::memory`](super::Limits). A program that embeds umbel sets it,
/// or its scripts are not bounded:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: umbel::script::CountingAllocator = umbel::script::CountingAllocator;
/// ```
pub struct CountingAllocator;

// A task is many small pieces that one thread makes and another frees, where the system's allocator is slow.
const HEAP: MiMalloc = MiMalloc;

/// What an array or a map weighs besides what it holds, because dropping it may take so much of the stack.
const NESTING: usize = 256;

/// The size of what rhai allocates for each array and each map, whatever they hold.
const CONTAINER: usize = size_of::<rhai::Array>();
const _: () = assert!(CONTAINER == size_of::<rhai::Map>());

/// The stack that calls of functions and nested expressions take at the most, in bytes: up to 24 MiB in a debug
/// build, a fraction of it in a release.
const STACK_OF_CALLS: usize = 48 << 20;

/// Bytes of stack for each byte of counted memory. Measured for each kind of nesting (array, map, shared variable,
/// closure) as the stack that a level takes over the memory that counts for it; the worst is copying closures in
/// closures, with about 1 in a release build and 8 in a debug build.
const STACK_PER_BYTE: usize = if cfg!(debug_assertions) { 10 } else { 2 };

/// The stack for a thread whose scripts may hold `memory` bytes: it does not end, however they nest their values.
/// It is only reserved, not used, until values are nested deeply.
pub(super) fn stack_for(memory: u64) -> usize {
    usize::try_from(memory).unwrap_or(usize::MAX / 16).saturating_mul(STACK_PER_BYTE).saturating_add(STACK_OF_CALLS)
}

thread_local! {
    /// Allocated less freed on this thread, in bytes; negative where it frees what came from another one.
    // Constant and without a destructor: using it allocates nothing, and is allowed while a thread begins and ends.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

#[inline]
fn weight(size: usize) -> isize {
    let nesting = if size == CONTAINER { NESTING } else { 0 };
    // No layout is larger than `isize::MAX`, and the sum wraps.
    size.wrapping_add(nesting).cast_signed()
}

#[inline]
fn count(change: isize) {
    let _ = HELD.try_with(|held| held.set(held.get().wrapping_add(change)));
}

// SAFETY: every call is handed on to the allocator behind it as it came, and what that answers is returned as it is;
// counting touches a thread-local number only, and neither allocates nor panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(weight(layout.size()));
        unsafe { HEAP.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(weight(layout.size()));
        unsafe { HEAP.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(weight(layout.size()).wrapping_neg());
        unsafe { HEAP.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(weight(size).wrapping_sub(weight(layout.size())));
        unsafe { HEAP.realloc(pointer, layout, size) }
    }
}

/// What this thread holds now, in bytes. Only differences mean something.
#[inline]
pub(super) fn held() -> isize {
    HELD.try_with(Cell::get).unwrap_or(0)
}

/// What the runs of one script have left behind, in bytes: values that hold each other, as a closure and a variable
/// that it has captured may, are never freed. Nothing tells which they are, so they are counted, and bounded for all
/// runs of the script together by what one may hold.
#[derive(Default)]
pub(super) struct Left(AtomicUsize);

impl Left {
    /// Less than this of one run is not counted: rhai keeps some short texts for the runs of all scripts.
    const LEAST: usize = 64 << 10;

    /// Counts what a run has left that held `before` when it began, and has `kept` for others.
    pub(super) fn add(&self, before: isize, kept: usize) {
        let left = usize::try_from(held().wrapping_sub(before)).unwrap_or(0).saturating_sub(kept);
        if left >= Self::LEAST {
            self.0.fetch_add(left, Ordering::Relaxed);
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(u64::MAX)
    }
}

/// What a copy of `value` takes, in bytes.
pub(super) fn size_of_copy<T: Clone>(value: &T) -> usize {
    let before = held();
    let copy = value.clone();
    let size = held().wrapping_sub(before);
    drop(copy);
    usize::try_from(size).unwrap_or(0)
}

/// Asks the host something that is not the script's to pay: what it allocates here is kept or freed elsewhere.
///
/// Only the answer counts, which the script's thread frees: else each answer would give it room that it has not.
pub fn outside<T: Answer>(ask: impl FnOnce() -> Result<T, HostError>) -> Result<T, HostError> {
    let answer = uncounted(ask);
    let weight = match &answer {
        Ok(answer) => answer.weight(),
        Err(error) => error.message.capacity(),
    };
    count(weight.cast_signed());
    answer
}

/// Makes or frees something bounded that a thread keeps for all scripts: no run pays for it, or gets room of it.
fn uncounted<T>(make: impl FnOnce() -> T) -> T {
    let before = held();
    let made = make();
    count(before.wrapping_sub(held()));
    made
}

/// What a host answers.
pub trait Answer {
    /// The memory that goes with it, in bytes.
    fn weight(&self) -> usize {
        0
    }
}

impl Answer for () {}
impl Answer for bool {}
impl Answer for i64 {}
// Shared with the host, which keeps the ids of what was sent.
impl Answer for TaskId {}

impl Answer for Option<Json> {
    fn weight(&self) -> usize {
        self.as_ref().map_or(0, |json| json.get().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_freed() {
        let before = held();
        let mut bytes: Vec<u8> = Vec::with_capacity(1_000);
        assert_eq!(held() - before, 1_000);

        bytes.reserve_exact(5_000);
        assert_eq!(held() - before, 5_000);

        let zeroes = vec![0_u8; 300];
        assert_eq!(held() - before, 5_300);

        drop((bytes, zeroes));
        assert_eq!(held(), before);
    }

    #[test]
    fn an_array_counts_for_the_stack_that_dropping_it_takes() {
        let before = held();

        let array = rhai::Dynamic::from(rhai::Array::new());

        assert_eq!(held() - before, (CONTAINER + NESTING).cast_signed());
        drop(array);
        assert_eq!(held(), before);
    }

    #[test]
    fn what_a_host_does_does_not_count_but_its_answer() {
        let before = held();
        let mut kept = Vec::new();

        let answer = outside(|| {
            kept = vec![0_u8; 10_000];
            Ok(Some(crate::task::to_json(&1234)))
        });

        assert_eq!(held() - before, 4);
        drop(answer);
        assert_eq!(held(), before);
        let refused = outside::<()>(|| Err(HostError::new("ValueError", "x".repeat(100))));
        assert_eq!(held() - before, 100);
        drop(refused);
    }
}
