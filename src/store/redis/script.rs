//! The scripts, each behind what all of them share: names, notices, places and history.

use std::sync::LazyLock;

use redis::Script;

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(
                include_str!("keys.lua"),
                include_str!("notices.lua"),
                include_str!("place.lua"),
                include_str!("history.lua"),
                include_str!($file),
            ))
        });)*
    };
}

scripts! {
    PUSH = "push.lua";
    CLAIM = "claim.lua";
    ADMIT = "admit.lua";
    SETTLE = "settle.lua";
    ACKNOWLEDGE = "acknowledge.lua";
    MARK = "mark.lua";
    PUT_BACK = "put_back.lua";
    SWEEP = "sweep.lua";
    REVOKE = "revoke.lua";
    PURGE = "purge.lua";
    QUEUES = "queues.lua";
    FORGET = "forget.lua";
    PROGRESS = "progress.lua";
    WATCH = "watch.lua";
    KEEP_SOURCES = "keep_sources.lua";
    ANNOUNCE = "announce.lua";
    WORKERS = "workers.lua";
    WATERMARKS = "watermarks.lua";
    DELETE_EXPECTED = "delete_expected.lua";
}
