//! Settings: defaults, then `umbel.toml`, then `UMBEL_*` variables, then flags; the later one counts.
//!
//! They are read once, checked once and never changed. A mistake in the file is told with its line, because that is
//! where someone will mend it; a variable that we do not know is only a warning, because container platforms put
//! such into every process (`UMBEL_SERVICE_HOST`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::Value;
use serde::de::{Deserialize, Deserializer, Error as _};
use tracing::warn;

use crate::client::Routes;
use crate::http::Token;
use crate::script::{Broken, Limits};
use crate::store::{self, Durability};
use crate::task::{QueueName, duration_field, nearest};

/// The settings file of a project, in its folder.
pub const FILE: &str = "umbel.toml";

const PREFIX: &str = "UMBEL_";

/// The names that may be set, as in the struct below; a test holds the two together.
const NAMES: [&str; 13] = [
    "store",
    "durability",
    "listen",
    "hosts",
    "slots",
    "queues",
    "grace",
    "keep",
    "history",
    "history_keep",
    "limits",
    "tokens",
    "routes",
];

/// How this process runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The project's folder, which every path in it is relative to. Given by `--dir` only.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Where tasks are kept: `sqlite:PATH` or `redis://HOST:PORT/DB`.
    #[serde(deserialize_with = "store_field")]
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
    /// How long a stopping process waits for running tasks before it puts them back.
    #[serde(deserialize_with = "duration_field")]
    pub grace: Duration,
    /// How long results are kept.
    #[serde(deserialize_with = "duration_field")]
    pub keep: Duration,
    /// How many runs the history keeps.
    pub history: u64,
    /// How long the history keeps a run after its end.
    #[serde(deserialize_with = "duration_field")]
    pub history_keep: Duration,
    /// What each run may use unless its task declares its own.
    pub limits: Limits,
    /// Who may use HTTP, once there is one.
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
        if !folder.is_dir() {
            let why = "there is no such folder; `umbel new` makes one".to_owned();
            return Err(Broken::whole(&folder.display().to_string(), why));
        }
        // A variable that is not UTF-8 cannot be one of ours.
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let variables = variables.filter_map(|(name, value)| Some((name, value.into_string().ok()?)));
        Self::layered(folder, variables.collect(), flags)
    }

    fn layered(folder: &Path, variables: Vec<(String, String)>, flags: &Flags) -> Result<Self, Broken> {
        let text = match std::fs::read_to_string(folder.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Broken::whole(FILE, format!("cannot be read: {error}"))),
        };
        check_file(&text)?;
        let mut figment = Figment::from(Toml::string(&text));
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(PREFIX).map(str::to_lowercase) else { continue };
            if NAMES.contains(&key.as_str()) {
                figment = layer(figment, &name, (&key, variable(&key, &value)))?;
            } else {
                warn!("`{name}` is not a setting{}", way_out(&key, |near| format!("{PREFIX}{}", near.to_uppercase())));
            }
        }
        for (key, value) in [("store", &flags.store), ("listen", &flags.listen)] {
            if let Some(value) = value {
                figment = layer(figment, &format!("--{key}"), (key, Value::from(value.as_str())))?;
            }
        }
        let settings: Self = figment.extract().map_err(|error| Broken::whole(FILE, error.to_string()))?;
        Ok(Self { folder: folder.to_owned(), ..settings })
    }
}

// Tried alone first: an error of the whole would not say that it is of `origin`.
fn layer(figment: Figment, origin: &str, layer: (&str, Value)) -> Result<Figment, Broken> {
    match Figment::from(&layer).extract::<Settings>() {
        Ok(_) => Ok(figment.merge(layer)),
        Err(error) => Err(Broken::whole(origin, error.kind.to_string())),
    }
}

