//! `/api/workers`: who runs tasks.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::{Problem, Shared};
use crate::store::WorkerFacts;

#[derive(Serialize)]
pub(super) struct Listing {
    workers: Vec<WorkerFacts>,
}

#[utoipa::path(
    get, path = "/api/workers", tag = "workers", operation_id = "list_workers",
    responses((status = 200, description = "Every process that runs tasks, and what it runs now", body = ref("#/components/schemas/Workers"))),
)]
pub(super) async fn list(State(door): Shared) -> Result<Json<Listing>, Problem> {
    Ok(Json(Listing { workers: door.client.stores().roster.workers().await? }))
}
