//! Whether the process lives, and whether it can work: what container platforms ask.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Problem, Shared};

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

#[utoipa::path(
    get, path = "/", tag = "health", operation_id = "show_pointer",
    responses((status = 200, description = "Where to go on", body = String, content_type = "text/plain")),
)]
pub(super) async fn pointer() -> &'static str {
    concat!(
        "umbel ",
        env!("CARGO_PKG_VERSION"),
        "\n\n",
        "GET  /api/catalog               what can run\n",
        "POST /api/tasks/{name}?wait=5s  run it: {\"args\": [1, 2]}\n",
        "GET  /api/tasks                 what ran, newest first\n",
        "GET  /api/openapi.json          the whole API\n",
        "GET  /readyz                    whether all is well\n",
    )
}

#[utoipa::path(
    get, path = "/healthz", tag = "health", operation_id = "is_alive",
    responses((status = 200, description = "The process lives", body = ref("#/components/schemas/Health"))),
)]
pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

#[utoipa::path(
    get, path = "/readyz", tag = "health", operation_id = "is_ready",
    responses(
        (status = 200, description = "Scripts are loaded and the store answers", body = ref("#/components/schemas/Health")),
        (status = 503, description = "Not yet, not now, or not any more", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn ready(State(door): Shared) -> Result<Json<Value>, Problem> {
    if door.stopping.is_cancelled() {
        return Err(Problem::NotReady { part: "process", reason: "umbel is stopping".to_owned() });
    }
    let catalogs = door.client.catalogs();
    if *catalogs.changes().borrow() == 0 {
        return Err(Problem::NotReady { part: "scripts", reason: "the scripts are not loaded yet".to_owned() });
    }
    let asked = tokio::time::timeout(PATIENCE, door.client.stores().queue.ping()).await;
    let reason = match asked {
        Ok(Ok(())) => return Ok(Json(json!({ "status": "ready", "tasks": catalogs.current().tasks.len() }))),
        Ok(Err(error)) => format!("the store does not answer: {error}"),
        Err(_) => format!("the store did not answer within {PATIENCE:?}"),
    };
    Err(Problem::NotReady { part: "store", reason })
}
