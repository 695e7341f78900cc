//! `umbel send`: hands a task to a running umbel, and may wait for its end with a bar that shows how far it is.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bar::Bar;
use super::door::{self, Door, Reach};
use super::paper::say;
use super::{Task, arguments, duration, exit, runtime, show, time};
use crate::config::Settings;
use crate::http::path_part;
use crate::script::Broken;
use crate::task::{Json, Run, State, TaskId, Timestamp, show_duration};

/// How long one request lets the other side wait for the end of a task.
const ONE_WAIT: Duration = Duration::from_secs(30);

/// The same while somebody looks at the bar.
const ONE_LOOK: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
pub(super) struct Sending {
    #[command(flatten)]
    pub task: Task,
    /// Wait until it has ended, at most so long, and print its value instead.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, value_parser = duration)]
    pub wait: Option<Option<Duration>>,
    /// Do not start it before this much from now.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "eta")]
    countdown: Option<Duration>,
    /// Do not start it before this time, in ISO 8601; without a zone it is UTC.
    #[arg(long, value_name = "TIME", value_parser = time::exact)]
    eta: Option<Timestamp>,
    /// Do not start it later than this much from now.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
    /// The queue, instead of the task's own.
    #[arg(long)]
    queue: Option<String>,
    /// 0, the most urgent, to 9, instead of the task's own.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// How often it is tried again, instead of the task's own.
    #[arg(long, value_name = "COUNT")]
    max_retries: Option<u32>,
    /// Its id; one that is known already is refused, so that what is sent twice runs once.
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// The task has not ended in the time it was waited for.
#[derive(Debug, thiserror::Error)]
#[error("task {id} has not ended within {patience}: it is {state}", state = .state.as_str(), patience = show_duration(*.patience))]
struct Late {
    id: TaskId,
    state: State,
    patience: Duration,
}

/// `POST /api/tasks/{name}`; what is `None` is the task's own.
#[derive(Serialize)]
struct Body {
    args: Json,
    kwargs: Json,
    /// In seconds.
    countdown: Option<f64>,
    eta: Option<Timestamp>,
    /// In seconds.
    expires: Option<f64>,
    queue: Option<String>,
    priority: Option<u8>,
    max_retries: Option<u32>,
    id: Option<String>,
}

/// What is common to every answer about a task.
#[derive(Deserialize)]
struct Known {
    id: TaskId,
    state: State,
}

pub(super) fn run(
    sending: Sending,
    settings: impl FnOnce() -> Result<Settings, Broken>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let Sending { task, wait, countdown, eta, expires, queue, priority, max_retries, id, reach } = sending;
    let (args, kwargs) = arguments::read(task.arguments)?;
    let [countdown, expires] = [countdown, expires].map(|span| span.map(|span| span.as_secs_f64()));
    let body = Body { args, kwargs, countdown, eta, expires, queue, priority, max_retries, id };
    let door = Door::open(reach, settings)?;
    let answer = door.post(&format!("/api/tasks/{}", path_part(&task.task)), &serde_json::to_string(&body)?)?;
    let known: Known = door::read(&answer)?;
    let Some(patience) = wait else {
        say(if json { &answer } else { known.id.as_str() })?;
        return Ok(ExitCode::SUCCESS);
    };
    let (id, bar) = (known.id.clone(), Bar::new(&task.task, json));
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let clearing = bar.clone();
        let waiting = tokio::task::spawn_blocking(move || end(&door, known, patience, &bar));
        tokio::select! {
            ended = waiting => Some(ended),
            _ = tokio::signal::ctrl_c() => {
                clearing.clear();
                None
            }
        }
    });
    // A request that nobody waits for any more.
    runtime.shutdown_background();
    match ended {
        Some(ended) => {
            let answer = ended??;
            show(&door::read::<Run>(&answer)?, json)
        }
        None => {
            eprintln!("the task goes on; `umbel inspect {id}` shows it, `umbel revoke {id}` ends it");
            Ok(ExitCode::from(exit::INTERRUPTED))
        }
    }
}

/// Waits for the end of a task, and gives what is known of it then.
fn end(door: &Door, known: Known, patience: Option<Duration>, bar: &Bar) -> anyhow::Result<String> {
    let began = Instant::now();
    let Known { id, mut state } = known;
    let path = format!("/api/tasks/{}", path_part(id.as_str()));
    loop {
        let left = patience.map(|patience| patience.saturating_sub(began.elapsed()));
        if let Some(patience) = patience.filter(|_| left.is_some_and(|left| left.is_zero())) {
            bar.clear();
            return Err(Late { id, state, patience }.into());
        }
        let one = if bar.is_hidden() { ONE_WAIT } else { ONE_LOOK };
        let wait = left.map_or(one, |left| left.min(one));
        let answer = door.get_within(&format!("{path}?wait={}", wait.as_secs_f64()), wait)?;
        let run: Run = door::read(&answer)?;
        if run.state.is_final() {
            bar.clear();
            return Ok(answer);
        }
        bar.show(&run);
        state = run.state;
    }
}
