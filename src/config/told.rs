//! What is wrong, in words: figment's errors speak of Rust, and know no lines.

use bytesize::ByteSize;
use figment::error::{Actual, Error, Kind};

use super::known::{KNOWN, way_out};

/// Tables of the design that this version does not have.
const NOT_BUILT: [&str; 2] = ["permissions", "plugins"];

/// What is said of a hash that is none.
pub(super) const BAD_HASH: &str =
    "is no hash of a token: write `sha256:` and 64 hex digits; `umbel token NAME` makes a token and its hash";

/// What `error` says, with the field that it is about.
pub(super) fn message(error: &Error) -> String {
    let field = path(&error.path);
    let of_field = |what: String| if field.is_empty() { what } else { format!("{field}: {what}") };
    // What stands in the place of a hash may be the token itself, so it is not repeated.
    if field.ends_with("].hash") && !matches!(error.kind, Kind::MissingField(_) | Kind::UnknownField(..)) {
        return of_field(BAD_HASH.to_owned());
    }
    match &error.kind {
        Kind::UnknownField(name, known) => unknown(&error.path, name, known),
        Kind::MissingField(name) if field.is_empty() => format!("`{name}` is missing"),
        Kind::MissingField(name) => format!("`{name}` is missing in `{field}`"),
        Kind::UnknownVariant(name, known) => {
            of_field(format!("`{name}` is not known here{}", way_out(name, known, str::to_owned)))
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            of_field(format!("{} is not {}", found(actual), wanted(expected)))
        }
        kind => of_field(kind.to_string()),
    }
}

/// `limits.memory`, `tokens[1].hash`, `routes."reports.*".queue`.
pub(super) fn path<S: AsRef<str>>(parts: &[S]) -> String {
    parts.iter().map(AsRef::as_ref).fold(String::new(), |path, part| {
        let is_bare = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let dot = if path.is_empty() { "" } else { "." };
        match part {
            index if !path.is_empty() && index.chars().all(|c| c.is_ascii_digit()) => format!("{path}[{index}]"),
            name if !name.is_empty() && is_bare(name) => format!("{path}{dot}{name}"),
            // JSON's escapes are TOML's too.
            name => format!("{path}{dot}{}", serde_json::Value::from(name)),
        }
    })
}

fn unknown(at: &[String], name: &str, known: &[&str]) -> String {
    let table = at.split_last().map_or(&[][..], |(_, table)| table);
    if table.is_empty() {
        return match NOT_BUILT.contains(&name) {
            true => format!("`[{name}]` is not built yet: this version would ignore what it says; leave it out"),
            false => format!("`{name}` is not a setting{}", way_out(name, known, str::to_owned)),
        };
    }
    let of = path(table);
    if KNOWN.iter().any(|(path, _)| *path == name) {
        return format!("`{name}` is no setting of `{of}`: write it above the first table of the file");
    }
    format!("`{name}` is not a setting of `{of}`{}", way_out(name, known, str::to_owned))
}

/// In the largest whole unit, so that it is read as the same size again.
pub(super) fn size(size: ByteSize) -> String {
    let bytes = size.as_u64();
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let whole = units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

fn found(actual: &Actual) -> String {
    match actual {
        Actual::Str(text) => format!("`{text}`"),
        Actual::Bool(value) => format!("`{value}`"),
        Actual::Unsigned(number) => format!("`{number}`"),
        Actual::Signed(number) => format!("`{number}`"),
        Actual::Float(number) => format!("`{number}`"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn wanted(expected: &str) -> &str {
    match expected {
        "usize" | "u64" => "a whole number",
        "a string" => "a text in quotes",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        // What the sizes of memory say.
        "an integer or string" | "parsable string" | "integer overflow" => "a size, as in `128MiB`",
        table if table.starts_with("struct ") || table == "a map" => "a table",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_size_is_read_as_it_was_shown(bytes in 0u64..1 << 50) {
            proptest::prop_assert_eq!(size(ByteSize(bytes)).parse::<ByteSize>().unwrap().as_u64(), bytes);
        }
    }
}
