//! Who may do what: the tables `[[tokens]]` of `umbel.toml`.

use serde::Deserialize;

/// What a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send tasks, and see what came of those whose id one knows.
    Send,
    /// See everything.
    Read,
    /// Revoke, retry, purge, pause.
    Operate,
}

/// One token, of which only a hash is known here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is, for the log.
    pub name: String,
    /// `sha256:` and the hash of the token in hex.
    pub hash: String,
    pub scopes: Vec<Scope>,
}
