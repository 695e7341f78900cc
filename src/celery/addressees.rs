//! Which workers a command is for, as kombu decides it (`kombu/pidbox.py`, `kombu/matcher.py`).

use regex::RegexBuilder;

use crate::store::Addressees;

/// The most that a pattern may take, in bytes, as written and compiled. A larger one fits nobody.
const MAX_PATTERN: usize = 1 << 10;
const MAX_COMPILED: usize = 1 << 20;

/// Whether the worker `name` is meant.
///
/// # Errors
/// Says why a pattern cannot be read. Python's own patterns can do a little more (looking around, repeating what was
/// found).
pub fn include(addressees: &Addressees, name: &str) -> Result<bool, String> {
    let Addressees { destination, pattern, matcher } = addressees;
    if !destination.is_empty() {
        return Ok(destination.iter().any(|meant| meant == name));
    }
    // Celery asks for both before it looks at one.
    let (Some(pattern), Some(matcher)) = (given(pattern), given(matcher)) else { return Ok(true) };
    if pattern.len() > MAX_PATTERN {
        return Err(format!("the pattern is longer than {MAX_PATTERN} bytes"));
    }
    let written = match matcher {
        "glob" => glob(pattern),
        "pcre" => format!("^(?:{pattern})"),
        other => return Err(format!("`{other}` is no matcher; there are `glob` and `pcre`")),
    };
    let regex = RegexBuilder::new(&written).size_limit(MAX_COMPILED).build();
    Ok(regex.map_err(|error| format!("the pattern `{pattern}` cannot be read: {error}"))?.is_match(name))
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

// Python's `fnmatch.translate`.
fn glob(pattern: &str) -> String {
    let mut regex = String::from(r"(?s)\A");
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        match next {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => match set(rest.as_str()) {
                Some((set, after)) => {
                    regex.push_str(&set);
                    rest = after.chars();
                }
                None => regex.push_str(r"\["),
            },
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    regex + r"\z"
}

// What stands behind a `[`, and the rest of the pattern; `None` when the set never ends.
fn set(text: &str) -> Option<(String, &str)> {
    let (not, inside) = text.strip_prefix('!').map_or(("", text), |rest| ("^", rest));
    // A bracket that comes first belongs to the set.
    let first = inside.chars().next()?.len_utf8();
    let end = first + inside[first..].find(']')?;
    let escape =
        |c: char| if c.is_alphanumeric() || c == '-' { c.to_string() } else { format!("\\u{{{:x}}}", c as u32) };
    let members: String = inside[..end].chars().map(escape).collect();
    Some((format!("[{not}{members}]"), &inside[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "umbel-12@demo.example";

    fn check(pattern: &str, matcher: &str, meant: Option<bool>) {
        let addressees = Addressees {
            pattern: Some(pattern.to_owned()),
            matcher: Some(matcher.to_owned()),
            ..Addressees::default()
        };
        assert_eq!(include(&addressees, NAME).ok(), meant, "{matcher} {pattern}");
    }

    #[test]
    fn who_is_named_is_meant() {
        let named = |names: &[&str]| {
            let destination = names.iter().map(|name| (*name).to_owned()).collect();
            include(&Addressees { destination, ..Addressees::default() }, NAME).unwrap()
        };

        assert!(named(&[]));
        assert!(named(&["w1@demo", NAME]));
        assert!(!named(&["w1@demo"]));
    }

    #[test]
    fn a_glob_is_pythons() {
        for pattern in
            ["*", "umbel-*", "*@demo.example", "umbel-??@*", "umbel-[0-9]2@*", "umbel-[!9]*", "*[]@]demo*", "[^u]*"]
        {
            check(pattern, "glob", Some(true));
        }
        for pattern in ["umbel-*@demo", "umbel-?@*", "umbel-[!1]*", "*demo-example", "umbel-[1", "[^a]*", "x"] {
            check(pattern, "glob", Some(false));
        }
    }

    #[test]
    fn a_regular_expression_fits_from_the_beginning() {
        check("umbel", "pcre", Some(true));
        check("umbel-|w1", "pcre", Some(true));
        check("demo", "pcre", Some(false));
        check("(", "pcre", None);
        check("x{1000}{1000}{1000}", "pcre", None);
        check(&"x".repeat(2_000), "glob", None);
        check("umbel", "soundex", None);
    }

    #[test]
    fn half_a_pattern_is_none() {
        let half = Addressees { pattern: Some("w*".to_owned()), ..Addressees::default() };

        assert_eq!(include(&half, NAME), Ok(true));
    }

    proptest::proptest! {
        #[test]
        fn every_glob_can_be_read(pattern in "[a-z\\[\\]!*?^&~|\\\\ -]{0,20}") {
            let addressees =
                Addressees { pattern: Some(pattern), matcher: Some("glob".to_owned()), ..Addressees::default() };
            // Python refuses a range that goes backwards no more than this does; nothing may panic.
            let _ = include(&addressees, NAME);
        }
    }
}
