//! Who wants to hear of which task; only as many are kept as listen now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};

use crate::task::TaskId;

/// So many watched tasks are kept before a look at who still listens.
const FEW: usize = 64;

/// Those who wait for an end, and those who watch for any change.
#[derive(Default)]
pub struct Watchers(Mutex<Listening>);

#[derive(Default)]
struct Listening {
    ends: HashMap<TaskId, Arc<Notify>>,
    changes: HashMap<TaskId, watch::Sender<u64>>,
    /// When so many are watched, those that nobody listens to any more go.
    clean_at: usize,
}

impl Watchers {
    /// The task has ended: wakes everyone.
    pub fn ended(&self, id: &TaskId) {
        let mut listening = self.listening();
        if let Some(bell) = listening.ends.get(id) {
            bell.notify_waiters();
        }
        listening.change(id);
    }

    /// Something else about the task has changed.
    pub fn changed(&self, id: &TaskId) {
        self.listening().change(id);
    }

    /// See [`crate::store::Results::changes`].
    pub fn changes(&self, id: &TaskId) -> watch::Receiver<u64> {
        let mut listening = self.listening();
        if listening.changes.len() >= listening.clean_at {
            listening.changes.retain(|_, change| !change.is_closed());
            listening.clean_at = FEW + 2 * listening.changes.len();
        }
        listening.changes.entry(id.clone()).or_default().subscribe()
    }

    /// Waits for the end of the task.
    pub fn watch(self: &Arc<Self>, id: &TaskId) -> Watch {
        let bell = self.listening().ends.entry(id.clone()).or_default().clone();
        Watch { watchers: self.clone(), id: id.clone(), bell }
    }

    fn listening(&self) -> MutexGuard<'_, Listening> {
        self.0.lock().expect("nothing panics while it holds the watchers")
    }
}

impl Listening {
    fn change(&mut self, id: &TaskId) {
        if let Some(change) = self.changes.get(id) {
            change.send_modify(|count| *count += 1);
            if change.is_closed() {
                self.changes.remove(id);
            }
        }
    }
}

/// One who waits; the last one to go for a task clears its place.
pub struct Watch {
    watchers: Arc<Watchers>,
    id: TaskId,
    pub bell: Arc<Notify>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut listening = self.watchers.listening();
        // This one's and the map's own: nobody else waits.
        if Arc::strong_count(&self.bell) == 2 {
            listening.ends.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> TaskId {
        TaskId::parse(&format!("m{number}")).unwrap()
    }

    #[test]
    fn every_kind_of_change_is_seen_by_everyone_who_watches() {
        let watchers = Watchers::default();
        let (mut first, mut second) = (watchers.changes(&id(1)), watchers.changes(&id(1)));
        let other = watchers.changes(&id(2));

        watchers.changed(&id(1));
        assert!(first.has_changed().unwrap() && second.has_changed().unwrap() && !other.has_changed().unwrap());

        first.mark_unchanged();
        second.mark_unchanged();
        watchers.ended(&id(1));
        assert!(first.has_changed().unwrap() && second.has_changed().unwrap());
    }

    #[test]
    fn nothing_is_kept_for_those_who_have_gone() {
        let watchers = Watchers::default();
        let stays = watchers.changes(&id(0));

        for number in 1..10_000 {
            drop(watchers.changes(&id(number)));
        }

        let kept = watchers.listening().changes.len();
        assert!(kept <= 2 * FEW + 2, "{kept}");
        watchers.changed(&id(0));
        assert!(stays.has_changed().unwrap());
        drop(stays);
        watchers.changed(&id(0));
        assert!(!watchers.listening().changes.contains_key(&id(0)));
    }
}
