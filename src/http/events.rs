//! `/api/tasks/{id}/events` and `/ws/tasks/{id}/`: what becomes of a run, as it happens.
//!
//! Both tell what one [`Follower`] finds. The store only signals that something may have changed, and many signals
//! are one; so a client that reads slowly costs nothing, misses what came and went meanwhile, and gets the latest.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::news::{Event, Seen, news};
use super::{Door, Part, Problem, Reply, Shared, body};
use crate::task::{Run, TaskId};

/// How many clients may follow runs at the same time; one more is refused.
pub(super) const FOLLOWERS: usize = 1_000;

/// After so long without an event something is sent, so that nobody between takes the connection for dead.
const ALIVE: Duration = Duration::from_secs(15);

/// When a client that lost its connection should come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// How long a client may take to read a frame, and to answer the last one.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Of each WebSocket, for reading and for writing.
const BUFFER: usize = 4096;

/// The largest frame that is read from a client, which has nothing to say.
const MAX_HEARD: usize = 1024;

/// Looks at one run for one client.
struct Follower {
    door: Arc<Door>,
    id: TaskId,
    changes: watch::Receiver<u64>,
    /// Something has changed that was not looked at.
    stale: bool,
    /// The door closes, so that this look is the last.
    closing: bool,
    seen: Option<Seen>,
    waiting: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// `after` is the last event that the client has seen.
    async fn begin(door: &Arc<Door>, id: &str, after: Option<&str>) -> Result<Self, Problem> {
        let unknown = || Problem::UnknownRun { id: id.to_owned() };
        let id = TaskId::parse(id).map_err(|_| unknown())?;
        let place = door.followers.clone().try_acquire_owned().map_err(|_| Problem::Busy {
            reason: format!("{FOLLOWERS} clients follow tasks already; ask for the task with `?wait=` instead"),
        })?;
        // Listen before looking: a change between the two would otherwise be seen late or never.
        let changes = door.client.stores().results.changes(&id).await?;
        let run = door.client.load(&id).await?;
        // In a store that others use too, it may be a task of theirs that we shall only know by its claim.
        if run.is_none() && door.client.stores().exclusive {
            return Err(unknown());
        }
        let seen = after.and_then(|after| after.parse().ok());
        let door = door.clone();
        let waiting = VecDeque::new();
        let mut follower = Self { door, id, changes, stale: false, closing: false, seen, waiting, _place: place };
        follower.learn(run);
        Ok(follower)
    }

    /// There is nothing more to tell: the run has ended, and the client knows.
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.seen.as_ref().is_some_and(Seen::is_final)
    }

    fn learn(&mut self, run: Option<Run>) {
        if let Some(run) = run {
            let (events, seen) = news(self.seen.as_ref(), &run);
            self.waiting.extend(events);
            self.seen = Some(seen);
        }
    }

    /// The next event; `None` when there are no more, when the store is away, and when the door closes. What was
    /// not waited for to its end is not lost.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.is_over() {
                return None;
            }
            if !self.stale {
                if self.closing {
                    return None;
                }
                tokio::select! {
                    changed = self.changes.changed() => changed.ok()?,
                    // What ran has ended by now, perhaps in this very moment.
                    () = self.door.close.cancelled() => self.closing = true,
                }
                self.stale = true;
            }
            let run = self.door.client.load(&self.id).await.ok()?;
            if run.is_none() && self.seen.is_some() {
                return None;
            }
            self.stale = false;
            self.learn(run);
        }
    }

    /// How the last frame says why there is nothing more to tell.
    fn farewell(&self) -> (u16, &'static str) {
        match (self.is_over(), self.door.close.is_cancelled()) {
            (true, _) => (1000, "the task has ended"),
            (false, true) => (1001, "umbel stops"),
            (false, false) => (1011, "the store is away, or the task was forgotten"),
        }
    }
}

#[utoipa::path(
    get, path = "/api/tasks/{task}/events", tag = "tasks", operation_id = "follow_task",
    description = "Events `state` and `progress` as they happen (SSE); the last one has the whole run. \
                   The same as frames of a WebSocket: `/ws/tasks/{id}/?after=`.",
    params(
        ("task" = String, Path, description = "The id of the task"),
        ("after" = Option<String>, Query, description = "The id of the last event that is known"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same; counts where both are given"),
    ),
    responses(
        (status = 200, description = "The events", content_type = "text/event-stream", body = String),
        (status = 204, description = "The run has ended, and `after` is its last event"),
        (status = 404, description = "No such task is known", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 503, description = "Too many follow tasks already", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn follow(
    State(door): Shared,
    Part(id): Part,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = body::query(&uri, &["after"])?;
    // A browser that comes back says there what it saw last, and repeats the query as it was.
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok());
    let follower = Follower::begin(&door, &id, last.or(query.get("after").map(String::as_str))).await?;
    if follower.is_over() {
        // This alone keeps a browser from coming back for ever.
        return Ok(Reply::NothingMore.into_response());
    }
    let kept = Sse::new(lines(follower)).keep_alive(KeepAlive::new().interval(ALIVE));
    let mut response = kept.into_response();
    // nginx would hold events back until it has a page of them.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn lines(follower: Follower) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let events = stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        let line = sse::Event::default().id(&event.id).event(event.event).data(event.data.get());
        Some((Ok(line), follower))
    });
    stream::once(async { Ok(sse::Event::default().retry(COME_BACK)) }).chain(events)
}

/// `/ws/tasks/{id}/?after=`: each event is a frame `{"id", "event", "data"}`.
pub(super) async fn socket(State(door): Shared, Part(id): Part, request: Request) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let query = body::query(&parts.uri, &["after"])?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &door)
        .await
        .map_err(|why| Problem::SocketsOnly { path: parts.uri.path().to_owned(), reason: why.body_text() })?;
    let follower = Follower::begin(&door, &id, query.get("after").map(String::as_str)).await?;
    let upgrade = upgrade.read_buffer_size(BUFFER).write_buffer_size(BUFFER);
    // A message is measured once it is there: without a bound of its own, a frame fills up before that.
    let upgrade = upgrade.max_message_size(MAX_HEARD).max_frame_size(MAX_HEARD);
    Ok(upgrade.on_upgrade(|socket| tell(follower, socket)))
}

async fn tell(mut follower: Follower, mut socket: WebSocket) {
    let mut alive = interval_at(Instant::now() + ALIVE, ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (code, reason) = loop {
        let (frame, _place) = tokio::select! {
            event = follower.next() => {
                let Some(event) = event else { break follower.farewell() };
                let text = crate::task::to_json(&event);
                let Ok(place) = follower.door.answers.place(text.get().len()) else {
                    break (1013, "too many answers wait to be read; come back with `after`");
                };
                (Message::Text(text.get().into()), place)
            },
            heard = socket.recv() => match heard {
                None | Some(Err(_) | Ok(Message::Close(_))) => return,
                Some(Ok(_)) => continue,
            },
            _ = alive.tick() => (Message::Ping(Default::default()), None),
        };
        if !matches!(timeout(READ_WITHIN, socket.send(frame)).await, Ok(Ok(()))) {
            return;
        }
    };
    let last = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    let parting = async {
        let _ = socket.send(last).await;
        // Until the client has closed too: what it has not read yet would be lost.
        while let Some(Ok(_)) = socket.recv().await {}
    };
    let _ = timeout(READ_WITHIN, parting).await;
}
