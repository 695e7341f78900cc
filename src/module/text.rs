//! `text::`: what strings of scripts cannot do by themselves.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::{Regex, RegexBuilder};
use rhai::{Array, Dynamic, Module};

use super::{add, wrong};
use crate::script::{Native, go_on, uncounted};

/// How many compiled patterns a thread keeps; when there are more, it begins anew.
const MAX_PATTERNS: usize = 16;

/// The largest compiled pattern, in bytes. A larger one is refused.
const MAX_PATTERN: usize = 256 << 10;

/// The longest text that is searched by a pattern, in bytes. One search cannot be stopped, and with the worst pattern
/// it takes a time that grows with the text.
const MAX_SEARCHED: usize = 1 << 20;

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
        |text: &str| pieces("text::words", words(text)),
    );
    add(
        &mut module,
        "lines(text: string) -> array",
        "Its lines without their ends: `text::lines(\"a\\nb\")`.",
        |text: &str| pieces("text::lines", text.lines()),
    );
    add(
        &mut module,
        "slug(text: string) -> string",
        "Fit for an address: `text::slug(\"Hello, World!\")` is `hello-world`.",
        |text: &str| -> String { slug(text) },
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
                pieces("text::find_all", regex.find_iter(text).map(|found| found.as_str()))
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

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '\'')
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
}

fn slug(text: &str) -> String {
    let text = text.to_lowercase();
    let mut slug = String::with_capacity(text.len());
    for word in words(&text) {
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(word);
    }
    slug
}

fn pieces<'a>(what: &str, found: impl Iterator<Item = &'a str>) -> Native<Array> {
    let mut pieces = Array::new();
    for piece in found {
        if pieces.len() == MAX_PIECES {
            return Err(wrong("MemoryError", format!("`{what}`: the text has more than {MAX_PIECES} pieces")));
        }
        // Between two pieces of a search may lie as much work as in the whole text.
        go_on()?;
        pieces.push(Dynamic::from(piece.to_owned()));
    }
    Ok(pieces)
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
            // What is compiled is bounded by the builder; comments are not compiled, and kept.
            if pattern.len() > MAX_PATTERN {
                return Err(wrong("ValueError", format!("`{what}`: not a regular expression: it is too long")));
            }
            uncounted(|| -> Native<()> {
                let built = RegexBuilder::new(pattern).size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN).build();
                let built = built
                    .map_err(|error| wrong("ValueError", format!("`{what}`: not a regular expression: {error}")))?;
                if patterns.len() == MAX_PATTERNS {
                    patterns.clear();
                }
                patterns.insert(pattern.to_owned(), built);
                Ok(())
            })?;
        }
        question(&patterns[pattern])
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::module::tests::{Room, evaluate, fails};
    use crate::task::Outcome;

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
        let room = Room::default().with_time_limit(Duration::from_millis(200));
        let began = Instant::now();

        // Each of its many matches looks at the whole rest of the text.
        let outcome = room.outcome(r#"let t = "A"; for _i in 0..17 { t += t; } text::find_all(t, ".*[^A-Z]|[A-Z]")"#);

        assert!(matches!(outcome, Some(Outcome::OverLimit(_))), "{outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
