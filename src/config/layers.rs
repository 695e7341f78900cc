//! The four layers, merged, and from which of them each value came.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use figment::error::Kind;
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Deserialize;
use toml_edit::ImDocument;
use tracing::warn;

use super::known::{BadVariable, read_variable};
use super::{FILE, Flags, Settings, place, refusals, told};
use crate::script::Broken;
use crate::store;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// The file, and the line in it.
    File(u32),
    /// A variable, by its name.
    Variable(String),
    /// A flag, as it is typed.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File(line) => write!(out, "{FILE}:{line}"),
            Self::Variable(name) | Self::Flag(name) => out.write_str(name),
        }
    }
}

/// What was set, before it is settings.
pub(super) struct Layers {
    document: ImDocument<String>,
    figment: Figment,
}

impl Layers {
    /// The layers of the project in `folder`, with the variables of this process.
    pub fn of_process(folder: &Path, flags: &Flags) -> Result<Self, Vec<Broken>> {
        if !folder.is_dir() {
            let why = "there is no such folder; `umbel new` makes one".to_owned();
            return Err(vec![Broken::whole(&folder.display().to_string(), why)]);
        }
        let text = match std::fs::read_to_string(folder.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(vec![Broken::whole(FILE, format!("cannot be read: {error}"))]),
        };
        // A variable that is not UTF-8 cannot be one of ours.
        let text_of = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self::merge(text, std::env::vars_os().filter_map(text_of), flags)
    }

    /// Puts the layers over each other. What the file says is checked whole, also where a later layer counts.
    pub fn merge(
        text: String,
        variables: impl Iterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Self, Vec<Broken>> {
        let document = parse(text)?;
        let file: Dict = toml::from_str(document.raw()).map_err(|error| {
            vec![broken(&document, error.span().map_or(0, |span| span.start), error.message().to_owned())]
        })?;
        let mistakes = mistakes(&document, file.clone());
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let mut figment = Figment::from(Layer { name: FILE.to_owned(), values: file });
        for (name, text) in variables {
            match read_variable(&name, &text) {
                Ok(Some((path, value))) => figment = figment.merge(Layer { name, values: nest(path, value) }),
                Ok(None) => {}
                Err(BadVariable::Unknown(why)) => warn!("{why}"),
                Err(BadVariable::Unreadable(why)) => return Err(vec![Broken::whole(&name, why)]),
            }
        }
        for (key, value) in [("store", &flags.store), ("listen", &flags.listen)] {
            if let Some(value) = value {
                let values = nest(key, Value::from(value.as_str()));
                figment = figment.merge(Layer { name: format!("--{key}"), values });
            }
        }
        Ok(Self { document, figment })
    }

    /// What the layers come to.
    pub fn settings(&self) -> Result<Settings, Vec<Broken>> {
        let settings: Settings = self.figment.extract().map_err(|error| vec![self.broken(&error.path, &error)])?;
        let refusals = refusals::refusals(&settings);
        if refusals.is_empty() {
            return Ok(settings);
        }
        let at = |(path, why): refusals::Refusal| self.at(&path, format!("{}: {why}", told::path(&path)));
        Err(refusals.into_iter().map(at).collect())
    }

    /// The setting at `path` names a file that is not there.
    pub fn missing(&self, path: &[&str], file: &Path) -> Broken {
        let why = format!("{}: there is no file `{}` in the project's folder", told::path(path), file.display());
        self.at(&path.iter().map(|&part| part.to_owned()).collect::<Vec<_>>(), why)
    }

    fn broken(&self, path: &[String], error: &figment::Error) -> Broken {
        self.at(path, told::message(error))
    }

    fn at(&self, path: &[String], message: String) -> Broken {
        match self.origin_of(self.innermost(path).map(|(tag, _)| tag), path) {
            Origin::File(_) => broken(&self.document, place::of_value(&self.document, path), message),
            Origin::Default => Broken::whole(FILE, message),
            Origin::Variable(name) | Origin::Flag(name) => Broken::whole(&name, message),
        }
    }

    /// Which layer the value at `path` came from. What is not set is a default, also in a table of which more is set.
    pub fn origin<S: AsRef<str>>(&self, path: &[S]) -> Origin {
        let set = self.innermost(path).filter(|(_, parts)| *parts == path.len());
        self.origin_of(set.map(|(tag, _)| tag), path)
    }

    fn origin_of<S: AsRef<str>>(&self, tag: Option<Tag>, path: &[S]) -> Origin {
        let metadata = tag.and_then(|tag| self.figment.get_metadata(tag));
        match metadata.map(|metadata| metadata.name.as_ref()) {
            None => Origin::Default,
            Some(FILE) => {
                let offset = place::of_key(&self.document, path);
                Origin::File(place::line_and_column(self.document.raw(), offset).0)
            }
            Some(flag) if flag.starts_with("--") => Origin::Flag(flag.to_owned()),
            Some(variable) => Origin::Variable(variable.to_owned()),
        }
    }

    // The innermost value on the path that there is, and how many parts of the path lead to it.
    fn innermost<S: AsRef<str>>(&self, path: &[S]) -> Option<(Tag, usize)> {
        let (first, rest) = path.split_first()?;
        let mut value = &self.figment.find_value(first.as_ref()).ok()?;
        let mut parts = 1;
        for part in rest.iter().map(AsRef::as_ref) {
            let next = match value {
                Value::Dict(_, table) => table.get(part),
                Value::Array(_, list) => part.parse().ok().and_then(|n: usize| list.get(n)),
                _ => None,
            };
            let Some(next) = next else { break };
            value = next;
            parts += 1;
        }
        Some((value.tag(), parts))
    }
}

fn parse(text: String) -> Result<ImDocument<String>, Vec<Broken>> {
    ImDocument::parse(text.clone()).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        vec![hide(place::broken_at(FILE, &text, offset, error.message().to_owned()))]
    })
}

