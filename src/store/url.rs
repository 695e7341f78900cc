//! The names of stores, and what of them may be shown.

use super::redis;

/// Whether `url` names a store, without opening it.
///
/// # Errors
/// Says how a store is named.
pub fn check_url(url: &str) -> anyhow::Result<()> {
    if redis::is_url(url) {
        return redis::check_url(url);
    }
    anyhow::ensure!(
        url.starts_with("sqlite:") || url.starts_with("memory:"),
        "`{}` names no store: write `sqlite:data/umbel.db` or `redis://HOST:PORT/DB`",
        without_password(url)
    );
    Ok(())
}

/// Whether processes can share the store at `url`.
pub fn is_shared(url: &str) -> bool {
    !url.starts_with("sqlite:") && url != "memory:"
}

/// `url` without who may use it: logs, errors and lists are read by more people than may know a password.
///
/// What stands before the last `@` is left out, and what a query says of a password.
pub fn without_password(url: &str) -> String {
    let shown = match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, place))) if rest.contains('@') => format!("{scheme}://…@{place}"),
        _ => url.to_owned(),
    };
    let Some((place, query)) = shown.split_once('?') else { return shown };
    let hide = |field: &str| match field.split_once('=') {
        Some((name @ ("pass" | "password"), _)) => format!("{name}=…"),
        _ => field.to_owned(),
    };
    format!("{place}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for (url, shown) in [
            ("redis://ann:p@ss@host:6379/0", "redis://…@host:6379/0"),
            ("redis://:secret@host", "redis://…@host"),
            ("redis+unix:///run/redis.sock?db=1&pass=secret", "redis+unix:///run/redis.sock?db=1&pass=…"),
            (
                "redis+socket:///r.sock?password=secret&virtual_host=1",
                "redis+socket:///r.sock?password=…&virtual_host=1",
            ),
            ("sentinel://:a@one;sentinel://:b@two/0", "sentinel://…@two/0"),
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("sqlite:data/umbel.db", "sqlite:data/umbel.db"),
        ] {
            assert_eq!(without_password(url), shown);
        }
        check_url("rediss://:secret@host:6380/1").unwrap();
        let refused = check_url("redis://:secret@host/x").unwrap_err().to_string();
        assert!(refused.contains("`redis://…@host/x` has the database `x`"), "{refused}");
        let refused = check_url("redi://ann:secret@host").unwrap_err().to_string();
        assert!(refused.contains("`redi://…@host` names no store"), "{refused}");
    }
}
