//! What the writer does to store messages.

use std::sync::LazyLock;

use rusqlite::Connection;

use super::desk::Desk;
use super::file::{Fault, Outcome};
use super::rows::{self, MESSAGE, MESSAGE_COLUMNS, micros};
use crate::store::{Error, Pushed, Tick};
use crate::task::{Message, State, Timestamp};

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let marks = (1..=MESSAGE_COLUMNS + 5).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO task ({MESSAGE}, state, step, turn, due_at, queued_at) VALUES ({marks}) \
         ON CONFLICT (id) DO NOTHING"
    )
});

/// Stores a follow-up in a file that nobody has taken over yet: it waits there until it is due, and that is looked at
/// first of all. One that is known already is not sent.
pub fn leave(db: &Connection, message: &Message, now: Timestamp) -> rusqlite::Result<()> {
    let due_at = message.due_at().unwrap_or(now).max(now);
    write(db, message, &Place { state: State::Scheduled, turn: 0, due_at: Some(micros(due_at)) }, now)?;
    Ok(())
}

// Where a message waits.
struct Place {
    state: State,
    turn: i64,
    due_at: Option<i64>,
}

impl Desk {
    /// Stores all of `messages` or none, see [`crate::store::Queue::push`].
    pub fn push(&mut self, messages: &[Message], unless: Option<&Tick>, now: Timestamp) -> Outcome<Pushed> {
        if let ([message], None) = (messages, unless) {
            return self.insert(message, now).map(|()| Pushed::Stored);
        }
        self.atomically(|desk| {
            if let Some(tick) = unless
                && !desk.take_tick(tick)?
            {
                return Ok(Pushed::Taken);
            }
            messages.iter().try_for_each(|message| desk.insert(message, now))?;
            Ok(Pushed::Stored)
        })
    }

    /// Stores a follow-up. A second run of the same task, after a death, does not send its fixed followers twice.
    pub fn push_unless_known(&mut self, message: &Message, now: Timestamp) -> Outcome<()> {
        match self.insert(message, now) {
            Err(Fault::Refused(Error::DuplicateId { .. })) => Ok(()),
            done => done,
        }
    }

    fn insert(&mut self, message: &Message, now: Timestamp) -> Outcome<()> {
        let place = self.place(message, now);
        let inserted = write(&self.db, message, &place, now)?;
        if inserted == 0 {
            return Err(Error::DuplicateId { id: message.id.clone() }.into());
        }
        match place.state {
            State::Queued => self.moved(&message.queue, 1, 0),
            _ => self.moved(&message.queue, 0, 1),
        }
        self.has_changed(&message.id);
        Ok(())
    }

    fn place(&mut self, message: &Message, now: Timestamp) -> Place {
        match message.due_at().filter(|due| *due > now) {
            Some(due) => {
                self.delay(micros(due));
                Place { state: State::Scheduled, turn: 0, due_at: Some(micros(due)) }
            }
            None => {
                let turn = self.queue_up(message.priority.step(), &message.queue);
                Place { state: State::Queued, turn, due_at: None }
            }
        }
    }
}

// How many rows that made: none where the id is known.
fn write(db: &Connection, message: &Message, place: &Place, now: Timestamp) -> rusqlite::Result<usize> {
    let mut insert = db.prepare_cached(&INSERT)?;
    rows::bind_message(&mut insert, message)?;
    insert.raw_bind_parameter(MESSAGE_COLUMNS + 1, place.state.as_str())?;
    insert.raw_bind_parameter(MESSAGE_COLUMNS + 2, message.priority.step())?;
    insert.raw_bind_parameter(MESSAGE_COLUMNS + 3, place.turn)?;
    insert.raw_bind_parameter(MESSAGE_COLUMNS + 4, place.due_at)?;
    insert.raw_bind_parameter(MESSAGE_COLUMNS + 5, micros(now))?;
    insert.raw_execute()
}