// Figment's own errors have no lines, so the file is read once by `toml` alone, which has.
fn check_file(text: &str) -> Result<(), Broken> {
    let at = |offset, message| broken_at(FILE, text, offset, message);
    let whole = |error: toml::de::Error| at(error.span().map_or(0, |span| span.start), error.message().to_owned());
    let keys: std::collections::BTreeMap<toml::Spanned<String>, toml::Value> = toml::from_str(text).map_err(whole)?;
    let unknown = keys.keys().filter(|key| !NAMES.contains(&key.as_ref().as_str()));
    if let Some(key) = unknown.min_by_key(|key| key.span().start) {
        let name = key.as_ref();
        return Err(at(key.span().start, format!("`{name}` is not a setting{}", way_out(name, str::to_owned))));
    }
    toml::from_str::<Settings>(text).map(drop).map_err(whole)
}

// Figment guesses the type of a variable by its look; what is text here stays text, and a list needs no brackets.
fn variable(key: &str, text: &str) -> Value {
    match key {
        "store" | "listen" => Value::from(text),
        "queues" | "hosts" if !text.starts_with('[') => {
            Value::from(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>())
        }
        _ => text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}),
    }
}

fn way_out(name: &str, show: impl Fn(&str) -> String) -> String {
    match nearest(name, NAMES) {
        Some(known) => format!("; did you mean `{}`?", show(known)),
        None => format!("; there are {}", NAMES.map(|known| format!("`{}`", show(known))).join(", ")),
    }
}

/// Something wrong at a byte of a file, whose text is `text`.
pub(crate) fn broken_at(file: &str, text: &str, offset: usize, message: String) -> Broken {
    let before = text.get(..offset).unwrap_or(text);
    let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    let column = before.chars().rev().take_while(|&c| c != '\n').count();
    Broken::at(file, text, number(before.matches('\n').count()), Some(number(column)), message)
}

fn store_field<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let url = String::deserialize(input)?;
    store::check_url(&url).map_err(D::Error::custom)?;
    Ok(url)
}

fn listen_field<'de, D: Deserializer<'de>>(input: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(input)?;
    let numeric = text.strip_prefix("localhost:").map_or(text.clone(), |port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = numeric.parse().map_err(|_| {
        D::Error::custom(format!("`{text}` is not an address and a port: write it as in `127.0.0.1:8080`"))
    })?;
    if !address.ip().is_loopback() {
        return Err(D::Error::custom(format!(
            "`{text}` is no loopback address: other machines reach it, and whoever reaches it may run anything, \
             because this version knows no tokens yet; listen on `127.0.0.1:{}`, with a proxy before it that asks who \
             somebody is",
            address.port()
        )));
    }
    Ok(address)
}

fn slots_field<'de, D: Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
    match usize::deserialize(input)? {
        slots @ 1..=4096 => Ok(slots),
        slots => Err(D::Error::custom(format!("`{slots}` is not a number of slots: write 1 to 4096"))),
    }
}

