//! Shows a mistake with its line: `annotate-snippets` draws it as Rust's compiler would.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::script::{Broken, Severity};

/// The mistake, where it is and its line with a mark.
pub(super) fn show(severity: Severity, broken: &Broken, coloured: bool) -> String {
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let (message, help) = match broken.message.split_once("; did you mean ") {
        Some((message, name)) => (message, Some(format!("did you mean {name}"))),
        None => (broken.message.as_str(), None),
    };
    let title = level.primary_title(message);
    let group: Group<'_> = match (broken.line, &broken.excerpt) {
        (Some(line), Some(excerpt)) => {
            // There names have dashes.
            let dashes = broken.file.ends_with(".toml");
            let (text, mark) = source(excerpt, broken.column, dashes);
            let snippet = Snippet::source(text).path(broken.file.as_str()).line_start(line as usize);
            title.element(snippet.annotation(AnnotationKind::Primary.span(mark)))
        }
        (Some(line), None) => title.element(Origin::path(broken.file.as_str()).line(line as usize)),
        (None, _) => title.element(Origin::path(broken.file.as_str())),
    };
    let group = group.elements(help.map(|help| Level::HELP.message(help)));
    let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// The line of an excerpt and the bytes that are meant: the word under its mark, which may have `dashes`, else all of
/// it. Excerpts have no indentation; here it is put back, so that the column that is shown is that of the file.
fn source(excerpt: &str, column: Option<u32>, dashes: bool) -> (String, std::ops::Range<usize>) {
    let Some((text, mark)) = excerpt.split_once('\n') else { return (excerpt.to_owned(), 0..excerpt.len()) };
    let mark = mark.chars().count().saturating_sub(1);
    let indent = column.map_or(0, |column| (column as usize).saturating_sub(mark + 1));
    let text = " ".repeat(indent) + text;
    let word = word_at(&text, indent + mark, dashes);
    (text, word)
}

/// The bytes of the word that begins at the `start`th letter, or of that letter alone.
fn word_at(text: &str, start: usize, dashes: bool) -> std::ops::Range<usize> {
    let from = text.char_indices().nth(start).map_or(text.len(), |(at, _)| at);
    let rest = &text[from..];
    let is_of_word = |letter: char| letter.is_alphanumeric() || letter == '_' || (dashes && letter == '-');
    let word: usize = rest.chars().take_while(|letter| is_of_word(*letter)).map(char::len_utf8).sum();
    let letter = rest.chars().next().map_or(0, char::len_utf8);
    from..from + word.max(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(severity: Severity, source: &str, line: u32, column: Option<u32>, message: &str) -> String {
        show(severity, &Broken::at("tasks/a.rhai", source, line, column, message.to_owned()), false)
    }

    #[test]
    fn the_line_is_shown_with_its_place() {
        let text = shown(
            Severity::Error,
            "fn f() {\n    greeet(1)\n}",
            2,
            Some(5),
            "there is no function `greeet`; did you mean `greet`?",
        );

        assert_eq!(
            text,
            "error: there is no function `greeet`\n --> tasks/a.rhai:2:5\n  |\n2 |     greeet(1)\n  |     ^^^^^^\n  |\n  = help: did you mean `greet`?"
        );
    }

    #[test]
    fn what_has_no_column_or_no_line_is_shown_too() {
        let text = shown(Severity::Warning, "[a]\nx = 1", 2, None, "odd");
        assert!(
            text.starts_with("warning: odd\n --> tasks/a.rhai:2:1\n") && text.contains("2 | x = 1\n  | ^^^^^"),
            "{text}"
        );

        let whole = show(Severity::Error, &Broken::whole("tasks/a.rhai", "is not a file".into()), false);
        assert_eq!(whole, "error: is not a file\n--> tasks/a.rhai");
    }

    #[test]
    fn a_name_with_dashes_is_marked_whole_where_names_have_them() {
        let shown = |file| show(Severity::Error, &Broken::at(file, "[a-b]", 1, Some(2), "odd".into()), false);

        assert!(shown("schedules.toml").contains("1 | [a-b]\n  |  ^^^"), "{}", shown("schedules.toml"));
        assert!(!shown("tasks/a.rhai").contains("^^"), "{}", shown("tasks/a.rhai"));
    }

    #[test]
    fn only_what_is_asked_for_has_colours() {
        let broken = Broken::whole("a", "b".into());

        assert!(!show(Severity::Error, &broken, false).contains('\u{1b}'));
        assert!(show(Severity::Error, &broken, true).contains('\u{1b}'));
    }

    proptest::proptest! {
        #[test]
        fn no_place_makes_it_fail(source in "(\\PC{0,40}\n?){0,3}", line in 0u32..5, column in proptest::option::of(0u32..60)) {
            let _ = shown(Severity::Error, &source, line, column, "m");
        }
    }
}
