//! `plugin.toml`: what a plugin says of itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny};
use toml::Spanned;

use super::path;
use crate::task::{Caps, duration_field, nearest};

/// The contract between plugins and this umbel.
const API: u32 = 1;

/// The keys that are read.
const KEYS: [&str; 8] = ["name", "version", "api", "description", "tasks", "modules", "consumers", "limits"];

/// The keys that a later umbel reads. To ignore them would drop what the author relies on.
const NOT_BUILT: [&str; 4] = ["schedules", "hooks", "permissions", "config"];

/// A manifest that was read and checked. Paths are relative to the plugin's folder and stay inside of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// What its tasks' names begin with.
    pub name: Spanned<String>,
    pub version: String,
    api: Spanned<u32>,
    #[serde(default)]
    pub description: String,
    /// The folder of its tasks; `None` when it has none.
    pub tasks: Option<Spanned<String>>,
    /// Scripts that others import, by the name they import them by.
    #[serde(default)]
    pub modules: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub consumers: Vec<Binding>,
    #[serde(default)]
    limits: Limits,
}

/// What its tasks may use at the most.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    #[serde(deserialize_with = "time")]
    time_limit: Option<Duration>,
    #[serde(deserialize_with = "memory")]
    memory: Option<ByteSize>,
}

fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    match duration_field(input)? {
        Duration::ZERO => {
            Err(D::Error::custom("a task needs some time; leave `time_limit` out for no limit of its own"))
        }
        limit => Ok(Some(limit)),
    }
}

fn memory<'de, D: Deserializer<'de>>(input: D) -> Result<Option<ByteSize>, D::Error> {
    // `bytesize` says nothing of what was written.
    let size = match toml::Value::deserialize(input)? {
        toml::Value::Integer(bytes) => u64::try_from(bytes).map(ByteSize).map_err(|_| bytes.to_string()),
        toml::Value::String(text) => text.parse().map_err(|_| text),
        other => Err(other.to_string()),
    };
    match size.map_err(|text| D::Error::custom(format!("`{text}` is not a size, as in `128MiB`")))? {
        ByteSize(0) => Err(D::Error::custom("a task needs some memory; leave `memory` out for no limit of its own")),
        limit => Ok(Some(limit)),
    }
}

/// One of `[[consumers]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Binding {
    pub path: Spanned<String>,
    pub script: Spanned<String>,
}

/// What is wrong in a manifest, and which bytes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub message: String,
    /// `None` when it is about the whole.
    pub span: Option<Range<usize>>,
}

impl Manifest {
    /// Reads and checks `text`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let keys: BTreeMap<Spanned<String>, IgnoredAny> = read(text)?;
        keys.keys().try_for_each(known)?;
        let manifest: Self = read(text)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// What its tasks may use at the most.
    pub fn caps(&self) -> Caps {
        Caps { time_limit: self.limits.time_limit, memory: self.limits.memory }
    }

