//! Lets in who may be let in: requests for a host that we are, from programs or from pages of such a host.
//!
//! umbel listens on the loopback interface and asks for no token there, but a browser on the same machine runs pages
//! of anyone. Such a page can send requests here and open WebSockets; the browser then says so in `Origin` and
//! `Sec-Fetch-Site`. A page whose own name was pointed at this machine (DNS rebinding) shows by its `Host`.
//!
//! The port of a page does not count, as in the `AllowedHostsOriginValidator` of Channels: what serves pages on a
//! host that we answer to is trusted like us, so that a page of Django on `localhost:8000` may open our sockets.

use axum::http::header::{HOST, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use tracing::warn;

use super::Problem;
use super::seldom::Seldom;

/// The names that this machine calls itself by.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a page of another site sent, or what is for a host that is not answered. `hosts` are names that are
/// answered besides those of this machine, in lower case; with `any_host` every one is, though not to every page.
pub(super) fn check(uri: &Uri, headers: &HeaderMap, hosts: &[String], any_host: bool) -> Result<(), Problem> {
    // A browser tells its user nothing of why a WebSocket was refused.
    static TOLD: Seldom = Seldom::new();
    admit(uri, headers, hosts, any_host).map_err(|reason| {
        if TOLD.may() {
            warn!("a request was refused: {reason}");
        }
        Problem::Foreign { reason }
    })
}

fn admit(uri: &Uri, headers: &HeaderMap, hosts: &[String], any_host: bool) -> Result<(), String> {
    let is_ours = |name: &str| LOCAL.contains(&name) || hosts.iter().any(|host| host == name);
    let host = match (uri.authority(), only(headers, HOST)?) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host,
        (None, None) => return Err("the request has no `Host`".to_owned()),
    };
    let name = name(host).ok_or_else(|| format!("`{host}` is not a host"))?;
    if !any_host && !is_ours(&name) {
        return Err(format!("the host `{name}` is not answered here; the setting `hosts` lists those that are"));
    }
    // A page says more by its origin than by `Sec-Fetch-Site`, for which another port is another site or origin.
    if let Some(origin) = only(headers, ORIGIN)? {
        return match page(origin) {
            Some(name) if is_ours(&name) => Ok(()),
            _ => Err(format!("a page of `{origin}` may not use `{host}`; the setting `hosts` lists who may")),
        };
    }
    match only(headers, SITE)? {
        Some(site @ ("cross-site" | "same-site")) => {
            Err(format!("a page of another origin ({site}) may not use `{host}`"))
        }
        _ => Ok(()),
    }
}

/// The value of a header that makes sense only once; `None` when it is not there.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, String> {
    let mut values = headers.get_all(&name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| format!("`{name}` is no plain text")),
        (Some(_), Some(_)) => Err(format!("the request has `{name}` more than once")),
    }
}

/// The host name, in lower case, of a page that says it is of `origin`; `None` when it is of no host, as `null`.
fn page(origin: &str) -> Option<String> {
    let (scheme, place) = origin.split_once("://")?;
    matches!(scheme, "http" | "https").then(|| name(place))?
}

/// The name, in lower case, in `host`, which may have a port; `None` when it is more than that or something else.
///
/// `Authority` alone takes `evil@localhost` and `localhost:1.evil`, which no browser writes.
fn name(host: &str) -> Option<String> {
    let authority: Authority = host.parse().ok()?;
    let port = authority.as_str().strip_prefix(authority.host())?;
    let is_plain = port.is_empty() || (port.starts_with(':') && authority.port_u16().is_some());
    is_plain.then(|| authority.host().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn admitted(headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        admit(&Uri::from_static("/api/tasks"), &map, &["umbel.example".to_owned()], false).is_ok()
    }

    #[test]
    fn programs_on_this_machine_are_let_in() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "umbel.example", "umbel.example:443"] {
            assert!(admitted(&[("host", host)]), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_not() {
        for host in [
            "evil.example",
            "localhost:1.evil.example",
            "evil.example@localhost",
            "localhost.evil.example:8080",
            "127.0.0.1.evil.example",
            "192.168.0.1",
            "",
            "a b",
        ] {
            assert!(!admitted(&[("host", host)]), "{host}");
        }
        assert!(!admitted(&[]));
        let absolute = Uri::from_static("http://evil.example/api/tasks");
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))]);
        assert!(admit(&absolute, &headers, &[], false).is_err());
    }

    #[test]
    fn pages_of_the_hosts_that_are_answered_are_let_in_whatever_their_port() {
        let from = |origin| admitted(&[("host", "localhost:8080"), ("origin", origin)]);

        for origin in [
            "http://localhost:8080",
            "http://localhost:8000",
            "http://localhost",
            "https://LOCALHOST:3000",
            "http://127.0.0.1:8000",
            "http://[::1]:8000",
            "https://umbel.example",
        ] {
            assert!(from(origin), "{origin}");
        }
        assert!(admitted(&[("host", "umbel.example"), ("origin", "https://umbel.example:8443")]));
    }

    #[test]
    fn pages_of_other_hosts_are_not() {
        for origin in [
            "http://evil.example",
            "http://evil.example:8080",
            "http://localhost.evil.example:8080",
            "http://localhost:8080.evil.example",
            "http://evil.example@localhost:8080",
            "http://localhost@evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost/evil.example/",
            "file://localhost",
            "chrome-extension://localhost",
            "http://",
            "//localhost",
            "localhost",
            "null",
            "",
        ] {
            for host in ["localhost:8080", "umbel.example"] {
                assert!(!admitted(&[("host", host), ("origin", origin)]), "{origin} {host}");
            }
        }
    }

    #[test]
    fn an_origin_says_more_than_the_site() {
        for site in ["same-origin", "same-site", "cross-site", "none"] {
            let from = |origin| admitted(&[("host", "localhost:8080"), ("origin", origin), ("sec-fetch-site", site)]);
            assert!(from("http://localhost:8000") && from("http://127.0.0.1:8000"), "{site}");
            assert!(!from("http://evil.example") && !from("null"), "{site}");
        }
    }

    #[test]
    fn without_an_origin_what_the_browser_says_of_the_site_counts() {
        let site = |site| admitted(&[("host", "localhost:8080"), ("sec-fetch-site", site)]);

        assert!(site("same-origin") && site("none"));
        assert!(!site("cross-site") && !site("same-site"));
    }

    #[test]
    fn what_is_said_twice_is_not_believed() {
        let local = ("host", "localhost:8080");

        assert!(!admitted(&[local, ("host", "localhost:8080")]));
        assert!(!admitted(&[local, ("origin", "http://localhost"), ("origin", "http://evil.example")]));
        assert!(!admitted(&[local, ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")]));
    }
}
