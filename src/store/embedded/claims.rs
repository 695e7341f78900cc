//! Who has what: claims live in memory only, because the file belongs to one process.
//!
//! After a crash everything that was not settled is simply waiting again. The writer thread makes and ends claims;
//! readers look here to show a claimed task as STARTED.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use super::running::{Begun, Running};
use crate::store::Receipt;
use crate::task::{Message, Progress, QueueName, Run, State, TaskId, Timestamp};

/// One message in a worker's hands.
#[derive(Debug)]
pub struct Claim {
    pub seq: i64,
    pub turn: i64,
    pub token: u64,
    pub retries: u32,
    pub step: u8,
    pub queue: QueueName,
    pub at: Timestamp,
    pub progress: Option<Progress>,
    /// It was handed out before, by a process that died.
    pub redelivered: bool,
    /// Its row says `held`, because of this claim.
    pub marked: bool,
    /// Its row says `acknowledged`.
    pub acknowledged: bool,
    /// Its row says `revoked`.
    pub revoked: bool,
    /// Nobody has it: its caller had gone, and it could not be given back yet.
    pub forsaken: bool,
    /// A command that waits for its commit has ended it: nobody else may.
    pub ending: bool,
    /// Where it is noted that its script has begun; `None` while it has not.
    pub slot: Option<u32>,
}

/// What the row of a claim says because of it.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    Held,
    Acknowledged,
    Revoked,
}

#[derive(Default)]
struct Held {
    by_id: HashMap<TaskId, Claim>,
    seqs: HashSet<i64>,
    last_token: u64,
}

/// A token is the number of the opening of the store, then the number of the claim.
const OPENING_SHIFT: u32 = 40;

/// The opening of the store in which a claim of that token was made.
pub fn opening_of(token: u64) -> u64 {
    token >> OPENING_SHIFT
}

/// All claims of this process.
pub struct Claims {
    worker: String,
    held: Mutex<Held>,
    running: Running,
}

impl Claims {
    /// No claims yet. Tokens of two openings of a store never meet.
    pub fn new(worker: String, opening: u64, running: Running) -> Self {
        let held = Held { last_token: opening << OPENING_SHIFT, ..Held::default() };
        Self { worker, held: Mutex::new(held), running }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nothing panics while it holds the claims")
    }

    pub fn has(&self, seq: i64) -> bool {
        self.held().seqs.contains(&seq)
    }

    /// Notes that `message` was handed out, and gives the right to settle it.
    pub fn add(&self, message: &Message, seq: i64, turn: i64, redelivered: bool, at: Timestamp) -> Receipt {
        let mut held = self.held();
        held.last_token += 1;
        let token = held.last_token;
        let claim = Claim {
            seq,
            turn,
            token,
            retries: message.retries,
            step: message.priority.step(),
            queue: message.queue.clone(),
            at,
            progress: None,
            redelivered,
            marked: false,
            acknowledged: false,
            revoked: false,
            forsaken: false,
            ending: false,
            slot: None,
        };
        held.seqs.insert(seq);
        held.by_id.insert(message.id.clone(), claim);
        Receipt { id: message.id.clone(), token }
    }

    /// Looks at or changes the claim of `receipt`; `None` when the receipt is void.
    pub fn with<T>(&self, receipt: &Receipt, look: impl FnOnce(&mut Claim) -> T) -> Option<T> {
        let mut held = self.held();
        let claim = held.by_id.get_mut(&receipt.id)?;
        (claim.token == receipt.token && !claim.ending).then(|| look(claim))
    }

    /// The same for whoever has the task; `None` when nobody has.
    pub fn with_id<T>(&self, id: &TaskId, look: impl FnOnce(&mut Claim) -> T) -> Option<T> {
        self.held().by_id.get_mut(id).filter(|claim| !claim.ending).map(look)
    }

    /// A command has ended the claim; it counts once committed.
    pub fn end(&self, id: &TaskId, ending: bool) {
        if let Some(claim) = self.held().by_id.get_mut(id) {
            claim.ending = ending;
        }
    }

    pub fn remove(&self, id: &TaskId) -> Option<Claim> {
        let mut held = self.held();
        let claim = held.by_id.remove(id)?;
        held.seqs.remove(&claim.seq);
        claim.slot.into_iter().for_each(|slot| self.running.give_back(slot));
        Some(claim)
    }

