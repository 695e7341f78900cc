//! Tasks that are checked one by one, as they become known, and stored in one step.

use std::collections::HashSet;

use super::{Client, Request, SubmitError, Submitted, accepted};
use crate::store;
use crate::task::{Message, TaskId};

/// Checked tasks, none of which is stored yet.
pub struct Batch {
    pub(super) client: Client,
    pub(super) messages: Vec<Message>,
    ids: HashSet<TaskId>,
}

impl Client {
    /// An empty batch.
    pub fn batch(&self) -> Batch {
        Batch { client: self.clone(), messages: Vec::new(), ids: HashSet::new() }
    }
}

impl Batch {
    /// Checks one task more.
    ///
    /// # Errors
    /// Also when an earlier one has its id.
    pub fn add(&mut self, request: Request) -> Result<(), SubmitError> {
        let catalog = self.client.catalogs.current();
        let message = self.client.prepare(&catalog, request)?;
        if !self.ids.insert(message.id.clone()) {
            let reason = format!("is given twice in this batch: an earlier task has `{}` too", message.id);
            return Err(SubmitError::BadField { field: "id", reason });
        }
        self.messages.push(message);
        Ok(())
    }

    /// Stores all of it in one step, or nothing; tells what was stored in the order in which it was added.
    ///
    /// # Errors
    /// With the index of the task that is known already; 0 when it is the store that failed.
    pub async fn submit(self) -> Result<Vec<Submitted>, (usize, SubmitError)> {
        let submitted = self.messages.iter().map(accepted).collect();
        let ids: Vec<TaskId> = self.messages.iter().map(|message| message.id.clone()).collect();
        match self.client.stores.queue.push(self.messages, None).await {
            Ok(_) => Ok(submitted),
            Err(error) => Err((culprit(&error, &ids), error.into())),
        }
    }
}

fn culprit(error: &store::Error, ids: &[TaskId]) -> usize {
    match error {
        store::Error::DuplicateId { id } => ids.iter().position(|known| known == id).unwrap_or(0),
        _ => 0,
    }
}
