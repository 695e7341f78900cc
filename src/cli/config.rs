//! `umbel config`: every setting, and where its value came from. What is printed may be pasted into `umbel.toml`.

use std::path::Path;
use std::process::ExitCode;

use super::say;
use crate::config::{Flags, Settings, Shown, text_of};

pub(super) fn run(folder: &Path, flags: &Flags, json: bool) -> anyhow::Result<ExitCode> {
    let rows = Settings::shown(folder, flags)?;
    say(&if json { serde_json::to_string_pretty(&as_json(rows))? } else { as_text(&rows) })?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(rows: Vec<Shown>) -> serde_json::Map<String, serde_json::Value> {
    let entry = |row: Shown| (row.name, serde_json::json!({ "value": row.value, "from": row.origin.to_string() }));
    rows.into_iter().map(entry).collect()
}

fn as_text(rows: &[Shown]) -> String {
    /// Wider ones push their origin to the right.
    const WIDEST: usize = 60;
    let line = |row: &Shown| match &row.value {
        serde_json::Value::Null => format!("# {}", row.name),
        value => format!("{} = {}", row.name, text_of(value)),
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default().min(WIDEST);
    let origin = |row: &Shown| if row.value.is_null() { "not set".to_owned() } else { row.origin.to_string() };
    let rows = lines.iter().zip(rows).map(|(line, row)| format!("{line:width$}  # {}", origin(row)));
    rows.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn rows() -> Vec<Shown> {
        let row = |name: &str, value, origin| Shown { name: name.to_owned(), value, origin };
        vec![
            row("slots", 8.into(), Origin::Default),
            row("limits.operations", serde_json::Value::Null, Origin::Default),
            row("routes.\"a.*\"", serde_json::json!({ "queue": "io", "remote": false }), Origin::File(3)),
        ]
    }

    #[test]
    fn the_text_is_toml_with_the_origins_beside_it() {
        let text = as_text(&rows());

        assert_eq!(
            text,
            "slots = 8                                        # default\n\
             # limits.operations                              # not set\n\
             routes.\"a.*\" = { queue = \"io\", remote = false }  # umbel.toml:3"
        );
        assert_eq!(toml::from_str::<toml::Table>(&text).unwrap()["routes"]["a.*"]["queue"].as_str(), Some("io"));
    }

    #[test]
    fn json_has_the_same() {
        let json = serde_json::Value::Object(as_json(rows()));

        assert_eq!(json["slots"], serde_json::json!({ "value": 8, "from": "default" }));
        assert_eq!(json["routes.\"a.*\""]["from"], "umbel.toml:3");
    }
}
