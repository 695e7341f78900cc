//! `umbel inspect`: who works and what waits, or everything about one run.

use std::fmt::Write;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::json;

use super::door::{self, Door, Reach};
use super::paper::{Table, plain, say};
use super::tasks::{clock, took};
use crate::config::Settings;
use crate::http::path_part;
use crate::script::Broken;
use crate::store::{DeadLetter, WorkerFacts};
use crate::task::{Json, Run};

#[derive(clap::Args)]
pub(super) struct Inspecting {
    /// The id of a task; without it workers and queues are shown.
    id: Option<String>,
    /// The newest messages that could not be run, each with its reason.
    #[arg(long, conflicts_with = "id")]
    dead: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Deserialize)]
struct Workers {
    workers: Vec<Json>,
}

#[derive(Deserialize)]
struct Queues {
    queues: Vec<Json>,
    /// Messages that could not be read.
    dead_letters: u64,
}

#[derive(Deserialize)]
struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
}

#[derive(Deserialize)]
struct QueueShown {
    name: String,
    ready: u64,
    delayed: u64,
    claimed: u64,
    paused: bool,
}

pub(super) fn run(
    inspecting: Inspecting,
    settings: impl FnOnce() -> Result<Settings, Broken>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let door = Door::open(inspecting.reach, settings)?;
    if inspecting.dead {
        let answer = door.get("/api/dead-letters?limit=100")?;
        let DeadLetters { dead_letters } = door::read(&answer)?;
        if json {
            say(&answer)?
        } else {
            show_dead(dead_letters)?
        }
        return Ok(ExitCode::SUCCESS);
    }
    match inspecting.id {
        Some(id) => {
            let answer = door.get(&format!("/api/tasks/{}", path_part(&id)))?;
            say(&if json { answer } else { told(&door::read(&answer)?) })?;
        }
        None => {
            let Workers { workers } = door::read(&door.get("/api/workers")?)?;
            let Queues { queues, dead_letters } = door::read(&door.get("/api/queues")?)?;
            if json {
                say(&json!({ "workers": workers, "queues": queues, "dead_letters": dead_letters }).to_string())?;
            } else {
                show(&workers, &queues)?;
                if dead_letters > 0 {
                    eprintln!("{dead_letters} messages could not be run: `umbel inspect --dead` shows them");
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(workers: &[Json], queues: &[Json]) -> anyhow::Result<()> {
    let mut table = Table::new(["WORKER", "VERSION", "RUNS", "SLOTS", "SINCE", "QUEUES"]);
    for worker in workers {
        let WorkerFacts { name, version, started_at, slots, running, queues, .. } = door::read(worker.get())?;
        let queues: Vec<&str> = queues.iter().map(|queue| queue.as_str()).collect();
        let queues = if queues.is_empty() { "all".to_owned() } else { queues.join(" ") };
        table.add([name, version, running.len().to_string(), slots.to_string(), clock(started_at), queues]);
    }
    table.print()?;
    say("")?;
    let mut table = Table::new(["QUEUE", "READY", "DELAYED", "CLAIMED", "PAUSED"]);
    for queue in queues {
        let QueueShown { name, ready, delayed, claimed, paused } = door::read(queue.get())?;
        let [ready, delayed, claimed] = [ready, delayed, claimed].map(|count| count.to_string());
        table.add([name, ready, delayed, claimed, if paused { "paused" } else { "" }.to_owned()]);
    }
    table.print()?;
    Ok(())
}

fn show_dead(letters: Vec<DeadLetter>) -> anyhow::Result<()> {
    let mut table = Table::new(["AT", "QUEUE", "ID", "TASK", "BYTES", "REASON"]);
    for DeadLetter { at, queue, reason, id, task, size, .. } in letters {
        let id = id.map_or(String::new(), |id| id.to_string());
        table.add([clock(at), queue.to_string(), id, task.unwrap_or_default(), size.to_string(), reason]);
    }
    table.print()?;
    Ok(())
}

/// Everything about a run that a person asks for, a fact a line.
fn told(run: &Run) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<9} {}", plain(value));
        }
    };
    let json = |json: &Option<Json>| json.as_ref().map_or(String::new(), |json| json.get().to_owned());
    let time = |time: Option<crate::task::Timestamp>| time.map_or(String::new(), clock);
    fact("id", run.id.as_str());
    fact("task", &run.task);
    fact("state", run.state.as_str());
    fact("queue", run.queue.as_str());
    fact("args", &json(&run.args));
    fact("kwargs", &json(&run.kwargs));
    fact("result", &json(&run.result));
    fact(
        "progress",
        &run.progress.as_ref().map_or(String::new(), |progress| {
            format!("{}/{} {}", progress.done, progress.total, progress.note.as_deref().unwrap_or_default())
        }),
    );
    fact("retries", &if run.retries > 0 { run.retries.to_string() } else { String::new() });
    fact("queued", &time(run.queued_at));
    fact("due", &time(run.eta));
    fact("started", &time(run.started_at));
    fact("finished", &time(run.finished_at));
    fact("took", &took(run));
    fact("worker", run.worker.as_deref().unwrap_or_default());
    fact("code", run.code.as_deref().unwrap_or_default());
    fact("parent", run.parent_id.as_ref().map_or("", |id| id.as_str()));
    for child in &run.children {
        fact("sent", child.as_str());
    }
    for line in &run.log {
        let _ = writeln!(text, "{} {:<5} {}", clock(line.at), line.level, plain(&line.text));
    }
    if let Some(why) = &run.error {
        let _ = writeln!(text, "{}: {}", plain(&why.exc_type), plain(&why.exc_message));
        for line in why.traceback.iter().flat_map(|traceback| traceback.lines()) {
            let _ = writeln!(text, "{}", plain(line));
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_with_its_log_and_its_error() {
        let run: Run = serde_json::from_str(
            r#"{"id":"x","task":"math.add","state":"FAILURE","queue":"io","priority":0,"retries":2,"args":[1,2],
                "queued_at":null,"started_at":null,"finished_at":null,"worker":"me@here","code":null,
                "log":[{"at":"2030-01-01T00:00:00Z","level":"warn","text":"odd\u001b[2J"}],
                "error":{"exc_type":"ValueError","exc_module":"builtins","exc_message":"no","traceback":"one\n  two"}}"#,
        )
        .unwrap();

        let told = told(&run);

        for part in
            ["id        x\n", "args      [1,2]\n", "retries   2\n", "warn  odd [2J\n", "ValueError: no\none\n  two"]
        {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
        assert!(!told.contains("result") && !told.contains('\u{1b}'), "{told}");
    }
}
