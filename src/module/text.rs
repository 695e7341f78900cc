//! `text::`: what strings of scripts cannot do by themselves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;

use regex::{Regex, RegexBuilder};
use rhai::{Array, Dynamic, Module};

use super::{add, wrong};
use crate::script::{HostError, Native, go_on, outside};

/// How many compiled patterns a thread keeps; when there are more, it begins anew.
const MAX_PATTERNS: usize = 16;

/// The largest compiled pattern, in bytes. A larger one is refused.
const MAX_PATTERN: usize = 256 << 10;

/// The longest text that is searched by a pattern, in bytes. One search cannot be stopped, and with the worst pattern
/// it takes a time that grows with the text.
const MAX_SEARCHED: usize = 1 << 20;

/// How many characters are gone through between two looks at the clock.
const STEP: usize = 16 << 10;

/// The most pieces that a text is taken apart into: as values, short ones take many times the room of the text.
const MAX_PIECES: usize = 1_000_000;

/// The longest text that replacing may make, in bytes.
const MAX_REPLACED: usize = 16 << 20;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    add(
        &mut module,
        "words(text: string) -> array",
        "Its words without punctuation: `text::words(\"Hello, world!\")`.",
        |text: &str| -> Native<Array> {
            let mut pieces = Pieces::of("text::words");
            words(text, |word| pieces.push(word))?;
            Ok(pieces.found)
        },
    );
    add(
        &mut module,
        "lines(text: string) -> array",
        "Its lines without their ends: `text::lines(\"a\\nb\")`.",
        |text: &str| Pieces::of("text::lines").with_all(text.lines()),
    );
    add(
        &mut module,
        "slug(text: string) -> string",
        "Fit for an address: `text::slug(\"Hello, World!\")` is `hello-world`.",
        slug,
    );
    add(
        &mut module,
        "matches(text: string, pattern: string) -> bool",
        "Whether a regular expression is found in it: `text::matches(mail, \"@example[.]com$\")`.",
        |text: &str, pattern: &str| search("text::matches", text, pattern, |regex| Ok(regex.is_match(text))),
    );
    add(
        &mut module,
        "find_all(text: string, pattern: string) -> array",
        "Every piece that a regular expression matches: `text::find_all(\"a1 b22\", \"[0-9]+\")`.",
        |text: &str, pattern: &str| {
            search("text::find_all", text, pattern, |regex| {
                Pieces::of("text::find_all").with_all(regex.find_iter(text).map(|found| found.as_str()))
            })
        },
    );
    add(
        &mut module,
        "replace_regex(text: string, pattern: string, with: string) -> string",
        "Replaces every match; `$1` is its first group: `text::replace_regex(text, \"(a+)\", \"<$1>\")`.",
        |text: &str, pattern: &str, with: &str| {
            search("text::replace_regex", text, pattern, |regex| replace(text, regex, with))
        },
    );
    module
}

/// Hands on each word of `text`.
fn words(text: &str, mut found: impl FnMut(&str) -> Native<()>) -> Native<()> {
    let mut begin = 0;
    // The end of the text ends the last word.
    for (count, (at, letter)) in text.char_indices().chain([(text.len(), ' ')]).enumerate() {
        // There may be millions of characters without a word, or all in one.
        if count % STEP == 0 {
            go_on()?;
        }
        if letter.is_alphanumeric() || letter == '_' || letter == '\'' {
            continue;
        }
        let word = text[begin..at].trim_matches('\'');
        if !word.is_empty() {
            found(word)?;
        }
        begin = at + letter.len_utf8();
    }
    Ok(())
}

fn slug(text: &str) -> Native<String> {
    let mut slug = String::new();
    words(text, |word| {
        // In lower case it may hold what is no part of a word.
        words(&word.to_lowercase(), |part| {
            if !slug.is_empty() {
                slug.push('-');
            }
            slug.push_str(part);
            Ok(())
        })
    })?;
    Ok(slug)
}

/// What a text is taken apart into.
struct Pieces {
    /// The function that does it.
    of: &'static str,
    found: Array,
}

impl Pieces {
    fn of(function: &'static str) -> Self {
        Self { of: function, found: Array::new() }
    }

    fn push(&mut self, piece: &str) -> Native<()> {
        if self.found.len() == MAX_PIECES {
            let of = self.of;
            return Err(wrong("MemoryError", format!("`{of}`: the text has more than {MAX_PIECES} pieces")));
        }
        // Between two pieces of a search may lie as much work as in the whole text.
        go_on()?;
        self.found.push(Dynamic::from(piece.to_owned()));
        Ok(())
    }

    fn with_all<'a>(mut self, mut pieces: impl Iterator<Item = &'a str>) -> Native<Array> {
        pieces.try_for_each(|piece| self.push(piece))?;
        Ok(self.found)
    }
}

