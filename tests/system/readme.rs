//! README, done as it says: its files are written, its commands typed, its answers compared.
//!
//! A block that begins with a path in a comment is that file. In a `console` block a line with `$` is typed, and
//! what follows is what it prints, where `…` stands for anything.

use std::process::Command;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::support::house::{House, PATIENCE, Plan, eventually, umbel};

const README: &str = include_str!("../../README.md");

struct Block<'a> {
    language: &'a str,
    text: String,
}

fn blocks() -> Vec<Block<'static>> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { language, text: text.join("\n") + "\n" });
        }
    }
    blocks
}

fn file_of(block: &Block) -> Option<String> {
    let first = block.text.lines().next()?;
    let path = first.strip_prefix("// ").or(first.strip_prefix("# "))?;
    (path.ends_with(".rhai") || path.ends_with(".toml")).then(|| path.to_owned())
}

fn house() -> House {
    ["tasks", "plugins", "schedules.toml"].into_iter().fold(Plan::new(), Plan::shipped).start()
}

fn type_in(house: &House, command: &str) -> String {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_umbel")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let command = command.replace("localhost:8080", &house.address).replace("curl ", "curl --silent ");
    let output =
        Command::new("sh").args(["-c", &command]).env("PATH", path).current_dir(house.folder.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
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
    let mut typed = 0;
    for block in blocks() {
        if let Some(path) = file_of(&block) {
            house.write(&path, &block.text);
        }
        if block.language != "console" {
            continue;
        }
        for step in block.text.split("$ ").filter(|step| !step.is_empty()) {
            let (command, shown) = step.split_once('\n').unwrap();
            if command.starts_with("cargo") {
                continue;
            }
            // A file that was just written may take a moment to be seen.
            let mut printed = String::new();
            eventually(&format!("`{command}` prints\n{shown}"), || {
                printed = type_in(&house, command);
                matches(&printed, shown)
            });
            typed += 1;
        }
    }
    assert!(typed >= 9, "only {typed} commands were typed");
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
fn the_table_of_options_is_whole() {
    let code = include_str!("../../src/script/options.rs");
    for row in
        README.lines().skip_while(|line| !line.starts_with("| option")).skip(2).take_while(|line| line.starts_with('|'))
    {
        let name = row.split('`').nth(1).unwrap();
        assert!(code.contains(&format!("\"{name}\"")), "README has the option `{name}`, the code has not");
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
