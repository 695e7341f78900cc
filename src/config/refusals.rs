//! What no single value shows: settings that do not go together.

use std::time::Duration;

use bytesize::ByteSize;

use super::{Settings, told};
use crate::client::Route;
use crate::script::Limits;
use crate::store;
use crate::task::{QueueName, show_duration};

/// A setting, by its path, that may not be as it is, and why.
pub(super) type Refusal = (Vec<String>, String);

/// The least that may be set as `limits.memory`: with less not even an empty script runs.
const LEAST_MEMORY: ByteSize = ByteSize::mib(1);

/// The most that may be set as `limits.memory`: each thread of scripts has a stack of several times as much.
const MOST_MEMORY: ByteSize = ByteSize::gib(4);

/// Everything that is refused about `settings`, most dangerous first.
pub(super) fn refusals(settings: &Settings) -> Vec<Refusal> {
    let open = open_to_others(settings).map(|why| (path(["listen"]), why));
    let redis =
        store::check_redis(&settings.store, &settings.redis).map(|(name, why)| (path(["redis", name]), why.to_owned()));
    open.into_iter().chain(tokens(settings)).chain(redis).chain(remote(settings)).chain(limits(settings)).collect()
}

fn open_to_others(settings: &Settings) -> Option<String> {
    let address = settings.listen;
    if address.ip().is_loopback() || !settings.tokens.is_empty() {
        return None;
    }
    Some(format!(
        "`{address}` is no loopback address: other machines reach it, and without a token whoever reaches it may run \
         anything; add a table `[[tokens]]` for those who may and name in `hosts` under what names they reach it, or \
         listen on `127.0.0.1:{}`",
        address.port()
    ))
}

fn tokens(settings: &Settings) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (n, token) in settings.tokens.iter().enumerate() {
        let mut refuse = |field: &str, why: String| refusals.push((path(["tokens", &n.to_string(), field]), why));
        if token.name.trim().is_empty() {
            refuse("name", "is empty: say whose token it is, for the log".to_owned());
        } else if settings.tokens[..n].iter().any(|before| before.name == token.name) {
            refuse("name", format!("there are two tokens of the name `{}`: give each its own", token.name));
        }
        // What stands there may be the token itself, so it is not repeated.
        let hex = token.hash.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            refuse("hash", super::told::BAD_HASH.to_owned());
        }
        if token.scopes.is_empty() {
            refuse("scopes", "are none, so it may do nothing: name some of `send`, `read`, `operate`".to_owned());
        }
    }
    refusals
}

fn remote(settings: &Settings) -> Vec<Refusal> {
    let routes = &settings.routes;
    let is_embedded = !settings.store.contains("://");
    let is_served = |queue: &QueueName| {
        *queue == QueueName::default()
            || settings.queues.contains(queue)
            || routes.iter().any(|(_, route)| !route.remote && route.queue == *queue)
    };
    let of_route = |(pattern, route): (String, &Route)| {
        if is_embedded {
            let why = "a remote task could never run: nobody but this process reaches an embedded store; keep tasks in \
                       Redis (`store = \"redis://HOST:PORT/DB\"`), or leave `remote` out";
            return Some((path(["routes", &pattern, "remote"]), why.to_owned()));
        }
        let why = || {
            let queue = &route.queue;
            format!("umbel serves `{queue}` itself, and has not the task: name a queue that only the others serve")
        };
        is_served(&route.queue).then(|| (path(["routes", &pattern, "queue"]), why()))
    };
    routes.iter().filter(|(_, route)| route.remote).filter_map(of_route).collect()
}

fn limits(settings: &Settings) -> Vec<Refusal> {
    let Limits { time_limit, soft_time_limit, memory, operations, of_plugin: _ } = settings.limits;
    let mut refusals = Vec::new();
    let mut refuse = |name: &str, why: String| refusals.push((path(["limits", name]), why));
    if time_limit == Duration::ZERO {
        refuse("time_limit", "no task runs in no time".to_owned());
    }
    match soft_time_limit {
        Some(Duration::ZERO) => refuse("soft_time_limit", "every task would be told at once".to_owned()),
        Some(soft) if soft >= time_limit => {
            let (soft, hard) = (show_duration(soft), show_duration(time_limit));
            let why = format!("`{soft}` does not come before `limits.time_limit`, which is `{hard}`: make it shorter");
            refuse("soft_time_limit", why);
        }
        _ => {}
    }
    if memory < LEAST_MEMORY {
        let why = format!("`{}` is too little for any script: give it `1MiB` at least", told::size(memory));
        refuse("memory", why);
    }
    if memory > MOST_MEMORY {
        let why = format!(
            "`{}` is more than `4GiB`, the most that one run may have: each thread of scripts needs address space for \
             several times as much",
            told::size(memory)
        );
        refuse("memory", why);
    }
    if operations == Some(0) {
        refuse("operations", "no task runs in no operations: leave it out where they have no bound".to_owned());
    }
    refusals
}

fn path<const N: usize>(parts: [&str; N]) -> Vec<String> {
    parts.map(str::to_owned).to_vec()
}
