//! `/api/openapi.json`: the API, for programs that write clients.
//!
//! Each handler says what it takes and answers, beside itself. What the answers are made of is in `schemas.json`: their
//! types belong to rooms that know no HTTP. What every route shares, tokens and refusals, is added here.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::{HeaderName, header};
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::access::TABLE;
use super::{catalog, dead_letters, events, health, listing, metrics, queues, schedules, source, tasks, workers};

#[derive(OpenApi)]
#[openapi(
    info(title = "umbel", description = "Background tasks, schedules and chat from scripts"),
    tags(
        (name = "tasks", description = "Send, look, wait, revoke, run again"),
        (name = "catalog", description = "What can run"),
        (name = "queues", description = "What waits"),
        (name = "schedules", description = "What runs by itself"),
        (name = "workers", description = "Who runs tasks"),
        (name = "plugins", description = "What is added"),
        (name = "health", description = "For those who run it"),
    ),
    paths(
        tasks::send, tasks::send_many, tasks::load, tasks::revoke, tasks::retry, listing::list, events::follow,
        source::of_run, catalog::all, catalog::one, catalog::plugins, dead_letters::list, queues::list, queues::one, queues::pause,
        queues::resume, queues::purge, schedules::list, workers::list, health::pointer, health::alive, health::ready,
        metrics::show, show,
    ),
)]
struct Written;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

#[utoipa::path(
    get, path = "/api/openapi.json", tag = "health", operation_id = "show_openapi",
    responses((status = 200, description = "This document", body = Object)),
)]
pub(super) async fn show() -> ([(HeaderName, &'static str); 1], Bytes) {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

fn document() -> Value {
    let mut document = serde_json::to_value(Written::openapi()).expect("what is written above is a document");
    let schemas: Value = serde_json::from_str(include_str!("schemas.json")).expect("the schemas are JSON");
    document["components"] = json!({
        "schemas": schemas,
        "securitySchemes": {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "Needed where the setting `tokens` has some. Who cannot set headers may write \
                                `?token=` for WebSockets and event streams.",
            },
        },
    });
    for (method, route, scopes) in TABLE {
        let operation = &mut document["paths"][*route][method.to_ascii_lowercase()];
        if operation.is_null() {
            continue;
        }
        operation["security"] = json!([{ "token": scopes }, {}]);
        let refusals = [
            ("401", "No token, or none that is known"),
            ("403", "The token lacks the scope, or the request is from another site"),
        ];
        for (status, why) in refusals {
            operation["responses"][status] = refusal(why);
        }
    }
    // Nothing is a body too, which the annotations cannot say.
    for route in ["/api/tasks/{task}", "/api/tasks/{task}/revoke"] {
        document["paths"][route]["post"]["requestBody"]["required"] = json!(false);
    }
    // What was looked for and not found, a WebSocket's route, left a null behind.
    let paths = document["paths"].as_object_mut().expect("a document has paths");
    paths.retain(|_, operations| operations.as_object().is_some_and(|known| known.values().all(Value::is_object)));
    for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(|known| known.values_mut()) {
        operation["responses"]["default"] = refusal("Anything else that keeps it from being done");
    }
    document
}

fn refusal(why: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    json!({ "description": why, "content": { "application/problem+json": { "schema": schema } } })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::access::OPEN;
    use crate::http::request::FIELDS;

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document = document();
        let written: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, operations)| {
                operations.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
            })
            .collect();

        let open = OPEN.iter().map(|route| ("GET".to_owned(), (*route).to_owned()));
        let routes = TABLE.iter().filter(|(_, route, _)| !route.starts_with("/ws/"));
        let routes = routes.map(|(method, route, _)| ((*method).to_owned(), (*route).to_owned()));
        assert_eq!(written, routes.chain(open).collect());
    }

    #[test]
    fn every_operation_says_how_any_refusal_looks() {
        let document = document();

        let operations = document["paths"].as_object().unwrap().values().flat_map(|known| known.as_object().unwrap());

        for (method, operation) in operations {
            let content = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{method} {operation}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();

        let named: BTreeSet<&str> =
            text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();

        let schemas = document["components"]["schemas"].as_object().unwrap();
        let known: BTreeSet<&str> = schemas.keys().map(String::as_str).chain(["Batch"]).collect();
        assert_eq!(named, known, "each schema is used, and each that is used is there");
    }

    #[test]
    fn a_request_has_the_fields_that_are_read() {
        let document = document();

        let schema = &document["components"]["schemas"]["Request"]["properties"];

        let fields: BTreeSet<&str> = schema.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, FIELDS.into_iter().collect());
    }
}