fn hosts_field<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let hosts = Vec::<String>::deserialize(input)?;
    let is_name =
        |host: &str| !host.is_empty() && !host.contains(['/', ':', '*', '@']) && !host.contains(char::is_whitespace);
    match hosts.iter().find(|host| !is_name(host)) {
        Some(host) => Err(D::Error::custom(format!(
            "`{host}` is not a host name: write it without scheme, port and star, as in `umbel.example.com`"
        ))),
        None => Ok(hosts.iter().map(|host| host.to_lowercase()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, variables: &[(&str, &str)], flags: Flags) -> Result<Settings, Broken> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), file).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::layered(folder.path(), variables, &flags)
    }

    fn refusal(file: &str) -> String {
        load(file, &[], Flags::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_without_a_file_has_the_defaults() {
        let folder = tempfile::tempdir().unwrap();

        let settings = Settings::layered(folder.path(), vec![], &Flags::default()).unwrap();

        assert_eq!(settings, Settings { folder: folder.path().to_owned(), ..Settings::default() });
        assert!(settings.slots >= 8);
    }

    #[test]
    fn the_later_layer_counts() {
        let file = "store = \"sqlite:a.db\"\nlisten = \"127.0.0.1:1\"\nslots = 1\ngrace = \"1m\"\nkeep = 90";
        let variables = [("UMBEL_STORE", "sqlite:b.db"), ("UMBEL_LISTEN", "localhost:2"), ("UMBEL_SLOTS", "2")];
        let flags = Flags { store: Some("memory:".into()), listen: None };

        let settings = load(file, &variables, flags).unwrap();

        assert_eq!(settings.store, "memory:");
        assert_eq!(settings.listen.to_string(), "127.0.0.1:2");
        assert_eq!(settings.slots, 2);
        assert_eq!((settings.grace, settings.keep), (Duration::from_secs(60), Duration::from_secs(90)));
    }

    #[test]
    fn a_variable_is_read_as_what_the_setting_is() {
        let variables = [("UMBEL_HOSTS", "A.example, b.example"), ("UMBEL_QUEUES", "[io]"), ("UMBEL_GRACE", "3")];

        let settings = load("", &variables, Flags::default()).unwrap();

        assert_eq!(settings.hosts, ["a.example", "b.example"]);
        assert_eq!(settings.queues, [QueueName::parse("io").unwrap()]);
        assert_eq!(settings.grace, Duration::from_secs(3));
    }

    #[test]
    fn a_stray_variable_stops_nothing() {
        let settings = load("", &[("UMBEL_SERVICE_HOST", "10.0.0.1"), ("UMBEL_HOME", "x")], Flags::default());

        assert!(settings.is_ok());
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_the_nearest_name() {
        let refused = load("slots = 4\n\nstroe = \"x\"\n", &[], Flags::default()).unwrap_err();

        assert_eq!(refused.to_string(), "umbel.toml:3:1: `stroe` is not a setting; did you mean `store`?");
        assert_eq!(refused.excerpt.as_deref(), Some("stroe = \"x\"\n^"));
        assert!(
            refusal("[plugins.slack]\nchannel = 1").contains("umbel.toml:1:2: `plugins` is not a setting; there are")
        );
    }

    #[test]
    fn a_wrong_value_is_told_with_its_line() {
        for (file, told) in [
            ("slots = 4\ngrace = \"soon\"", "umbel.toml:2:9: `soon` is not a duration"),
            ("slots = \"many\"", "umbel.toml:1:9: invalid type"),
            ("slots = 0", "umbel.toml:1:9: `0` is not a number of slots"),
            ("keep = -1", "umbel.toml:1:8: `-1` is not a duration"),
            ("hosts = [\"https://a.example\"]", "`https://a.example` is not a host name"),
            ("queues = [\"\"]", "is empty"),
            ("slots = [", "umbel.toml:1:"),
        ] {
            let refused = refusal(file);
            assert!(refused.contains(told), "{file}: {refused}");
        }
    }

    #[test]
    fn a_wrong_variable_or_flag_is_named() {
        let refused = load("", &[("UMBEL_SLOTS", "many")], Flags::default()).unwrap_err().to_string();
        assert!(refused.starts_with("UMBEL_SLOTS: ") && refused.contains("expected usize"), "{refused}");

        let flags = Flags { listen: Some("8080".into()), ..Flags::default() };
        let refused = load("", &[], flags).unwrap_err().to_string();
        assert!(refused.starts_with("--listen: `8080` is not an address"), "{refused}");
    }

    #[test]
    fn other_machines_are_not_listened_to() {
        for address in ["0.0.0.0:8080", "192.168.1.2:80", "[::]:8080"] {
            let refused = refusal(&format!("listen = \"{address}\""));
            assert!(refused.contains(&format!("`{address}` is no loopback address")), "{refused}");
        }
        for address in ["127.0.0.2:0", "[::1]:8080", "localhost:8080"] {
            assert!(load(&format!("listen = \"{address}\""), &[], Flags::default()).is_ok(), "{address}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_struct() {
        let error = Figment::from(("no such name", 1)).extract::<Settings>().unwrap_err();

        let figment::error::Kind::UnknownField(_, known) = error.kind else { panic!("{error}") };
        assert_eq!(known, NAMES);
    }
}
