//! What happened to tasks: finding it, a page at a time.
//!
//! A search takes the one way through the rows that meets the fewest others, and looks at a bounded number of them;
//! a page may be short, and its cursor tells where to go on.

use async_trait::async_trait;
use rusqlite::Connection;

use super::Embedded;
use super::claims::Claims;
use super::cursor::Place;
use super::depths::Depths;
use super::file::Outcome;
use super::rows::{self, LISTED, MESSAGE, MESSAGE_COLUMNS, instant};
use super::way::Way;
use crate::store::{Error, Filter, History, Page, Result, Weight};
use crate::task::{Run, Timestamp};

/// The most rows that one page looks at.
const LOOKS: usize = 4_000;
/// The most bytes of arguments, results and errors that one page looks through.
const BYTES: usize = 16 << 20;
/// Rows are stored in the order of their times, except where the clock was set back by less than this.
const CLOCK_SET_BACK: chrono::Duration = chrono::Duration::minutes(1);

#[async_trait]
impl History for Embedded {
    async fn search(&self, filter: &Filter) -> Result<Page> {
        let (claims, depths, filter) = (self.claims.clone(), self.depths.clone(), filter.clone());
        self.readers.search(move |db| search(db, &claims, &depths, &filter)).await
    }
}

// What a look at one row told.
enum Look {
    Fits(Box<Run>),
    DoesNot,
    /// It was dropped meanwhile.
    Gone,
    /// Neither it nor any that follows fits.
    TooOld,
}

fn search(db: &Connection, claims: &Claims, depths: &Depths, filter: &Filter) -> Outcome<Page> {
    let from = filter.cursor.as_deref().map(Place::parse).transpose()?;
    let Some(way) = Way::choose(db, depths, filter, from)? else {
        let cursor = filter.cursor.clone().unwrap_or_default();
        return Err(Error::BadCursor { cursor }.into());
    };
    let limit = filter.limit.max(1);
    let mut row = db.prepare_cached(&format!("SELECT {MESSAGE}, {LISTED} FROM task WHERE seq = ?1"))?;
    let (mut page, mut weight, mut at) = (Page::default(), Weight::default(), from);
    let (mut looks, mut bytes, mut step) = (0, 0, limit.saturating_add(1).min(LOOKS));
    loop {
        let found = way.follow(db, claims, at, step)?;
        let is_last = found.len() < step;
        let count = found.len();
        for (number, (place, seq)) in (1..).zip(found) {
            let mut rows = row.query([seq])?;
            match rows.next()?.map_or(Ok(Look::Gone), |row| look(row, claims, filter, place, &mut bytes))? {
                Look::Fits(run) => {
                    weight.add(&run);
                    page.runs.push(*run);
                }
                Look::DoesNot | Look::Gone => {}
                Look::TooOld => return Ok(page),
            }
            at = Some(place);
            looks += 1;
            let is_full = page.runs.len() >= limit || weight.is_full() || looks >= LOOKS || bytes >= BYTES;
            if is_full && !(is_last && number == count) {
                page.next = Some(place.to_string());
                return Ok(page);
            }
        }
        if is_last {
            return Ok(page);
        }
        step = (2 * step).min(LOOKS);
    }
}

fn look(
    row: &rusqlite::Row<'_>,
    claims: &Claims,
    filter: &Filter,
    place: Place,
    bytes: &mut usize,
) -> rusqlite::Result<Look> {
    let queued_at = instant(row.get(MESSAGE_COLUMNS + 1)?);
    if filter.since.is_some_and(|since| is_too_old(place, queued_at, since)) {
        return Ok(Look::TooOld);
    }
    // Most rows are passed over before their bodies are read.
    let fits = filter.fits_name(row.get_ref(1)?.as_str()?)
        && filter.since.is_none_or(|since| queued_at >= since)
        && filter.queue.as_ref().is_none_or(|queue| row.get_ref(2).is_ok_and(|its| its.as_str() == Ok(queue.as_str())));
    if !fits {
        return Ok(Look::DoesNot);
    }
    let mut run = rows::run(row)?;
    claims.show(&mut run);
    *bytes += [&run.args, &run.kwargs, &run.result].into_iter().flatten().map(|json| json.get().len()).sum::<usize>();
    *bytes +=
        run.error.iter().map(|why| why.exc_message.len() + why.traceback.as_deref().map_or(0, str::len)).sum::<usize>();
    Ok(if filter.fits(&run) { Look::Fits(Box::new(run)) } else { Look::DoesNot })
}

fn is_too_old(place: Place, queued_at: Timestamp, since: Timestamp) -> bool {
    match place {
        Place::Stored(_) => queued_at < since - CLOCK_SET_BACK,
        // It was queued before it ended.
        Place::Ended(at, _) => instant(at) < since,
        Place::Ready(_) => false,
    }
}
