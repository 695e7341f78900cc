//! `GET /api/tasks`: the history, newest first, a page at a time.
//!
//! A page is light: it has no logs and no children, and a value of more than [`LIGHT`] is left out and named in
//! `truncated`; the run itself has them.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use chrono::Utc;
use serde::Serialize;

use super::{Problem, Shared, body};
use crate::store::{Filter, LIGHT};
use crate::task::{
    Failure, Json as Text, Progress, QueueName, Run, State as RunState, TaskId, Timestamp, parse_duration, read_time,
};

/// How many runs are listed unless the query says otherwise, and at most.
const LISTED: (usize, usize) = (50, 1000);

/// How many pages are looked for at a time: what was looked at for one is in memory until it is written. More of them
/// wait.
pub(super) const SEARCHES: usize = 8;

/// The longest text that is searched for, in bytes.
const MAX_SOUGHT: usize = 256;

const FIELDS: [&str; 7] = ["name", "state", "queue", "since", "q", "limit", "cursor"];

/// A page of the history.
#[derive(Serialize)]
pub(super) struct Listing {
    tasks: Vec<Listed>,
    /// What to ask for as `cursor` to go on; null at the end.
    next: Option<String>,
}

#[utoipa::path(
    get, path = "/api/tasks", tag = "tasks", operation_id = "list_tasks",
    description = "The runs that match, newest first. A page may have fewer than `limit`, or none, and a `next`.",
    params(
        ("name" = Option<String>, Query, description = "The task's name, or the beginning of it and a star: `reports.*`"),
        ("state" = Option<String>, Query, description = "One of SCHEDULED QUEUED STARTED RETRY SUCCESS FAILURE REVOKED"),
        ("queue" = Option<String>, Query, description = "The name of a queue"),
        ("since" = Option<String>, Query, description = "Queued at this time or later: ISO 8601, or a duration before now such as `1h`"),
        ("q" = Option<String>, Query, description = "A text in the id, the name, the arguments, the result or the error"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 50 unless given"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of the history", body = ref("#/components/schemas/Listing")),
        (status = 422, description = "A field of the query is wrong", body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(State(door): Shared, uri: Uri) -> Result<Json<Listing>, Problem> {
    let filter = filter(&uri, Utc::now())?;
    let _turn = door.searches.acquire().await.expect("the semaphore is never closed");
    let page = door.client.search(&filter).await?;
    Ok(Json(Listing { tasks: page.runs.into_iter().map(Listed::from).collect(), next: page.next }))
}

fn filter(uri: &Uri, now: Timestamp) -> Result<Filter, Problem> {
    let mut query = body::query(uri, &FIELDS)?;
    let limit = body::limit(&query, LISTED)?;
    let state = query.get("state").map(|name| {
        let names = || RunState::ALL.map(RunState::as_str).join(", ");
        RunState::parse(&name.to_uppercase()).ok_or_else(|| body::bad("state", &format!("must be one of {}", names())))
    });
    let queue =
        query.get("queue").map(|name| QueueName::parse(name).map_err(|why| body::bad("queue", &why.to_string())));
    let since = query.get("since").map(|text| since(text, now));
    let name = query.remove("name").map(|name| match name.find('*') {
        Some(star) if star + 1 < name.len() => Err(body::bad("name", "may have a star at its end only")),
        _ => Ok(name),
    });
    let q = query.remove("q").filter(|text| !text.is_empty()).map(|text| match text.len() {
        0..=MAX_SOUGHT => Ok(text),
        _ => Err(body::bad("q", &format!("may have {MAX_SOUGHT} bytes at most"))),
    });
    Ok(Filter {
        name: name.transpose()?,
        state: state.transpose()?,
        queue: queue.transpose()?,
        since: since.transpose()?,
        q: q.transpose()?,
        limit,
        cursor: query.remove("cursor"),
    })
}

fn since(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    const FORM: &str = "must be a time in ISO 8601, as in `2030-01-31T09:00:00Z`, or a duration before now, as in `1h`";
    // In a query `+` is a space, and whoever writes `+09:00` means it.
    let time = read_time(text).or_else(|| read_time(&text.replace(' ', "+")));
    let ago = || {
        let ago = chrono::Duration::from_std(parse_duration(text).ok()?).ok()?;
        Some(now.checked_sub_signed(ago).unwrap_or(Timestamp::MIN_UTC))
    };
    time.or_else(ago).ok_or_else(|| body::bad("since", FORM))
}

/// A run as it is listed.
#[derive(Serialize)]
struct Listed {
    id: TaskId,
    task: String,
    state: RunState,
    queue: QueueName,
    priority: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kwargs: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    retries: u32,
    queued_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eta: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    worker: Option<String>,
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_id: Option<TaskId>,
    /// The fields that are left out, or of `error` shortened, because they are large.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<&'static str>,
}

impl From<Run> for Listed {
    fn from(run: Run) -> Self {
        let mut truncated = Vec::new();
        let mut light = |value: Option<Text>, name| {
            let heavy = value.as_ref().is_some_and(|value| value.get().len() > LIGHT);
            truncated.extend(heavy.then_some(name));
            value.filter(|_| !heavy)
        };
        let (args, kwargs) = (light(run.args, "args"), light(run.kwargs, "kwargs"));
        let result = light(run.result, "result");
        let mut error = run.error;
        if error.as_mut().is_some_and(shorten) {
            truncated.push("error");
        }
        Self {
            id: run.id,
            task: run.task,
            state: run.state,
            queue: run.queue,
            priority: run.priority,
            args,
            kwargs,
            result,
            error,
            progress: run.progress,
            retries: run.retries,
            queued_at: run.queued_at,
            eta: run.eta,
            started_at: run.started_at,
            finished_at: run.finished_at,
            worker: run.worker,
            code: run.code,
            parent_id: run.parent_id,
            root_id: run.root_id,
            truncated,
        }
    }
}

/// Takes from `error` what makes it large. False when it was not.
fn shorten(error: &mut Failure) -> bool {
    let heavy_traceback = error.traceback.as_ref().is_some_and(|traceback| traceback.len() > LIGHT);
    let heavy_message = error.exc_message.len() > LIGHT;
    if heavy_traceback {
        error.traceback = None;
    }
    error.exc_message.truncate(error.exc_message.floor_char_boundary(LIGHT));
    heavy_traceback || heavy_message
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2030-01-02T00:00:00Z".parse().unwrap()
    }

    fn read(query: &str) -> Result<Filter, Problem> {
        filter(&format!("/api/tasks?{query}").parse().unwrap(), now())
    }

    #[test]
    fn every_filter_is_read() {
        let filter =
            read("name=reports.*&state=failure&queue=io&since=1h&q=%EC%84%B8%EA%B3%84&limit=7&cursor=c").unwrap();

        assert_eq!((filter.name.as_deref(), filter.state), (Some("reports.*"), Some(RunState::Failure)));
        assert_eq!((filter.queue.unwrap().as_str(), filter.q.as_deref()), ("io", Some("세계")));
        assert_eq!((filter.limit, filter.cursor.as_deref()), (7, Some("c")));
        assert_eq!(filter.since.unwrap().to_rfc3339(), "2030-01-01T23:00:00+00:00");
        let plain = read("").unwrap();
        assert_eq!((plain.limit, plain.cursor, plain.q), (50, None, None));
    }

    #[test]
    fn since_is_a_time_or_a_duration() {
        for (text, time) in [
            ("2029-12-31T00:00:00Z", "2029-12-31T00:00:00+00:00"),
            ("2029-12-31T09:00:00+09:00", "2029-12-31T00:00:00+00:00"),
            ("2029-12-31T09:00:00%2B09:00", "2029-12-31T00:00:00+00:00"),
            ("90", "2030-01-01T23:58:30+00:00"),
        ] {
            assert_eq!(read(&format!("since={text}")).unwrap().since.unwrap().to_rfc3339(), time, "{text}");
        }
    }

    #[test]
    fn a_wrong_filter_is_told_with_its_field() {
        let long = format!("q={}", "x".repeat(MAX_SOUGHT + 1));
        for (query, told) in [
            ("limit=0", "`limit` must be"),
            ("limit=1001", "`limit` must be"),
            ("state=DONE", "`state` must be one of SCHEDULED, "),
            ("queue=", "`queue` is empty"),
            ("since=yesterday", "`since` must be"),
            ("name=*.add", "`name` may have a star at its end"),
            ("sinse=1h", "did you mean `since`"),
            (&long, "`q` may have 256 bytes"),
        ] {
            let refused = read(query).unwrap_err().to_string();
            assert!(refused.contains(told), "{query}: {refused}");
        }
    }

    fn listed(fields: Value) -> Value {
        let mut run = json!({
            "id": "mine", "task": "math.add", "state": "FAILURE", "queue": "io", "priority": 3, "retries": 2,
            "log": [{ "at": now(), "level": "info", "text": "hello" }], "children": ["a"],
        });
        run.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let run: Run = serde_json::from_str(&run.to_string()).unwrap();
        serde_json::from_str(&serde_json::to_string(&Listed::from(run)).unwrap()).unwrap()
    }

    #[test]
    fn a_small_run_is_listed_whole_but_its_log() {
        let run = listed(json!({ "args": [1, 2], "result": 3, "code": "abc" }));

        assert_eq!((&run["args"], &run["result"], &run["code"]), (&json!([1, 2]), &json!(3), &json!("abc")));
        assert!(run.get("log").is_none() && run.get("children").is_none() && run.get("truncated").is_none(), "{run}");
    }

    #[test]
    fn what_is_large_is_left_out_and_named() {
        let large = "긴".repeat(LIGHT);
        let error = json!({ "exc_type": "E", "exc_module": "m", "exc_message": large, "traceback": large });

        let run = listed(json!({ "args": [large], "kwargs": { "a": 1 }, "result": large, "error": error }));

        assert_eq!(run["truncated"], json!(["args", "result", "error"]));
        assert!(
            run.get("args").is_none() && run.get("result").is_none() && run["kwargs"] == json!({ "a": 1 }),
            "{run}"
        );
        assert_eq!(run["error"]["exc_type"], "E");
        assert!(run.to_string().len() < 2 * LIGHT, "{run}");
    }
}
