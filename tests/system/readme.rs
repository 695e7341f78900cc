//! README, done as it says: its files are written, its commands typed, its answers compared.
//!
//! A block that begins with a path in a comment is that file. In a `console` block a line with `$` is typed, and
//! what follows is what it prints, where `…` stands for anything.

use std::path::Path;
use std::process::{Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::support::house::{House, PATIENCE, Plan, eventually, umbel};
use crate::support::redis_server::RedisServer;
use crate::support::running::Running;

const README: &str = include_str!("../../README.md");

struct Block<'a> {
    /// The heading it stands under.
    chapter: &'a str,
    language: &'a str,
    text: String,
}

/// What is done here needs Redis and Python, see `the_chapter_with_celery_is_what_happens`.
const WITH_CELERY: &str = "With Celery";

fn blocks() -> Vec<Block<'static>> {
    let mut blocks = Vec::new();
    let mut chapter = "";
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            chapter = heading;
        } else if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { chapter, language, text: text.join("\n") + "\n" });
        }
    }
    blocks
}

fn file_of(block: &Block) -> Option<String> {
    let first = block.text.lines().next()?;
    let path = first.strip_prefix("// ").or(first.strip_prefix("# "))?;
    [".rhai", ".toml", ".py"].iter().any(|kind| path.ends_with(kind)).then(|| path.to_owned())
}

fn house() -> House {
    ["tasks", "plugins", "schedules.toml"].into_iter().fold(Plan::new(), Plan::shipped).start()
}

