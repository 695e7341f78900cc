//! `umbel check`: looks for mistakes in everything that a folder holds, without running any of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use chrono::Utc;

use super::{runtime, say};
use crate::beat::{self, Problem, Timetable};
use crate::client::{Client, Routes};
use crate::config::{Settings, broken_at};
use crate::plugin::Loader;
use crate::script::Broken;
use crate::store;

pub(super) fn run(folder: &Path, settings: Result<Settings, Vec<Broken>>, json: bool) -> anyhow::Result<ExitCode> {
    let found = runtime()?.block_on(look(folder, settings))?;
    let Found { problems, warnings, looked_at } = found;
    if json {
        say(&serde_json::to_string_pretty(&problems)?)?;
    } else {
        for problem in &problems {
            say(&problem.to_string())?;
            if let Some(excerpt) = &problem.excerpt {
                say(&excerpt.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"))?;
            }
        }
        for warning in &warnings {
            eprintln!("warning: {warning}");
        }
        let count = match problems.len() {
            0 => "no problems".to_owned(),
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        say(&format!("{looked_at}: {count}"))?;
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Found {
    problems: Vec<Broken>,
    warnings: Vec<Problem>,
    /// How much there was, in words.
    looked_at: String,
}

async fn look(folder: &Path, settings: Result<Settings, Vec<Broken>>) -> anyhow::Result<Found> {
    let (routes, mistakes) =
        settings.map_or_else(|mistakes| (Routes::default(), mistakes), |settings| (settings.routes, Vec::new()));
    let path = folder.to_owned();
    let loading = tokio::task::spawn_blocking(move || {
        let mut loader = Loader::new(path);
        loader.load();
        loader
    });
    let catalogs = loading.await.context("the scripts could not be loaded")?.catalogs();
    let catalog = catalogs.current();
    let mut problems: Vec<Broken> = mistakes.into_iter().chain(catalog.broken.iter().cloned()).collect();
    let text = match std::fs::read_to_string(folder.join(beat::FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            problems.push(Broken::whole(beat::FILE, format!("cannot be read: {error}")));
            String::new()
        }
    };
    let timetable = Timetable::parse(&text, beat::FILE).unwrap_or_else(|bad| {
        problems.extend(bad.problems.iter().map(|problem| of_schedule(problem, &text)));
        Timetable::default()
    });
    // An entry is checked as what it will be: a task that somebody sends.
    let stores = store::open("memory:", folder, store::Settings::default()).await?;
    let client = Client::new(stores, catalogs, String::new()).routed(routes);
    let places = places(&text);
    for entry in timetable.entries() {
        if let Err(error) = client.check(entry.request(Utc::now())) {
            let place = places.get(&entry.name).copied().unwrap_or_default();
            problems.push(broken_at(beat::FILE, &text, place, format!("[{}]: {error}", entry.name)));
        }
    }
    let looked_at = format!(
        "{} tasks, {} plugins, {} schedule entries",
        catalog.tasks.len(),
        catalog.plugins.len(),
        timetable.entries().len()
    );
    Ok(Found { problems, warnings: timetable.warnings().to_vec(), looked_at })
}

// The place goes apart, so that every problem is told in the same way.
fn of_schedule(problem: &Problem, text: &str) -> Broken {
    let of = [problem.entry.as_ref().map(|entry| format!("[{entry}]")), problem.field.clone()];
    let of: Vec<String> = of.into_iter().flatten().collect();
    let message =
        if of.is_empty() { problem.message.clone() } else { format!("{}: {}", of.join(" "), problem.message) };
    match problem.line.and_then(|line| u32::try_from(line).ok()) {
        Some(line) => Broken::at(beat::FILE, text, line, None, message),
        None => Broken::whole(beat::FILE, message),
    }
}

// Where each entry begins.
fn places(text: &str) -> BTreeMap<String, usize> {
    let keys: BTreeMap<toml::Spanned<String>, toml::Value> = toml::from_str(text).unwrap_or_default();
    keys.into_keys().map(|key| (key.get_ref().clone(), key.span().start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    async fn found(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = look(folder.path(), Settings::check(folder.path(), &Flags::default())).await.unwrap();
        found.problems.iter().map(Broken::to_string).collect()
    }

    #[tokio::test]
    async fn a_sound_folder_has_no_problems() {
        let math = ("tasks/math.rhai", "fn add(x, y) { x + y }");
        let schedules = ("schedules.toml", "[it]\ntask = \"math.add\"\nschedule = \"10s\"\nargs = [1, 2]\n");

        assert_eq!(found(&[]).await, [""; 0]);
        assert_eq!(found(&[math, schedules]).await, [""; 0]);
    }

    #[tokio::test]
    async fn every_mistake_is_found_with_its_place() {
        let found = found(&[
            ("tasks/math.rhai", "fn add(x, y) { x + y }"),
            ("tasks/bad.rhai", "fn one() {\n  let x = ;\n}"),
            ("plugins/odd/plugin.toml", "name = \"odd\"\nversion = \"1\"\napi = 1\nwhat = 1\n"),
            ("schedules.toml", "[a]\ntask = \"math.add\"\nschedule = { minute = 61 }\n"),
        ])
        .await;

        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("tasks/bad.rhai:2:11: "), "{found:?}");
        assert!(found[1].starts_with("plugins/odd/plugin.toml:4:1: "), "{found:?}");
        assert!(found[2].starts_with("schedules.toml:3: [a] schedule.minute: "), "{found:?}");
    }

    #[tokio::test]
    async fn a_remote_task_needs_no_script() {
        let settings = "store = \"redis://localhost\"\n[routes]\n\"far.*\" = { queue = \"python\", remote = true }\n\
                        \"near.*\" = { queue = \"near\" }";
        let schedules =
            "[a]\ntask = \"far.x\"\nschedule = \"10s\"\nargs = [1]\n\n[b]\ntask = \"near.x\"\nschedule = \"10s\"\n";

        let found = found(&[("umbel.toml", settings), ("schedules.toml", schedules)]).await;

        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("schedules.toml:6:2: [b]: no task named `near.x`"), "{found:?}");
    }

    #[tokio::test]
    async fn an_entry_that_could_not_be_sent_is_found_too() {
        let found = found(&[
            ("tasks/math.rhai", "fn add(x, y) { x + y }"),
            (
                "schedules.toml",
                "[a]\ntask = \"math.ad\"\nschedule = \"10s\"\n\n[b]\ntask = \"math.add\"\nschedule = \"10s\"\nargs = [1]\n",
            ),
        ])
        .await;

        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("schedules.toml:1:2: [a]: no task named `math.ad`; did you mean"), "{found:?}");
        assert!(found[1].starts_with("schedules.toml:5:2: [b]: arguments for `math.add`"), "{found:?}");
    }
}
