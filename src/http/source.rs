//! `/api/tasks/{id}/source`: the code that a run ran, also after its file has changed.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::{Part, Problem, Shared};
use crate::plugin::Catalog;
use crate::task::{Run, TaskId};

/// The code of one run.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Shown {
    hash: String,
    /// The script of the task; null when the task is no longer there and its code has several files.
    file: Option<String>,
    /// The script and everything it imports, by path from the project's folder.
    files: BTreeMap<String, String>,
}

#[utoipa::path(
    get, path = "/api/tasks/{task}/source", tag = "tasks", operation_id = "show_source",
    params(("task" = String, Path, description = "The id of the task")),
    responses(
        (status = 200, description = "The code that its latest attempt ran", body = ref("#/components/schemas/Source")),
        (status = 404, description = "No such task is known, or its code is not kept", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn of_run(State(door): Shared, Part(id): Part) -> Result<Json<Shown>, Problem> {
    let unknown = || Problem::UnknownRun { id: id.clone() };
    let id = TaskId::parse(&id).map_err(|_| unknown())?;
    let run = door.client.load(&id).await?.ok_or_else(unknown)?;
    let Some(hash) = run.code.clone() else {
        return Err(Problem::NoSource { id, reason: "it has not run here" });
    };
    let catalog = door.client.catalogs().current();
    if let Some(shown) = current(&catalog, &hash) {
        return Ok(Json(shown));
    }
    match door.client.stores().sources.source(&hash).await? {
        Some(kept) => Ok(Json(Shown { file: main_file(&catalog, &run, &kept.files), hash, files: kept.files })),
        None => Err(Problem::NoSource { id, reason: "it changed since, and old code is kept for a time only" }),
    }
}

/// The code of that hash, if it is what runs now.
fn current(catalog: &Catalog, hash: &str) -> Option<Shown> {
    let script = &catalog.tasks.values().find(|task| *task.script.hash == *hash)?.script;
    let files = script.sources().map(|(file, text)| (file.to_owned(), text.to_owned())).collect();
    Some(Shown { hash: hash.to_owned(), file: Some(script.file.clone()), files })
}

fn main_file(catalog: &Catalog, run: &Run, files: &BTreeMap<String, String>) -> Option<String> {
    let now = catalog.task(&run.task).map(|task| &task.script.file).filter(|file| files.contains_key(*file));
    let only = || files.keys().next().filter(|_| files.len() == 1);
    now.or_else(only).cloned()
}
