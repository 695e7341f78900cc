//! `umbel check`: looks for mistakes in everything that a folder holds, without running any of it.

mod look;
mod wanted;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::paper::{has_colours, say};
use super::{diagnostic, runtime};
use crate::config::Settings;
use crate::script::{Broken, Severity};
use look::look;
pub(super) use wanted::NoFile;
use wanted::Wanted;

#[derive(clap::Args)]
pub(super) struct Checking {
    /// Tell only what is wrong in these files and folders.
    files: Vec<PathBuf>,
    /// Let warnings count as errors.
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(
    checking: &Checking,
    folder: &Path,
    settings: Result<Settings, Vec<Broken>>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    // Where there is no folder, the settings say so, and there is nothing else to say.
    if let Err(mistakes) = &settings
        && let Some(missing) = mistakes.first().filter(|_| !folder.is_dir())
    {
        return Err(missing.clone().into());
    }
    let wanted = Wanted::of(folder, &checking.files)?;
    let found = runtime()?.block_on(look(folder, settings))?;
    wanted.are_among(&found.read())?;
    let looked_at = looked_at(found.tasks, found.plugins, found.entries);
    let findings = found.about(&wanted);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if json {
        say(&serde_json::to_string_pretty(&findings)?)?;
    } else {
        let coloured = has_colours(&std::io::stdout());
        for finding in &findings {
            say(&(diagnostic::show(finding.severity, &finding.at, coloured) + "\n"))?;
        }
        say(&format!("{looked_at}: {}", summary(errors, warnings)))?;
    }
    let failed = errors > 0 || (checking.strict && warnings > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn summary(errors: usize, warnings: usize) -> String {
    let problems = if errors == 0 { "no problems".to_owned() } else { counted(errors, "problem", "problems") };
    if warnings == 0 { problems } else { format!("{problems}, {}", counted(warnings, "warning", "warnings")) }
}

fn looked_at(tasks: usize, plugins: usize, entries: usize) -> String {
    let tasks = counted(tasks, "task", "tasks");
    let plugins = counted(plugins, "plugin", "plugins");
    format!("{tasks}, {plugins}, {}", counted(entries, "schedule entry", "schedule entries"))
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts() {
        assert_eq!(
            [summary(0, 0), summary(1, 0), summary(2, 1)],
            ["no problems", "1 problem", "2 problems, 1 warning"]
        );
    }

    #[test]
    fn one_of_a_kind_is_told_as_one() {
        assert_eq!(looked_at(1, 1, 1), "1 task, 1 plugin, 1 schedule entry");
        assert_eq!(looked_at(0, 2, 0), "0 tasks, 2 plugins, 0 schedule entries");
    }
}
