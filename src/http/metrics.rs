//! `/metrics`: what Prometheus reads, in its text format 0.0.4.
//!
//! What happens is counted where it happens, by the `metrics` facade, into one recorder of the process. What is, such
//! as the depth of a queue, is asked when it is read: then a queue that is gone leaves no number behind.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::extract::{MatchedPath, State};
use axum::http::{HeaderName, Method, StatusCode, header};
use metrics::{Unit, counter};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::Shared;
use super::exposition::Page;
use crate::store::{self, Depth, Queue};

/// Each observed value lies in memory until it is sorted into its bucket.
const SORT_EVERY: Duration = Duration::from_secs(2);

/// How long the store may take to tell of its queues.
const PATIENCE: Duration = Duration::from_secs(1);

/// Upper bounds of the buckets of every histogram, in seconds: from a task that adds two numbers to one that has half
/// an hour.
const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0, 600.0, 1800.0];

/// What is counted, and what it means.
const COUNTED: [(&str, &str); 9] = [
    ("umbel_tasks_received_total", "Tasks that a worker has claimed"),
    ("umbel_tasks_started_total", "Attempts whose script began"),
    ("umbel_tasks_succeeded_total", "Tasks that succeeded"),
    ("umbel_tasks_failed_total", "Tasks that failed for good"),
    ("umbel_tasks_retried_total", "Attempts that will be tried again"),
    ("umbel_tasks_revoked_total", "Tasks that were revoked or had expired"),
    ("umbel_http_requests_total", "Answers by route and status"),
    ("umbel_beat_ticks_total", "Due times for which this process sent a task"),
    ("umbel_store_errors_total", "Calls to the store that failed, by the part that made them"),
];

/// The recorder of a process, and since when it counts. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    since: SystemTime,
}

impl Metrics {
    /// The recorder into which this process counts from now on; asked again, it is the same.
    pub fn install() -> Self {
        static INSTALLED: OnceLock<Metrics> = OnceLock::new();
        let metrics = INSTALLED.get_or_init(|| {
            let metrics = Self::alone();
            // Refused only where an embedder has set a recorder of its own, which then counts.
            let _ = metrics::set_global_recorder(metrics.recorder.clone());
            metrics
        });
        metrics.clone()
    }

    /// A recorder into which nobody counts by itself.
    pub fn alone() -> Self {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS);
        let recorder = builder.expect("the buckets are not empty").build_recorder();
        let metrics = Self { recorder: Arc::new(recorder), since: SystemTime::now() };
        metrics::with_local_recorder(&metrics.recorder, describe);
        metrics
    }

    /// Keeps what was observed small, without end.
    pub(super) async fn keep(&self) -> Infallible {
        let mut timer = tokio::time::interval(SORT_EVERY);
        let handle = self.recorder.handle();
        loop {
            timer.tick().await;
            handle.run_upkeep();
        }
    }
}

fn describe() {
    for (name, help) in COUNTED {
        metrics::describe_counter!(name, help);
    }
    metrics::describe_histogram!("umbel_task_duration_seconds", Unit::Seconds, "How long an attempt ran");
    metrics::describe_histogram!(
        "umbel_task_queue_seconds",
        Unit::Seconds,
        "From when an attempt was due until it began"
    );
    metrics::describe_gauge!("umbel_tasks_running", "Tasks that run now");
    metrics::describe_gauge!("umbel_slots", "Tasks that can run at the same time");
}

/// Counts one answer.
pub(super) fn answered(method: &Method, route: Option<&MatchedPath>, status: StatusCode) {
    // Anybody may invent methods, and each would be a series of its own.
    let method = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        _ => "other",
    };
    let route = route.map_or("other".to_owned(), |route| route.as_str().to_owned());
    counter!("umbel_http_requests_total", "method" => method, "route" => route, "status" => status.as_str().to_owned())
        .increment(1);
}

#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "show_metrics",
    responses((status = 200, description = "What Prometheus reads", body = String, content_type = "text/plain")),
)]
pub(super) async fn show(State(door): Shared) -> ([(HeaderName, &'static str); 1], String) {
    let mut page = Page(door.metrics.recorder.handle().render());
    tell_process(&mut page, door.metrics.since);
    page.gauge("umbel_websockets_open", "Open WebSockets", [(vec![], door.hub.sockets() as f64)]);
    let catalogs = door.client.catalogs();
    let (loads, broken) = (*catalogs.changes().borrow(), catalogs.current().broken.len());
    page.counter("umbel_catalog_loads_total", "How often scripts were loaded anew", loads as f64);
    page.gauge("umbel_scripts_broken", "Files that do not compile", [(vec![], broken as f64)]);
    let queue = door.client.stores().queue.as_ref();
    let asked = async {
        tell_queues(&mut page, queue).await?;
        queue.ping().await
    };
    let up = f64::from(matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(()))));
    page.gauge("umbel_store_up", "Whether the store answers and can be written", [(vec![], up)]);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0)
}

fn tell_process(page: &mut Page, since: SystemTime) {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    page.gauge("umbel_build_info", "The version that runs", [(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)]);
    page.gauge("umbel_process_start_time_seconds", "When it started, since 1970", [(vec![], since)]);
    if let Some(bytes) = resident() {
        page.gauge("umbel_process_resident_memory_bytes", "Memory that it holds", [(vec![], bytes as f64)]);
    }
}

async fn tell_queues(page: &mut Page, queue: &dyn Queue) -> store::Result<()> {
    let (queues, dead) = tokio::try_join!(queue.queues(), queue.dead_letters())?;
    let depths = queues.iter().flat_map(|facts| {
        let Depth { ready, delayed, claimed } = facts.depth;
        [("ready", ready), ("delayed", delayed), ("claimed", claimed)]
            .map(|(state, count)| (vec![("queue", facts.name.as_str()), ("state", state)], count as f64))
    });
    page.gauge("umbel_queue_messages", "Tasks in a queue", depths);
    let paused = queues.iter().map(|facts| (vec![("queue", facts.name.as_str())], f64::from(facts.paused)));
    page.gauge("umbel_queue_paused", "Whether nothing of a queue is claimed", paused);
    page.gauge("umbel_dead_letters", "Messages that could not be read", [(vec![], dead as f64)]);
    Ok(())
}

/// In bytes; `None` where the system does not tell it so.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    resident_in(&status)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_that_of_linux() {
        assert_eq!(resident_in("Name:\tumbel\nVmRSS:\t   12345 kB\nThreads:\t1\n"), Some(12_345 << 10));
        assert_eq!(resident_in("Name:\tumbel\n"), None);
    }
}
