//! Who may do what: the tables `[[tokens]]` of `umbel.toml`.
//!
//! Only hashes are kept here. A token is compared with all of them, in constant time, so that the time of an answer
//! tells nothing of a token. Who holds the lock file of the folder shows the token in it, which has every scope.

use axum::http::{HeaderMap, Uri, header};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Problem;

/// What a token lets its bearer do. None implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send tasks, and see what came of those whose id one knows. Also opens the sockets of consumers.
    Send,
    /// See everything.
    Read,
    /// Revoke, retry, purge, pause.
    Operate,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Self::Send, Self::Read, Self::Operate];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

/// One token, of which only a hash is known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is, for the log.
    pub name: String,
    /// `sha256:` and the hash of the token in hex.
    #[serde(deserialize_with = "hash_field")]
    pub hash: String,
    pub scopes: Vec<Scope>,
}

impl Token {
    /// The hash under which `token` is kept.
    pub fn hash_of(token: &str) -> String {
        format!("{HASH}{:x}", Sha256::digest(token))
    }
}

const HASH: &str = "sha256:";

fn hash_field<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let hash = String::deserialize(input)?.to_ascii_lowercase();
    match hash.strip_prefix(HASH) {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(hash),
        _ => Err(D::Error::custom(format!(
            "`{hash}` is no hash of a token: write `{HASH}` and 64 hex digits; `umbel token NAME` makes one"
        ))),
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    name: String,
    scopes: Vec<Scope>,
}

impl Bearer {
    /// Whether it has one of `scopes`; none are asked for by what every bearer may do.
    pub fn may(&self, scopes: &[Scope]) -> Result<(), Problem> {
        if scopes.is_empty() || scopes.iter().any(|scope| self.scopes.contains(scope)) {
            return Ok(());
        }
        Err(Problem::Forbidden { bearer: self.name.clone(), scopes: scopes.to_vec() })
    }
}

/// Why nobody was recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The request shows no token.
    #[error("a token is needed here: send it as `Authorization: Bearer TOKEN`")]
    Missing,
    /// It shows one in its query, where it does not count.
    #[error(
        "`?token=` counts only for a WebSocket and an `EventSource` (`Accept: text/event-stream`): send it as \
         `Authorization: Bearer TOKEN`"
    )]
    InQuery,
    /// It shows something that is none.
    #[error("the token is not one of those in the setting `tokens`")]
    Wrong,
}

/// The tokens that are known.
pub(super) struct Tokens {
    known: Vec<(String, Bearer)>,
}

impl Tokens {
    /// `local` is the one of the lock file.
    pub fn new(tokens: &[Token], local: Option<&str>) -> Self {
        let named =
            |token: &Token| (token.hash.clone(), Bearer { name: token.name.clone(), scopes: token.scopes.clone() });
        let holder =
            |token| (Token::hash_of(token), Bearer { name: "lock file".to_owned(), scopes: Scope::ALL.into() });
        let local = local.filter(|_| !tokens.is_empty()).map(holder);
        Self { known: tokens.iter().map(named).chain(local).collect() }
    }

    /// No tokens are configured, so that everybody who reaches this address may do everything.
    pub fn is_open(&self) -> bool {
        self.known.is_empty()
    }

    /// Whose token `shown` is.
    pub fn bearer(&self, shown: &str) -> Option<&Bearer> {
        let hash = Token::hash_of(shown);
        let same = |known: &str| bool::from(known.as_bytes().ct_eq(hash.as_bytes()));
        // No early end: how long it takes does not tell which one it was.
        self.known.iter().fold(None, |found, (known, bearer)| if same(known) { Some(bearer) } else { found })
    }
}

/// The token that a request shows in its header.
pub(super) fn in_header(headers: &HeaderMap) -> Result<Option<&str>, Unknown> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Unknown::Wrong)?;
            if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(Unknown::Wrong) }
        }
        (Some(_), Some(_)) => Err(Unknown::Wrong),
    }
}

