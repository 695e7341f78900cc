//! `umbel new`: a folder that runs at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

/// The folder has something in it that would be in the way.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not an empty folder: name one that is not there yet", .0.display())]
pub(super) struct NotEmpty(PathBuf);

const FILES: [(&str, &str); 8] = [
    ("tasks/math.rhai", include_str!("../../tasks/math.rhai")),
    ("tasks/math_test.rhai", include_str!("../../tasks/math_test.rhai")),
    ("tasks/welcome.rhai", include_str!("new/welcome.rhai")),
    ("plugins/chat/plugin.toml", include_str!("../../plugins/chat/plugin.toml")),
    ("plugins/chat/chat.rhai", include_str!("../../plugins/chat/chat.rhai")),
    ("schedules.toml", include_str!("new/schedules.toml")),
    ("umbel.toml", include_str!("new/umbel.toml")),
    (".gitignore", "data/\n"),
];

pub(super) fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    make(folder)?;
    let name = folder.display();
    let send = format!("umbel --dir {name} send welcome.greet world --wait");
    eprintln!("made `{name}`; now start it:\n\n  umbel --dir {name} up\n\nand in another terminal:\n\n  {send}");
    Ok(ExitCode::SUCCESS)
}

fn make(folder: &Path) -> anyhow::Result<()> {
    let empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !empty {
        return Err(NotEmpty(folder.to_owned()).into());
    }
    for (name, text) in FILES {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, Origin, Settings};

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("mine");
        make(&folder).unwrap();
        let file = folder.join("tasks/welcome.rhai");
        fs::write(&file, "mine").unwrap();

        let refused = make(&folder).unwrap_err();

        assert!(refused.is::<NotEmpty>());
        assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    }

    /// The settings file without the marks before what it shows: its defaults, then its examples.
    fn settings_shown() -> (String, String) {
        let is_setting = |line: &&str| line.contains(" = ") || line.starts_with('[');
        let lines =
            include_str!("new/umbel.toml").lines().filter_map(|line| line.strip_prefix("# ")).filter(is_setting);
        let shown: String = lines.map(|line| format!("{line}\n")).collect();
        let examples = shown.find("[routes]").unwrap();
        (shown[..examples].to_owned(), shown[examples..].to_owned())
    }

    #[test]
    fn what_the_settings_file_shows_is_what_counts_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let is_usual = |line: &&str| !line.contains("without this line");
        let usual: Vec<String> = settings_shown().0.lines().filter(is_usual).map(|line| format!("{line}\n")).collect();
        fs::write(folder.path().join("umbel.toml"), usual.concat()).unwrap();

        let settings = Settings::load(folder.path(), &Flags::default()).unwrap();

        let usual = Settings { folder: folder.path().to_owned(), slots: settings.slots, ..Settings::default() };
        assert_eq!(settings, usual);
    }

    #[test]
    fn the_settings_file_shows_every_setting() {
        let folder = tempfile::tempdir().unwrap();
        let (defaults, examples) = settings_shown();
        let whole = format!("{defaults}{}", examples.replace('…', &"0".repeat(64)));
        fs::write(folder.path().join("umbel.toml"), whole).unwrap();
        let elsewhere = Flags { store: Some("redis://localhost".to_owned()), listen: None };

        for shown in Settings::shown(folder.path(), &elsewhere).unwrap() {
            assert!(shown.name == "store" || matches!(shown.origin, Origin::File(_)), "{shown:?}");
        }
    }
}
