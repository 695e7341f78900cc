//! How many messages each queue holds, and which queues are paused.
//!
//! Counted once when the store is opened; afterwards the writer adds up what each commit has moved, so that a look
//! costs the same however many wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::{Mutex, MutexGuard};

use rusqlite::{Connection, params};

use super::claims::Claims;
use super::desk::Desk;
use super::file::Outcome;
use crate::store::{Depth, QueueFacts};
use crate::task::QueueName;

/// How many messages of a queue are there, or came and went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Ready or claimed.
    pub queued: i64,
    /// Waiting for their due time.
    pub delayed: i64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, more: Self) {
        self.queued += more.queued;
        self.delayed += more.delayed;
    }
}

/// What is known of the queues.
#[derive(Default)]
pub struct Depths(Mutex<Known>);

#[derive(Default)]
struct Known {
    counts: BTreeMap<QueueName, Count>,
    paused: BTreeSet<QueueName>,
}

impl Depths {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics while it holds the depths")
    }

    /// Looks once at everything that waits.
    pub fn count(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut known = Known::default();
        for (sql, queued) in [
            ("SELECT queue, count(*) FROM task INDEXED BY task_ready WHERE state = 'QUEUED' GROUP BY queue", true),
            ("SELECT queue, count(*) FROM task INDEXED BY task_due WHERE due_at IS NOT NULL GROUP BY queue", false),
        ] {
            let mut look = db.prepare(sql)?;
            let mut rows = look.query([])?;
            while let Some(row) = rows.next()? {
                let (queue, count): (String, i64) = (row.get(0)?, row.get(1)?);
                let count =
                    if queued { Count { queued: count, delayed: 0 } } else { Count { queued: 0, delayed: count } };
                if let Ok(queue) = QueueName::parse(&queue) {
                    *known.counts.entry(queue).or_default() += count;
                }
            }
        }
        let mut look = db.prepare("SELECT queue FROM paused")?;
        let mut rows = look.query([])?;
        while let Some(row) = rows.next()? {
            known.paused.extend(QueueName::parse(&row.get::<_, String>(0)?));
        }
        *self.known() = known;
        Ok(())
    }

    /// Messages of `queue` came or went.
    pub fn moved(&self, queue: &QueueName, by: Count) {
        let mut known = self.known();
        match known.counts.get_mut(queue) {
            Some(count) => {
                *count += by;
                if *count == Count::default() {
                    known.counts.remove(queue);
                }
            }
            None => drop(known.counts.insert(queue.clone(), by)),
        }
    }

    pub fn set_paused(&self, queue: &QueueName, paused: bool) {
        let mut known = self.known();
        if paused {
            known.paused.insert(queue.clone());
        } else {
            known.paused.remove(queue);
        }
    }

    /// Leaves those that are not paused.
    pub fn retain_claimable(&self, queues: &mut Vec<(QueueName, i64)>) {
        let known = self.known();
        if !known.paused.is_empty() {
            queues.retain(|(queue, _)| !known.paused.contains(queue));
        }
    }

    pub fn depth(&self, queue: &QueueName, claims: &Claims) -> Depth {
        depth(self.known().counts.get(queue).copied().unwrap_or_default(), claims.count(queue))
    }

    /// The queues that have messages ready or claimed.
    pub fn queued(&self) -> Vec<QueueName> {
        self.known().counts.iter().filter(|(_, count)| count.queued > 0).map(|(queue, _)| queue.clone()).collect()
    }

    /// Every queue that holds messages or is paused, by name.
    pub fn facts(&self, claims: &Claims) -> Vec<QueueFacts> {
        let known = self.known();
        let names: BTreeSet<&QueueName> = known.counts.keys().chain(&known.paused).collect();
        let claimed = claims.counts();
        let facts = |name: &QueueName| QueueFacts {
            depth: depth(
                known.counts.get(name).copied().unwrap_or_default(),
                claimed.get(name).copied().unwrap_or_default(),
            ),
            paused: known.paused.contains(name),
            name: name.clone(),
        };
        names.into_iter().map(facts).collect()
    }
}

fn depth(count: Count, claimed: u64) -> Depth {
    let positive = |number: i64| u64::try_from(number).unwrap_or_default();
    Depth { ready: positive(count.queued).saturating_sub(claimed), delayed: positive(count.delayed), claimed }
}

impl Desk {
    /// See [`crate::store::Queue::pause`].
    pub fn pause(&mut self, queue: &QueueName, paused: bool) -> Outcome<()> {
        let sql = if paused {
            "INSERT INTO paused VALUES (?1) ON CONFLICT (queue) DO NOTHING"
        } else {
            "DELETE FROM paused WHERE queue = ?1"
        };
        self.execute(sql, params![queue.as_str()])?;
        self.paused(queue, paused);
        Ok(())
    }
}
