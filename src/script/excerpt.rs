//! The line of a source that an error is about, with a mark under the column.

/// The longest piece of a line that is shown, in characters.
const WIDEST: usize = 160;

/// The 1-based `line` of `source`, and below it a caret under the 1-based `column` where one is given; `None` when
/// there is no such line or it is empty.
pub(super) fn excerpt(source: &str, line: usize, column: Option<usize>) -> Option<String> {
    let text = source.lines().nth(line.checked_sub(1)?)?.trim_end();
    let indent = text.chars().take_while(|c| c.is_whitespace()).count();
    let column = column.map(|column| column.saturating_sub(1).max(indent));
    let skip = indent.max(column.unwrap_or(0).saturating_sub(WIDEST / 2));
    let shown: String = text.chars().skip(skip).take(WIDEST).map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    if shown.is_empty() {
        return None;
    }
    Some(match column {
        Some(column) => format!("{shown}\n{}^", " ".repeat(column - skip)),
        None => shown,
    })
}

/// The same place, or the one behind the last word of `source` when nothing follows there.
pub(super) fn within(source: &str, line: u32, column: Option<u32>) -> (u32, Option<u32>) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let text = source.trim_end();
    let last = text.lines().count();
    if text.is_empty() || line <= number(last) {
        return (line, column);
    }
    let behind = text.lines().last().map_or(0, |line| line.chars().count());
    (number(last), Some(number(behind + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_at_the_end_is_missed_behind_the_last_word() {
        assert_eq!(within("fn f() {\n    1\n\n", 4, Some(1)), (2, Some(6)));
        assert_eq!(within("fn f() {\n", 2, None), (1, Some(9)));
        assert_eq!(within("fn f() {", 1, Some(9)), (1, Some(9)));
        assert_eq!(within("a\n\nb", 2, Some(1)), (2, Some(1)));
        assert_eq!(within(" \n", 3, None), (3, None));
    }

    #[test]
    fn the_mark_stands_under_the_column() {
        assert_eq!(excerpt("let a = 1;\n    let b = ;\n", 2, Some(13)).unwrap(), "let b = ;\n        ^");
        assert_eq!(excerpt("\tx()", 1, Some(2)).unwrap(), "x()\n^");
        assert_eq!(excerpt("x()", 1, None).unwrap(), "x()");
    }

    #[test]
    fn a_line_that_is_not_there_shows_nothing() {
        assert_eq!(excerpt("a", 0, None), None);
        assert_eq!(excerpt("a", 2, Some(1)), None);
        assert_eq!(excerpt("\n\n", 1, Some(1)), None);
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let line = format!("{}X{}", "a".repeat(5_000), "b".repeat(5_000));

        let shown = excerpt(&line, 1, Some(5_001)).unwrap();

        let (text, mark) = shown.split_once('\n').unwrap();
        assert_eq!(text.chars().count(), WIDEST);
        assert_eq!(text.chars().nth(mark.len() - 1), Some('X'));
    }

    proptest::proptest! {
        #[test]
        fn no_place_makes_it_fail(source in ".{0,40}(\n.{0,300})?", line in 0usize..4, column in 0usize..400) {
            let _ = excerpt(&source, line, Some(column));
        }
    }
}