/// `command` as a shell in `folder` would run it, that finds umbel and the tests' Python.
fn shell(folder: &Path, command: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_umbel")).parent().unwrap();
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin");
    let path = format!("{}:{}:{}", program.display(), python.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("PATH", path).current_dir(folder);
    shell
}

/// How many commands README shows in its chapters.
fn commands(is_wanted: impl Fn(&str) -> bool) -> usize {
    let mut chapter = "";
    let mut count = 0;
    for line in README.lines() {
        chapter = line.strip_prefix("## ").unwrap_or(chapter);
        count += usize::from(line.starts_with("$ ") && is_wanted(chapter));
    }
    count
}

/// The commands of a `console` block, each with what it prints.
fn steps(block: &Block) -> Vec<(String, String)> {
    let steps = block.text.split("$ ").filter(|step| !step.is_empty());
    steps
        .map(|step| step.split_once('\n').unwrap())
        .map(|(typed, shown)| (typed.to_owned(), shown.to_owned()))
        .collect()
}

/// Types `command` until it prints what is `shown`: what was just written or started may take a moment to count. It
/// succeeds unless it shows an error.
fn type_until(folder: &Path, command: &str, shown: &str) {
    let fails = shown.contains("error: ") || shown.contains("\"severity\": \"error\"");
    let mut last = None;
    eventually(&format!("`{command}` prints\n{shown}"), || {
        let output = shell(folder, command).output().unwrap();
        let printed = String::from_utf8(output.stdout.clone()).unwrap();
        let is_so = matches(printed.trim(), shown) && output.status.success() != fails;
        if !is_so && last.as_ref() != Some(&output) {
            eprintln!("`{command}` ends with {}:\n{printed}{}", output.status, String::from_utf8_lossy(&output.stderr));
            last = Some(output);
        }
        is_so
    });
}

/// The parts between `…` are there, in order, from the beginning to the end.
fn matches(printed: &str, shown: &str) -> bool {
    let mut rest = printed;
    let parts: Vec<&str> = shown.trim().split('…').collect();
    for (n, part) in parts.iter().enumerate() {
        match rest.find(part) {
            Some(at) if n > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || parts.last() == Some(&"")
}

#[test]
fn what_readme_shows_is_what_happens() {
    let house = house();
    let (mut typed, mut skipped) = (0, 0);
    for block in blocks().iter().filter(|block| block.chapter != WITH_CELERY) {
        if let Some(path) = file_of(block) {
            house.write(&path, &block.text);
        }
        if block.language != "console" {
            continue;
        }
        for (command, shown) in steps(block) {
            if command.starts_with("cargo") {
                skipped += 1;
                continue;
            }
            let command = command.replace("localhost:8080", &house.address).replace("curl ", "curl --silent ");
            type_until(house.folder.path(), &command, &shown);
            typed += 1;
        }
    }
    assert_eq!((typed + skipped, skipped), (commands(|chapter| chapter != WITH_CELERY), 1));
}

#[test]
fn the_chapter_with_celery_is_what_happens() {
    let redis = RedisServer::start();
    let here = |text: &str| text.replace("redis://localhost:6379/0", &redis.url());
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir(folder.path().join("tasks")).unwrap();
    std::fs::copy(root.join("tasks/math.rhai"), folder.path().join("tasks/math.rhai")).unwrap();
    let (mut terminals, mut typed) = (Vec::new(), 0);
    for block in blocks().iter().filter(|block| block.chapter == WITH_CELERY) {
        if let Some(path) = file_of(block) {
            std::fs::write(folder.path().join(path), here(&block.text)).unwrap();
        }
        if block.language == "sh" {
            for line in here(&block.text).lines() {
                // A port of its own; and without a shell between, so that it hears when it is to end.
                let line = if line.starts_with("umbel serve") {
                    format!("{line} --listen 127.0.0.1:0")
                } else {
                    line.to_owned()
                };
                let mut command = shell(folder.path(), &format!("exec {line}"));
                terminals.push(Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()));
            }
        }
        if block.language == "console" {
            for (command, shown) in steps(block) {
                type_until(folder.path(), &here(&command), &shown);
                typed += 1;
            }
        }
    }
    assert_eq!((terminals.len(), typed), (4, commands(|chapter| chapter == WITH_CELERY)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browsers_lines_chat() {
    let house = house();
    let script = blocks().into_iter().find(|block| block.language == "js").unwrap().text;
    let path = script.split("ws://localhost:8080").nth(1).unwrap().split('"').next().unwrap();
    let said = script.split("message: \"").nth(1).unwrap().split('"').next().unwrap();
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}{path}", house.address)).await.unwrap();

    socket.send(Message::text(serde_json::json!({ "message": said }).to_string())).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();

    let heard: serde_json::Value = serde_json::from_str(heard.to_text().unwrap()).unwrap();
    assert_eq!(heard["message"], said);
}

#[test]
fn the_settings_that_are_shown_are_settings() {
    let shown: Vec<String> = blocks()
        .into_iter()
        .filter(|block| block.language == "toml" && file_of(block).is_none())
        .map(|block| block.text)
        .collect();
    assert!(shown.len() > 2, "{shown:?}");
    for text in shown {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("umbel.toml"), &text).unwrap();
        std::fs::create_dir(folder.path().join("certs")).unwrap();
        for file in text.split('"').filter(|word| word.starts_with("certs/")) {
            std::fs::write(folder.path().join(file), "").unwrap();
        }

        let output = umbel(folder.path()).arg("config").output().unwrap();

        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_table_of_settings_is_whole() {
    let rows = README.lines().skip_while(|line| !line.starts_with("| setting")).skip(2);
    let table: Vec<String> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            format!("{} = {}", cells[1].trim_matches('`'), cells[2].trim_matches('`'))
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();

    let output = umbel(folder.path()).arg("config").output().unwrap();

    let shown = String::from_utf8(output.stdout).unwrap();
    let code: Vec<&str> = shown.lines().map(|line| line.split("  # ").next().unwrap().trim_end()).collect();
    // How many slots there are depends on the machine.
    let known = |line: &str| match line.strip_prefix("# ") {
        _ if line.starts_with("slots = ") => "slots".to_owned(),
        Some(name) => format!("{name} = not set"),
        None => line.to_owned(),
    };
    assert!(code.len() > 10, "{shown}");
    assert_eq!(
        table.iter().map(|line| known(line)).collect::<Vec<_>>(),
        code.iter().map(|line| known(line)).collect::<Vec<_>>()
    );
}
