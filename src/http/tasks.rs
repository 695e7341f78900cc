//! `/api/tasks`: send, look, wait, revoke, run again.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use serde::Serialize;

use super::cutter::Cutter;
use super::once::Key;
use super::parts::Parts;
use super::{Door, Part, Problem, Reply, Shared, body, request};
use crate::client::{Batch, Request, Submitted};
use crate::store::{Result as StoreResult, Revoked};
use crate::task::{Run, State as RunState, TaskId};

/// How soon a claim of another process shows: within 40 ms over Redis, and the way there and back.
const CLAIM_SHOWS: Duration = Duration::from_millis(100);

/// What came of a revocation.
#[derive(Serialize)]
pub(super) struct Revocation {
    id: TaskId,
    /// As far as it is known: `None` for a task that another program sent and nobody has claimed.
    state: Option<RunState>,
    /// A running task is being stopped.
    terminate: bool,
}

#[utoipa::path(
    post, path = "/api/tasks/{task}", tag = "tasks", operation_id = "send_task",
    description = "Sends a task. With `wait` the answer is its run, if it ends in time.",
    params(
        ("task" = String, Path, description = "The name of the task, such as `math.add`"),
        ("wait" = Option<String>, Query, description = "Seconds or a duration such as `5s`; 60 s at most"),
        ("Idempotency-Key" = Option<String>, Header, description = "Sent again within 24 hours, and while its runs are kept, the same request is not done again"),
    ),
    request_body(content = ref("#/components/schemas/Request"), description = "All fields are optional, as is the body"),
    responses(
        (status = 200, description = "The run has ended, well or not", body = ref("#/components/schemas/Run")),
        (status = 202, description = "Stored, not ended; `Location` is where its run is", body = ref("#/components/schemas/Submitted")),
        (status = 404, description = "No such task", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 409, description = "The id is taken", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 413, description = "The body is larger than 1 MiB", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 422, description = "A field or an argument is wrong, or the key was used for another request", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 503, description = "Other large bodies are being read", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn send(
    State(door): Shared,
    Part(task): Part,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Reply, Problem> {
    let wait = body::wait(&uri)?;
    let key = Key::of(&headers, uri.path())?;
    let body = Parts::of_one(body, &door.room).gather().await?;
    let request = request::one(task, &body)?;
    let submitted = match key {
        None => door.client.submit(request).await?,
        Some(key) => door.submit_once(request, key, &body).await?,
    };
    // Who waits now may wait long, and needs no body.
    drop(body);
    let Some(patience) = wait else { return Ok(Reply::Sent(submitted)) };
    Ok(match door.wait(&submitted.id, patience).await? {
        Some(run) if run.state.is_final() => Reply::Found(Box::new(run)),
        Some(run) => Reply::Sent(Submitted { state: run.state, ..submitted }),
        None => Reply::Sent(submitted),
    })
}

#[utoipa::path(
    post, path = "/api/tasks", tag = "tasks", operation_id = "send_tasks",
    description = "Sends many tasks, which are stored all or none: an array, or one task a line (NDJSON).",
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again within 24 hours, and while its runs are kept, the same request is not done again")),
    request_body(
        content(
            (ref("#/components/schemas/Batch") = "application/json"),
            (String = "application/x-ndjson"),
        ),
        description = "10,000 tasks and 32 MiB at most",
    ),
    responses(
        (status = 202, description = "Stored, in the order of the request", body = ref("#/components/schemas/SubmittedMany")),
        (status = 404, description = "No such task; `index` says which", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 409, description = "An id is taken; `index` says which", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 413, description = "Too many or too large", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 422, description = "A field or an argument is wrong; `index` says which", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 503, description = "Other large bodies are being read", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn send_many(State(door): Shared, uri: Uri, headers: HeaderMap, body: Body) -> Result<Reply, Problem> {
    body::query(&uri, &[])?;
    let mut key = Key::of(&headers, uri.path())?;
    let mut parts = Parts::of_many(body, &door.room);
    let mut cutter = Cutter::new(is_lines(&headers));
    let mut batch = door.client.batch();
    while let Some(part) = parts.next().await? {
        key.iter_mut().for_each(|key| key.read(&part));
        cutter.feed(&part, &mut |index, text| add(&mut batch, key.as_ref(), index, text))?;
    }
    cutter.end(&mut |index, text| add(&mut batch, key.as_ref(), index, text))?;
    let submitted = match key {
        None => batch.submit().await,
        Some(key) => batch.submit_once(&key.end()).await,
    };
    submitted.map(Reply::SentMany).map_err(|(index, problem)| request::at(index, problem))
}

/// The sender says that each line is a task, so that also the first byte of another form is a mistake.
fn is_lines(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson", "application/jsonl"]
        .iter()
        .any(|name| kind.eq_ignore_ascii_case(name))
}

/// Reads and checks one task of a batch.
fn add(batch: &mut Batch, key: Option<&Key>, index: usize, text: &[u8]) -> Result<(), Problem> {
    let mut request = request::of_batch(text).map_err(|problem| request::at(index, problem))?;
    request.id = request.id.or_else(|| key.map(|key| key.id(index)));
    batch.add(request).map_err(|problem| request::at(index, problem))
}

#[utoipa::path(
    get, path = "/api/tasks/{task}", tag = "tasks", operation_id = "show_task",
    params(
        ("task" = String, Path, description = "The id of the task"),
        ("wait" = Option<String>, Query, description = "Seconds or a duration such as `5s`; 60 s at most"),
    ),
    responses(
        (status = 200, description = "The run: it has ended, or nobody waits", body = ref("#/components/schemas/Run")),
        (status = 202, description = "It has not ended in that time", body = ref("#/components/schemas/Run")),
        (status = 404, description = "No such task is known", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn load(State(door): Shared, Part(id): Part, uri: Uri) -> Result<Reply, Problem> {
    let wait = body::wait(&uri)?;
    let unknown = || Problem::UnknownRun { id: id.clone() };
    let task_id = TaskId::parse(&id).map_err(|_| unknown())?;
    let run = door.client.load(&task_id).await?.ok_or_else(unknown)?;
    let Some(patience) = wait.filter(|_| !run.state.is_final()) else { return Ok(Reply::Found(Box::new(run))) };
    let run = Box::new(door.wait(&task_id, patience).await?.ok_or_else(unknown)?);
    Ok(if run.state.is_final() { Reply::Found(run) } else { Reply::Late(run) })
}

#[utoipa::path(
    post, path = "/api/tasks/{task}/revoke", tag = "tasks", operation_id = "revoke_task",
    description = "Takes care that the task does not start; with `terminate` also stops it where it runs.",
    params(("task" = String, Path, description = "The id of the task")),
    request_body(content = ref("#/components/schemas/Revoke"), description = "`{\"terminate\": true}`, or nothing"),
    responses(
        (status = 202, description = "What is known of it, and whether it is being stopped", body = ref("#/components/schemas/Revocation")),
        (status = 404, description = "No such task is known", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke(State(door): Shared, Part(id): Part, body: Body) -> Result<Reply, Problem> {
    let terminate = request::terminate(&Parts::of_one(body, &door.room).gather().await?)?;
    let unknown = || Problem::UnknownRun { id: id.clone() };
    let id = TaskId::parse(&id).map_err(|_| unknown())?;
    let (state, terminate) = match door.client.revoke(&id, terminate).await? {
        Revoked::BeforeStart => (Some(RunState::Revoked), false),
        Revoked::WhileRunning => (Some(RunState::Started), terminate),
        Revoked::TooLate(state) => (Some(state), false),
        // In a store that others use too, it may be a task of theirs that we shall only know by its claim.
        Revoked::Unknown if door.client.stores().exclusive => return Err(unknown()),
        Revoked::Unknown => door.look_again(&id, terminate).await?,
    };
    Ok(Reply::Revoked(Revocation { id, state, terminate }))
}

#[utoipa::path(
    post, path = "/api/tasks/{task}/retry", tag = "tasks", operation_id = "retry_task",
    description = "Sends the task of an ended run again, as a new one with the same arguments, queue and priority.",
    params(("task" = String, Path, description = "The id of the task that has ended")),
    responses(
        (status = 202, description = "The new task; `Location` is where its run is", body = ref("#/components/schemas/Submitted")),
        (status = 404, description = "No such run is known, or its task is not there any more", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 409, description = "It has not ended, or its arguments are not kept", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn retry(State(door): Shared, Part(id): Part) -> Result<Reply, Problem> {
    let task_id = TaskId::parse(&id).map_err(|_| Problem::UnknownRun { id })?;
    Ok(Reply::Sent(door.client.retry(&task_id).await?))
}

impl Door {
    // Who waits when the door closes is told how far the task is, instead of holding the process.
    async fn wait(&self, id: &TaskId, patience: Duration) -> StoreResult<Option<Run>> {
        tokio::select! {
            run = self.client.wait(id, patience) => run,
            () = self.close.cancelled() => self.client.load(id).await,
        }
    }

    // Another process may have claimed an unknown task just before it was revoked; then it runs, and the store says so
    // soon.
    async fn look_again(&self, id: &TaskId, terminate: bool) -> StoreResult<(Option<RunState>, bool)> {
        let state = self.client.wait(id, CLAIM_SHOWS).await?.map(|run| run.state);
        Ok(match state {
            Some(state) if state.is_final() => (Some(state), false),
            // What waits under this id came after the revocation, and does not start.
            state => (state.filter(|state| *state == RunState::Started), terminate),
        })
    }

    async fn submit_once(&self, mut request: Request, mut key: Key, body: &[u8]) -> Result<Submitted, Problem> {
        key.read(body);
        request.id.get_or_insert_with(|| key.id(0));
        let mut batch = self.client.batch();
        batch.add(request)?;
        let submitted = batch.submit_once(&key.end()).await.map_err(|(_, error)| error)?;
        Ok(submitted.into_iter().next().expect("one was added above"))
    }
}