/// Every mistake of the file: what is wrong is left out, and the rest read again.
fn mistakes(document: &ImDocument<String>, mut file: Dict) -> Vec<Broken> {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    while let Err(error) = Settings::deserialize(&Value::from(file.clone())) {
        let offset = match error.kind {
            Kind::UnknownField(..) => place::of_key(document, &error.path),
            _ => place::of_value(document, &error.path),
        };
        let is_left_out = |name: &str| {
            left_out.iter().any(|path: &Vec<String>| {
                path.split_last().is_some_and(|(last, table)| last == name && table == error.path)
            })
        };
        // What we took out ourselves is missing to nobody else.
        if !matches!(&error.kind, Kind::MissingField(name) if is_left_out(name)) {
            found.push((offset, broken(document, offset, told::message(&error))));
        }
        let is_out = leave_out(&mut file, &error.path);
        left_out.push(error.path);
        if !is_out {
            break;
        }
    }
    found.sort_by_key(|(offset, _)| *offset);
    found.into_iter().map(|(_, broken)| broken).collect()
}

// Of a list the whole: the numbers of what follows would change.
fn leave_out(table: &mut Dict, path: &[String]) -> bool {
    let Some((key, rest)) = path.split_first() else { return false };
    match table.get_mut(key) {
        Some(Value::Dict(_, inner)) if !rest.is_empty() => leave_out(inner, rest),
        Some(_) => table.remove(key).is_some(),
        None => false,
    }
}

fn broken(document: &ImDocument<String>, offset: usize, message: String) -> Broken {
    hide(place::broken_at(FILE, document.raw(), offset, message))
}

// The line of the file that is shown may hold a password or, in the wrong place, a token.
fn hide(mut broken: Broken) -> Broken {
    let hidden = |excerpt: &String| excerpt.contains("hash") || store::without_password(excerpt) != *excerpt;
    broken.excerpt = broken.excerpt.filter(|excerpt| !hidden(excerpt));
    broken
}

fn nest(path: &str, value: Value) -> Dict {
    match path.split_once('.') {
        Some((table, rest)) => Dict::from([(table.to_owned(), Value::from(nest(rest, value)))]),
        None => Dict::from([(path.to_owned(), value)]),
    }
}

/// One layer, with what to call it.
struct Layer {
    name: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}
