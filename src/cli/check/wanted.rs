//! Of which files `umbel check` tells: those that were named, and of a folder all that are below it.

use std::path::{Path, PathBuf};

/// A file that cannot be checked.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(in crate::cli) enum NoFile {
    #[error("there is no file `{}`", .0.display())]
    Missing(PathBuf),
    #[error("`{}` is not in the project `{}`: `--dir` names another one", .file.display(), .folder.display())]
    Outside { file: PathBuf, folder: PathBuf },
    #[error(
        "`{}` is nothing that is checked: these are the settings, the schedules, and the scripts and manifests in \
         `tasks/` and `plugins/` that are used",
        .0.display()
    )]
    Unread(PathBuf),
}

pub(super) struct Wanted<'a> {
    folder: &'a Path,
    /// As they were typed, and where they are, without links; everything when there is none.
    paths: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Wanted<'a> {
    /// `files` are looked for where the command was typed and in `folder`, the project's.
    pub fn of(folder: &'a Path, files: &[PathBuf]) -> Result<Self, NoFile> {
        let paths =
            files.iter().map(|file| Ok((file.clone(), inside(folder, file)?))).collect::<Result<_, NoFile>>()?;
        Ok(Self { folder, paths })
    }

    /// Whether `file`, a path from the project's folder, is one of them.
    pub fn has(&self, file: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|(_, wanted)| self.real(file).starts_with(wanted))
    }

    /// # Errors
    /// When one of them is, and holds, none of the files that were `read`.
    pub fn are_among(&self, read: &[String]) -> Result<(), NoFile> {
        let is_read = |wanted: &Path| read.iter().any(|file| self.real(file).starts_with(wanted));
        match self.paths.iter().find(|(_, wanted)| !is_read(wanted)) {
            Some((typed, _)) => Err(NoFile::Unread(typed.clone())),
            None => Ok(()),
        }
    }

    // A link that leads nowhere is told of, too.
    fn real(&self, file: &str) -> PathBuf {
        let path = self.folder.join(file);
        path.canonicalize().unwrap_or(path)
    }
}

fn inside(folder: &Path, file: &Path) -> Result<PathBuf, NoFile> {
    let outside = || NoFile::Outside { file: file.to_owned(), folder: folder.to_owned() };
    let project = folder.canonicalize().map_err(|_| outside())?;
    let there: Vec<PathBuf> = [file, &folder.join(file)].into_iter().flat_map(Path::canonicalize).collect();
    if there.is_empty() {
        return Err(NoFile::Missing(file.to_owned()));
    }
    there.into_iter().find(|path| path.starts_with(&project)).ok_or_else(outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_found_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tasks")).unwrap();
        let file = folder.path().join("tasks/a.rhai");
        std::fs::write(&file, "").unwrap();
        let wanted = |path: &Path| Wanted::of(folder.path(), &[path.to_owned()]);
        let has = |path: &Path, file| wanted(path).unwrap().has(file);

        // The tests run where a folder `tasks` is, too.
        for path in [&file, Path::new("tasks/a.rhai"), Path::new("tasks"), folder.path()] {
            assert!(has(path, "tasks/a.rhai"), "{path:?}");
        }
        assert!(!has(&file, "tasks/b.rhai") && !has(Path::new("tasks"), "tasks_2/a.rhai"));
        let none = Path::new("tasks/none.rhai");
        assert_eq!(wanted(none).err(), Some(NoFile::Missing(none.to_owned())));
        assert!(matches!(wanted(&std::env::temp_dir()).err(), Some(NoFile::Outside { .. })));
    }
}
