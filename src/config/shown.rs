//! Settings as people may see them: each with its value and where that came from, and no secret.

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use super::known::{Form, KNOWN};
use super::layers::Layers;
use super::{Origin, Settings, told};
use crate::http::Token;
use crate::script::Limits;
use crate::store;
use crate::task::show_duration;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// As it would stand in the file: `limits.memory`, `routes."reports.*"`.
    pub name: String,
    /// Null where it is not set, and nothing is bounded without it.
    pub value: Json,
    pub origin: Origin,
}

/// Every setting in the order of the documentation, each route and each token apart.
pub(super) fn shown(settings: &Settings, layers: &Layers) -> Vec<Shown> {
    let all = serde_json::to_value(settings).expect("settings are text, numbers and tables with text as keys");
    let row = |path: &[&str], value: &Json| Shown {
        name: told::path(path),
        value: value.clone(),
        origin: layers.origin(path),
    };
    let mut rows = Vec::new();
    for (name, form) in KNOWN {
        let path: Vec<&str> = name.split('.').collect();
        let value = path.iter().fold(&all, |value, part| &value[*part]);
        match value {
            Json::Object(table) if !table.is_empty() => {
                rows.extend(table.iter().map(|(key, value)| row(&[&path[..], &[key]].concat(), value)));
            }
            Json::Array(list) if form == Form::Toml && !list.is_empty() => {
                rows.extend(list.iter().enumerate().map(|(n, value)| row(&[name, &n.to_string()], value)));
            }
            value => rows.push(row(&path, value)),
        }
    }
    rows
}

/// `value` as it would stand in the file, on one line.
pub fn text_of(value: &Json) -> String {
    match value {
        Json::Object(table) => {
            let fields: Vec<String> =
                table.iter().map(|(key, value)| format!("{} = {}", told::path(&[key]), text_of(value))).collect();
            if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) }
        }
        Json::Array(list) => format!("[{}]", list.iter().map(text_of).collect::<Vec<_>>().join(", ")),
        // JSON's escapes are TOML's too.
        other => other.to_string(),
    }
}

pub(super) fn store_shown<S: Serializer>(url: &str, output: S) -> Result<S::Ok, S::Error> {
    output.serialize_str(&store::without_password(url))
}

pub(super) fn time_shown<S: Serializer>(duration: &Duration, output: S) -> Result<S::Ok, S::Error> {
    output.serialize_str(&show_duration(*duration))
}

pub(super) fn limits_shown<S: Serializer>(limits: &Limits, output: S) -> Result<S::Ok, S::Error> {
    let Limits { time_limit, memory, soft_time_limit, operations, of_plugin: _ } = limits;
    let mut shown = serde_json::json!({ "time_limit": show_duration(*time_limit), "memory": told::size(*memory) });
    if let Some(limit) = soft_time_limit {
        shown["soft_time_limit"] = show_duration(*limit).into();
    }
    if let Some(most) = operations {
        shown["operations"] = (*most).into();
    }
    shown.serialize(output)
}

pub(super) fn tokens_shown<S: Serializer>(tokens: &[Token], output: S) -> Result<S::Ok, S::Error> {
    let shown = tokens.iter().map(
        |Token { name, hash: _, scopes }| serde_json::json!({ "name": name, "hash": "sha256:…", "scopes": scopes }),
    );
    shown.collect::<Vec<_>>().serialize(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_toml(key in "\\PC{1,12}", text in "\\PC{0,20}", number in 0i64..) {
            let value = serde_json::json!({ key.clone(): [text, number] });

            let read: toml::Table = toml::from_str(&format!("it = {}", text_of(&value))).unwrap();

            proptest::prop_assert_eq!(serde_json::to_value(&read["it"]).unwrap(), value);
        }
    }
}
