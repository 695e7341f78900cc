//! Python programs, run by the environment that `tests/run` installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Whether `tests/run` has installed it.
pub fn is_installed() -> bool {
    interpreter().exists()
}

fn interpreter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python")
}

/// `script`, a path from the repository's root, to be run.
pub fn program(script: &str, arguments: &[&str]) -> Command {
    assert!(is_installed(), "no Python environment here: `tests/run` installs it");
    let mut command = Command::new(interpreter());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script)).args(arguments);
    command
}

/// What such a script prints: a JSON value a line.
pub fn python(script: &str, arguments: &[&str]) -> Vec<Value> {
    let output = program(script, arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
