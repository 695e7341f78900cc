//! Where a Redis is, as a URL says it: the forms that Celery's clients write, and those of redis-py.
//!
//! `redis://`, `rediss://` and `unix://` follow redis-py's `from_url`, `redis+socket://` and `sentinel://` follow
//! kombu. What is written otherwise is refused with the way out, and never with the password.

use std::path::PathBuf;

use anyhow::{anyhow, bail, ensure};
use percent_encoding::percent_decode_str;

use crate::store::{Secret, without_password};

/// The ways there are, by how their URLs begin.
const SCHEMES: [&str; 6] = ["redis", "rediss", "unix", "redis+unix", "redis+socket", "sentinel"];

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Where a Redis is, and as whom it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub way: Way,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub db: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Server {
        host: Host,
        tls: bool,
    },
    Socket(PathBuf),
    /// These know which server it is.
    Sentinels(Vec<Host>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    pub port: u16,
}

impl std::fmt::Display for Host {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(out, "[{name}]:{port}") } else { write!(out, "{name}:{port}") }
    }
}

/// Whether `url` names a Redis.
pub fn is_url(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

impl Address {
    /// # Errors
    /// Says what is wrong with `url`, and how it is written.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let parsed = match scheme {
            "sentinel" => sentinels(url),
            "unix" | "redis+unix" | "redis+socket" => socket(rest),
            "redis" | "rediss" => server(rest, scheme == "rediss"),
            _ => Err(anyhow!("begins with none of `{}://`", SCHEMES.join("://`, `"))),
        };
        parsed.map_err(|why| anyhow!("`{}` {why}", without_password(url)))
    }
}

fn server(rest: &str, tls: bool) -> anyhow::Result<Address> {
    let (who, rest) = who(rest)?;
    let (rest, fields) = rest.split_once('?').unwrap_or((rest, ""));
    no_fields(fields)?;
    let (place, db) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(Address { way: Way::Server { host: host(place, PORT)?, tls }, db: database(db)?, ..who })
}

fn socket(rest: &str) -> anyhow::Result<Address> {
    let (mut address, rest) = who(rest)?;
    let (path, fields) = rest.split_once('?').unwrap_or((rest, ""));
    ensure!(path.starts_with('/') && path.len() > 1, "names no socket: write `unix:///run/redis/redis.sock?db=0`");
    for field in fields.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let value = decoded(value)?;
        match name {
            "db" => address.db = database(&value)?,
            "virtual_host" => address.db = database(value.trim_start_matches('/'))?,
            "user" | "username" => address.user = Some(value),
            "pass" | "password" => address.password = Some(value.into()),
            _ => bail!("has a field `{name}`: there are `db` (or `virtual_host`), `user` and `pass`"),
        }
    }
    Ok(Address { way: Way::Socket(decoded(path)?.into()), ..address })
}

// As kombu has it: a URL for each Sentinel. Who uses Redis, and which database, any of them may say.
fn sentinels(url: &str) -> anyhow::Result<Address> {
    let mut hosts = Vec::new();
    let mut whole = nobody();
    for part in url.split(';') {
        let rest = part.strip_prefix("sentinel://").ok_or_else(|| {
            anyhow!("is not one URL for each Sentinel: write `sentinel://HOST:26379;sentinel://HOST2:26379/DB`")
        })?;
        let (who, rest) = who(rest)?;
        let (rest, fields) = rest.split_once('?').unwrap_or((rest, ""));
        no_fields(fields)?;
        let (place, db) = rest.split_once('/').unwrap_or((rest, ""));
        hosts.push(host(place, SENTINEL_PORT)?);
        whole.user = who.user.or(whole.user);
        whole.password = who.password.or(whole.password);
        whole.db = if db.is_empty() { whole.db } else { database(db)? };
    }
    Ok(Address { way: Way::Sentinels(hosts), ..whole })
}

fn nobody() -> Address {
    Address { way: Way::Sentinels(Vec::new()), user: None, password: None, db: 0 }
}

/// What stands before the `@`, and what follows it.
fn who(rest: &str) -> anyhow::Result<(Address, &str)> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else {
        let encode = "has a password with `/`, `?`, `#` or `@` in it: write `%2F`, `%3F`, `%23` or `%40` for it";
        ensure!(end == 0 || !rest.contains('@'), encode);
        return Ok((nobody(), rest));
    };
    let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
    let given = |text: &str| anyhow::Ok(Some(decoded(text)?).filter(|text| !text.is_empty()));
    let (user, password) = (given(user)?, given(password)?.map(Secret::from));
    ensure!(
        user.is_none() || password.is_some(),
        "names a user without a password: write `USER:PASSWORD@`, or `:PASSWORD@` where there is only a password"
    );
    Ok((Address { user, password, ..nobody() }, &rest[at + 1..]))
}

fn host(place: &str, usual: u16) -> anyhow::Result<Host> {
    let (name, port) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':').or(port.is_empty().then_some(""))),
        None => place.split_once(':').map_or((place, Some("")), |(name, port)| (name, Some(port))),
    };
    let port = port.and_then(|port| if port.is_empty() { Some(usual) } else { port.parse().ok() });
    let port = port.filter(|port| *port > 0);
    let port = port.ok_or_else(|| anyhow!("has a port that is no number from 1 to 65535: write `HOST:{usual}`"))?;
    let is_name = |letter: char| letter.is_alphanumeric() || "-._:%".contains(letter);
    ensure!(!name.is_empty(), "names no host: write `HOST:{usual}/0` after `//`");
    ensure!(name.chars().all(is_name), "has `{name}` in the place of a host: write `HOST:{usual}/0` after `//`");
    Ok(Host { name: name.to_owned(), port })
}

