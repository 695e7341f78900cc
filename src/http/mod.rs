//! HTTP: the door through which other programs send tasks, look at them, and open sockets.
//!
//! A handler reads what was asked, calls a room below, and returns a `Reply` or a [`Problem`]; which status that is,
//! is decided in this file and nowhere else. Nothing is decided here about tasks: names, arguments and states are
//! `client`'s and the catalog's. Every refusal, axum's own too, is a problem document (RFC 9457).
//!
//! Bodies are read as JSON whatever their content type says, so that plain `curl -d` works. A page of another site
//! could send such bodies unasked; therefore `enter` stands before everything, WebSockets too: it asks where a request
//! comes from (`guard`) and whose it is (`token`, `access`).
//!
//! Connections are bounded in number and in what a client may keep waiting (`server`, `line`).

mod access;
mod answers;
mod body;
mod catalog;
mod cutter;
mod dead_letters;
mod enter;
mod events;
mod exposition;
mod guard;
mod health;
mod line;
mod listing;
mod metrics;
mod news;
mod once;
mod openapi;
mod parts;
mod problem;
mod queues;
mod request;
mod schedules;
mod seldom;
mod server;
mod sockets;
mod source;
mod tasks;
#[cfg(test)]
mod tests;
mod token;
mod workers;

use std::sync::Arc;

use axum::extract::{OriginalUri, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use futures_util::future;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use answers::Answers;
pub use metrics::Metrics;
use parts::Room;
pub use problem::Problem;
use server::Bounds;
use token::Tokens;
pub use token::{Scope, Token};

use crate::beat::Board;
use crate::channels::{self, Hub};
use crate::client::{Client, RetryError, SubmitError, Submitted};
use crate::store;
use crate::task::Run;

/// What HTTP gives access to.
#[derive(Clone)]
pub struct AppState {
    pub client: Client,
    pub hub: Hub,
    /// Host names, without port, that are answered besides those of this machine.
    pub hosts: Vec<String>,
    /// What beat keeps.
    pub board: Board,
    /// Who may do what; where there are none, everybody may do everything.
    pub tokens: Vec<Token>,
    /// The token of the lock file, which has every scope; `None` when another process holds it.
    pub local_token: Option<String>,
    pub metrics: Metrics,
    /// Cancelled when the process begins to stop: from then on it is not ready, and answers all the same.
    pub stopping: CancellationToken,
}

/// What handlers share.
struct Door {
    client: Client,
    hub: Hub,
    hosts: Vec<String>,
    board: Board,
    tokens: Tokens,
    metrics: Metrics,
    stopping: CancellationToken,
    /// Whoever waits for a run is answered when this is cancelled.
    close: CancellationToken,
    room: Room,
    answers: Answers,
    /// Turns to search the history.
    searches: Semaphore,
    /// Places for those who follow runs.
    followers: Arc<Semaphore>,
}

/// Answers until `close` is cancelled, then until the last answer has left and every socket has been closed, at most a
/// few seconds. Raises this process's limit of open files.
pub async fn serve(listener: TcpListener, state: AppState, close: CancellationToken) {
    let (metrics, hub, bounds) = (state.metrics.clone(), state.hub.clone(), Bounds::of_this_process());
    let answering = server::run(listener, router(state, close.clone()), bounds, close.clone());
    let closing = async {
        close.cancelled().await;
        hub.close_all(bounds.farewells).await;
    };
    tokio::select! {
        ((), ()) = future::join(answering, closing) => {}
        never = metrics.keep() => match never {},
    }
}

fn router(state: AppState, close: CancellationToken) -> Router {
    let AppState { client, hub, hosts, board, tokens, local_token, metrics, stopping } = state;
    let door = Arc::new(Door {
        client,
        hub,
        hosts,
        board,
        tokens: Tokens::new(&tokens, local_token.as_deref()),
        metrics,
        stopping,
        close,
        room: Room::new(),
        answers: Answers::new(),
        searches: Semaphore::new(listing::SEARCHES),
        followers: Arc::new(Semaphore::new(events::FOLLOWERS)),
    });
    Router::new()
        .route("/", get(health::pointer))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .route("/api/openapi.json", get(openapi::show))
        .route("/api/catalog", get(catalog::all))
        .route("/api/catalog/{name}", get(catalog::one))
        .route("/api/dead-letters", get(dead_letters::list))
        .route("/api/plugins", get(catalog::plugins))
        .route("/api/queues", get(queues::list))
        .route("/api/queues/{name}", get(queues::one))
        .route("/api/queues/{name}/pause", post(queues::pause))
        .route("/api/queues/{name}/purge", post(queues::purge))
        .route("/api/queues/{name}/resume", post(queues::resume))
        .route("/api/schedules", get(schedules::list))
        .route("/api/tasks", get(listing::list).post(tasks::send_many))
        .route("/api/tasks/{task}", get(tasks::load).post(tasks::send))
        .route("/api/tasks/{task}/events", get(events::follow))
        .route("/api/tasks/{task}/retry", post(tasks::retry))
        .route("/api/tasks/{task}/revoke", post(tasks::revoke))
        .route("/api/tasks/{task}/source", get(source::of_run))
        .route("/api/workers", get(workers::list))
        .route("/ws/tasks/{task}", get(events::socket))
        .route("/ws/tasks/{task}/", get(events::socket))
        .fallback(sockets::open)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(door.clone(), enter::enter))
        .with_state(door)
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    Problem::WrongMethod { method, path: uri.path().to_owned() }
}

