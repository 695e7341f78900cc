//! HTTP: the door through which other programs send tasks, look at them, and open sockets.
//!
//! A handler reads what was asked, calls a room below, and returns a `Reply` or a [`Problem`]; which status that is,
//! is decided in this file and nowhere else. Nothing is decided here about tasks: names, arguments and states are
//! `client`'s and the catalog's. Every refusal, axum's own too, is a problem document (RFC 9457).
//!
//! Bodies are read as JSON whatever their content type says, so that plain `curl -d` works. A page of another site
//! could send such bodies unasked; therefore `guard` stands before everything, WebSockets too.
//!
//! Connections are bounded by the system's limit of open files. A client that does not finish its headers keeps its
//! connection; one that does not finish its body loses it.

mod body;
mod catalog;
mod guard;
mod health;
mod problem;
mod request;
mod sockets;
mod tasks;
#[cfg(test)]
mod tests;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router, middleware};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use problem::Problem;
pub use token::{Scope, Token};

use crate::channels::{self, Hub};
use crate::client::{Client, SubmitError, Submitted};
use crate::store;
use crate::task::Run;

/// How long answers may take to leave after the door was closed.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What HTTP gives access to.
#[derive(Clone)]
pub struct AppState {
    pub client: Client,
    pub hub: Hub,
    /// Host names, without port, that are answered besides those of this machine.
    pub hosts: Vec<String>,
}

/// What handlers share.
struct Door {
    client: Client,
    hub: Hub,
    hosts: Vec<String>,
    /// Whoever waits for a run is answered when this is cancelled.
    stop: CancellationToken,
    /// Batches in memory at a time.
    batches: Semaphore,
}

/// Answers until `stop` is cancelled, then until the last answer has left, at most a few seconds.
///
/// Sockets live on; [`Hub::close_all`] ends them.
///
/// # Errors
/// When `listener` fails.
pub async fn serve(listener: TcpListener, state: AppState, stop: CancellationToken) -> anyhow::Result<()> {
    let app = router(state, stop.clone()).into_make_service_with_connect_info::<SocketAddr>();
    // Small frames are not to wait for company.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let served = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        ended = served.into_future() => ended.context("HTTP failed"),
        () = late => Ok(()),
    }
}

fn router(state: AppState, stop: CancellationToken) -> Router {
    let AppState { client, hub, hosts } = state;
    let door = Arc::new(Door { client, hub, hosts, stop, batches: Semaphore::new(body::BATCHES_AT_A_TIME) });
    Router::new()
        .route("/", get(health::pointer))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/api/catalog", get(catalog::all))
        .route("/api/catalog/{name}", get(catalog::one))
        .route("/api/tasks", get(tasks::list).post(tasks::send_many))
        .route("/api/tasks/{task}", get(tasks::load).post(tasks::send))
        .route("/api/tasks/{task}/revoke", post(tasks::revoke))
        .fallback(sockets::open)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(door.clone(), guard::check))
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
            Self::TooSlow { .. } => (Status::REQUEST_TIMEOUT, "too-slow"),
            Self::Foreign { .. } => (Status::FORBIDDEN, "foreign-request"),
            Self::NotReady { .. } => (Status::SERVICE_UNAVAILABLE, "not-ready"),
            Self::SocketsOnly { .. } => (Status::UPGRADE_REQUIRED, "sockets-only"),
            Self::Socket(channels::Refused::NotAccepted) => (Status::FORBIDDEN, "not-accepted"),
            Self::Socket(channels::Refused::Failed) => (Status::INTERNAL_SERVER_ERROR, "consumer-failed"),
            Self::Socket(_) => (Status::SERVICE_UNAVAILABLE, "no-socket"),
            Self::At { problem, .. } => problem.class(),
            Self::Submit(SubmitError::UnknownTask { .. }) => (Status::NOT_FOUND, "unknown-task"),
            Self::Submit(SubmitError::BadArguments { .. }) => (Status::UNPROCESSABLE_ENTITY, "bad-arguments"),
            Self::Submit(SubmitError::BadField { .. }) => (Status::UNPROCESSABLE_ENTITY, "bad-field"),
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
