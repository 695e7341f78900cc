//! A copy of the store while it is used: one moment of it, read beside the process that writes.
//!
//! The write-ahead log lets a reader see one moment for as long as it likes, and nobody waits for it. The copy gets
//! its name only once it is whole and on the disk.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rusqlite::ErrorCode;

use super::file::File;
use crate::store::{NoCopy, Result};

/// Copies the database at `database` into the new file `to`, and tells how many bytes that were.
///
/// # Errors
/// When there is no such store, `to` exists already, or one of them cannot be read or written. Nothing is left of a
/// copy that failed.
pub fn backup(database: &Path, to: &Path) -> Result<u64> {
    let from = database.display();
    let permissions = fs::metadata(database)
        .map_err(|error| anyhow!("`{from}` cannot be read: {error}; is this the folder of the project?"))?
        .permissions();
    let part = Part::create(to, permissions.mode())?;
    let file = File::On(database.to_owned());
    let db = file.open_to_copy()?;
    let name = part.path.to_str().ok_or_else(|| anyhow!("`{}` is not valid UTF-8", to.display()))?;
    db.execute("VACUUM INTO ?1", [name]).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => file.explain_sql(&error),
        _ => anyhow!("cannot copy `{from}` to `{}`: {error}; is there room for it?", to.display()).into(),
    })?;
    Ok(part.finish(to)?)
}

/// A copy that is not whole yet, under a name of its own; it goes with this value.
struct Part {
    path: PathBuf,
}

impl Part {
    // Beside its place, because only there can it be renamed; as private as what it is a copy of.
    fn create(to: &Path, mode: u32) -> anyhow::Result<Self> {
        refuse_existing(to)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(to.file_name().ok_or_else(|| NoCopy(format!("`{}` names no file", to.display())))?);
        name.push(format!(".{}.part", std::process::id()));
        let path = to.with_file_name(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode & 0o777)
            .open(&path)
            .with_context(|| format!("cannot make a file beside `{}`", to.display()))?;
        Ok(Self { path })
    }

    fn finish(self, to: &Path) -> anyhow::Result<u64> {
        let finish = || {
            let file = fs::File::open(&self.path)?;
            file.sync_all()?;
            // Another name, which replaces nothing that somebody has made meanwhile; the first one goes with `self`.
            match fs::hard_link(&self.path, to) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => refuse_existing(to)?,
                // Not every disk has them.
                Err(_) => {
                    refuse_existing(to)?;
                    fs::rename(&self.path, to)?;
                }
                Ok(()) => {}
            }
            let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::File::open(folder)?.sync_all()?;
            anyhow::Ok(file.metadata()?.len())
        };
        finish().with_context(|| format!("cannot finish `{}`", to.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already where it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

fn refuse_existing(to: &Path) -> anyhow::Result<()> {
    let why = || NoCopy(format!("`{}` exists already; name a new file", to.display()));
    if fs::symlink_metadata(to).is_ok() { Err(why().into()) } else { Ok(()) }
}