type Shared = State<Arc<Door>>;

/// One part of a path, percent-decoded.
#[derive(axum::extract::FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
struct Part(String);

impl<'de> serde::Deserialize<'de> for Part {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input).map(Self)
    }
}

/// `text` as one part of a path.
pub fn path_part(text: &str) -> impl std::fmt::Display + '_ {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, PLAIN)
}

/// What was done about tasks.
enum Reply {
    /// Stored, not ended.
    Sent(Submitted),
    SentMany(Vec<Submitted>),
    /// What is kept of a task: it has ended, or nobody waits.
    Found(Box<Run>),
    /// The same, and it has not ended in the time that was given.
    Late(Box<Run>),
    Revoked(tasks::Revocation),
    /// The client knows all that there is.
    NothingMore,
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Sent(submitted) => {
                let place = format!("/api/tasks/{}", path_part(submitted.id.as_str()));
                let mut response = (StatusCode::ACCEPTED, Json(submitted)).into_response();
                // Encoded, it has no byte that a header may not have.
                response.headers_mut().extend(HeaderValue::from_str(&place).map(|place| (header::LOCATION, place)));
                response
            }
            Self::SentMany(submitted) => (StatusCode::ACCEPTED, Json(submitted)).into_response(),
            Self::Found(run) => Json(run).into_response(),
            Self::Late(run) => (StatusCode::ACCEPTED, Json(run)).into_response(),
            Self::NothingMore => StatusCode::NO_CONTENT.into_response(),
            Self::Revoked(revocation) => (StatusCode::ACCEPTED, Json(revocation)).into_response(),
        }
    }
}

impl Problem {
    /// The status, and the kind of problem that a program may tell it by.
    fn class(&self) -> (StatusCode, &'static str) {
        use StatusCode as Status;
        match self {
            Self::UnknownPath { .. } => (Status::NOT_FOUND, "unknown-path"),
            Self::UnknownRun { .. } => (Status::NOT_FOUND, "unknown-run"),
            Self::WrongMethod { .. } => (Status::METHOD_NOT_ALLOWED, "wrong-method"),
            Self::Unreadable { .. } => (Status::BAD_REQUEST, "unreadable"),
            Self::BadField { .. } => (Status::UNPROCESSABLE_ENTITY, "bad-field"),
            Self::TooLarge { .. } => (Status::PAYLOAD_TOO_LARGE, "too-large"),
            Self::Busy { .. } => (Status::SERVICE_UNAVAILABLE, "busy"),
            Self::NoSource { .. } => (Status::NOT_FOUND, "no-source"),
            Self::UnknownQueue { .. } => (Status::NOT_FOUND, "unknown-queue"),
            Self::NotAgain(RetryError::NotEnded { .. }) => (Status::CONFLICT, "not-ended"),
            Self::NotAgain(_) => (Status::CONFLICT, "arguments-gone"),
            Self::TooSlow { .. } => (Status::REQUEST_TIMEOUT, "too-slow"),
            Self::Foreign { .. } => (Status::FORBIDDEN, "foreign-request"),
            Self::Unauthorized(_) => (Status::UNAUTHORIZED, "no-token"),
            Self::Forbidden { .. } => (Status::FORBIDDEN, "lacking-scope"),
            Self::LongUri { .. } => (Status::URI_TOO_LONG, "long-uri"),
            Self::Unsupported { .. } => (Status::UNSUPPORTED_MEDIA_TYPE, "unsupported-body"),
            Self::NotReady { .. } => (Status::SERVICE_UNAVAILABLE, "not-ready"),
            Self::SocketsOnly { .. } => (Status::UPGRADE_REQUIRED, "sockets-only"),
            Self::Socket(channels::Refused::NotAccepted) => (Status::FORBIDDEN, "not-accepted"),
            Self::Socket(channels::Refused::Failed) => (Status::INTERNAL_SERVER_ERROR, "consumer-failed"),
            Self::Socket(_) => (Status::SERVICE_UNAVAILABLE, "no-socket"),
            Self::At { problem, .. } => problem.class(),
            Self::Submit(SubmitError::UnknownTask { .. } | SubmitError::BrokenTask { .. }) => {
                (Status::NOT_FOUND, "unknown-task")
            }
            Self::Submit(SubmitError::BadArguments { .. }) => (Status::UNPROCESSABLE_ENTITY, "bad-arguments"),
            Self::Submit(SubmitError::BadField { .. }) => (Status::UNPROCESSABLE_ENTITY, "bad-field"),
            Self::Submit(SubmitError::BadValue { .. }) => (Status::UNPROCESSABLE_ENTITY, "bad-value"),
            Self::Submit(SubmitError::KeyReused { .. }) => (Status::UNPROCESSABLE_ENTITY, "key-reused"),
            Self::Submit(SubmitError::Store(error)) | Self::Store(error) => match error {
                store::Error::DuplicateId { .. } => (Status::CONFLICT, "duplicate-id"),
                store::Error::Away { .. } => (Status::SERVICE_UNAVAILABLE, "store-away"),
                store::Error::Full { .. } => (Status::INSUFFICIENT_STORAGE, "store-full"),
                store::Error::BadCursor { .. } => (Status::UNPROCESSABLE_ENTITY, "bad-cursor"),
                _ => (Status::INTERNAL_SERVER_ERROR, "internal"),
            },
        }
    }
}
