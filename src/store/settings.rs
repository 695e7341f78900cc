//! How a store is reached, named and bounded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Declared, Secret};

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a claim lasts without renewal. It is renewed each third of it.
    pub lease: Duration,
    /// How long results are kept.
    pub keep: Duration,
    /// How many runs the history keeps; the oldest final ones go first.
    pub history: u64,
    /// How long the history keeps a run after its end.
    pub history_keep: Duration,
    /// How much of what was promised may be lost when the machine loses power. Only the embedded store asks.
    pub durability: Durability,
    /// How the store over Redis is reached and named. No other one asks.
    pub redis: RedisSettings,
    /// Who claims here, as `name@host`; kept with each run.
    pub worker: String,
    /// Asked where a store itself sends what follows a task.
    pub declared: Declared,
}

/// What there is to say of a store over Redis beside its URL.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// Stands in front of every key and channel: Celery's `global_keyprefix`. Empty is none.
    pub prefix: String,
    /// The name by which Sentinels know the primary: Celery's `master_name`. Only for `sentinel://`.
    pub master: String,
    /// The password of the Sentinels themselves. Empty is none.
    pub sentinel_password: Secret,
    /// The file (PEM) of those whose certificates are trusted, relative to the project's folder. Empty is whom the
    /// system trusts. With `sentinel://` it says that everything is reached by TLS.
    pub ca: PathBuf,
    /// The file (PEM) of the certificate that is shown to Redis. Empty is none.
    pub cert: PathBuf,
    /// The file (PEM) of its private key.
    pub key: PathBuf,
}

impl RedisSettings {
    /// The files that are named, each with the name of its setting.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let all = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
        all.into_iter().filter(|(_, file)| !file.as_os_str().is_empty()).map(|(name, file)| (name, &**file)).collect()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            keep: Duration::from_secs(86_400),
            history: 100_000,
            history_keep: Duration::from_secs(30 * 86_400),
            durability: Durability::Full,
            redis: RedisSettings::default(),
            worker: "umbel@localhost".to_owned(),
            declared: Declared::default(),
        }
    }
}

/// What a commit of the embedded store waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The disk: nothing that was answered is lost, whatever happens.
    #[default]
    Full,
    /// The system: a killed process loses nothing; a power cut may lose the last commits, and corrupts nothing.
    Fast,
}
