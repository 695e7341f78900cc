//! The lock file of a project folder: one process uses its embedded store, and commands find it by this file.
//!
//! The operating system drops the lock with the process, so that a crash leaves nothing to clean up. The text in
//! the file (pid, address, token) is for other processes to read while the lock is held.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// A process that was killed holds its lock until the system has cleared it away.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// What the holder says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    /// Where its HTTP listens, as `127.0.0.1:8080`; `None` before it listens.
    pub address: Option<String>,
    /// What a local command shows to be let in.
    pub token: String,
}

/// Another process holds the lock.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is in use by process {}{}", path.display(), holder.as_ref().map_or("?".to_owned(), |holder| holder.pid.to_string()), listens(holder.as_ref()))]
pub struct Held {
    pub path: PathBuf,
    /// `None` when the file could not be read.
    pub holder: Option<Holder>,
}

fn listens(holder: Option<&Holder>) -> String {
    holder.and_then(|holder| holder.address.as_ref()).map_or(String::new(), |address| {
        format!(", which listens on {address}; stop it, or use another folder or store")
    })
}

/// A held lock; dropping it releases.
#[derive(Debug)]
pub struct Lock {
    file: Mutex<File>,
    holder: Holder,
}

impl Lock {
    /// Takes the lock at `path`, making its folder. Blocks for a second at most.
    ///
    /// # Errors
    /// [`super::Error::Held`] when another process has it.
    pub fn take(path: &Path) -> super::Result<Self> {
        if let Some(folder) = path.parent() {
            make_folder(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot open `{}`", path.display()))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < LAST_BREATH => std::thread::sleep(LAST_BREATH / 20),
                Err(TryLockError::WouldBlock) => {
                    return Err(Held { path: path.to_owned(), holder: read(path).ok().flatten() }.into());
                }
                Err(TryLockError::Error(error)) => {
                    return Err(anyhow::Error::new(error).context(format!("cannot lock `{}`", path.display())).into());
                }
            }
        }
        let holder = Holder {
            pid: std::process::id(),
            address: None,
            token: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
        };
        let lock = Self { file: Mutex::new(file), holder };
        lock.write(&lock.holder)?;
        Ok(lock)
    }

    /// Tells other processes where this one listens.
    pub fn announce(&self, address: &str) -> anyhow::Result<()> {
        self.write(&Holder { address: Some(address.to_owned()), ..self.holder.clone() })
    }

    /// What a local command shows to be let in.
    pub fn token(&self) -> &str {
        &self.holder.token
    }

    /// Who took the lock at `path` last; `None` when nobody did or it was given back. The process may be gone:
    /// only a connection tells, and trying the lock here would keep a starting process from taking it.
    pub fn holder(path: &Path) -> anyhow::Result<Option<Holder>> {
        if path.exists() { read(path).with_context(|| format!("cannot read `{}`", path.display())) } else { Ok(None) }
    }

    fn write(&self, holder: &Holder) -> anyhow::Result<()> {
        let mut file = self.file.lock().expect("no one panics while writing the lock file");
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(holder)?)?;
        file.flush()?;
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock file that cannot be emptied only makes a command try an address that does not answer.
        if let Ok(file) = self.file.lock() {
            let _ = file.set_len(0);
        }
    }
}

// What is kept in it (arguments, results, a token) is for its owner alone.
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn read(path: &Path) -> anyhow::Result<Option<Holder>> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/umbel.lock");
        let lock = Lock::take(&path).unwrap();
        lock.announce("127.0.0.1:8080").unwrap();

        let refused = Lock::take(&path).unwrap_err().to_string();

        assert!(
            refused.contains(&format!("process {}, which listens on 127.0.0.1:8080", std::process::id())),
            "{refused}"
        );
        assert_eq!(Lock::holder(&path).unwrap().unwrap().token, lock.token());
    }

    #[test]
    fn a_dropped_lock_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("umbel.lock");
        drop(Lock::take(&path).unwrap());

        assert_eq!(Lock::holder(&path).unwrap(), None);
        Lock::take(&path).unwrap();
    }
}
