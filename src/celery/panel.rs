//! Takes one command after the other, does what it says and answers it.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::Utc;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use super::asked::{Asked, Refused};
use super::{addressees, answer, python, usage};
use crate::client::Client;
use crate::store::{self, Command, Control, Revoked};
use crate::task::{TaskId, Timestamp};
use crate::worker::View;

/// How far the clocks of two machines may be apart before a question seems to be too old.
const CLOCKS_APART: chrono::TimeDelta = chrono::TimeDelta::seconds(60);

/// How many revocations of one command are on their way to the store at once.
const AT_ONCE: usize = 64;

/// Of the revocations that the store remembers, so many are told: the latest.
const MOST_REVOKED: usize = 10_000;

/// Of so many methods the log says once that they are not done; of further ones it says nothing.
const MOST_TOLD: usize = 100;

/// Answers for one worker.
pub struct Panel {
    client: Client,
    view: View,
    control: Arc<dyn Control>,
    /// Lamport's: it grows with each command and each answer, and is never behind one that was heard of.
    clock: u64,
    /// The methods of which the log has said that they are not done: monitors call out some every few seconds.
    told: BTreeSet<String>,
}

impl Panel {
    pub fn new(client: Client, view: View, control: Arc<dyn Control>) -> Self {
        Self { client, view, control, clock: 0, told: BTreeSet::new() }
    }

    /// Does what `command` says when this worker is meant, and answers it when an answer is wanted.
    pub async fn take(&mut self, command: Command) {
        self.clock = self.clock.max(command.clock) + 1;
        match addressees::include(&command.addressees, self.view.name()) {
            Ok(true) => {}
            Ok(false) => return,
            Err(why) => return warn!("`{}` of remote control is for nobody: {why}", command.method),
        }
        let answer = match Asked::of(&command) {
            Ok(asked) if asked.is_question() && is_too_late(&command, Utc::now()) => {
                return debug!("`{}` of remote control came too late", command.method);
            }
            Ok(asked) => self.answer(asked).await.unwrap_or_else(|cause| failed(&command.method, &cause)),
            Err(Refused(why)) => {
                self.tell_refused(&command.method, &why);
                json!({ "error": why })
            }
        };
        let Some(reply_to) = &command.reply_to else { return };
        self.clock += 1;
        if let Err(cause) = self.control.reply(reply_to, self.view.name(), &answer, self.clock).await
            && !cause.is_told()
        {
            warn!("cannot answer `{}` of remote control: {cause}", command.method);
        }
    }

    fn tell_refused(&mut self, method: &str, why: &str) {
        if self.told.len() < MOST_TOLD && self.told.insert(method.to_owned()) {
            warn!("remote control: `{method}` is not done: {why}");
        } else {
            debug!("remote control: `{method}` is not done: {why}");
        }
    }

    async fn answer(&mut self, asked: Asked) -> store::Result<Value> {
        let name = self.view.name();
        Ok(match asked {
            Asked::Ping => json!({ "ok": "pong" }),
            Asked::Clock => json!({ "clock": self.clock }),
            Asked::Stats => answer::stats(&self.view, &self.control.broker(), self.clock, usage::of_this_process()),
            Asked::Registered { attributes } => answer::registered(&self.client.catalogs().current(), &attributes),
            Asked::ActiveQueues => answer::queues(&self.view.queues()),
            Asked::Active { safe } => {
                let mut in_hand = self.view.in_hand();
                in_hand.retain(|one| one.started_at.is_some());
                answer::tasks(&in_hand, name, safe)
            }
            Asked::Reserved => {
                let mut in_hand = self.view.in_hand();
                in_hand.retain(|one| one.started_at.is_none());
                answer::tasks(&in_hand, name, false)
            }
            // What waits for its time waits in the store, and no worker has it.
            Asked::Scheduled => json!([]),
            Asked::QueryTask(ids) => answer::query(&self.view.in_hand(), &ids, name),
            Asked::Revoked => json!(self.revoked().await?),
            Asked::Revoke { ids, terminate } => self.revoke(ids, terminate).await?,
            Asked::Hello { from, .. } if from == name => Value::Null,
            Asked::Hello { revoked, .. } => {
                let known = self.revoked().await?;
                let news: Vec<TaskId> = revoked.into_iter().filter(|id| !known.contains(id)).collect();
                self.revoke_all(news, false).await?;
                self.clock += 1;
                json!({ "revoked": known, "clock": self.clock })
            }
        })
    }

    async fn revoked(&self) -> store::Result<Vec<TaskId>> {
        self.control.revoked(MOST_REVOKED).await
    }

    async fn revoke(&self, ids: BTreeSet<TaskId>, terminate: bool) -> store::Result<Value> {
        let in_hand = self.view.in_hand();
        let came_of_it = self.revoke_all(ids.iter().cloned().collect(), terminate).await?;
        let flagged = python::repr_set(ids.iter().map(TaskId::as_str));
        info!("remote control: tasks {flagged} flagged as revoked{}", if terminate { " and ended" } else { "" });
        if !terminate {
            return Ok(json!({ "ok": format!("tasks {flagged} flagged as revoked") }));
        }
        // Another worker that heard the same may have been faster; then this one had it all the same.
        let is_met = |id: &TaskId, revoked: &Revoked| {
            matches!(revoked, Revoked::BeforeStart | Revoked::WhileRunning)
                || in_hand.iter().any(|one| one.message.id == *id)
        };
        let met = came_of_it.iter().filter(|(id, revoked)| is_met(id, revoked));
        let met: Vec<&str> = met.map(|(id, _)| id.as_str()).collect();
        let met = if met.is_empty() { "tasks unknown".to_owned() } else { met.join(", ") };
        Ok(json!({ "ok": format!("terminate: {met}") }))
    }

    async fn revoke_all(&self, ids: Vec<TaskId>, terminate: bool) -> store::Result<Vec<(TaskId, Revoked)>> {
        let revoking = ids.into_iter().map(|id| async move {
            let came_of_it = self.client.revoke(&id, terminate).await?;
            Ok((id, came_of_it))
        });
        // In the order in which they came, so that the oldest is also forgotten first.
        let answers: Vec<_> = futures_util::stream::iter(revoking).buffered(AT_ONCE).collect().await;
        answers.into_iter().collect()
    }
}

fn is_too_late(command: &Command, now: Timestamp) -> bool {
    command.expires.is_some_and(|expires| now.signed_duration_since(expires) > CLOCKS_APART)
}

/// What is answered where the store did not do what `method` needs.
fn failed(method: &str, cause: &store::Error) -> Value {
    if cause.is_told() {
        debug!("remote control: `{method}` is not done: {cause}");
    } else {
        warn!("remote control: `{method}` is not done: {cause}");
    }
    json!({ "error": python::exception("ConnectionError", &cause.to_string()) })
}
