//! Where in the text of a TOML file something stands.

use std::ops::Range;

use toml_edit::{ImDocument, Item};

use crate::script::Broken;

/// Where the value at `path` stands, or where it should: of an unknown key the key, of a missing one its table.
/// Parts of arrays are told by their number. The start of the file when nothing of it is there.
pub(super) fn of_value<S: AsRef<str>>(document: &ImDocument<String>, path: &[S]) -> usize {
    place(document.as_item(), path, Aim::Value, 0)
}

/// Where the key at `path` stands.
pub(super) fn of_key<S: AsRef<str>>(document: &ImDocument<String>, path: &[S]) -> usize {
    place(document.as_item(), path, Aim::Key, 0)
}

#[derive(Clone, Copy, PartialEq)]
enum Aim {
    Key,
    Value,
}

/// The place of `path` in `item`, which itself stands at `here`.
fn place<S: AsRef<str>>(item: &Item, path: &[S], aim: Aim, here: usize) -> usize {
    let Some((part, rest)) = path.split_first() else { return here };
    if let Some(table) = item.as_table_like() {
        let Some((key, value)) = table.get_key_value(part.as_ref()) else { return here };
        let value_at = if aim == Aim::Key && rest.is_empty() { None } else { value.span() };
        return place(value, rest, aim, start(value_at.or(key.span()), here));
    }
    let Ok(number) = part.as_ref().parse() else { return here };
    if let Some(table) = item.as_array_of_tables().and_then(|tables| tables.get(number)) {
        return place(&Item::Table(table.clone()), rest, aim, start(table.span(), here));
    }
    if let Some(value) = item.as_array().and_then(|list| list.get(number)) {
        return place(&Item::Value(value.clone()), rest, aim, start(value.span(), here));
    }
    here
}

fn start(span: Option<Range<usize>>, otherwise: usize) -> usize {
    span.map_or(otherwise, |span| span.start)
}

/// The 1-based line and column of a byte of `text`.
pub(super) fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    let column = before.chars().rev().take_while(|&c| c != '\n').count();
    (number(before.matches('\n').count()), number(column))
}

/// Something wrong at a byte of a file, whose text is `text`.
pub(crate) fn broken_at(file: &str, text: &str, offset: usize, message: String) -> Broken {
    let (line, column) = line_and_column(text, offset);
    Broken::at(file, text, line, Some(column), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\nlist = [ \"x\", \"y\" ]\n[table]\nb = 2\n\n[[many]]\nc = 3\n[[many]]\nc = { d = 4 }\n\
                        [routes]\n\"r.*\" = { queue = \"q\" }\n";

    fn line(path: &[&str]) -> (u32, u32) {
        let document = ImDocument::parse(TEXT.to_owned()).unwrap();
        line_and_column(TEXT, of_value(&document, path))
    }

    #[test]
    fn every_value_is_found() {
        for (path, place) in [
            (&["a"][..], (1, 5)),
            (&["list"], (2, 8)),
            (&["list", "1"], (2, 15)),
            (&["table"], (3, 1)),
            (&["table", "b"], (4, 5)),
            (&["table", "missing"], (3, 1)),
            (&["many", "1"], (8, 1)),
            (&["many", "1", "c", "d"], (9, 11)),
            (&["many", "7"], (6, 1)),
            (&["routes", "r.*", "queue"], (11, 19)),
            (&["nothing"], (1, 1)),
            (&[], (1, 1)),
        ] {
            assert_eq!(line(path), place, "{path:?}");
        }
    }

    #[test]
    fn a_key_is_found_itself() {
        let document = ImDocument::parse(TEXT.to_owned()).unwrap();

        assert_eq!(line_and_column(TEXT, of_key(&document, &["many", "1", "c", "d"])), (9, 7));
        assert_eq!(line_and_column(TEXT, of_key(&document, &["routes", "r.*"])), (11, 1));
    }
}
