//! The scripts, each behind the names and behind what it needs of the shared parts: notices, places, history.

use redis::Script;

use super::keys::Keys;

macro_rules! scripts {
    ($($name:ident: $($part:ident)*;)*) => {
        /// The scripts of one installation, whose names stand behind its prefix.
        pub struct Scripts {
            $(pub $name: Script,)*
        }

        impl Scripts {
            pub fn new(keys: &Keys) -> Self {
                Self {
                    $($name: Script::new(&behind(keys, &[
                        include_str!("keys.lua"),
                        $(include_str!(concat!(stringify!($part), ".lua")),)*
                        include_str!(concat!(stringify!($name), ".lua")),
                    ])),)*
                }
            }
        }
    };
}

// Each with what it needs of the shared parts: all of a script is run from its beginning with each call.
scripts! {
    push: notices place;
    claim: notices place;
    admit: notices place;
    dead: notices place history;
    settle: notices place history;
    acknowledge:;
    mark: notices;
    put_back: notices place;
    take_back: notices place;
    hand_back: notices place;
    sweep: notices place history;
    revoke: notices place history;
    purge: notices place history;
    queues: notices place;
    depth: notices place;
    forget: notices history;
    ended_elsewhere: notices history;
    progress: notices;
    show: notices;
    watch:;
    keep_sources:;
    announce:;
    workers:;
    watermarks:;
    delete_expected:;
    reply:;
}

/// A script of these parts, whose names stand behind the prefixes.
fn behind(keys: &Keys, parts: &[&str]) -> String {
    let mut text = parts.concat();
    for (name, prefix) in [("RESULT_PREFIX", keys.result_prefix()), ("PREFIX", keys.prefix())] {
        let prefix = quoted(prefix);
        // Lua would put each name together with each call.
        text = text.replace(&format!("{name} .. '"), &prefix[..prefix.len() - 1]);
        text = text.replace(name, &prefix);
    }
    text
}

/// `text` as a string of Lua, whatever it holds.
fn quoted(text: &str) -> String {
    let bytes: String = text.bytes().map(|byte| format!("\\{byte:03}")).collect();
    format!("'{bytes}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_leaves_its_quotes() {
        assert_eq!(quoted("a'\n"), r"'\097\039\010'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn names_stand_behind_their_prefix() {
        let parts =
            ["local A = PREFIX .. 'umbel:a' -- PREFIX\n", "return PREFIX .. queue, RESULT_PREFIX .. 'meta-' .. id"];

        assert_eq!(behind(&Keys::new(""), &parts), "local A = 'umbel:a' -- ''\nreturn '' .. queue, 'meta-' .. id");
        assert_eq!(
            behind(&Keys::new("s"), &parts),
            "local A = '\\115umbel:a' -- '\\115'\nreturn '\\115' .. queue, '\\115\\095meta-' .. id"
        );
    }
}
