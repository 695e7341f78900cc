//! Texts: a part of one, without a copy of all its characters, each of which would take four bytes.

use std::ops::{Range, RangeInclusive};

use rhai::{Dynamic, ImmutableString, Module};

use super::put;
use crate::script::Native;
use crate::script::limit::step;

/// How many characters are gone through in one step.
const STEP: usize = 16 << 10;

pub(super) fn functions(module: &mut Module) {
    let doc = "A part of a text: `t.sub_string(2, 3)`, `t.sub_string(2..5)`, `t.sub_string(-2)`.";
    overloads(module, "sub_string", doc, |text, part| ImmutableString::from(&text[part]));
    let doc = "Leaves a part of a text: `t.crop(2, 3)`, `t.crop(2..5)`, `t.crop(-2)`.";
    overloads(module, "crop", doc, |text, part| *text = text[part].into());
    let doc = "The characters of a part of a text, for a loop: `for c in t.chars(2, 3) { }`.";
    overloads(module, "chars", doc, letters);
    let doc = "The characters of a text, for a loop: `for c in t.chars() { }`.";
    for name in ["chars", "get$chars"] {
        put(module, name, doc, |text: &mut ImmutableString| letters(text, 0..text.len()));
    }
    module.set_iterator::<Letters>();
    module.set_iter(std::any::TypeId::of::<ImmutableString>(), |text: Dynamic| {
        let text = text.cast::<ImmutableString>();
        Box::new(letters(&mut text.clone(), 0..text.len()).map(Dynamic::from))
    });
}

fn overloads<R: rhai::Variant + Clone>(
    module: &mut Module,
    name: &str,
    doc: &str,
    act: fn(&mut ImmutableString, Range<usize>) -> R,
) {
    put(module, name, doc, move |text: &mut ImmutableString, start: i64| -> Native<R> {
        let part = part(text, start, i64::MAX)?;
        Ok(act(text, part))
    });
    put(module, name, doc, move |text: &mut ImmutableString, start: i64, length: i64| -> Native<R> {
        let part = part(text, start, length)?;
        Ok(act(text, part))
    });
    put(module, name, doc, move |text: &mut ImmutableString, range: Range<i64>| -> Native<R> {
        let start = range.start.max(0);
        let part = part(text, start, range.end.saturating_sub(start))?;
        Ok(act(text, part))
    });
    put(module, name, doc, move |text: &mut ImmutableString, range: RangeInclusive<i64>| -> Native<R> {
        let start = (*range.start()).max(0);
        // As rhai does: there is one character in it at the least.
        let part = part(text, start, (*range.end()).max(start).saturating_sub(start).saturating_add(1))?;
        Ok(act(text, part))
    });
}

/// Where in `text` so many characters lie, from the one at `start`; from the end where that is negative.
fn part(text: &str, start: i64, length: i64) -> Native<Range<usize>> {
    let length = usize::try_from(length).unwrap_or(0);
    let begin = match usize::try_from(start) {
        Ok(start) => nth(text.char_indices(), start)?.unwrap_or(text.len()),
        Err(_) => {
            let before = usize::try_from(start.unsigned_abs() - 1).unwrap_or(usize::MAX);
            nth(text.char_indices().rev(), before)?.unwrap_or(0)
        }
    };
    let rest = &text[begin..];
    let taken = nth(rest.char_indices(), length)?.unwrap_or(rest.len());
    Ok(begin..begin + taken)
}

fn nth(mut letters: impl Iterator<Item = (usize, char)>, mut number: usize) -> Native<Option<usize>> {
    while number >= STEP {
        step()?;
        if letters.nth(STEP - 1).is_none() {
            return Ok(None);
        }
        number -= STEP;
    }
    Ok(letters.nth(number).map(|(at, _)| at))
}

/// The characters of a text from one byte to another.
#[derive(Clone)]
struct Letters {
    text: ImmutableString,
    left: Range<usize>,
}

fn letters(text: &mut ImmutableString, left: Range<usize>) -> Letters {
    Letters { text: text.clone(), left }
}

impl Iterator for Letters {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let letter = self.text[self.left.clone()].chars().next()?;
        self.left.start += letter.len_utf8();
        Some(letter)
    }
}
