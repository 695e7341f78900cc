//! `/api/catalog` and `/api/plugins`: what can run, and what is broken.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Part, Problem, Shared};
use crate::client::SubmitError;
use crate::plugin::Task;
use crate::task::{Options, show_duration};

#[utoipa::path(
    get, path = "/api/catalog", tag = "catalog", operation_id = "show_catalog",
    responses((status = 200, description = "The tasks, and the files that do not compile", body = ref("#/components/schemas/Catalog"))),
)]
pub(super) async fn all(State(door): Shared) -> Json<Value> {
    let catalog = door.client.catalogs().current();
    Json(json!({
        "tasks": catalog.tasks.values().map(|task| shown(task)).collect::<Vec<_>>(),
        "broken": catalog.broken,
        "plugins": catalog.plugins,
        "consumers": catalog.consumers.iter().map(|consumer| json!({
            "path": consumer.path,
            "plugin": consumer.plugin,
            "file": consumer.script.file,
            "hash": &*consumer.script.hash,
        })).collect::<Vec<_>>(),
    }))
}

#[utoipa::path(
    get, path = "/api/plugins", tag = "plugins", operation_id = "list_plugins",
    responses((status = 200, description = "The plugins, what they bring, and what is wrong with them", body = ref("#/components/schemas/Plugins"))),
)]
pub(super) async fn plugins(State(door): Shared) -> Json<Value> {
    let catalog = door.client.catalogs().current();
    let shown = catalog.plugins.iter().map(|plugin| {
        let is_its = |of: Option<&str>| of == Some(plugin.name.as_str());
        let tasks = catalog.tasks.values().filter(|task| is_its(task.plugin.as_deref()));
        let consumers = catalog.consumers.iter().filter(|consumer| is_its(Some(&consumer.plugin)));
        json!({
            "name": plugin.name,
            "version": plugin.version,
            "description": plugin.description,
            "broken": plugin.broken,
            "tasks": tasks.map(|task| &task.name).collect::<Vec<_>>(),
            "consumers": consumers.map(|consumer| &consumer.path).collect::<Vec<_>>(),
        })
    });
    Json(json!({ "plugins": shown.collect::<Vec<_>>() }))
}

#[utoipa::path(
    get, path = "/api/catalog/{name}", tag = "catalog", operation_id = "show_catalog_task",
    params(("name" = String, Path, description = "The name of the task")),
    responses(
        (status = 200, description = "The task", body = ref("#/components/schemas/Task")),
        (status = 404, description = "No such task", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn one(State(door): Shared, Part(name): Part) -> Result<Json<Value>, Problem> {
    let catalog = door.client.catalogs().current();
    match catalog.task(&name) {
        Some(task) => Ok(Json(json!(shown(task)))),
        None => Err(SubmitError::unknown(name, &catalog).into()),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    /// The parameters of each overload, fewest first.
    params: &'a [Vec<String>],
    doc: &'a str,
    file: &'a str,
    line: u32,
    hash: &'a str,
    plugin: Option<&'a str>,
    options: Value,
}

fn shown(task: &Task) -> Shown<'_> {
    Shown {
        name: &task.name,
        params: &task.overloads,
        doc: &task.doc,
        file: &task.script.file,
        line: task.line,
        hash: &task.script.hash,
        plugin: task.plugin.as_deref(),
        options: options(&task.options),
    }
}

// In the form in which a script declares them; a time is no longer than its plugin allows.
fn options(options: &Options) -> Value {
    let most = options.caps.time_limit;
    let time_limit = options.time_limit.map(|declared| most.map_or(declared, |most| most.min(declared)));
    json!({
        "queue": options.queue,
        "priority": options.priority,
        "time_limit": time_limit.map(show_duration),
        "soft_time_limit": options.soft_time_limit.map(show_duration),
        "ignore_result": options.ignore_result,
        "max_retries": options.max_retries,
        "autoretry": options.autoretry,
        "retry_backoff": options.retry_backoff.map(show_duration),
        "retry_backoff_max": show_duration(options.retry_backoff_max),
        "retry_jitter": options.retry_jitter,
        "default_retry_delay": show_duration(options.default_retry_delay),
        "acks_late": options.acks_late,
        "expires": options.expires.map(show_duration),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::task::Caps;

    #[test]
    fn a_time_is_shown_that_the_plugin_allows() {
        let shown = |declared, most: Option<u64>| {
            let caps = Caps { time_limit: most.map(Duration::from_secs), memory: None };
            let time_limit = Some(Duration::from_secs(declared));
            options(&Options { time_limit, caps, ..Options::default() })["time_limit"].clone()
        };

        assert_eq!([shown(30, None), shown(30, Some(20)), shown(30, Some(40))], ["30s", "20s", "30s"]);
    }
}
