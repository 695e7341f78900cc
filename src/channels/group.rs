//! Names of groups, as the channel layer's wire has them: 1 to 99 of `[A-Za-z0-9_.-]`.

use std::fmt::{self, Write};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::GroupError;

/// Channels allows "less than 100" characters.
const MAX_NAME: usize = 99;
/// Begins the escape of a character: `-.`, its number in hex, `.`. Rare in names that people choose, which stay as
/// they are therefore, so that Django and we mean the same group.
const ESCAPE: &str = "-.";
/// Begins the hash that ends the name of a group whose encoding would be too long. No escape begins so.
const HASH: &str = "-..";

/// The encoded name of a group. Two texts never have the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Encodes `text`, which may be anything but empty.
    pub fn of(text: &str) -> Result<Self, GroupError> {
        if text.is_empty() {
            return Err(GroupError::NoName);
        }
        let escaped = escape(text);
        if escaped.len() <= MAX_NAME {
            return Ok(Self(escaped.into()));
        }
        let mut hashed = String::with_capacity(MAX_NAME);
        let hash = Sha256::digest(text.as_bytes());
        hashed.push_str(&escaped[..MAX_NAME - HASH.len() - 2 * hash.len()]);
        hashed.push_str(HASH);
        for byte in hash {
            write!(hashed, "{byte:02x}").expect("a String takes all that is written");
        }
        Ok(Self(hashed.into()))
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let plain = character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-');
        // What looks like an escape is escaped itself, or two names could meet.
        if plain && !text[at..].starts_with(ESCAPE) {
            escaped.push(character);
        } else {
            write!(escaped, "{ESCAPE}{:x}.", u32::from(character)).expect("a String takes all that is written");
        }
        if escaped.len() > 2 * MAX_NAME {
            break;
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> String {
        GroupName::of(text).unwrap().to_string()
    }

    fn unescape(escaped: &str) -> String {
        let mut text = String::new();
        let mut rest = escaped;
        while let Some(at) = rest.find(ESCAPE) {
            text.push_str(&rest[..at]);
            let (number, after) = rest[at + ESCAPE.len()..].split_once('.').unwrap();
            text.push(char::from_u32(u32::from_str_radix(number, 16).unwrap()).unwrap());
            rest = after;
        }
        text + rest
    }

    #[test]
    fn names_of_channels_stay_as_they_are() {
        for text in ["chat_lobby", "chat_x5f_", "a.b-c_D9", "-", ".-", "...", &"x".repeat(99)] {
            assert_eq!(name(text), text);
        }
    }

    #[test]
    fn other_names_are_escaped() {
        assert_eq!(name("chat_로비"), "chat_-.b85c.-.be44.");
        assert_eq!(name("a b"), "a-.20.b");
        assert_eq!(name("a-.20.b"), "a-.2d..20.b");
        assert_eq!(GroupName::of(""), Err(GroupError::NoName));
    }

    #[test]
    fn long_names_end_in_a_hash() {
        let (long, longer) = ("방".repeat(64), "방".repeat(65));

        assert_eq!(name(&long).len(), 99);
        assert!(name(&long).starts_with("-.bc29.-.bc29."));
        assert_ne!(name(&long), name(&longer));
        assert_ne!(name(&name(&long)), name(&long));
    }

    proptest! {
        #[test]
        fn every_name_is_valid_on_the_wire(text in "(?s).{1,200}") {
            let name = name(&text);

            prop_assert!((1..=MAX_NAME).contains(&name.len()));
            prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)));
        }

        #[test]
        fn no_two_texts_share_a_name(text in "[-.a2d방]{1,12}|(?s).{1,9}") {
            let name = name(&text);

            prop_assert!(!name.contains(HASH));
            prop_assert_eq!(unescape(&name), text);
        }
    }
}