fn replace(text: &str, regex: &Regex, with: &str) -> Native<String> {
    let groups = with.matches('$').count();
    let mut made = String::new();
    let mut rest = 0;
    for found in regex.captures_iter(text) {
        go_on()?;
        let whole = found.get(0).map_or(0..0, |whole| whole.range());
        // Asked before it is made, for one match alone may make more than there is memory.
        let most = made.len() + (whole.start - rest) + with.len() + groups * whole.len();
        if most > MAX_REPLACED {
            let why = format!("`text::replace_regex`: the new text is longer than {} MiB", MAX_REPLACED >> 20);
            return Err(wrong("MemoryError", why));
        }
        made.push_str(&text[rest..whole.start]);
        found.expand(with, &mut made);
        rest = whole.end;
    }
    made.push_str(&text[rest..]);
    Ok(made)
}

/// Asks `question` of the compiled `pattern`, which is about to search `text`.
fn search<T>(what: &str, text: &str, pattern: &str, question: impl FnOnce(&Regex) -> Native<T>) -> Native<T> {
    thread_local! {
        static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    if text.len() > MAX_SEARCHED {
        let why = format!("`{what}`: a text of more than {} MiB is not searched; take it apart", MAX_SEARCHED >> 20);
        return Err(wrong("ValueError", why));
    }
    // Asked where it is kept: a clone would begin without what the pattern has learnt of its texts.
    PATTERNS.with_borrow_mut(|patterns| {
        if !patterns.contains_key(pattern) {
            // Not the script's to pay: it is kept for those that run after it.
            outside(|| compile(what, pattern, patterns))?;
        }
        question(&patterns[pattern])
    })
}

fn compile(what: &str, pattern: &str, patterns: &mut HashMap<String, Regex>) -> Result<(), HostError> {
    let no_pattern =
        |why: &dyn Display| HostError::new("ValueError", format!("`{what}`: not a regular expression: {why}"));
    // What is compiled is bounded by the builder; comments are not compiled, and kept.
    if pattern.len() > MAX_PATTERN {
        return Err(no_pattern(&"it is too long"));
    }
    let mut builder = RegexBuilder::new(pattern);
    let built =
        builder.size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN).build().map_err(|error| no_pattern(&error))?;
    if patterns.len() == MAX_PATTERNS {
        patterns.clear();
    }
    patterns.insert(pattern.to_owned(), built);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::module::tests::{Room, evaluate, fails};

    #[test]
    fn words_are_found_in_any_script() {
        assert_eq!(evaluate(r#"text::words("Don't stop, 세계! 'x'")"#), r#"["Don't","stop","세계","x"]"#);
        assert_eq!(evaluate(r#"text::words(" ,. ")"#), "[]");
        assert_eq!(evaluate(r#"text::slug("  Hello, 세계! ")"#), r#""hello-세계""#);
        assert_eq!(evaluate(r#"text::lines("a\r\nb\n")"#), r#"["a","b"]"#);
    }

    #[test]
    fn regular_expressions_match_find_and_replace() {
        assert_eq!(evaluate(r#"[text::matches("abc", "^a"), text::matches("abc", "^b")]"#), "[true,false]");
        assert_eq!(evaluate(r#"text::find_all("a1 b22", "[0-9]+")"#), r#"["1","22"]"#);
        assert_eq!(evaluate(r#"text::replace_regex("aab", "(a+)", "<$1>")"#), r#""<aa>b""#);
        assert_eq!(fails(r#"text::matches("a", "(")"#).exc_type, "ValueError");
        assert_eq!(fails(r#"text::matches("a", "(\\w{1000}){1000}")"#).exc_type, "ValueError");
    }

    #[test]
    fn no_call_makes_more_than_its_bound() {
        let doubled = |text: &str, times: u32| format!("let t = \"{text}\"; for _i in 0..{times} {{ t += t; }}");
        for (prepare, ask, class) in [
            (doubled("a ", 20), "text::words(t)", "MemoryError"),
            (doubled("\\n", 20), "text::lines(t)", "MemoryError"),
            (doubled("a", 20), "text::find_all(t, \"\")", "MemoryError"),
            (doubled("a", 15), r#"text::replace_regex(t, "a", t)"#, "MemoryError"),
            (doubled("$0", 18), r#"text::replace_regex(t, ".+", t)"#, "MemoryError"),
            (doubled("a", 21), r#"text::matches(t, "b")"#, "ValueError"),
            (doubled("a", 19), r#"text::matches("a", t)"#, "ValueError"),
            (doubled("#a", 19), r#"text::matches("a", "(?x)" + t)"#, "ValueError"),
        ] {
            assert_eq!(fails(&format!("{prepare} {ask}")).exc_type, class, "{ask}");
        }
    }

    #[test]
    fn a_search_that_takes_ever_longer_meets_the_time_limit() {
        // Each of its many matches looks at the whole rest of the text.
        Room::is_stopped_in_time(
            r#"let t = "A"; for _i in 0..17 { t += t; } loop { text::find_all(t, ".*[^A-Z]|[A-Z]"); }"#,
        );
    }

    #[test]
    fn going_through_a_large_text_meets_the_time_limit() {
        for (of, call) in [(" ", "text::words(t)"), ("a", "text::words(t)"), ("a", "text::slug(t)")] {
            Room::is_stopped_in_time(&format!(r#"let t = "{of}"; for _i in 0..24 {{ t += t; }} loop {{ {call}; }}"#));
        }
    }
}