/// Takes the field `token` out of a query, so that nobody behind the door sees it.
pub(super) fn take_from_query(uri: &mut Uri) -> Option<String> {
    let query = uri.query()?;
    let mut token = None;
    let mut rest = Vec::new();
    for field in query.split('&') {
        match field.strip_prefix("token=") {
            Some(value) => token = Some(percent_decode_str(value).decode_utf8_lossy().into_owned()),
            None => rest.push(field),
        }
    }
    token.as_ref()?;
    let left = if rest.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), rest.join("&")) };
    let mut parts = uri.clone().into_parts();
    // Parts of what was one before are one again.
    parts.path_and_query = left.parse().ok();
    *uri = Uri::from_parts(parts).ok()?;
    token
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(name: &str, text: &str, scopes: &[Scope]) -> Token {
        Token { name: name.to_owned(), hash: Token::hash_of(text), scopes: scopes.to_vec() }
    }

    fn names(tokens: &Tokens, shown: &str) -> Option<String> {
        tokens.bearer(shown).map(|bearer| bearer.name.clone())
    }

    #[test]
    fn each_token_is_known_by_its_hash_alone() {
        let tokens = [token("ann", "a", &[Scope::Read]), token("bob", "b", &[Scope::Send])];
        let tokens = Tokens::new(&tokens, Some("local"));

        assert_eq!(names(&tokens, "a").as_deref(), Some("ann"));
        assert_eq!(names(&tokens, "b").as_deref(), Some("bob"));
        assert_eq!(names(&tokens, "local").as_deref(), Some("lock file"));
        for wrong in ["", "c", "A", "ab", "sha256:", &Token::hash_of("a")] {
            assert_eq!(names(&tokens, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_lock_file_alone_closes_nothing() {
        assert!(Tokens::new(&[], Some("local")).is_open());
        assert!(!Tokens::new(&[token("ann", "a", &[])], None).is_open());
    }

    #[test]
    fn a_scope_implies_no_other() {
        for has in Scope::ALL {
            let bearer = Bearer { name: "x".to_owned(), scopes: vec![has] };
            for needed in Scope::ALL {
                assert_eq!(bearer.may(&[needed]).is_ok(), has == needed);
            }
            assert!(bearer.may(&[]).is_ok() && bearer.may(&Scope::ALL).is_ok());
        }
    }

    #[test]
    fn a_header_shows_one_token() {
        let shown = |values: &[&str]| {
            let headers =
                values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect::<Vec<_>>();
            let mut map = HeaderMap::new();
            headers.into_iter().for_each(|(name, value)| {
                map.append(name, value);
            });
            in_header(&map).map(|token| token.map(str::to_owned))
        };

        assert_eq!(shown(&[]), Ok(None));
        assert_eq!(shown(&["Bearer abc"]), Ok(Some("abc".to_owned())));
        assert_eq!(shown(&["bearer  abc "]), Ok(Some("abc".to_owned())));
        for wrong in [&["abc"][..], &["Basic abc"], &["Bearer"], &[""], &["Bearer a", "Bearer b"], &["Bearer\u{e9} x"]]
        {
            assert_eq!(shown(wrong), Err(Unknown::Wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_leaves_the_query() {
        for (before, token, after) in [
            ("/ws/a/?token=x", Some("x"), "/ws/a/"),
            ("/ws/a/?b=1&token=x%2Fy&c=2", Some("x/y"), "/ws/a/?b=1&c=2"),
            ("/ws/a/?token=x&token=y", Some("y"), "/ws/a/"),
            ("http://localhost/e?token=x&a", Some("x"), "http://localhost/e?a"),
            ("/ws/a/?tokens=x&atoken=y", None, "/ws/a/?tokens=x&atoken=y"),
            ("/ws/a/?token", None, "/ws/a/?token"),
            ("/ws/a/", None, "/ws/a/"),
        ] {
            let mut uri: Uri = before.parse().unwrap();
            assert_eq!(take_from_query(&mut uri).as_deref(), token, "{before}");
            assert_eq!(uri.to_string(), after);
        }
    }

    #[test]
    fn a_hash_that_is_none_is_refused() {
        let read = |hash: &str| {
            serde_json::from_value::<Token>(serde_json::json!({ "name": "x", "hash": hash, "scopes": ["read"] }))
        };

        assert!(read(&Token::hash_of("x")).is_ok());
        assert_eq!(read(&Token::hash_of("x").to_uppercase()).unwrap().hash, Token::hash_of("x"));
        for wrong in ["", "secret", "sha256:", "sha256:abc", &Token::hash_of("x").replace("sha256", "sha512")] {
            let refused = read(wrong).unwrap_err().to_string();
            assert!(refused.contains("is no hash of a token") && refused.contains("`umbel token NAME`"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn no_query_can_hurt(query in "[ -~]{0,60}") {
            if let Ok(mut uri) = format!("/a?{query}").parse::<Uri>() {
                let taken = take_from_query(&mut uri);
                prop_assert_eq!(uri.path(), "/a");
                prop_assert!(taken.is_none() || !uri.query().unwrap_or("").split('&').any(|field| field.starts_with("token=")));
            }
        }
    }
}
