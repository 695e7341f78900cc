//! `/api/schedules`: what runs by itself, and when next.

use axum::Json;
use axum::extract::State;
use chrono::Utc;

use super::{Problem, Shared};
use crate::beat::Overview;

#[utoipa::path(
    get, path = "/api/schedules", tag = "schedules", operation_id = "list_schedules",
    responses((status = 200, description = "The entries that are kept, their next runs, and what is wrong with the file", body = ref("#/components/schemas/Schedules"))),
)]
pub(super) async fn list(State(door): Shared) -> Result<Json<Overview>, Problem> {
    Ok(Json(door.board.overview(door.client.stores(), Utc::now()).await?))
}