    /// The script of the delivery begins: noted for the next process, should this one die.
    pub fn started(&self, receipt: &Receipt) {
        let begin = |claim: &mut Claim| {
            let slot = *claim.slot.get_or_insert_with(|| self.running.take());
            (slot, Begun { seq: claim.seq, token: claim.token, retries: claim.retries })
        };
        if let Some((slot, begun)) = self.with(receipt, begin) {
            self.running.write(slot, Some(begun));
        }
    }

    /// The script of the delivery has been stopped, so that what happens from now on is no death of it.
    pub fn has_stopped(&self, receipt: &Receipt) {
        if let Some(slot) = self.with(receipt, |claim| claim.slot.take()).flatten() {
            self.running.write(slot, None);
            self.running.give_back(slot);
        }
    }

    /// The row of the claim says so from now on, or no longer. True when it was otherwise.
    pub fn note(&self, id: &TaskId, mark: Mark, said: bool) -> bool {
        let mut held = self.held();
        let Some(claim) = held.by_id.get_mut(id) else { return false };
        let says = match mark {
            Mark::Held => &mut claim.marked,
            Mark::Acknowledged => &mut claim.acknowledged,
            Mark::Revoked => &mut claim.revoked,
        };
        std::mem::replace(says, said) != said
    }

    /// The tasks and rows whose `held` is to be written.
    pub fn unmarked(&self) -> Vec<(TaskId, i64)> {
        let held = self.held();
        let fresh = held.by_id.iter().filter(|(_, claim)| !claim.marked && !claim.redelivered && !claim.ending);
        fresh.map(|(id, claim)| (id.clone(), claim.seq)).collect()
    }

    /// Nobody has these deliveries, and they could not be given back.
    pub fn forsake(&self, receipts: &[Receipt]) {
        for receipt in receipts {
            self.with(receipt, |claim| claim.forsaken = true);
        }
    }

    /// The deliveries that nobody has.
    pub fn forsaken(&self) -> Vec<Receipt> {
        let held = self.held();
        let forsaken = held.by_id.iter().filter(|(_, claim)| claim.forsaken);
        forsaken.map(|(id, claim)| Receipt { id: id.clone(), token: claim.token }).collect()
    }

    /// All rows that are claimed, newest first.
    pub fn seqs(&self) -> Vec<i64> {
        let mut seqs: Vec<i64> = self.held().seqs.iter().copied().collect();
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        seqs
    }

    /// How many messages of `queue` are claimed.
    pub fn count(&self, queue: &QueueName) -> u64 {
        self.held().by_id.values().filter(|claim| claim.queue == *queue).count() as u64
    }

    /// How many messages of each queue are claimed.
    pub fn counts(&self) -> HashMap<QueueName, u64> {
        let mut counts = HashMap::new();
        for claim in self.held().by_id.values() {
            *counts.entry(claim.queue.clone()).or_default() += 1;
        }
        counts
    }

    /// What a reader must remember of the claim of `id` **before** it reads the row, see [`Seen::show`].
    pub fn seen(&self, id: &TaskId) -> Option<Seen> {
        let held = self.held();
        let claim = held.by_id.get(id)?;
        Some(Seen {
            retries: claim.retries,
            at: claim.at,
            progress: claim.progress.clone(),
            worker: self.worker.clone(),
        })
    }
}

impl Claims {
    /// Shows a waiting `run` as started when it is claimed now. One that ended since it was read stays as it was read,
    /// which is good enough for a list.
    pub fn show(&self, run: &mut Run) {
        if !run.state.is_final()
            && let Some(seen) = self.seen(&run.id)
        {
            seen.show(run);
        }
    }
}

/// A claim as a reader saw it.
pub struct Seen {
    retries: u32,
    at: Timestamp,
    progress: Option<Progress>,
    worker: String,
}

impl Seen {
    /// Shows a waiting `run` as started. One that has gone on meanwhile is left as it is.
    pub fn show(self, run: &mut Run) {
        if run.state.is_final() || run.retries != self.retries {
            return;
        }
        run.state = State::Started;
        run.started_at = Some(self.at);
        run.worker = Some(self.worker);
        run.progress = self.progress;
    }
}
