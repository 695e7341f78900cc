//! `umbel new`: a folder that runs at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

/// The folder has something in it that would be in the way.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not an empty folder: name one that is not there yet", .0.display())]
pub(super) struct NotEmpty(PathBuf);

const FILES: [(&str, &str); 6] = [
    ("tasks/hello.rhai", include_str!("new/hello.rhai")),
    ("plugins/chat/plugin.toml", include_str!("../../plugins/chat/plugin.toml")),
    ("plugins/chat/chat.rhai", include_str!("../../plugins/chat/chat.rhai")),
    ("schedules.toml", include_str!("new/schedules.toml")),
    ("umbel.toml", include_str!("new/umbel.toml")),
    (".gitignore", "data/\n"),
];

pub(super) fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    make(folder)?;
    let name = folder.display();
    let send = format!("umbel --dir {name} send hello.greet world --wait");
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
    use crate::config::{Flags, Settings};

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("mine");
        make(&folder).unwrap();
        let file = folder.join("tasks/hello.rhai");
        fs::write(&file, "mine").unwrap();

        let refused = make(&folder).unwrap_err();

        assert!(refused.is::<NotEmpty>());
        assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    }

    #[test]
    fn what_the_settings_file_shows_is_what_counts_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("new/umbel.toml");
        let lines = text.lines().filter_map(|line| line.strip_prefix("# "));
        let is_setting = |line: &&str| !line.starts_with(' ') && (line.contains(" = ") || line.starts_with('['));
        let shown: String = lines.filter(is_setting).map(|line| format!("{line}\n")).collect();
        fs::write(folder.path().join("umbel.toml"), &shown).unwrap();

        let settings = Settings::load(folder.path(), &Flags::default()).unwrap();

        let readme = include_str!("../../README.md").lines().skip_while(|line| !line.starts_with("| setting"));
        for row in readme.skip(2).take_while(|line| line.starts_with('|')) {
            let name = row.split('`').nth(1).unwrap();
            let name = name.rsplit('.').next().unwrap();
            assert!(text.contains(&format!("# {name} ")) || text.contains(&format!("# [{name}]")), "it lacks `{name}`");
        }
        let usual = Settings { folder: folder.path().to_owned(), slots: settings.slots, ..Settings::default() };
        assert_eq!(settings, usual);
    }
}
