//! A batch that is sent again under the same key is not stored again: what was stored the first time is told.
//!
//! The sender gives each task an id that follows from the key, so that the store itself refuses a second set, whoever
//! sends it and whenever. What the store cannot know is that the second request differs from the first; therefore a
//! fingerprint of the first one is kept under the key.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::{Batch, Client, SubmitError, Submitted};
use crate::store::{self, Space};
use crate::task::{Json, Message, Run, TaskId, to_json};

/// How long a key is remembered.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// Runs of a batch that are looked up at the same time.
const AT_ONCE: usize = 32;

/// What tells a repeated request from a new one.
#[derive(Debug, Clone)]
pub struct Once {
    /// What the sender calls the request.
    pub key: String,
    /// The same for the same request, and different for another one.
    pub fingerprint: String,
}

impl Batch {
    /// Like [`submit`](Self::submit), but a batch that was stored under this key before is not stored again: then the
    /// states are those of now.
    ///
    /// # Errors
    /// `KeyReused` when the key was used for another request within 24 hours.
    pub async fn submit_once(self, once: &Once) -> Result<Vec<Submitted>, (usize, SubmitError)> {
        let failed = |error: store::Error| (0, SubmitError::from(error));
        let kv = self.client.stores.kv.clone();
        let name = Space::Own.key(&format!("once:{}", once.key));
        let ours = to_json(&once.fingerprint);
        let first = kv.set(&name, ours.clone(), Some(REMEMBERED), true).await.map_err(failed)?;
        if !first && kv.get(&name).await.map_err(failed)?.is_some_and(|known| known.get() != ours.get()) {
            return Err((0, SubmitError::KeyReused { key: once.key.clone() }));
        }
        let (client, messages) = (self.client.clone(), self.messages.clone());
        let (index, error) = match self.submit().await {
            Err((index, error @ SubmitError::Store(store::Error::DuplicateId { .. }))) => (index, error),
            ended => return ended,
        };
        // Also the first to have the key may find its tasks stored: a second one may have overtaken it.
        if let Some(stored) = client.find(&messages).await.map_err(failed)? {
            return Ok(stored);
        }
        if first {
            kv.delete(&name, Some(ours)).await.map_err(failed)?;
        }
        Err((index, error))
    }
}

impl Client {
    /// The states of the runs of `messages`; `None` when one of them is unknown or is that of another task.
    async fn find(&self, messages: &[Message]) -> store::Result<Option<Vec<Submitted>>> {
        let ids: Vec<TaskId> = messages.iter().map(|message| message.id.clone()).collect();
        let runs = stream::iter(ids).map(|id| async move { self.load(&id).await });
        let runs: Vec<Option<Run>> = runs.buffered(AT_ONCE).try_collect().await?;
        let found = runs.into_iter().zip(messages).map(|(run, message)| {
            let run = run.filter(|run| is_of(run, message))?;
            Some(Submitted { id: run.id, state: run.state })
        });
        Ok(found.collect())
    }
}

/// Whether `run` is that of a task such as `message`. An id that the sender chose says nothing of it.
fn is_of(run: &Run, message: &Message) -> bool {
    let Ok((args, kwargs)) = message.arguments() else { return false };
    let same = |kept: &Option<Json>, sent: &Json| kept.as_ref().is_none_or(|kept| value(kept) == value(sent));
    run.task == message.task && same(&run.args, &args) && same(&run.kwargs, &kwargs)
}

fn value(json: &Json) -> Option<Value> {
    serde_json::from_str(json.get()).ok()
}
