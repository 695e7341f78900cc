//! Which runs are looked for, and whether one of them fits; both stores ask here.

use crate::task::{Failure, Json, QueueName, Run, State, Timestamp};

/// The largest value that a list shows, in bytes of JSON.
pub const LIGHT: usize = 4 << 10;

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The task's whole name, or the beginning of it and a star: `reports.*`.
    pub name: Option<String>,
    pub state: Option<State>,
    pub queue: Option<QueueName>,
    /// Queued at this time or later.
    pub since: Option<Timestamp>,
    /// In the id, the task's name, the arguments, the result or the error, whatever the case of its letters.
    pub q: Option<String>,
    /// At most so many.
    pub limit: usize,
    /// Where the page before this one ended; `None` is the newest.
    pub cursor: Option<String>,
}

/// Some of the runs that match.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Newest first, without their logs and children.
    pub runs: Vec<Run>,
    /// Where to go on; `None` when there are no more. A page may be empty and not the last: a search looks at a
    /// bounded number of runs at a time, and what a page shows is bounded too.
    pub next: Option<String>,
}

/// How much the runs of a page show, in bytes.
#[derive(Debug, Default)]
pub struct Weight(usize);

impl Weight {
    /// A page that shows so much takes no more runs.
    const FULL: usize = 1 << 20;
    /// What a run shows beside its values.
    const FRAME: usize = 512;

    pub fn add(&mut self, run: &Run) {
        let values = [&run.args, &run.kwargs, &run.result].into_iter().flatten().map(|json| json.get().len());
        let error = run.error.as_ref().map_or(0, |error| {
            let traceback = error.traceback.as_ref().map_or(0, String::len);
            error.exc_type.len() + error.exc_message.len().min(LIGHT) + light(traceback)
        });
        let note = run.progress.as_ref().and_then(|progress| progress.note.as_ref()).map_or(0, String::len);
        self.0 += Self::FRAME + values.map(light).sum::<usize>() + error + note;
    }

    pub fn is_full(&self) -> bool {
        self.0 >= Self::FULL
    }
}

/// What a list shows of a value of so many bytes: it, or nothing.
fn light(length: usize) -> usize {
    if length > LIGHT { 0 } else { length }
}

impl Filter {
    /// Whether `run` is one of those that are looked for.
    pub fn fits(&self, run: &Run) -> bool {
        self.fits_name(&run.task)
            && self.state.is_none_or(|state| state == run.state)
            && self.queue.as_ref().is_none_or(|queue| *queue == run.queue)
            && self.since.is_none_or(|since| run.queued_at.is_some_and(|at| at >= since))
            && self.q.as_ref().is_none_or(|q| says(run, &q.to_lowercase()))
    }

    /// Whether a task of that name may be among them.
    pub fn fits_name(&self, name: &str) -> bool {
        match self.name.as_deref().map(|wanted| (wanted, wanted.strip_suffix('*'))) {
            None => true,
            Some((_, Some(beginning))) => name.starts_with(beginning),
            Some((wanted, None)) => name == wanted,
        }
    }
}

fn says(run: &Run, text: &str) -> bool {
    let said = |place: &str| place.to_lowercase().contains(text);
    let said_in = |json: &Option<Json>| json.as_ref().is_some_and(|json| said(&unescaped(json)));
    let said_by = |why: &Failure| said(&why.exc_type) || said(&why.exc_message);
    said(run.id.as_str())
        || said(&run.task)
        || said_in(&run.args)
        || said_in(&run.kwargs)
        || said_in(&run.result)
        || run.error.as_ref().is_some_and(said_by)
}

// Python writes every letter that is not ASCII as `\u....`.
fn unescaped(json: &Json) -> std::borrow::Cow<'_, str> {
    if json.get().contains("\\u")
        && let Ok(value) = serde_json::from_str::<serde_json::Value>(json.get())
    {
        return value.to_string().into();
    }
    json.get().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let written = serde_json::json!({
            "id": "m1", "task": "reports.daily", "state": "FAILURE", "queue": "io", "priority": 0, "retries": 0,
            "queued_at": "2026-01-02T03:04:05Z", "started_at": null, "finished_at": null, "worker": null, "code": null,
            "kwargs": {"city": "Seoul"}, "error": {"exc_module": "builtins", "exc_type": "ValueError", "exc_message": "No Planet"},
        });
        serde_json::from_str(&written.to_string()).unwrap()
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_name() {
        let fits = |name: &str| Filter { name: Some(name.into()), ..Filter::default() }.fits(&run());

        for name in ["reports.daily", "reports.*", "rep*", "*", "reports.daily*"] {
            assert!(fits(name), "{name}");
        }
        for name in ["reports", "reports.*y", "Reports.*", "", "daily*"] {
            assert!(!fits(name), "{name}");
        }
    }

    #[test]
    fn a_time_is_met_exactly() {
        let since = |text: &str| Filter { since: Some(text.parse().unwrap()), ..Filter::default() };

        assert!(since("2026-01-02T03:04:05Z").fits(&run()));
        assert!(!since("2026-01-02T03:04:05.000001Z").fits(&run()));
        let foreign = Run { queued_at: None, ..run() };
        assert!(!since("2026-01-02T03:04:05Z").fits(&foreign));
    }

    #[test]
    fn letters_that_python_escaped_are_found() {
        let args = r#"["\uc11c\uc6b8", "\u00c4"]"#;
        let run = Run { args: Some(serde_json::from_str(args).unwrap()), ..run() };
        let fits = |q: &str| Filter { q: Some(q.into()), ..Filter::default() }.fits(&run);

        for text in ["서울", "ä", "SEOUL", "no planet", "valueerror", "m1", ""] {
            assert!(fits(text), "{text}");
        }
        assert!(!fits("u00c4"));
    }
}
