//! Who is in which group. A membership belongs to its socket and ends with it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::event::Event;
use super::group::GroupName;
use super::link::Link;

/// How many groups one socket may be in. `group_add` refuses one more.
pub const MAX_GROUPS: usize = 1000;

/// All groups with their sockets. A group exists as long as a socket is in it.
// One lock for all: every member gets the events of a group in the same order because they are handed out under it.
#[derive(Default)]
pub struct Groups(Mutex<HashMap<GroupName, HashMap<u64, Arc<Link>>>>);

impl Groups {
    /// Hands `event` to every socket in `group`.
    pub fn send(&self, group: &GroupName, event: &Arc<Event>) {
        if let Some(members) = self.lock().get(group) {
            members.values().for_each(|link| link.deliver(event));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GroupName, HashMap<u64, Arc<Link>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memberships of one socket. Dropping them leaves all groups.
pub struct Memberships {
    groups: Arc<Groups>,
    link: Arc<Link>,
    /// `None` once the socket is gone: a script that still runs then joins nothing.
    joined: Mutex<Option<BTreeSet<GroupName>>>,
}

/// A socket is in as many groups as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Memberships {
    pub fn new(groups: Arc<Groups>, link: Arc<Link>) -> Self {
        Self { groups, link, joined: Mutex::new(Some(BTreeSet::new())) }
    }

    /// Joins `group`; nothing when the socket is in it or gone.
    pub fn join(&self, group: GroupName) -> Result<(), TooMany> {
        let mut joined = self.joined();
        let Some(names) = joined.as_mut() else { return Ok(()) };
        if names.len() >= MAX_GROUPS && !names.contains(&group) {
            return Err(TooMany);
        }
        if names.insert(group.clone()) {
            self.groups.lock().entry(group).or_default().insert(self.link.id, self.link.clone());
        }
        Ok(())
    }

    /// Leaves `group`; nothing when the socket is not in it.
    pub fn leave(&self, group: &GroupName) {
        if self.joined().as_mut().is_some_and(|names| names.remove(group)) {
            self.forget(group);
        }
    }

    /// Leaves all groups for good.
    pub fn end(&self) {
        for group in self.joined().take().into_iter().flatten() {
            self.forget(&group);
        }
    }

    fn forget(&self, group: &GroupName) {
        let mut groups = self.groups.lock();
        let Some(members) = groups.get_mut(group) else { return };
        members.remove(&self.link.id);
        if members.is_empty() {
            groups.remove(group);
        }
    }

    // Always taken before the lock of `Groups`, never after it.
    fn joined(&self) -> MutexGuard<'_, Option<BTreeSet<GroupName>>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Memberships {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::Semaphore;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::channels::code;

    fn link(id: u64) -> Arc<Link> {
        let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Arc::new(Link::new(id, seat, &CancellationToken::new()))
    }

    fn event(kind: &str) -> Arc<Event> {
        Arc::new(Event::read(&json!({ "type": kind })).unwrap())
    }

    fn lobby() -> GroupName {
        GroupName::of("lobby").unwrap()
    }

    fn waiting(link: &Link) -> Vec<String> {
        std::iter::from_fn(|| link.inbox.pop()).map(|event| event.handler.clone()).collect()
    }

    #[test]
    fn every_member_gets_every_event_in_order() {
        let groups = Arc::new(Groups::default());
        let links = [link(1), link(2)];
        let members = links.clone().map(|link| Memberships::new(groups.clone(), link));
        members.iter().for_each(|member| member.join(lobby()).unwrap());

        groups.send(&lobby(), &event("a"));
        groups.send(&lobby(), &event("b"));

        for link in links {
            assert_eq!(waiting(&link), ["on_a", "on_b"]);
        }
    }

    #[test]
    fn who_joined_twice_gets_an_event_once() {
        let groups = Arc::new(Groups::default());
        let link = link(1);
        let member = Memberships::new(groups.clone(), link.clone());
        member.join(lobby()).unwrap();
        member.join(lobby()).unwrap();

        groups.send(&lobby(), &event("a"));

        assert_eq!(waiting(&link), ["on_a"]);
    }

    #[test]
    fn who_left_gets_nothing_and_an_empty_group_is_gone() {
        let groups = Arc::new(Groups::default());
        let link = link(1);
        let member = Memberships::new(groups.clone(), link.clone());
        member.join(lobby()).unwrap();

        member.leave(&lobby());
        groups.send(&lobby(), &event("a"));

        assert!(waiting(&link).is_empty());
        assert!(groups.lock().is_empty());
    }

    #[test]
    fn memberships_end_with_their_socket() {
        let groups = Arc::new(Groups::default());
        let member = Memberships::new(groups.clone(), link(1));
        member.join(lobby()).unwrap();

        drop(member);

        assert!(groups.lock().is_empty());
    }

    #[test]
    fn a_socket_that_is_gone_joins_nothing() {
        let groups = Arc::new(Groups::default());
        let member = Memberships::new(groups.clone(), link(1));

        member.end();
        member.join(lobby()).unwrap();

        assert!(groups.lock().is_empty());
    }

    #[test]
    fn one_slow_socket_is_closed_and_the_others_stay() {
        let groups = Arc::new(Groups::default());
        let links = [link(1), link(2)];
        let members = links.clone().map(|link| Memberships::new(groups.clone(), link));
        members.iter().for_each(|member| member.join(lobby()).unwrap());

        for _ in 0..1025 {
            groups.send(&lobby(), &event("a"));
            links[1].inbox.pop();
        }

        assert_eq!(links[0].closed(), Some(code::SLOW));
        assert_eq!(links[1].closed(), None);
    }

    #[test]
    fn a_socket_is_in_a_bounded_number_of_groups() {
        let member = Memberships::new(Arc::default(), link(1));
        for number in 0..MAX_GROUPS {
            member.join(GroupName::of(&number.to_string()).unwrap()).unwrap();
        }

        assert_eq!(member.join(lobby()), Err(TooMany));
        assert_eq!(member.join(GroupName::of("7").unwrap()), Ok(()));
    }
}
