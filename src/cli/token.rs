//! `umbel token`: makes a token, of which only the hash is to be kept.
//!
//! What goes to standard output may be appended to `umbel.toml` as it is; the token itself goes elsewhere, so that it
//! does not end in a file by that.

use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::paper::say;
use crate::http::{Scope, Token};

/// By this a token that was published by mistake is found.
const PREFIX: &str = "umbel_";

#[derive(Args)]
pub(super) struct Making {
    /// Whose it is; the log names it so.
    #[arg(value_parser = name)]
    name: String,
    /// What it lets its bearer do; may be given more than once. `send` and `read` unless given.
    #[arg(long = "scope", value_name = "SCOPE", default_values = ["send", "read"])]
    scopes: Vec<Scope>,
}

// The settings refuse such a table.
fn name(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("say whose token it is, for the log") } else { Ok(text.to_owned()) }
}

impl ValueEnum for Scope {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

pub(super) fn run(making: Making, json: bool) -> anyhow::Result<ExitCode> {
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let token = Token { name: making.name, hash: Token::hash_of(&secret), scopes: making.scopes };
    if json {
        say(&json!({ "token": secret, "name": token.name, "hash": token.hash, "scopes": token.scopes }).to_string())?;
    } else {
        say(&table(&token))?;
        eprintln!("The token, which is shown only this once: {secret}");
        eprintln!("Append the table to `umbel.toml`, and start umbel again.");
    }
    Ok(ExitCode::SUCCESS)
}

fn table(token: &Token) -> String {
    let text = |text: &str| toml::Value::from(text).to_string();
    let scopes: Vec<String> = token.scopes.iter().map(|scope| text(scope.as_str())).collect();
    let (name, hash) = (text(&token.name), text(&token.hash));
    format!("[[tokens]]\nname = {name}\nhash = {hash}\nscopes = [{}]", scopes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_it_was_meant() {
        #[derive(serde::Deserialize)]
        struct File {
            tokens: Vec<Token>,
        }
        for name in ["shop", "the \"shop\"", "한\\\n"] {
            let token = Token { name: name.to_owned(), hash: Token::hash_of("x"), scopes: vec![Scope::Operate] };

            let file: File = toml::from_str(&table(&token)).unwrap();

            assert_eq!(file.tokens, [token]);
        }
    }
}
