//! The database file: opening it, bringing its schema up to date, and saying plainly what is wrong with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::{Durability, Error};

/// Each step brings the schema one version further; the version of a file is how many it has had.
const STEPS: [&str; 2] = [include_str!("schema.sql"), include_str!("schema_2.sql")];

/// The most of the write-ahead log that stays on the disk once its content is in the database, in bytes.
const LOG_KEPT: i64 = 64 << 20;

/// How long a connection waits for another program to let go of the file.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why a command of this room failed.
pub enum Fault {
    Sql(rusqlite::Error),
    /// Nothing is wrong with the store: it is the answer.
    Refused(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

pub type Outcome<T> = Result<T, Fault>;

/// Where the database is.
#[derive(Debug, Clone)]
pub enum File {
    On(PathBuf),
    /// A name within this process; it is gone with its last connection.
    InMemory(String),
}

impl File {
    pub fn in_memory() -> Self {
        Self::InMemory(format!("file:/umbel-{}?vfs=memdb", uuid::Uuid::new_v4().simple()))
    }

    /// The writer's connection, with the schema of this version.
    pub fn open(&self, durability: Durability) -> Result<Connection, Error> {
        self.try_open(durability).map_err(|fault| self.explain(fault))
    }

    /// Where it is noted which tasks run; `None` in memory.
    pub fn beside(&self) -> Option<PathBuf> {
        let Self::On(path) = self else { return None };
        let mut name = path.file_name()?.to_owned();
        name.push("-running");
        Some(path.with_file_name(name))
    }

    /// One more connection, which only reads.
    pub fn open_to_read(&self) -> Result<Connection, Error> {
        let open = || {
            let db = self.connect()?;
            db.pragma_update(None, "query_only", true)?;
            Ok(db)
        };
        open().map_err(|fault| self.explain(fault))
    }

    /// A connection beside those of another process, which changes nothing.
    pub fn open_to_copy(&self) -> Result<Connection, Error> {
        let open = || {
            let db = self.connect_with(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            if self.version(&db)? == 0 {
                return Err(self.refuse("is no store of umbel".to_owned()));
            }
            Ok(db)
        };
        open().map_err(|fault| self.explain(fault))
    }

    fn connect(&self) -> Outcome<Connection> {
        self.connect_with(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    fn connect_with(&self, flags: OpenFlags) -> Outcome<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = match self {
            Self::On(path) => Connection::open_with_flags(path, flags)?,
            Self::InMemory(name) => Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_URI)?,
        };
        db.busy_timeout(PATIENCE)?;
        db.set_prepared_statement_cache_capacity(64);
        Ok(db)
    }

    fn try_open(&self, durability: Durability) -> Outcome<Connection> {
        let mut db = self.connect()?;
        // Before anything is changed, in what may be somebody else's.
        let version = self.version(&db)?;
        // Only heeded while the file is still empty.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        // What a commit waits for before its callers hear of it.
        let synchronous = match durability {
            Durability::Full => "FULL",
            Durability::Fast => "NORMAL",
        };
        db.pragma_update(None, "synchronous", synchronous)?;
        // Ids are random, so that each push touches another page of their index: keep those at hand (KiB).
        db.pragma_update(None, "cache_size", -32_768)?;
        // Pages; a hot page is then copied into the file once for many commits.
        db.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        db.query_row(&format!("PRAGMA journal_size_limit = {LOG_KEPT}"), [], |_| Ok(()))?;
        let change = db.transaction()?;
        for step in &STEPS[version..] {
            change.execute_batch(step)?;
        }
        change.pragma_update(None, "user_version", STEPS.len() as u32)?;
        change.commit()?;
        Ok(db)
    }

    // How many steps the file has had: 0 for an empty one. Those of other programs are refused.
    fn version(&self, db: &Connection) -> Outcome<usize> {
        let version = db.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
        if version > STEPS.len() {
            return Err(self.refuse(format!(
                "was written by a newer umbel (its schema is {version}, this one knows {}); use that one or another file",
                STEPS.len()
            )));
        }
        // Others number their schemas too.
        let look = "SELECT count(*), count(*) FILTER (WHERE name = 'task') FROM sqlite_master";
        let (tables, ours): (u32, u32) = db.query_row(look, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if tables > 0 && (version == 0 || ours == 0) {
            return Err(self.refuse("is an SQLite database of another program; use another file".to_owned()));
        }
        Ok(version)
    }

    fn refuse(&self, why: String) -> Fault {
        Fault::Refused(anyhow::anyhow!("{self} {why}").into())
    }

    /// What is wrong, in words for someone who has to act.
    pub fn explain(&self, fault: Fault) -> Error {
        match fault {
            Fault::Refused(error) => error,
            Fault::Sql(error) => self.explain_sql(&error),
        }
    }

    pub fn explain_sql(&self, error: &rusqlite::Error) -> Error {
        let away = |what: &str| Error::Away { reason: format!("{self} {what} ({error})") };
        let broken = |what: &str| anyhow::anyhow!("{self} {what} ({error})").into();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                let way_out = "the disk is full; what was stored is safe, and work goes on once there is room";
                Error::Full { reason: format!("{self} cannot grow: {way_out} ({error})") }
            }
            Some(ErrorCode::SystemIoFailure) => away("cannot be read or written: look at its disk, quota and mount"),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => away("is locked by another program"),
            Some(ErrorCode::ReadOnly) => {
                away("cannot be written: its disk, its folder or the file is read-only; make it writable")
            }
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                away("cannot be opened: look at its folder and at the permissions of both")
            }
            Some(ErrorCode::NotADatabase) => broken("is no SQLite database; use another file"),
            Some(ErrorCode::DatabaseCorrupt) => broken("is damaged; restore it from a backup or use another file"),
            _ => broken("failed"),
        }
    }
}

impl std::fmt::Display for File {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::On(path) => write!(out, "`{}`", Path::display(path)),
            Self::InMemory(_) => out.write_str("the store in memory"),
        }
    }
}
