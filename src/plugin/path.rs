//! The paths of consumers: `/ws/chat/{room}/`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// The most characters that the value of a parameter has, once decoded. A longer one matches nothing.
const MAX_VALUE: usize = 64;

/// What every path of a consumer begins with; other paths are for umbel's own HTTP.
const FIRST: &str = "/ws/";

/// The one below it that is umbel's own.
const OWN: &str = "/ws/tasks/";

/// Whether `pattern` may stand in a manifest: it begins with `/ws/`, and each part is text or one `{name}`.
///
/// # Errors
/// Says what is wrong, as the rest of a sentence that names the path.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    if !pattern.starts_with(FIRST) {
        return Err(format!("does not begin with `{FIRST}`: the other paths are umbel's own"));
    }
    if pattern.starts_with(OWN) && parts(pattern).count() == 3 {
        return Err(format!("is umbel's own: `{OWN}ID/` follows a task"));
    }
    let mut names = Vec::new();
    for part in parts(pattern) {
        match parameter(part) {
            Some(name) if !is_identifier(name) => {
                return Err(format!("has a parameter `{{{name}}}`, which is no name; use letters, digits and `_`"));
            }
            Some(name) if names.contains(&name) => return Err(format!("has the parameter `{{{name}}}` twice")),
            Some(name) => names.push(name),
            None if part.is_empty() => return Err("has an empty part".to_owned()),
            None if part.contains(['{', '}', '%', '?', '#']) => {
                return Err(format!("has a part `{part}`; a part is plain text or one `{{name}}`"));
            }
            None => {}
        }
    }
    Ok(())
}

/// The parameters of `path`, decoded, when it fits `pattern`; the last slash of either does not matter.
///
/// Each part is decoded by itself: an encoded slash is a character of its parameter.
pub(super) fn fit(pattern: &str, path: &str) -> Option<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    let (mut wanted, mut given) = (parts(pattern), parts(path));
    loop {
        let (part, text) = match (wanted.next(), given.next()) {
            (None, None) => return Some(values),
            (Some(part), Some(text)) => (part, percent_decode_str(text).decode_utf8().ok()?),
            _ => return None,
        };
        match parameter(part) {
            Some(name) if (1..=MAX_VALUE).contains(&text.chars().count()) => {
                values.insert(name.to_owned(), text.into_owned());
            }
            None if part == text => {}
            _ => return None,
        }
    }
}

/// Whether the same paths fit both.
pub(super) fn are_same(one: &str, other: &str) -> bool {
    let same = |(a, b)| a == b || (parameter(a).is_some() && parameter(b).is_some());
    parts(one).count() == parts(other).count() && parts(one).zip(parts(other)).all(same)
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path).split('/')
}

fn parameter(part: &str) -> Option<&str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHAT: &str = "/ws/chat/{room}/";

    fn room(path: &str) -> Option<String> {
        fit(CHAT, path).map(|mut values| values.remove("room").unwrap())
    }

    #[test]
    fn a_path_fits_with_and_without_its_last_slash() {
        for path in ["/ws/chat/lobby/", "/ws/chat/lobby"] {
            assert_eq!(room(path).as_deref(), Some("lobby"), "{path}");
            assert!(fit("/ws/chat/{room}", path).is_some(), "{path}");
        }
        for path in
            ["/", "", "/ws/chat/", "/ws/chat//", "/ws/chat/lobby//", "/ws/chat/a/b/", "/ws/chats/a/", "//ws/chat/a"]
        {
            assert_eq!(room(path), None, "{path}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_1_to_64_characters_long() {
        assert_eq!(room("/ws/chat/%EB%B0%A9/").as_deref(), Some("방"));
        assert_eq!(room("/ws/chat/a%2Fb/").as_deref(), Some("a/b"));
        assert_eq!(room("/ws/chat/100%/").as_deref(), Some("100%"));
        assert_eq!(room("/ws/chat/%FF/"), None);
        assert_eq!(room(&format!("/ws/chat/{}/", "%EB%B0%A9".repeat(64))).as_deref(), Some(&*"방".repeat(64)));
        assert_eq!(room(&format!("/ws/chat/{}/", "x".repeat(65))), None);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["/ws/chat/{room}/", "/ws/chat", "/ws/{a}/{b}", "/ws/{방}/", "/ws/tasks/{a}/{b}"] {
            assert_eq!(check(pattern), Ok(()));
        }
        for (pattern, reason) in [
            ("/api/chat/", "does not begin with `/ws/`: the other paths are umbel's own"),
            ("ws/chat/", "does not begin with `/ws/`: the other paths are umbel's own"),
            ("/ws/tasks/{id}", "is umbel's own: `/ws/tasks/ID/` follows a task"),
            ("/ws//chat/", "has an empty part"),
            ("/ws/{}/", "has a parameter `{}`, which is no name; use letters, digits and `_`"),
            ("/ws/{1a}/", "has a parameter `{1a}`, which is no name; use letters, digits and `_`"),
            ("/ws/x{a}/", "has a part `x{a}`; a part is plain text or one `{name}`"),
            ("/ws/{a}/{a}/", "has the parameter `{a}` twice"),
        ] {
            assert_eq!(check(pattern), Err(reason.to_owned()), "{pattern}");
        }
    }

    #[test]
    fn paths_are_the_same_whatever_their_parameters_are_called() {
        assert!(are_same("/ws/{a}/", "/ws/{b}"));
        assert!(!are_same("/ws/{a}/", "/ws/chat/"));
        assert!(!are_same("/ws/chat/{a}/", "/ws/{a}/"));
        assert!(!are_same("/ws/chat/{a}/", "/ws/echo/{a}/"));
    }

    proptest! {
        #[test]
        fn any_short_name_arrives_as_it_was_sent(name in "\\PC{1,64}") {
            let encoded = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);

            prop_assert_eq!(room(&format!("/ws/chat/{encoded}/")), Some(name));
        }

        #[test]
        fn no_path_can_hurt(path in "\\PC{0,40}", pattern in "[/{}a%]{0,12}") {
            let _ = (fit(&pattern, &path), check(&pattern), are_same(&pattern, &path));
        }
    }
}
