//! What a client that follows a run is told of it: decides by what the client has seen, and knows no connection.
//!
//! The id of an event follows from the run alone, so that any process, also one that was started later, knows where a
//! client stands that comes back with the last id it saw.

use std::str::FromStr;

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::task::{Json, Progress, Run, State, to_json};

/// How far a client knows a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    retries: u32,
    state: State,
    /// Of the progress it was told in this state; `None` when there was none.
    progress: Option<u32>,
}

/// One event of a run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Event {
    /// What a client that comes back gives as `after`.
    pub id: String,
    /// `state` or `progress`.
    pub event: &'static str,
    pub data: Json,
}

impl Seen {
    fn of(run: &Run) -> Self {
        Self { retries: run.retries, state: run.state, progress: run.progress.as_ref().map(mark) }
    }

    /// There will be no more events.
    pub fn is_final(&self) -> bool {
        self.state.is_final()
    }
}

/// What is new in `run` for a client that knows `seen`, and what it then knows.
///
/// Only the latest counts: states that came and went while nobody looked are not told.
pub(super) fn news(seen: Option<&Seen>, run: &Run) -> (Vec<Event>, Seen) {
    let now = Seen::of(run);
    let mut events = Vec::new();
    let same_state = seen.is_some_and(|seen| (seen.retries, seen.state) == (now.retries, now.state));
    if !same_state {
        let known = Seen { progress: None, ..now.clone() };
        events.push(Event { id: known.to_string(), event: "state", data: state(run) });
    }
    let same_progress = same_state && seen.is_some_and(|seen| seen.progress == now.progress);
    if let Some(progress) = run.progress.as_ref().filter(|_| !same_progress && !now.is_final()) {
        events.push(Event { id: now.to_string(), event: "progress", data: to_json(progress) });
    }
    (events, now)
}

fn state(run: &Run) -> Json {
    let at = match run.state {
        State::Scheduled | State::Queued => run.queued_at,
        State::Started => run.started_at,
        State::Retry => None,
        State::Success | State::Failure | State::Revoked => run.finished_at,
    };
    let eta = run.eta.filter(|_| matches!(run.state, State::Scheduled | State::Retry));
    let mut told = json!({ "state": run.state, "retries": run.retries, "at": at, "eta": eta, "worker": run.worker });
    if let Some(fields) = told.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    if !run.state.is_final() {
        return to_json(&told);
    }
    // The last event has everything, so that nobody has to ask again.
    #[derive(Serialize)]
    struct Last<'a> {
        #[serde(flatten)]
        told: serde_json::Value,
        run: &'a Run,
    }
    to_json(&Last { told, run })
}

/// Differs where the progress does.
fn mark(progress: &Progress) -> u32 {
    let hash = Sha256::digest(to_json(progress).get());
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// `2.STARTED`, or with progress `2.STARTED.9f86d081`.
impl std::fmt::Display for Seen {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.retries, self.state.as_str())?;
        self.progress.map_or(Ok(()), |progress| write!(out, ".{progress:08x}"))
    }
}

/// It is no id of ours.
#[derive(Debug)]
pub(super) struct Foreign;

impl FromStr for Seen {
    type Err = Foreign;
    fn from_str(text: &str) -> Result<Self, Foreign> {
        let mut parts = text.split('.');
        let retries = parts.next().and_then(|part| part.parse().ok()).ok_or(Foreign)?;
        let state = parts.next().and_then(State::parse).ok_or(Foreign)?;
        let progress = parts.next().map(|part| u32::from_str_radix(part, 16).map_err(|_| Foreign)).transpose()?;
        parts.next().is_none().then_some(Self { retries, state, progress }).ok_or(Foreign)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(state: &str, retries: u32, progress: Option<f64>) -> Run {
        let run = json!({
            "id": "mine", "task": "math.add", "state": state, "queue": "io", "priority": 3, "retries": retries,
            "started_at": "2030-01-01T00:00:00Z", "finished_at": "2030-01-01T00:00:01Z", "result": [1],
            "progress": progress.map(|done| json!({ "done": done, "total": 3.0 })),
        });
        serde_json::from_str(&run.to_string()).unwrap()
    }

    /// The events of a run for a client that knows `seen`, each as its name and its data.
    fn told(seen: Option<&str>, run: &Run) -> Vec<String> {
        let seen = seen.map(|seen| seen.parse().unwrap());
        let (events, _) = news(seen.as_ref(), run);
        events.into_iter().map(|event| format!("{} {} {}", event.id, event.event, event.data.get())).collect()
    }

    #[test]
    fn a_new_client_is_told_where_the_run_stands() {
        let expected = [
            r#"1.STARTED state {"state":"STARTED","retries":1,"at":"2030-01-01T00:00:00Z"}"#.to_owned(),
            format!(r#"{} progress {{"done":2.0,"total":3.0}}"#, Seen::of(&run("STARTED", 1, Some(2.0)))),
        ];

        assert_eq!(told(None, &run("STARTED", 1, Some(2.0))), expected);
    }

    #[test]
    fn nothing_is_told_twice() {
        let one = run("STARTED", 1, Some(1.0));
        let (events, seen) = news(None, &one);

        assert!(news(Some(&seen), &one).0.is_empty());
        assert_eq!(events.last().unwrap().id, seen.to_string());
        let more = told(Some(&seen.to_string()), &run("STARTED", 1, Some(2.0)));
        assert!(more.len() == 1 && more[0].contains(" progress "), "{more:?}");
        let retried = told(Some(&seen.to_string()), &run("STARTED", 2, Some(1.0)));
        assert_eq!(retried.len(), 2, "{retried:?}");
    }

    #[test]
    fn the_last_event_has_the_whole_run() {
        let ended = run("SUCCESS", 0, Some(3.0));
        let (events, seen) = news("0.STARTED".parse().ok().as_ref(), &ended);

        assert_eq!(events.len(), 1);
        let data: serde_json::Value = serde_json::from_str(events[0].data.get()).unwrap();
        assert_eq!((&data["state"], &data["run"]["result"]), (&json!("SUCCESS"), &json!([1])));
        assert!(seen.is_final() && "0.SUCCESS".parse::<Seen>().unwrap().is_final());
        assert!(news(Some(&"0.SUCCESS".parse().unwrap()), &ended).0.is_empty());
    }

    #[test]
    fn a_foreign_id_is_none() {
        for text in ["", "1", "1.", "x.STARTED", "1.DONE", "1.STARTED.xyz", "1.STARTED.1.2", "-1.STARTED"] {
            assert!(text.parse::<Seen>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_read_back(retries in any::<u32>(), state in 0..7usize, progress in any::<Option<u32>>()) {
            let seen = Seen { retries, state: State::ALL[state], progress };

            prop_assert_eq!(seen.to_string().parse::<Seen>().unwrap(), seen);
        }

        #[test]
        fn who_follows_from_any_point_ends_up_knowing_the_same(steps in prop::collection::vec((0..7usize, 0..3u32, any::<Option<i8>>()), 1..6)) {
            let mut seen: Option<Seen> = None;
            for (state, retries, progress) in steps {
                let run = run(State::ALL[state].as_str(), retries, progress.map(f64::from));
                let (events, now) = news(seen.as_ref(), &run);
                // Also a client that only kept the last id it was told is told nothing again.
                if let Some(last) = events.last() {
                    prop_assert!(news(Some(&last.id.parse().unwrap()), &run).0.is_empty());
                }
                prop_assert!(news(Some(&now), &run).0.is_empty());
                seen = Some(now);
            }
        }
    }
}
