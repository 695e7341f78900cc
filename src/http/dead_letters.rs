//! `GET /api/dead-letters`: the messages that could not be run.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;

use super::{Problem, Shared, body};
use crate::store::DeadLetter;

/// How many are listed unless the query says otherwise, and at most: each may have 64 KiB.
const LISTED: (usize, usize) = (20, 100);

#[derive(Serialize)]
pub(super) struct Listing {
    dead_letters: Vec<DeadLetter>,
    /// How many there are.
    count: u64,
}

#[utoipa::path(
    get, path = "/api/dead-letters", tag = "queues", operation_id = "list_dead_letters",
    description = "Messages that could not be run, newest first, each with the reason. 10,000 are kept.",
    params(("limit" = Option<u32>, Query, description = "1 to 100, 20 unless given")),
    responses(
        (status = 200, description = "The newest of them", body = ref("#/components/schemas/DeadLetters")),
        (status = 422, description = "The limit is wrong", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(State(door): Shared, uri: Uri) -> Result<Json<Listing>, Problem> {
    let limit = body::limit(&body::query(&uri, &["limit"])?, LISTED)?;
    let queue = &door.client.stores().queue;
    let (dead_letters, count) = tokio::try_join!(queue.read_dead_letters(limit), queue.dead_letters())?;
    Ok(Json(Listing { dead_letters, count }))
}
