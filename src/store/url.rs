//! The names of stores, and what of them may be shown.

/// Whether `url` names a store, without opening it.
///
/// # Errors
/// Says how a store is named.
pub fn check_url(url: &str) -> anyhow::Result<()> {
    let known = ["sqlite:", "memory:", "redis://", "redis+unix://", "unix://"];
    anyhow::ensure!(
        known.iter().any(|scheme| url.starts_with(scheme)),
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
    match shown.split_once('?') {
        Some((place, query)) if query.split('&').any(|field| field.starts_with("pass=")) => {
            let hide = |field: &str| if field.starts_with("pass=") { "pass=…".to_owned() } else { field.to_owned() };
            format!("{place}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&"))
        }
        _ => shown,
    }
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
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("sqlite:data/umbel.db", "sqlite:data/umbel.db"),
        ] {
            assert_eq!(without_password(url), shown);
        }
        let refused = check_url("redi://ann:secret@host").unwrap_err().to_string();
        assert!(refused.contains("`redi://…@host` names no store"), "{refused}");
    }
}
