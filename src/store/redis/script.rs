//! The scripts, each behind what all of them share: prefixes, names, notices, places and history.

use redis::Script;

use super::keys::Keys;

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        /// The scripts of one installation, whose names stand behind its prefix.
        pub struct Scripts {
            $(pub $name: Script,)*
        }

        impl Scripts {
            pub fn new(keys: &Keys) -> Self {
                let prefixes = format!(
                    "local PREFIX, RESULT_PREFIX = {}, {}\n",
                    quoted(keys.prefix()),
                    quoted(keys.result_prefix())
                );
                let shared = [
                    &prefixes,
                    include_str!("keys.lua"),
                    include_str!("notices.lua"),
                    include_str!("place.lua"),
                    include_str!("history.lua"),
                ]
                .concat();
                Self { $($name: Script::new(&format!("{shared}{}", include_str!($file))),)* }
            }
        }
    };
}

scripts! {
    push = "push.lua";
    claim = "claim.lua";
    admit = "admit.lua";
    dead = "dead.lua";
    settle = "settle.lua";
    acknowledge = "acknowledge.lua";
    mark = "mark.lua";
    put_back = "put_back.lua";
    take_back = "take_back.lua";
    hand_back = "hand_back.lua";
    sweep = "sweep.lua";
    revoke = "revoke.lua";
    purge = "purge.lua";
    queues = "queues.lua";
    depth = "depth.lua";
    forget = "forget.lua";
    ended_elsewhere = "ended_elsewhere.lua";
    progress = "progress.lua";
    show = "show.lua";
    watch = "watch.lua";
    keep_sources = "keep_sources.lua";
    announce = "announce.lua";
    workers = "workers.lua";
    watermarks = "watermarks.lua";
    delete_expected = "delete_expected.lua";
    reply = "reply.lua";
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
}
