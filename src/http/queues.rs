//! `/api/queues`: what waits, and the hand on the tap.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::{Door, Part, Problem, Shared, body};
use crate::store::{Depth, QueueFacts, Result as StoreResult};
use crate::task::QueueName;

/// How many queues may be paused of which nothing is known.
const MOST_STRANGE: usize = 1_000;

/// What waits in a queue.
#[derive(Serialize)]
pub(super) struct Shown {
    name: QueueName,
    /// Waiting for a worker.
    ready: u64,
    /// Waiting for their time.
    delayed: u64,
    /// Taken by a worker, and not ended.
    claimed: u64,
    /// Nothing of it starts.
    paused: bool,
    /// What is odd about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

#[derive(Serialize)]
pub(super) struct Listing {
    queues: Vec<Shown>,
    /// Messages that could not be read.
    dead_letters: u64,
}

#[derive(Serialize)]
pub(super) struct Purged {
    name: QueueName,
    /// How many tasks were revoked.
    purged: u64,
}

#[utoipa::path(
    get, path = "/api/queues", tag = "queues", operation_id = "list_queues",
    responses((status = 200, description = "Every queue that holds something, is paused or is that of a task", body = ref("#/components/schemas/Queues"))),
)]
pub(super) async fn list(State(door): Shared) -> Result<Json<Listing>, Problem> {
    let queues = known(&door).await?.into_values().map(Shown::from).collect();
    Ok(Json(Listing { queues, dead_letters: door.client.stores().queue.dead_letters().await? }))
}

#[utoipa::path(
    get, path = "/api/queues/{name}", tag = "queues", operation_id = "show_queue",
    params(("name" = String, Path, description = "The name of the queue")),
    responses(
        (status = 200, description = "What waits there", body = ref("#/components/schemas/Queue")),
        (status = 404, description = "No such queue is known", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn one(State(door): Shared, Part(name): Part) -> Result<Json<Shown>, Problem> {
    let queue = read(&name)?;
    match known(&door).await?.remove(&queue) {
        Some(facts) => Ok(Json(facts.into())),
        None => Err(Problem::UnknownQueue { name }),
    }
}

#[utoipa::path(
    post, path = "/api/queues/{name}/pause", tag = "queues", operation_id = "pause_queue",
    description = "From now on nothing of it starts, on any process, until it is resumed; what runs goes on.",
    params(("name" = String, Path, description = "The name of the queue, which may be empty yet")),
    responses((status = 200, description = "It is paused", body = ref("#/components/schemas/Queue"))),
)]
pub(super) async fn pause(State(door): Shared, Part(name): Part) -> Result<Json<Shown>, Problem> {
    turn(&door, &name, true).await
}

#[utoipa::path(
    post, path = "/api/queues/{name}/resume", tag = "queues", operation_id = "resume_queue",
    params(("name" = String, Path, description = "The name of the queue")),
    responses((status = 200, description = "It is not paused", body = ref("#/components/schemas/Queue"))),
)]
pub(super) async fn resume(State(door): Shared, Part(name): Part) -> Result<Json<Shown>, Problem> {
    turn(&door, &name, false).await
}

#[utoipa::path(
    post, path = "/api/queues/{name}/purge", tag = "queues", operation_id = "purge_queue",
    description = "Revokes everything that waits there, as `purged`; what runs goes on.",
    params(("name" = String, Path, description = "The name of the queue")),
    responses((status = 200, description = "How many tasks were removed", body = ref("#/components/schemas/Purged"))),
)]
pub(super) async fn purge(State(door): Shared, Part(name): Part) -> Result<Json<Purged>, Problem> {
    let name = read(&name)?;
    let purged = door.client.stores().queue.purge(&name).await?;
    Ok(Json(Purged { name, purged }))
}

fn read(name: &str) -> Result<QueueName, Problem> {
    QueueName::parse(name).map_err(|why| body::bad("name", &why.to_string()))
}

async fn turn(door: &Door, name: &str, paused: bool) -> Result<Json<Shown>, Problem> {
    let name = read(name)?;
    let queue = &door.client.stores().queue;
    // Whoever mistypes a name would wait for ever for what he meant to stop.
    let known = known(door).await?;
    let is_new = paused && !door.client.routes_to(&name) && !known.contains_key(&name);
    if is_new && known.values().filter(|facts| facts.paused).count() >= MOST_STRANGE {
        let reason =
            format!("is that of no task or message, and {MOST_STRANGE} queues are paused; resume some of them");
        return Err(body::bad("name", &reason));
    }
    queue.pause(&name, paused).await?;
    let depth = queue.depth(&name).await?;
    let shown = Shown::from(QueueFacts { name, depth, paused });
    Ok(Json(Shown { note: is_new.then_some("no task or message names this queue yet"), ..shown }))
}

/// Those that hold something or are paused, and those of the tasks there are.
async fn known(door: &Door) -> StoreResult<BTreeMap<QueueName, QueueFacts>> {
    let idle = door.client.queues();
    let idle = idle.into_iter().map(|name| QueueFacts { name, depth: Depth::default(), paused: false });
    let held = door.client.stores().queue.queues().await?;
    Ok(idle.chain(held).map(|facts| (facts.name.clone(), facts)).collect())
}

impl From<QueueFacts> for Shown {
    fn from(facts: QueueFacts) -> Self {
        let QueueFacts { name, depth: Depth { ready, delayed, claimed }, paused } = facts;
        Self { name, ready, delayed, claimed, paused, note: None }
    }
}
