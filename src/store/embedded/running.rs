//! The file that tells a next process which runs had begun when this one died.
//!
//! Beside the database, one slot for each task that runs at the same time. A start writes its slot once and waits for
//! no disk: what was written outlives a killed process, and a power cut is nobody's fault. An end writes nothing: the
//! database tells whether a task has ended or has gone on to its next attempt.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::Error;

/// Bytes of a slot; a divisor of a page, so that none is written half.
const SLOT: usize = 32;
/// More slots than anybody has; what lies beyond is no file of ours.
const MOST_SLOTS: u64 = 1 << 20;

/// An attempt that had begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The row of the task.
    pub seq: i64,
    /// Of its receipt.
    pub token: u64,
    /// Which attempt it was.
    pub retries: u32,
}

impl Begun {
    fn to_bytes(self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&self.seq.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.token.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.retries.to_le_bytes());
        bytes
    }

    // `None` for a slot that is empty.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let begun = Self {
            seq: i64::from_le_bytes(bytes[..8].try_into().ok()?),
            token: u64::from_le_bytes(bytes[8..16].try_into().ok()?),
            retries: u32::from_le_bytes(bytes[16..20].try_into().ok()?),
        };
        (begun.seq > 0).then_some(begun)
    }
}

/// The starts of this process. In memory it keeps nothing: nobody comes after it.
#[derive(Default)]
pub struct Running {
    file: Option<File>,
    slots: Mutex<Slots>,
    told: AtomicBool,
}

#[derive(Default)]
struct Slots {
    free: Vec<u32>,
    used: u32,
}

impl Running {
    /// Opens the file at `path` and reads what the last process had begun. It is emptied by [`Self::clear`].
    ///
    /// # Errors
    /// Names the file.
    pub fn open(path: &Path) -> Result<(Self, Vec<Begun>), Error> {
        let open = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            let mut bytes = vec![0; file.metadata()?.len().min(MOST_SLOTS * SLOT as u64) as usize];
            file.read_exact_at(&mut bytes, 0)?;
            Ok((file, bytes.chunks_exact(SLOT).filter_map(Begun::from_bytes).collect()))
        };
        let (file, begun) = open().map_err(|error: std::io::Error| {
            let path = path.display();
            anyhow::anyhow!("`{path}` cannot be read and written: {error}; it may be removed while umbel is stopped")
        })?;
        Ok((Self { file: Some(file), ..Self::default() }, begun))
    }

    /// Nothing has begun.
    pub fn clear(&self) {
        if let Some(file) = &self.file {
            self.tell(file.set_len(0));
        }
    }

    /// A slot of its own for one more that runs.
    pub fn take(&self) -> u32 {
        let mut slots = self.slots();
        slots.free.pop().unwrap_or_else(|| {
            slots.used += 1;
            slots.used - 1
        })
    }

    /// Notes that the attempt begins; `None` that it has not begun after all.
    pub fn write(&self, slot: u32, begun: Option<Begun>) {
        if let Some(file) = &self.file {
            let bytes = begun.map_or([0; SLOT], Begun::to_bytes);
            self.tell(file.write_all_at(&bytes, u64::from(slot) * SLOT as u64));
        }
    }

    pub fn give_back(&self, slot: u32) {
        self.slots().free.push(slot);
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().expect("nothing panics while it holds the slots")
    }

    // Once: a full disk would say it for each run, and a run does not depend on it.
    fn tell(&self, written: std::io::Result<()>) {
        if let Err(error) = written
            && !self.told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "cannot note which tasks run; should this process die, they are not suspected");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_begun_is_read_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("umbel.db-running");
        let begun = |seq| Begun { seq, token: 1 << 40 | 7, retries: 2 };
        let (running, before) = Running::open(&path).unwrap();
        let slots = [running.take(), running.take(), running.take()];
        slots.iter().zip(1..).for_each(|(slot, seq)| running.write(*slot, Some(begun(seq))));
        running.write(slots[1], None);
        running.give_back(slots[2]);
        let reused = running.take();
        running.write(reused, Some(begun(4)));

        let (next, after) = Running::open(&path).unwrap();

        assert_eq!((before, after), (vec![], vec![begun(1), begun(4)]));
        next.clear();
        assert_eq!(Running::open(&path).unwrap().1, []);
    }

    #[test]
    fn a_file_that_was_cut_is_read_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("umbel.db-running");
        let begun = Begun { seq: 1, token: 2, retries: 0 };
        std::fs::write(&path, [&begun.to_bytes()[..], &[7; SLOT - 1]].concat()).unwrap();

        assert_eq!(Running::open(&path).unwrap().1, [begun]);
    }
}
