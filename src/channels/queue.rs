//! A queue bounded by items and by bytes, from many senders to one reader. Senders never wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Above this capacity an emptied queue gives its memory back: most sockets idle most of the time.
const KEPT_CAPACITY: usize = 16;

/// Something that weighs in a queue.
pub trait Weight {
    /// In bytes.
    fn weight(&self) -> usize;
}

/// There is no room: the reader is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    max_items: usize,
    max_bytes: usize,
}

struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    closed: bool,
}

impl<T: Weight> Queue<T> {
    pub fn new(max_items: usize, max_bytes: usize) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, closed: false };
        Self { state: Mutex::new(state), changed: Notify::new(), max_items, max_bytes }
    }

    /// Adds `item`. A closed queue drops it. An empty one takes it whatever it weighs, so that the bound on one item
    /// is its sender's matter.
    pub fn push(&self, item: T) -> Result<(), Full> {
        let mut state = self.lock();
        if state.closed {
            return Ok(());
        }
        let bytes = state.bytes.saturating_add(item.weight());
        if !state.items.is_empty() && (bytes > self.max_bytes || state.items.len() >= self.max_items) {
            return Err(Full);
        }
        state.bytes = bytes;
        state.items.push_back(item);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Adds `last` without regard to the bounds and closes the queue: what it holds is still read, nothing is added.
    pub fn close(&self, last: Option<T>) {
        let mut state = self.lock();
        if let (false, Some(last)) = (state.closed, last) {
            state.bytes += last.weight();
            state.items.push_back(last);
        }
        state.closed = true;
        drop(state);
        self.changed.notify_one();
    }

    /// Drops what the queue holds.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.items = VecDeque::new();
        state.bytes = 0;
    }

    /// The first item; `None` when there is none now.
    pub fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        let item = state.items.pop_front()?;
        state.bytes -= item.weight();
        if state.items.is_empty() && state.items.capacity() > KEPT_CAPACITY {
            state.items = VecDeque::new();
        }
        Some(item)
    }

    /// Waits for the first item; `None` when the queue is closed and empty. Only one reader may wait.
    pub async fn next(&self) -> Option<T> {
        loop {
            if let Some(item) = self.pop() {
                return Some(item);
            }
            if self.lock().closed {
                // Something may have come between the two looks.
                return self.pop();
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weight for &str {
        fn weight(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn it_is_bounded_by_bytes_and_by_items() {
        let queue = Queue::new(2, 10);

        assert_eq!(queue.push("12345"), Ok(()));
        assert_eq!(queue.push("123456"), Err(Full));
        assert_eq!(queue.push("1"), Ok(()));
        assert_eq!(queue.push("2"), Err(Full));
    }

    #[test]
    fn what_was_read_makes_room() {
        let queue = Queue::new(9, 5);
        queue.push("12345").unwrap();

        assert_eq!(queue.pop(), Some("12345"));

        assert_eq!(queue.push("54321"), Ok(()));
    }

    #[test]
    fn an_empty_queue_takes_one_item_of_any_weight() {
        let queue = Queue::new(9, 2);

        assert_eq!(queue.push("heavy"), Ok(()));
        assert_eq!(queue.push("x"), Err(Full));
    }

    #[tokio::test]
    async fn a_closed_queue_is_read_to_its_end() {
        let queue = Queue::new(1, 9);
        queue.push("first").unwrap();
        queue.close(Some("last"));
        queue.push("later").unwrap();
        queue.close(Some("again"));

        assert_eq!(queue.next().await, Some("first"));
        assert_eq!(queue.next().await, Some("last"));
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test]
    async fn a_waiting_reader_wakes() {
        let queue = std::sync::Arc::new(Queue::new(9, 9));
        let reader = tokio::spawn({
            let queue = queue.clone();
            async move { (queue.next().await, queue.next().await) }
        });
        tokio::task::yield_now().await;

        queue.push("a").unwrap();
        queue.close(None);

        assert_eq!(reader.await.unwrap(), (Some("a"), None));
    }
}
