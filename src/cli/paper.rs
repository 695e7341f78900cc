//! What commands print on: a terminal, where colours and tables help, or a pipe, where programs read.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};

use unicode_width::UnicodeWidthStr;

/// Prints a line on standard output. A reader that has seen enough (`| head`) is no error.
pub(super) fn say(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints the beginning of a line, which is seen at once.
pub(super) fn begin(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Whether what is printed on `stream` may have colours.
pub(super) fn has_colours(stream: &impl IsTerminal) -> bool {
    let variable = |name| std::env::var_os(name);
    wants_colours(stream.is_terminal(), variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
}

fn wants_colours(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// Rows in columns: aligned under their names on a terminal, else parted by tabs and without names.
pub(super) struct Table<const N: usize> {
    names: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub fn new(names: [&'static str; N]) -> Self {
        Self { names, rows: Vec::new() }
    }

    pub fn add(&mut self, row: [String; N]) {
        self.rows.push(row.map(|cell| plain(&cell)));
    }

    pub fn print(&self) -> io::Result<()> {
        self.lines(io::stdout().is_terminal()).iter().try_for_each(|line| say(line))
    }

    fn lines(&self, aligned: bool) -> Vec<String> {
        if !aligned {
            return self.rows.iter().map(|row| row.join("\t")).collect();
        }
        let rows: Vec<[&str; N]> =
            std::iter::once(self.names).chain(self.rows.iter().map(|row| row.each_ref().map(String::as_str))).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        let line = |row: &[&str; N]| {
            let cells =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.width())));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows.iter().map(line).collect()
    }
}

/// `text` on one line, without what could steer a terminal: it may come from anybody who sends tasks.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// The beginning of `text`, where it is longer than `most` letters.
pub(super) fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let wants = |terminal, no_color: Option<&str>, term: Option<&str>| {
            wants_colours(terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };

        assert!(wants(true, None, Some("xterm")) && wants(true, Some(""), None));
        assert!(!wants(false, None, Some("xterm")));
        assert!(!wants(true, Some("1"), Some("xterm")));
        assert!(!wants(true, None, Some("dumb")));
    }

    #[test]
    fn a_table_is_aligned_for_people_and_parted_for_programs() {
        let mut table = Table::new(["QUEUE", "READY"]);
        table.add(["celery".to_owned(), "3".to_owned()]);
        table.add(["메일".to_owned(), "1\u{1b}[2J\n2".to_owned()]);

        assert_eq!(table.lines(true), ["QUEUE   READY", "celery  3", "메일    1 [2J 2"]);
        assert_eq!(table.lines(false), ["celery\t3", "메일\t1 [2J 2"]);
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        assert_eq!((short("세계", 2), short("세계로", 2)), ("세계".to_owned(), "세계…".to_owned()));
    }
}
