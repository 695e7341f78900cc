//! The functions of a consumer that are called for what happens to a socket, and what they are given.

use crate::script::{Broken, Script};

/// The parameters of the function `name` of a consumer; `None` when nothing calls it by that name.
fn parameters(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "connect" => Some(&["scope"]),
        "receive" => Some(&["scope", "frame"]),
        "disconnect" => Some(&["scope", "code"]),
        _ if name.starts_with("on_") => Some(&["scope", "event"]),
        _ => None,
    }
}

/// The first function of `script` that is to be called and cannot be, because it takes another number of parameters.
pub(super) fn uncallable(script: &Script) -> Option<Broken> {
    let public = || script.functions.iter().filter(|function| !function.private);
    public().find_map(|function| {
        let (name, wanted) = (&function.name, parameters(&function.name)?);
        if public().any(|other| other.name == *name && other.params.len() == wanted.len()) {
            return None;
        }
        let parameters = if wanted.len() == 1 { "1 parameter" } else { "2 parameters" };
        let message = format!(
            "`{name}` of a consumer takes {parameters}, not {}: write `fn {name}({})`",
            function.params.len(),
            wanted.join(", ")
        );
        Some(script.broken(function.line, None, message))
    })
}
