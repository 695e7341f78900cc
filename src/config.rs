//! Settings: defaults, then `umbel.toml`, then `UMBEL_*` variables, then flags; the later one counts.
//!
//! They are read once, checked once and never changed. A mistake in the file is told with its line, because that is
//! where someone will mend it; a variable that we do not know is only a warning, because container platforms put
//! such into every process (`UMBEL_SERVICE_HOST`). What is secret (the password in a store's URL, the hash of a
//! token) is in no message and no list.

mod fields;
mod known;
mod layers;
mod place;
mod refusals;
mod shown;
#[cfg(test)]
mod tests;
mod told;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::Routes;
use crate::http::Token;
use crate::script::{Broken, Limits};
use crate::store::{Durability, RedisSettings};
use crate::task::{QueueName, duration_field};

use fields::{hosts_field, listen_field, slots_field, store_field};
use layers::Layers;
pub use layers::Origin;
pub(crate) use place::broken_at;
pub use shown::{Shown, text_of};
use shown::{limits_shown, time_shown, tokens_shown};

/// The settings file of a project, in its folder.
pub const FILE: &str = "umbel.toml";

/// How this process runs.
/// Serialized it is what people may see: without secrets, in the form that the file takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The project's folder, which every path in it is relative to. Given by `--dir` only.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Where tasks are kept: `sqlite:PATH` or `redis://HOST:PORT/DB`.
    #[serde(deserialize_with = "store_field", serialize_with = "shown::store_shown")]
    pub store: String,
    /// What a commit of the embedded store waits for.
    pub durability: Durability,
    /// Where HTTP listens. Port 0 takes a free one.
    #[serde(deserialize_with = "listen_field")]
    pub listen: SocketAddr,
    /// Host names, without port, that HTTP answers to besides `localhost`, `127.0.0.1` and `[::1]`.
    #[serde(deserialize_with = "hosts_field")]
    pub hosts: Vec<String>,
    /// How many tasks run at the same time: 8, or four for each processor where that is more.
    #[serde(deserialize_with = "slots_field")]
    pub slots: usize,
    /// Queues of a shared store that are served besides those that the catalog names.
    pub queues: Vec<QueueName>,
    /// How a store over Redis is reached and named, beside its URL.
    pub redis: RedisSettings,
    /// How long a stopping process waits for running tasks before it puts them back.
    #[serde(deserialize_with = "duration_field", serialize_with = "time_shown")]
    pub grace: Duration,
    /// How long results are kept.
    #[serde(deserialize_with = "duration_field", serialize_with = "time_shown")]
    pub keep: Duration,
    /// How many runs the history keeps.
    pub history: u64,
    /// How long the history keeps a run after its end.
    #[serde(deserialize_with = "duration_field", serialize_with = "time_shown")]
    pub history_keep: Duration,
    /// What each run may use unless its task declares its own.
    #[serde(serialize_with = "limits_shown")]
    pub limits: Limits,
    /// Who may use HTTP, once there is one.
    #[serde(serialize_with = "tokens_shown")]
    pub tokens: Vec<Token>,
    /// Where tasks go, by the pattern of their names.
    pub routes: Routes,
}

impl Default for Settings {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            folder: PathBuf::from("."),
            store: "sqlite:data/umbel.db".to_owned(),
            redis: RedisSettings::default(),
            durability: Durability::Full,
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            hosts: Vec::new(),
            slots: (4 * processors).max(8),
            queues: Vec::new(),
            grace: Duration::from_secs(25),
            keep: Duration::from_secs(86_400),
            history: 100_000,
            history_keep: Duration::from_secs(30 * 86_400),
            limits: Limits::default(),
            tokens: Vec::new(),
            routes: Routes::default(),
        }
    }
}

/// Settings given on the command line.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub store: Option<String>,
    pub listen: Option<String>,
}

impl Settings {
    /// The settings of the project in `folder`.
    ///
    /// # Errors
    /// The first setting that is wrong, with its place: a line of the file, a variable or a flag. Also when there is
    /// no such folder.
    pub fn load(folder: &Path, flags: &Flags) -> Result<Self, Broken> {
        Self::check(folder, flags).map_err(first)
    }

    /// The same.
    ///
    /// # Errors
    /// Everything that is wrong: every mistake of the file, else the first of the variables and flags, else all
    /// values that do not go together.
    pub fn check(folder: &Path, flags: &Flags) -> Result<Self, Vec<Broken>> {
        read(folder, flags).map(|(settings, _)| settings)
    }

    /// Each setting of the project in `folder`, with where it came from.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn shown(folder: &Path, flags: &Flags) -> Result<Vec<Shown>, Broken> {
        read(folder, flags).map(|(settings, layers)| shown::shown(&settings, &layers)).map_err(first)
    }
}

fn read(folder: &Path, flags: &Flags) -> Result<(Settings, Layers), Vec<Broken>> {
    let layers = Layers::of_process(folder, flags)?;
    let settings = layers.settings()?;
    let missing = settings.redis.files().into_iter().filter(|(_, file)| !folder.join(file).is_file());
    let missing: Vec<Broken> = missing.map(|(name, file)| layers.missing(&["redis", name], file)).collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    Ok((Settings { folder: folder.to_owned(), ..settings }, layers))
}

fn first(mistakes: Vec<Broken>) -> Broken {
    mistakes.into_iter().next().expect("who refuses settings names a mistake")
}
