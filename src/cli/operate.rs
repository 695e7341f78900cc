//! The commands that change what a running umbel does: `revoke retry purge pause resume`.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Deserialize;

use super::door::{self, Door, Reach};
use super::paper::say;
use crate::config::Settings;
use crate::http::path_part;
use crate::script::Broken;
use crate::task::{Json, State};

#[derive(clap::Args)]
pub(super) struct Revoking {
    /// The ids of tasks.
    #[arg(required = true)]
    ids: Vec<String>,
    /// Stop them where they run, too.
    #[arg(long)]
    terminate: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args)]
pub(super) struct Retrying {
    /// The ids of tasks that have ended.
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args)]
pub(super) struct Purging {
    queue: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args)]
pub(super) struct Pausing {
    queue: String,
    #[command(flatten)]
    reach: Reach,
}

/// Nobody said yes.
#[derive(Debug, thiserror::Error)]
#[error("nothing was removed from `{queue}`: say `--yes` to remove everything that waits there")]
pub(super) struct Unconfirmed {
    queue: String,
}

/// What came of a revocation.
#[derive(Deserialize)]
struct Revocation {
    state: Option<State>,
    #[serde(default)]
    terminate: bool,
}

type Found = Result<Settings, Broken>;

pub(super) fn revoke(revoking: Revoking, settings: impl FnOnce() -> Found, json: bool) -> anyhow::Result<ExitCode> {
    let body = if revoking.terminate { r#"{"terminate":true}"# } else { "{}" };
    let door = Door::open(revoking.reach, settings)?;
    each(&door, &revoking.ids, "revoke", body, json, |id, answer| {
        let Revocation { state, terminate } = door::read(answer)?;
        Ok(match state {
            Some(State::Revoked) => format!("{id} is revoked"),
            Some(State::Started) if terminate => format!("{id} is being stopped"),
            Some(State::Started) => format!("{id} runs, and is told; `--terminate` stops it"),
            Some(state) => format!("{id} had ended before: {}", state.as_str()),
            None => format!("{id} is not known yet; it is revoked when it comes"),
        })
    })
}

pub(super) fn retry(retrying: Retrying, settings: impl FnOnce() -> Found, json: bool) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize)]
    struct Retried {
        id: String,
    }
    let door = Door::open(retrying.reach, settings)?;
    each(&door, &retrying.ids, "retry", "{}", json, |_, answer| Ok(door::read::<Retried>(answer)?.id))
}

// The first one that is refused ends it: those before it are done and said to be.
fn each(
    door: &Door,
    ids: &[String],
    what: &str,
    body: &str,
    json: bool,
    tell: impl Fn(&str, &str) -> anyhow::Result<String>,
) -> anyhow::Result<ExitCode> {
    for id in ids {
        let answer = door.post(&format!("/api/tasks/{}/{what}", path_part(id)), body)?;
        say(&if json { answer } else { tell(id, &answer)? })?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn purge(purging: Purging, settings: impl FnOnce() -> Found, json: bool) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize)]
    struct Purged {
        purged: u64,
    }
    let Purging { queue, yes, reach } = purging;
    let door = Door::open(reach, settings)?;
    if !yes && !confirmed(&queue)? {
        return Err(Unconfirmed { queue }.into());
    }
    let answer = door.post(&format!("/api/queues/{}/purge", path_part(&queue)), "")?;
    let Purged { purged } = door::read(&answer)?;
    say(&if json { answer } else { format!("removed {purged} from `{queue}`") })?;
    Ok(ExitCode::SUCCESS)
}

// Only a person at a terminal is asked.
fn confirmed(queue: &str) -> io::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    eprint!("remove everything that waits in `{queue}`? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Pauses a queue, or resumes it where `paused` is false.
pub(super) fn pause(
    pausing: Pausing,
    paused: bool,
    settings: impl FnOnce() -> Found,
    json: bool,
) -> anyhow::Result<ExitCode> {
    #[derive(Deserialize)]
    struct Queue {
        note: Option<String>,
    }
    let Pausing { queue, reach } = pausing;
    let door = Door::open(reach, settings)?;
    let verb = if paused { "pause" } else { "resume" };
    let answer = door.post(&format!("/api/queues/{}/{verb}", path_part(&queue)), "")?;
    if let Some(note) = door::read::<Queue>(&answer)?.note {
        eprintln!("warning: {note}");
    }
    if json {
        say(&door::read::<Json>(&answer)?.to_string())?;
    } else if paused {
        say(&format!("`{queue}` is paused: nothing of it is started until `umbel resume`"))?;
    } else {
        say(&format!("`{queue}` is served again"))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes(" YES\n"));
        assert!(!is_yes("\n") && !is_yes("") && !is_yes("n\n") && !is_yes("yesterday"));
    }
}
