//! The names that may be set, and how a variable of each is read.

use figment::value::Value;
use serde::Deserialize;

use crate::task::nearest;

/// How the text of a variable becomes a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// As it stands, also where it looks like a number.
    Text,
    Number,
    /// `a,b` or `[a,b]`.
    List,
    /// As it would stand in the file.
    Toml,
}

/// Every setting, by its path. A test holds them and the structs together.
pub(super) const KNOWN: [(&str, Form); 22] = [
    ("store", Form::Text),
    ("durability", Form::Text),
    ("listen", Form::Text),
    ("hosts", Form::List),
    ("slots", Form::Number),
    ("queues", Form::List),
    ("redis.prefix", Form::Text),
    ("redis.master", Form::Text),
    ("redis.sentinel_password", Form::Text),
    ("redis.ca", Form::Text),
    ("redis.cert", Form::Text),
    ("redis.key", Form::Text),
    ("grace", Form::Text),
    ("keep", Form::Text),
    ("history", Form::Number),
    ("history_keep", Form::Text),
    ("limits.time_limit", Form::Text),
    ("limits.soft_time_limit", Form::Text),
    ("limits.memory", Form::Text),
    ("limits.operations", Form::Number),
    ("tokens", Form::Toml),
    ("routes", Form::Toml),
];

const PREFIX: &str = "UMBEL_";

/// The variable that sets `path`.
pub(super) fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// Variables of the commands that talk to a running umbel: `UMBEL_SERVER`, `UMBEL_TOKEN`. They are no settings.
const OF_COMMANDS: [&str; 2] = ["SERVER", "TOKEN"];

/// What a variable sets: a path and its value. `None` when it is none of ours.
///
/// # Errors
/// Says that it is like one of ours but none, which is no reason to stop, or that it cannot be read, which is.
pub(super) fn read_variable(name: &str, text: &str) -> Result<Option<(&'static str, Value)>, BadVariable> {
    let Some(key) = name.strip_prefix(PREFIX).filter(|key| !OF_COMMANDS.contains(key)) else { return Ok(None) };
    let Some((path, form)) = KNOWN.into_iter().find(|(path, _)| variable_of(path) == name.to_uppercase()) else {
        let variables = KNOWN.map(|(path, _)| variable_of(path).split_off(PREFIX.len()));
        let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
        let way_out = way_out(&key.to_uppercase(), &variables, |name| format!("{PREFIX}{name}"));
        return Err(BadVariable::Unknown(format!("`{name}` is not a setting{way_out}")));
    };
    value(form, text).map(|value| Some((path, value))).map_err(BadVariable::Unreadable)
}

pub(super) enum BadVariable {
    Unknown(String),
    Unreadable(String),
}

fn value(form: Form, text: &str) -> Result<Value, String> {
    match form {
        Form::List if !text.trim().starts_with('[') => Ok(list(text)),
        // In brackets words may stand without quotes.
        Form::List => toml_value(text).or_else(|why| {
            let inside = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or(why)?;
            Ok(list(inside))
        }),
        Form::Toml => toml_value(text),
        Form::Number => Ok(text.trim().parse::<u64>().map_or_else(|_| Value::from(text), Value::from)),
        Form::Text => Ok(Value::from(text)),
    }
}

fn list(text: &str) -> Value {
    Value::from(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>())
}

fn toml_value(text: &str) -> Result<Value, String> {
    let value = toml::Value::deserialize(toml::de::ValueDeserializer::new(text));
    let value = value.map_err(|error| format!("is read as in the file, and {}", error.message()))?;
    Value::serialize(value).map_err(|error| error.to_string())
}

/// Which of `known` may have been meant by `name`, for the end of a sentence.
pub(super) fn way_out(name: &str, known: &[&str], show: impl Fn(&str) -> String) -> String {
    match nearest(name, known.iter().copied()) {
        Some(known) => format!("; did you mean `{}`?", show(known)),
        None => {
            let all: Vec<String> = known.iter().map(|known| format!("`{}`", show(known))).collect();
            format!("; there are {}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use figment::error::Kind;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::config::Settings;
    use crate::script::Limits;
    use crate::store::RedisSettings;

    fn fields_of<T: DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
        let error = figment::Figment::from(("no such name", 1)).extract::<T>().unwrap_err();
        let Kind::UnknownField(_, known) = error.kind else { panic!("{error}") };
        known.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_names_are_those_of_the_structs() {
        let all: Vec<String> = fields_of::<Settings>()
            .into_iter()
            .flat_map(|name| {
                let within = match name.as_str() {
                    "limits" => fields_of::<Limits>(),
                    "redis" => fields_of::<RedisSettings>(),
                    _ => return vec![name],
                };
                within.iter().map(|field| format!("{name}.{field}")).collect()
            })
            .collect();

        assert_eq!(KNOWN.map(|(path, _)| path.to_owned()).to_vec(), all);
    }

    #[test]
    fn a_table_is_reached_by_two_underscores() {
        assert_eq!(variable_of("slots"), "UMBEL_SLOTS");
        assert_eq!(variable_of("history_keep"), "UMBEL_HISTORY_KEEP");
        assert_eq!(variable_of("limits.time_limit"), "UMBEL_LIMITS__TIME_LIMIT");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_fail(text in ".{0,60}") {
            for (path, _) in KNOWN {
                let _ = read_variable(&variable_of(path), &text);
            }
        }

        #[test]
        fn a_list_is_the_same_with_and_without_brackets(words in proptest::collection::vec("[a-z][a-z0-9.-]{0,9}", 1..5)) {
            let plain = value(Form::List, &words.join(", ")).unwrap();

            proptest::prop_assert_eq!(&value(Form::List, &format!("[{}]", words.join(","))).unwrap(), &plain);
            proptest::prop_assert_eq!(plain, Value::from(words));
        }
    }
}
