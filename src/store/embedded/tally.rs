//! What the writer counts along, so that no command has to look through the file.

use rusqlite::Connection;

/// Changes with what is written; a rollback brings back what it was before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// When to look for delayed messages that are due; `None` when nothing is delayed.
    pub next_due: Option<i64>,
    /// How many rows are final.
    pub ended: i64,
    /// Results up to this row (when it finished, which it is) were dropped for their age.
    pub dropped: (i64, i64),
}

impl Tally {
    /// Looks once at a file that was just opened; results that are too old are looked for from the beginning.
    pub fn count(db: &Connection) -> rusqlite::Result<Self> {
        let ended = "SELECT count(*) FROM task WHERE finished_at IS NOT NULL";
        Ok(Self { ended: db.query_row(ended, [], |row| row.get(0))?, ..Self::default() })
    }
}
