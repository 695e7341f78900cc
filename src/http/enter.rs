//! What every request goes through: who asks from where, in what form, with what right; then its handler; then what
//! every answer has and is counted by.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::warn;

use super::access::{self, Access};
use super::seldom::Seldom;
use super::token::{self, Bearer, Unknown};
use super::{Door, Problem, Shared, guard, metrics};

/// The longest path with its query, in bytes; 414 beyond.
const LONGEST_URI: usize = 8 << 10;

pub(super) async fn enter(State(door): Shared, mut request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let is_api = request.uri().path().starts_with("/api");
    let answered = match admit(&door, &mut request) {
        Ok(()) => door.answers.hold(next.run(request).await),
        Err(problem) => Err(problem),
    };
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_api {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    metrics::answered(&method, route.as_ref(), response.status());
    response
}

fn admit(door: &Arc<Door>, request: &mut Request) -> Result<(), Problem> {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let needed = access::needed(request.method(), route);
    // A platform asks by address, whatever our names are; what it is told is no secret.
    guard::check(request.uri(), request.headers(), &door.hosts, needed == Access::Open)?;
    check_form(request.uri(), request.headers())?;
    // Also where nobody asks for one: a page that shows its token is to work there as well, and a consumer's script
    // is never to see it.
    let in_query = token::take_from_query(request.uri_mut());
    if door.tokens.is_open() {
        return Ok(());
    }
    let scopes = match needed {
        Access::Open => return Ok(()),
        Access::Token(scopes) => scopes,
        Access::Nobody => return Err(Problem::UnknownPath { path: request.uri().path().to_owned() }),
    };
    let bearer = recognize(door, request, in_query).map_err(|why| {
        if why == Unknown::Wrong {
            tell(request);
        }
        Problem::Unauthorized(why)
    })?;
    bearer.may(scopes)?;
    request.extensions_mut().insert(bearer);
    Ok(())
}

fn recognize(door: &Door, request: &Request, in_query: Option<String>) -> Result<Bearer, Unknown> {
    let known = |shown: &str| door.tokens.bearer(shown).cloned().ok_or(Unknown::Wrong);
    if let Some(shown) = token::in_header(request.headers())? {
        return known(shown);
    }
    match in_query {
        None => Err(Unknown::Missing),
        Some(_) if !may_ask_by_query(request.method(), request.headers()) => Err(Unknown::InQuery),
        Some(shown) => known(&shown),
    }
}

// A browser lets a page set no header for a WebSocket and for an EventSource. Elsewhere a query is no place for a
// token: it stays in histories and in the logs of proxies.
fn may_ask_by_query(method: &Method, headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
            .is_some_and(|value| value.split([',', ';']).any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    method == Method::GET && (has(header::UPGRADE, "websocket") || has(header::ACCEPT, "text/event-stream"))
}

fn tell(request: &Request) {
    static TOLD: Seldom = Seldom::new();
    if TOLD.may() {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or("?".to_owned(), |peer| peer.0.ip().to_string());
        warn!(peer, "a request from {peer} showed a token that is not known");
    }
}

/// What no route takes.
fn check_form(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let length = uri.path().len() + uri.query().map_or(0, str::len);
    if length > LONGEST_URI {
        return Err(Problem::LongUri { limit: LONGEST_URI });
    }
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity") || value.is_empty();
    if let Some(encoding) = headers.get_all(header::CONTENT_ENCODING).iter().find(|value| !plain(value)) {
        let what = format!("a body encoded as `{}`", String::from_utf8_lossy(encoding.as_bytes()));
        return Err(Problem::Unsupported { what, way_out: "send it as it is, without `Content-Encoding`" });
    }
    let is_form = |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().starts_with(b"multipart/");
    if headers.get_all(header::CONTENT_TYPE).iter().any(is_form) {
        let what = "a form of parts".to_owned();
        return Err(Problem::Unsupported { what, way_out: "send JSON as the whole body, as `curl -d` does" });
    }
    Ok(())
}
