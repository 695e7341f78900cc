//! Why a request was refused, as a problem document (RFC 9457).

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tracing::error;

use super::token::{Scope, Unknown};
use crate::channels;
use crate::client::{RetryError, SubmitError};
use crate::store;
use crate::task::{TaskId, did_you_mean, nearest};

/// Why a request was refused. Its status is decided beside the router.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("nothing is at `{path}`; tasks are at `/api/tasks`, what can run is at `/api/catalog`")]
    UnknownPath { path: String },
    #[error("no task with the id `{id}` is known; results are kept for a time only")]
    UnknownRun { id: String },
    #[error("`{path}` does not take {method}")]
    WrongMethod { method: Method, path: String },
    /// It is not JSON, or not of the form that is read there.
    #[error("{reason}")]
    Unreadable { reason: String },
    /// A field of the body or of the query.
    #[error("`{field}` {reason}{}", did_you_mean(*.nearest))]
    BadField { field: String, reason: String, nearest: Option<&'static str> },
    #[error("{what} may have {limit} {unit} at most")]
    TooLarge { what: &'static str, limit: usize, unit: &'static str },
    #[error("{what} did not come within {seconds} s")]
    TooSlow { what: &'static str, seconds: u64 },
    /// As many as there may be are doing the same.
    #[error("{reason}")]
    Busy { reason: String },
    #[error("no code of the task `{id}` is kept: {reason}")]
    NoSource { id: TaskId, reason: &'static str },
    #[error("no queue `{name}`: nothing waits there, no task is sent there, and it is not paused")]
    UnknownQueue { name: String },
    #[error("{reason}")]
    Foreign { reason: String },
    #[error(transparent)]
    Unauthorized(Unknown),
    #[error("the token `{bearer}` lacks the scope that this needs: {}", names(.scopes))]
    Forbidden { bearer: String, scopes: Vec<Scope> },
    #[error("a path with its query may have {limit} bytes at most")]
    LongUri { limit: usize },
    #[error("{what} is not read here; {way_out}")]
    Unsupported { what: String, way_out: &'static str },
    #[error("{reason}")]
    NotReady { part: &'static str, reason: String },
    #[error("`{path}` is for WebSockets: {reason}")]
    SocketsOnly { path: String, reason: String },
    #[error(transparent)]
    Socket(#[from] channels::Refused),
    /// One of a batch; none of it was stored.
    #[error("task {index} of the batch: {problem}")]
    At { index: usize, problem: Box<Problem> },
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("{0}")]
    NotAgain(RetryError),
    #[error(transparent)]
    Store(#[from] store::Error),
}

fn names(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| format!("`{}`", scope.as_str())).collect::<Vec<_>>().join(" or ")
}

impl From<PathRejection> for Problem {
    fn from(why: PathRejection) -> Self {
        Self::Unreadable { reason: format!("the path cannot be read: {}", why.body_text()) }
    }
}

impl From<RetryError> for Problem {
    fn from(error: RetryError) -> Self {
        match error {
            RetryError::Unknown { id } => Self::UnknownRun { id: id.to_string() },
            RetryError::Submit(error) => Self::Submit(error),
            error => Self::NotAgain(error),
        }
    }
}

impl Problem {
    /// `name` is none of `known`.
    pub(super) fn unknown_field(name: &str, place: &str, known: &[&'static str]) -> Self {
        Self::BadField {
            field: name.to_owned(),
            reason: format!("is not a field of {place}; there are {}", known.join(", ")),
            nearest: nearest(name, known.iter().copied()),
        }
    }

    /// What a program may want to know besides the text.
    fn members(&self) -> Value {
        match self {
            Self::BadField { field, nearest, .. } => json!({ "parameter": field, "nearest": nearest }),
            Self::TooLarge { limit, .. } => json!({ "limit": limit }),
            Self::UnknownRun { id } => json!({ "id": id }),
            Self::NoSource { id, .. } => json!({ "id": id }),
            Self::UnknownQueue { name } => json!({ "queue": name }),
            Self::NotAgain(RetryError::NotEnded { id, state }) => json!({ "id": id, "state": state }),
            Self::NotAgain(RetryError::ArgumentsGone { id }) => json!({ "id": id }),
            Self::Store(store::Error::BadCursor { .. }) => json!({ "parameter": "cursor" }),
            Self::Submit(SubmitError::BadValue { place, .. }) => json!({ "parameter": place }),
            Self::Submit(SubmitError::KeyReused { .. }) => json!({ "parameter": "Idempotency-Key" }),
            Self::Forbidden { scopes, .. } => json!({ "scopes": scopes }),
            Self::LongUri { limit } => json!({ "limit": limit }),
            Self::NotReady { part, .. } => json!({ "part": part }),
            Self::Submit(SubmitError::UnknownTask { name, nearest }) => json!({ "task": name, "nearest": nearest }),
            Self::Submit(SubmitError::BrokenTask { name, .. }) => json!({ "task": name, "nearest": null }),
            Self::Submit(SubmitError::BadArguments { name, source }) => {
                json!({ "task": name, "parameter": source.parameter })
            }
            Self::Submit(SubmitError::BadField { field, .. }) => json!({ "parameter": field }),
            Self::Submit(SubmitError::Store(store::Error::DuplicateId { id }))
            | Self::Store(store::Error::DuplicateId { id }) => json!({ "id": id }),
            Self::At { index, problem } => {
                let mut members = problem.members();
                members["index"] = json!(index);
                members
            }
            _ => json!({}),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, kind) = self.class();
        let mut detail = self.to_string();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            error!("a request failed: {detail}");
            detail = "the server failed; its log says why".to_owned();
        }
        let mut document = Map::new();
        document.insert("type".to_owned(), json!(format!("urn:umbel:problem:{kind}")));
        document.insert("title".to_owned(), json!(kind.replace('-', " ")));
        document.insert("status".to_owned(), json!(status.as_u16()));
        document.insert("detail".to_owned(), json!(detail));
        if let Value::Object(members) = self.members() {
            document.extend(members.into_iter().filter(|(_, value)| !value.is_null()));
        }
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
