//! `umbel send`: hands a task to the umbel that serves the folder, by HTTP, and may wait for its end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Sending, arguments, say, show};
use crate::config::Settings;
use crate::http::path_part;
use crate::store::{Lock, lock_path};
use crate::task::{Json, Run, State, TaskId, show_duration};

/// How long one answer may take beyond what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one request lets the other side wait for the end of a task.
const ONE_WAIT: Duration = Duration::from_secs(30);

/// Why a task was not sent, or its end not seen.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsent {
    #[error("no umbel serves `{folder}`: start one there with `umbel up`, or run the task here with `umbel call`")]
    Nobody { folder: String },
    #[error("the umbel at {address} does not answer ({source}); `umbel up` starts another")]
    Lost { address: String, source: Box<ureq::Error> },
    #[error("{detail}")]
    Refused { status: u16, detail: String },
    #[error("task {id} has not ended within {patience}: it is {state}", state = .state.as_str(), patience = show_duration(*.patience))]
    Late { id: TaskId, state: State, patience: Duration },
}

#[derive(Serialize)]
struct Body {
    args: Json,
    kwargs: Json,
    /// In seconds.
    countdown: Option<f64>,
    queue: Option<String>,
}

/// What is common to every answer about a task.
#[derive(Deserialize)]
struct Known {
    id: TaskId,
    state: State,
}

pub(super) fn run(settings: &Settings, sending: Sending, json: bool) -> anyhow::Result<ExitCode> {
    let Sending { task, wait, countdown, queue } = sending;
    let (args, kwargs) = arguments::read(task.arguments)?;
    let countdown = countdown.map(|wait| wait.as_secs_f64());
    let body = serde_json::to_string(&Body { args, kwargs, countdown, queue })?;
    let path = format!("/api/tasks/{}", path_part(&task.task));
    let door = Door::of(settings)?;
    let Some(patience) = wait else {
        let answer = door.ask(&path, None, Some(&body))?;
        let known: Known = serde_json::from_str(&answer)?;
        say(if json { &answer } else { known.id.as_str() })?;
        return Ok(ExitCode::SUCCESS);
    };
    let began = Instant::now();
    let left = || patience.map_or(ONE_WAIT, |patience| patience.saturating_sub(began.elapsed()).min(ONE_WAIT));
    let mut answer = door.ask(&path, Some(left()), Some(&body))?;
    loop {
        let Known { id, state } = serde_json::from_str(&answer)?;
        if state.is_final() {
            return show(&serde_json::from_str::<Run>(&answer)?, json);
        }
        if let Some(patience) = patience.filter(|_| left().is_zero()) {
            return Err(Unsent::Late { id, state, patience }.into());
        }
        answer = door.ask(&format!("/api/tasks/{}", path_part(id.as_str())), Some(left()), None)?;
    }
}

/// The running umbel of a folder.
struct Door {
    agent: ureq::Agent,
    address: String,
}

impl Door {
    fn of(settings: &Settings) -> anyhow::Result<Self> {
        let holder = Lock::holder(&lock_path(&settings.store, &settings.folder))?;
        let folder = settings.folder.display().to_string();
        let address = holder.and_then(|holder| holder.address).ok_or(Unsent::Nobody { folder })?;
        // A proxy is for other machines.
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        Ok(Self { agent, address })
    }

    // Posts where there is a body; the answer's text.
    fn ask(&self, path: &str, wait: Option<Duration>, body: Option<&str>) -> Result<String, Unsent> {
        let lost = |error| Unsent::Lost { address: self.address.clone(), source: Box::new(error) };
        let query = wait.map_or(String::new(), |wait| format!("?wait={}", wait.as_secs_f64()));
        let url = format!("http://{}{path}{query}", self.address);
        let patience = Some(PATIENCE + wait.unwrap_or_default());
        let mut answer = match body {
            Some(body) => self.agent.post(url).config().timeout_global(patience).build().send(body),
            None => self.agent.get(url).config().timeout_global(patience).build().call(),
        }
        .map_err(lost)?;
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().map_err(lost)?;
        match answer.status().as_u16() {
            200..300 => Ok(text),
            status => Err(Unsent::Refused { status, detail: detail(&text) }),
        }
    }
}

fn detail(text: &str) -> String {
    #[derive(Deserialize)]
    struct Document {
        detail: String,
    }
    serde_json::from_str(text).map_or_else(|_| text.to_owned(), |document: Document| document.detail)
}