fn database(text: &str) -> anyhow::Result<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.parse::<u16>().map_err(|_| anyhow!("has the database `{text}`: write its number, as in `/0`"));
    number.map(i64::from)
}

fn no_fields(fields: &str) -> anyhow::Result<()> {
    let name = fields.split(['=', '&']).next().unwrap_or_default();
    ensure!(
        !name.starts_with("ssl_"),
        "says `{name}`: write `redis.ca`, `redis.cert` and `redis.key` in `umbel.toml` instead"
    );
    ensure!(name.is_empty(), "has a field `{name}`, which means nothing here: leave out what stands behind the `?`");
    Ok(())
}

fn decoded(text: &str) -> anyhow::Result<String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| anyhow!("has a `%` that makes no text"))?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    fn check(url: &str, way: Way, user: Option<&str>, password: Option<&str>, db: i64) {
        let password = password.map(|password| Secret::from(password.to_owned()));
        let expected = Address { way, user: user.map(str::to_owned), password, db };

        assert_eq!(Address::parse(url).unwrap(), expected, "{url}");
        assert!(is_url(url), "{url}");
    }

    #[test]
    fn every_way_is_read() {
        let plain = |name, port| Way::Server { host: host(name, port), tls: false };
        let socket = |path: &str| Way::Socket(path.into());
        check("redis://localhost", plain("localhost", 6379), None, None, 0);
        check("redis://localhost:6380/2", plain("localhost", 6380), None, None, 2);
        check("redis://:s%2Fc@h/0", plain("h", 6379), None, Some("s/c"), 0);
        check("redis://ann:p%40ss@h/", plain("h", 6379), Some("ann"), Some("p@ss"), 0);
        check("redis://ann:p@ss@h", plain("h", 6379), Some("ann"), Some("p@ss"), 0);
        check("redis://[::1]:7/3", plain("::1", 7), None, None, 3);
        check("rediss://h:1/0", Way::Server { host: host("h", 1), tls: true }, None, None, 0);
        check("unix:///run/r.sock", socket("/run/r.sock"), None, None, 0);
        check("unix://ann:pw@/run/r.sock?db=1", socket("/run/r.sock"), Some("ann"), Some("pw"), 1);
        check("redis+unix:///r.sock?db=1&user=ann&pass=pw", socket("/r.sock"), Some("ann"), Some("pw"), 1);
        check("redis+socket:///r.sock?virtual_host=1", socket("/r.sock"), None, None, 1);
        check("redis+socket:///r.sock?virtual_host=/1", socket("/r.sock"), None, None, 1);
        check("sentinel://a", Way::Sentinels(vec![host("a", 26379)]), None, None, 0);
        check(
            "sentinel://:pw@a:1;sentinel://:pw@b:2/4",
            Way::Sentinels(vec![host("a", 1), host("b", 2)]),
            None,
            Some("pw"),
            4,
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_the_way_out_and_without_the_password() {
        for (url, said) in [
            ("redis://", "`redis://` names no host: write `HOST:6379/0` after `//`"),
            ("redis:///0", "names no host"),
            ("redis://h:x/0", "has a port that is no number from 1 to 65535: write `HOST:6379`"),
            ("redis://h:70000", "has a port"),
            ("redis://h:0", "has a port"),
            ("redis://:tops3cret@h/x", "`redis://…@h/x` has the database `x`: write its number, as in `/0`"),
            ("redis://h/-1", "has the database `-1`"),
            ("redis://:tops3cret/@h", "write `%2F`"),
            ("redis://ann@h", "names a user without a password"),
            ("redis://a b/0", "has `a b` in the place of a host"),
            ("rediss://h?ssl_cert_reqs=none", "says `ssl_cert_reqs`: write `redis.ca`"),
            ("redis://h?protocol=3", "has a field `protocol`"),
            ("unix://run/r.sock", "names no socket: write `unix:///run/redis/redis.sock?db=0`"),
            ("unix:///r.sock?pass=tops3cret&x=1", "has a field `x`"),
            ("sentinel://a;b/0", "is not one URL for each Sentinel"),
            ("redis+cluster://h", "begins with none of `redis://`, `rediss://`"),
        ] {
            let why = Address::parse(url).expect_err(url).to_string();
            assert!(why.contains(said), "{url}: {why}");
            assert!(!why.contains("tops3cret"), "{why}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let address = Address::parse("redis://:tops3cret@h").unwrap();

        assert!(!format!("{address:?}").contains("tops3cret"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(scheme in 0..SCHEMES.len(), text in "[a-z0-9:/@?&=;%\\[\\]. ]{0,40}|\\PC{0,20}") {
            let _ = Address::parse(&format!("{}://{text}", SCHEMES[scheme]));
        }

        #[test]
        fn any_password_is_read_as_it_was_encoded_and_never_told(password in "\\PC{1,12}", tail in "/[a-z]{1,3}|:x") {
            let encoded = percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC);

            let address = Address::parse(&format!("redis://:{encoded}@h:1/2")).unwrap();
            let refused = Address::parse(&format!("redis://:secret{encoded}@h{tail}")).unwrap_err().to_string();

            prop_assert_eq!(address.password, Some(Secret::from(password)));
            prop_assert!(!refused.contains("secret"), "{}", refused);
        }
    }
}
