//! Queries, and what bodies and they may have.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;

use super::Problem;
use crate::task::parse_duration;

/// The largest body that tells of one task, in bytes.
pub(super) const ONE: usize = 1 << 20;

/// The longest that a client is let wait for a run; who asks for more gets this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The query's fields, of which only `known` are accepted.
pub(super) fn query(uri: &Uri, known: &[&'static str]) -> Result<BTreeMap<String, String>, Problem> {
    let Query(fields) = Query::<BTreeMap<String, String>>::try_from_uri(uri)
        .map_err(|why| Problem::Unreadable { reason: format!("the query cannot be read: {}", why.body_text()) })?;
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Problem::unknown_field(name, "this query", known)),
        None => Ok(fields),
    }
}

/// The query's field `limit`, where what is usual and the most are given.
pub(super) fn limit(query: &BTreeMap<String, String>, (usual, most): (usize, usize)) -> Result<usize, Problem> {
    query.get("limit").map_or(Ok(usual), |text| match text.parse() {
        Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(bad("limit", &format!("must be a whole number from 1 to {most}"))),
    })
}

/// How long to wait for a run, from the query's only field `wait`; `None` is not at all.
pub(super) fn wait(uri: &Uri) -> Result<Option<Duration>, Problem> {
    let fields = query(uri, &["wait"])?;
    let Some(text) = fields.get("wait") else { return Ok(None) };
    match parse_duration(text) {
        Ok(wait) => Ok(Some(wait.min(LONGEST_WAIT))),
        Err(_) => Err(bad("wait", "must be seconds or a duration, as in `?wait=5s`")),
    }
}

/// `field` has a value that is refused.
pub(super) fn bad(field: &str, reason: &str) -> Problem {
    Problem::BadField { field: field.to_owned(), reason: reason.to_owned(), nearest: None }
}
