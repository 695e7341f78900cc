//! Values as Python's `repr` writes them: Celery's answers carry them as text.

/// A text in quotes.
pub fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut repr = String::with_capacity(text.len() + 2);
    repr.push(quote);
    for c in text.chars() {
        match c {
            '\n' => repr.push_str("\\n"),
            '\r' => repr.push_str("\\r"),
            '\t' => repr.push_str("\\t"),
            '\\' => repr.push_str("\\\\"),
            c if c == quote => repr.extend(['\\', c]),
            c if c.is_control() => repr.push_str(&format!("\\x{:02x}", c as u32)),
            c => repr.push(c),
        }
    }
    repr.push(quote);
    repr
}

/// A set of texts.
pub fn repr_set<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let members: Vec<String> = texts.map(repr).collect();
    if members.is_empty() { "set()".to_owned() } else { format!("{{{}}}", members.join(", ")) }
}

/// An exception with its one argument.
pub fn exception(class: &str, argument: &str) -> String {
    format!("{class}({})", repr(argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_chosen_as_python_does() {
        assert_eq!(repr("a"), "'a'");
        assert_eq!(repr("it's"), "\"it's\"");
        assert_eq!(repr("it's \"so\""), r#"'it\'s "so"'"#);
        assert_eq!(repr("a\\b\n\u{1}"), r"'a\\b\n\x01'");
        assert_eq!(repr("서울"), "'서울'");
    }

    #[test]
    fn a_set_of_nothing_has_a_name() {
        assert_eq!(repr_set([].into_iter()), "set()");
        assert_eq!(repr_set(["a", "b"].into_iter()), "{'a', 'b'}");
    }
}
