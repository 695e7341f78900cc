//! Scripts that want to do harm, all in one umbel: each ends as its first line says, and hurts nobody.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};

struct Hostile {
    name: String,
    expects: String,
}

fn hostile() -> Vec<Hostile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/scripts");
    let mut all: Vec<Hostile> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap();
            let expects =
                first.strip_prefix("// expects: ").unwrap_or_else(|| panic!("{} expects nothing", path.display()));
            Hostile { name: path.file_stem().unwrap().to_str().unwrap().to_owned(), expects: expects.to_owned() }
        })
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// What a run came to: its state, and the class of its error.
fn end(run: &Value) -> String {
    let state = run["state"].as_str().unwrap_or("?");
    run["error"]["exc_type"].as_str().map_or(state.to_owned(), |class| format!("{state} {class}"))
}

/// What is wrong with what is kept of a run that told more than is kept.
fn kept_too_much(name: &str, run: &Value) -> Option<String> {
    let lines = run["log"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |line: &Value| line["text"].as_str().unwrap_or_default().to_owned();
    match name {
        "log_flood" => {
            let longest = lines.iter().map(|line| of(line).len()).max();
            let last = lines.last().map(of).unwrap_or_default();
            ((lines.len(), longest) != (1_000, Some(4 << 10)) || !last.contains("more lines"))
                .then(|| format!("{} lines of up to {longest:?} bytes, the last: {last}", lines.len()))
        }
        // Of a run that has ended nothing is kept of what it reported.
        "progress_flood" => (run.to_string().len() > 4 << 10).then(|| run.to_string()),
        _ => None,
    }
}

fn is_unharmed(house: &House, after: &str) {
    let answer = house.post("/api/tasks/math.add?wait=30s", &json!({ "args": [10, 3] }));
    assert_eq!(answer.json["result"], 13, "after `{after}`: {}", answer.json);
}

#[test]
fn hostile_scripts_get_nowhere() {
    let all = hostile();
    assert!(all.len() >= 40, "{}", all.len());
    // No limit of time may be met by what is to meet another one on a slow machine.
    let limits = "[limits]\ntime_limit = \"2s\"\nmemory = \"16MiB\"\n";
    let house = Plan::new().shipped("tests/hostile/scripts").shipped("tasks/math.rhai").file("umbel.toml", limits);
    std::fs::rename(house.path("tests/hostile/scripts"), house.path("tasks/hostile")).unwrap();
    let house = house.start();
    let beside = house.post("/api/tasks/math.add", &json!({ "args": [1, 1], "countdown": 1 }));

    let (broken, running): (Vec<_>, Vec<_>) = all.iter().partition(|script| script.expects == "BROKEN");
    let mut wrong = Vec::new();
    for script in broken {
        let answer = house.post(&format!("/api/tasks/hostile.{}.main", script.name), &json!({}));
        if answer.status != 404 {
            wrong.push(format!("`{}` can be called: {}", script.name, answer.json));
        }
    }
    for script in running {
        let sent = house.post(&format!("/api/tasks/hostile.{}.main", script.name), &json!({}));
        let run = house.get(&format!("/api/tasks/{}?wait=60s", sent.json["id"].as_str().unwrap_or_default())).json;
        let came = end(&run);
        if !script.expects.split(" | ").any(|expected| expected == came) {
            wrong.push(format!("`{}` expects {}: {run}", script.name, script.expects));
        }
        wrong.extend(kept_too_much(&script.name, &run).map(|what| format!("`{}`: {what}", script.name)));
        is_unharmed(&house, &script.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let path = format!("/api/tasks/{}", beside.json["id"].as_str().unwrap());
    eventually("the task beside them has run", || house.get(&path).json["result"] == 2);
    assert!(Path::new(&format!("/proc/{}", house.pid())).exists());
}
