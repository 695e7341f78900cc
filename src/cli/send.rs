//! `umbel send`: hands a task to a running umbel, and may wait for its end with a bar that shows how far it is.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

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

/// How long the answer to what was sent may take once somebody has lost patience.
const LAST_WORD: Duration = Duration::from_secs(1);

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
    let (door, path) = (Door::open(reach, settings)?, format!("/api/tasks/{}", path_part(&task.task)));
    let body = serde_json::to_string(&body)?;
    let Some(patience) = wait else {
        let answer = door.post(&path, &body)?;
        let known: Known = door::read(&answer)?;
        say(if json { &answer } else { known.id.as_str() })?;
        return Ok(ExitCode::SUCCESS);
    };
    let bar = Bar::new(&task.task, json);
    let runtime = runtime()?;
    let came_of_it = runtime.block_on(send_and_wait(Arc::new(door), path, body, patience, bar));
    // A request that nobody waits for any more.
    runtime.shutdown_background();
    match came_of_it? {
        CameOfIt::Ended(answer) => return show(&door::read::<Run>(&answer)?, json),
        CameOfIt::GoesOn(id) => {
            eprintln!("the task goes on; `umbel inspect {id}` shows it, `umbel revoke {id}` ends it");
        }
        CameOfIt::NotKnown => eprintln!("it is not known whether the task was sent; `umbel tasks` shows it if it was"),
    }
    Ok(ExitCode::from(exit::INTERRUPTED))
}

/// What came of a task that was sent and waited for.
enum CameOfIt {
    /// The answer that shows its end.
    Ended(String),
    /// Ctrl-C ended the waiting.
    GoesOn(TaskId),
    /// The same before umbel had answered.
    NotKnown,
}

async fn send_and_wait(
    door: Arc<Door>,
    path: String,
    body: String,
    patience: Option<Duration>,
    bar: Bar,
) -> anyhow::Result<CameOfIt> {
    // Listened to before anything is sent: from then on there is a task of which something is to be said.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut sending = spawn_blocking({
        let door = door.clone();
        move || door::read::<Known>(&door.post(&path, &body)?)
    });
    let (sent, interrupted) = tokio::select! {
        sent = &mut sending => (sent, false),
        _ = interrupts.recv() => match timeout(LAST_WORD, sending).await {
            Ok(sent) => (sent, true),
            Err(_) => return Ok(CameOfIt::NotKnown),
        }
    };
    let known = sent??;
    let id = known.id.clone();
    if interrupted {
        return Ok(CameOfIt::GoesOn(id));
    }
    let clearing = bar.clone();
    tokio::select! {
        ended = spawn_blocking(move || end(&door, known, patience, &bar)) => ended?.map(CameOfIt::Ended),
        _ = interrupts.recv() => {
            clearing.clear();
            Ok(CameOfIt::GoesOn(id))
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