    fn check(&self) -> Result<(), Wrong> {
        let api = *self.api.get_ref();
        if api != API {
            return Err(at(&self.api, format!("`api = {api}` is not known here; this umbel has `api = {API}`")));
        }
        name(&self.name)?;
        self.tasks.iter().try_for_each(inside)?;
        for (module, script) in &self.modules {
            name(module)?;
            inside(script)?;
        }
        for (index, binding) in self.consumers.iter().enumerate() {
            let pattern = binding.path.get_ref();
            path::check(pattern).map_err(|why| at(&binding.path, format!("the path `{pattern}` {why}")))?;
            inside(&binding.script)?;
            if self.consumers[..index].iter().any(|other| path::are_same(other.path.get_ref(), pattern)) {
                return Err(at(&binding.path, format!("the path `{pattern}` is bound already, further up")));
            }
        }
        Ok(())
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Wrong> {
    let document = toml::Deserializer::new(text);
    T::deserialize(document).map_err(|error| Wrong { message: error.message().to_owned(), span: error.span() })
}

fn at<T>(place: &Spanned<T>, message: String) -> Wrong {
    Wrong { message, span: Some(place.span()) }
}

fn known(key: &Spanned<String>) -> Result<(), Wrong> {
    let text = key.get_ref().as_str();
    if KEYS.contains(&text) {
        return Ok(());
    }
    if NOT_BUILT.contains(&text) {
        return Err(at(key, format!("`{text}` is not built yet; remove it to use the plugin without")));
    }
    let hint = match nearest(text, KEYS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", KEYS.map(|key| format!("`{key}`")).join(", ")),
    };
    Err(at(key, format!("unknown key `{text}`; {hint}")))
}

fn name(name: &Spanned<String>) -> Result<(), Wrong> {
    let text = name.get_ref();
    let is_plain = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_' | '-');
    if text.starts_with(|first: char| first.is_ascii_lowercase()) && text.chars().all(is_plain) {
        return Ok(());
    }
    Err(at(name, format!("the name `{text}` is not `a` to `z` followed by `a` to `z`, `0` to `9`, `_` or `-`")))
}

fn inside(file: &Spanned<String>) -> Result<(), Wrong> {
    let text = file.get_ref();
    let mut parts = Path::new(text).components().peekable();
    if parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    Err(at(file, format!("`{text}` is not a path inside of the plugin's folder")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = r##"
name = "slack"
version = "1.2.0"
api = 1
description = "Post to Slack"
tasks = "tasks"
[modules]
slack = "slack.rhai"
[[consumers]]
path = "/ws/echo/{name}/"
script = "echo.rhai"
[limits]
time_limit = "20s"
memory = "64MiB"
"##;

    /// What is wrong with the whole one when `old` is `new`, and the text it is about.
    fn check(old: &str, new: &str) -> (String, String) {
        assert!(WHOLE.contains(old), "{old}");
        let text = WHOLE.replacen(old, new, 1);
        let wrong = Manifest::parse(&text).unwrap_err();
        (wrong.message, wrong.span.map_or(String::new(), |span| text[span].to_owned()))
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let manifest = Manifest::parse(WHOLE).unwrap();

        assert_eq!((manifest.name.get_ref().as_str(), manifest.version.as_str()), ("slack", "1.2.0"));
        assert_eq!(manifest.caps().time_limit, Some(Duration::from_secs(20)));
        assert_eq!(manifest.caps().memory, Some(ByteSize::mib(64)));
        assert_eq!(manifest.modules["slack"].get_ref(), "slack.rhai");
        assert_eq!(manifest.consumers[0].path.get_ref(), "/ws/echo/{name}/");
    }

    #[test]
    fn what_is_wrong_is_said_where_it_stands() {
        let names = "is not `a` to `z` followed by `a` to `z`, `0` to `9`, `_` or `-`";
        for (old, new, message, place) in [
            ("description", "descripton", "unknown key `descripton`; did you mean `description`?", "descripton"),
            (
                "[modules]",
                "[zzz]",
                "unknown key `zzz`; known are `name`, `version`, `api`, `description`, `tasks`, `modules`, `consumers`, `limits`",
                "zzz",
            ),
            ("[modules]", "[config]", "`config` is not built yet; remove it to use the plugin without", "config"),
            ("tasks =", "hooks =", "`hooks` is not built yet; remove it to use the plugin without", "hooks"),
            ("memory", "memry", "unknown field `memry`, expected `time_limit` or `memory`", "memry"),
            ("\"20s\"", "0", "a task needs some time; leave `time_limit` out for no limit of its own", "0"),
            ("\"64MiB\"", "0", "a task needs some memory; leave `memory` out for no limit of its own", "0"),
            ("\"64MiB\"", "\"lots\"", "`lots` is not a size, as in `128MiB`", "\"lots\""),
            ("\"64MiB\"", "-1", "`-1` is not a size, as in `128MiB`", "-1"),
            ("api = 1", "api = 2", "`api = 2` is not known here; this umbel has `api = 1`", "2"),
            ("api = 1", "", "missing field `api`", ""),
            ("\"slack\"", "\"Slack\"", &format!("the name `Slack` {names}"), "\"Slack\""),
            ("slack =", "1slack =", &format!("the name `1slack` {names}"), "1slack"),
            ("\"tasks\"", "\"../tasks\"", "`../tasks` is not a path inside of the plugin's folder", "\"../tasks\""),
            ("\"slack.rhai\"", "\"/etc/x\"", "`/etc/x` is not a path inside of the plugin's folder", "\"/etc/x\""),
            ("\"echo.rhai\"", "\"\"", "`` is not a path inside of the plugin's folder", "\"\""),
            (
                "\"/ws",
                "\"ws",
                "the path `ws/echo/{name}/` does not begin with `/ws/`: the other paths are umbel's own",
                "\"ws/echo/{name}/\"",
            ),
            ("script =", "skript =", "unknown field `skript`, expected `path` or `script`", "skript"),
            ("\"1.2.0\"", "1.2", "invalid type: floating point `1.2`, expected a string", "1.2"),
        ] {
            let (said, about) = check(old, new);
            assert_eq!(said, message);
            // A missing key is told for the whole document.
            assert!(about == place || place.is_empty(), "{message}: {about}");
        }
    }

    #[test]
    fn a_path_is_bound_once() {
        let text = format!("{WHOLE}[[consumers]]\npath = \"/ws/echo/{{other}}\"\nscript = \"b.rhai\"\n");

        let wrong = Manifest::parse(&text).unwrap_err();

        assert_eq!(wrong.message, "the path `/ws/echo/{other}` is bound already, further up");
        assert_eq!(&text[wrong.span.unwrap()], "\"/ws/echo/{other}\"");
    }

    proptest! {
        #[test]
        fn no_text_can_hurt(text in "\\PC{0,60}", line in 0usize..10) {
            let mut lines: Vec<&str> = WHOLE.lines().collect();
            lines.insert(line, &text);
            let _ = Manifest::parse(&lines.join("\n"));
        }
    }
}
