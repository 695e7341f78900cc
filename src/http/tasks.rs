//! `/api/tasks`: send, look, wait, revoke.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;

use super::{Door, Part, Problem, Reply, Shared, body, request};
use crate::client::Submitted;
use crate::store::{Filter, Result as StoreResult, Revoked};
use crate::task::{Run, State as RunState, TaskId};

/// How many runs are listed unless the query says otherwise, and at most.
const LISTED: (usize, usize) = (50, 1000);

/// What came of a revocation.
#[derive(Serialize)]
pub(super) struct Revocation {
    id: TaskId,
    /// As far as it is known: `None` for a task that another program sent and nobody has claimed.
    state: Option<RunState>,
    /// A running task is being stopped.
    terminate: bool,
}

pub(super) async fn send(State(door): Shared, Part(task): Part, uri: Uri, body: Body) -> Result<Reply, Problem> {
    let wait = body::wait(&uri)?;
    let request = request::one(task, &body::read(body, body::ONE).await?)?;
    let submitted = door.client.submit(request).await?;
    let Some(patience) = wait else { return Ok(Reply::Sent(submitted)) };
    Ok(match door.wait(&submitted.id, patience).await? {
        Some(run) if run.state.is_final() => Reply::Found(Box::new(run)),
        Some(run) => Reply::Sent(Submitted { state: run.state, ..submitted }),
        None => Reply::Sent(submitted),
    })
}

pub(super) async fn send_many(State(door): Shared, uri: Uri, body: Body) -> Result<Reply, Problem> {
    body::query(&uri, &[])?;
    let _turn = door.batches.acquire().await.expect("the semaphore is never closed");
    let requests = request::many(&body::read(body, body::MANY).await?)?;
    let submitted = door.client.submit_many(requests).await;
    submitted.map(Reply::SentMany).map_err(|(index, problem)| request::at(index, problem))
}

pub(super) async fn load(State(door): Shared, Part(id): Part, uri: Uri) -> Result<Reply, Problem> {
    let wait = body::wait(&uri)?;
    let unknown = || Problem::UnknownRun { id: id.clone() };
    let task_id = TaskId::parse(&id).map_err(|_| unknown())?;
    let run = door.client.load(&task_id).await?.ok_or_else(unknown)?;
    let Some(patience) = wait.filter(|_| !run.state.is_final()) else { return Ok(Reply::Found(Box::new(run))) };
    let run = Box::new(door.wait(&task_id, patience).await?.ok_or_else(unknown)?);
    Ok(if run.state.is_final() { Reply::Found(run) } else { Reply::Late(run) })
}

#[derive(Serialize)]
pub(super) struct Listing {
    tasks: Vec<Run>,
    next: Option<String>,
}

pub(super) async fn list(State(door): Shared, uri: Uri) -> Result<Json<Listing>, Problem> {
    let mut query = body::query(&uri, &["name", "state", "limit"])?;
    let state = query.get("state").map(|name| {
        RunState::parse(name).ok_or_else(|| {
            body::bad("state", &format!("must be one of {}", RunState::ALL.map(RunState::as_str).join(", ")))
        })
    });
    let (usual, most) = LISTED;
    let limit = query.get("limit").map_or(Ok(usual), |text| match text.parse() {
        Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(body::bad("limit", &format!("must be a whole number from 1 to {most}"))),
    });
    let filter = Filter { state: state.transpose()?, limit: limit?, name: query.remove("name"), ..Filter::default() };
    let page = door.client.search(&filter).await?;
    Ok(Json(Listing { tasks: page.runs, next: page.next }))
}

pub(super) async fn revoke(State(door): Shared, Part(id): Part, body: Body) -> Result<Reply, Problem> {
    let terminate = request::terminate(&body::read(body, body::ONE).await?)?;
    let unknown = || Problem::UnknownRun { id: id.clone() };
    let id = TaskId::parse(&id).map_err(|_| unknown())?;
    let (state, terminate) = match door.client.revoke(&id, terminate).await? {
        Revoked::BeforeStart => (Some(RunState::Revoked), false),
        Revoked::WhileRunning => (Some(RunState::Started), terminate),
        Revoked::TooLate(state) => (Some(state), false),
        // In a store that others use too, it may be a task of theirs that we shall only know by its claim.
        Revoked::Unknown if door.client.stores().exclusive => return Err(unknown()),
        Revoked::Unknown => (None, terminate),
    };
    Ok(Reply::Revoked(Revocation { id, state, terminate }))
}

impl Door {
    // Who waits when the process stops is told how far the task is, instead of holding the process.
    async fn wait(&self, id: &TaskId, patience: Duration) -> StoreResult<Option<Run>> {
        tokio::select! {
            run = self.client.wait(id, patience) => run,
            () = self.stop.cancelled() => self.client.load(id).await,
        }
    }
}
