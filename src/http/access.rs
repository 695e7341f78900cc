//! What each route asks of a token. A route that is not in the table is nobody's.

use axum::http::Method;

use super::Scope;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Not even a token.
    Open,
    /// A token with one of these scopes; with any, where there are none.
    Token(&'static [Scope]),
    /// It is in no table.
    Nobody,
}

const SEND: &[Scope] = &[Scope::Send];
const READ: &[Scope] = &[Scope::Read];
const OPERATE: &[Scope] = &[Scope::Operate];
/// Who sent a task knows its id, and may see what comes of it.
const SENT: &[Scope] = &[Scope::Send, Scope::Read];

/// The routes with their methods, as the router writes them, and the scopes of which one is needed.
pub const TABLE: &[(&str, &str, &[Scope])] = &[
    ("GET", "/", READ),
    ("GET", "/metrics", READ),
    ("GET", "/api/openapi.json", READ),
    ("GET", "/api/catalog", READ),
    ("GET", "/api/catalog/{name}", READ),
    ("GET", "/api/dead-letters", READ),
    ("GET", "/api/plugins", READ),
    ("GET", "/api/queues", READ),
    ("GET", "/api/queues/{name}", READ),
    ("POST", "/api/queues/{name}/pause", OPERATE),
    ("POST", "/api/queues/{name}/purge", OPERATE),
    ("POST", "/api/queues/{name}/resume", OPERATE),
    ("GET", "/api/schedules", READ),
    ("GET", "/api/tasks", READ),
    ("POST", "/api/tasks", SEND),
    ("GET", "/api/tasks/{task}", SENT),
    ("POST", "/api/tasks/{task}", SEND),
    ("GET", "/api/tasks/{task}/events", SENT),
    ("POST", "/api/tasks/{task}/retry", OPERATE),
    ("POST", "/api/tasks/{task}/revoke", OPERATE),
    ("GET", "/api/tasks/{task}/source", READ),
    ("GET", "/api/workers", READ),
    ("GET", "/ws/tasks/{task}", SENT),
    ("GET", "/ws/tasks/{task}/", SENT),
];

/// What platforms ask that have no token.
pub const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// What `method` on `route` needs; `route` is `None` where no route fits, which is told to every bearer.
pub fn needed(method: &Method, route: Option<&str>) -> Access {
    let Some(route) = route else { return Access::Token(&[]) };
    if OPEN.contains(&route) {
        return Access::Open;
    }
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut of_route = TABLE.iter().filter(|(_, known, _)| *known == route).peekable();
    if of_route.peek().is_none() {
        return Access::Nobody;
    }
    // A method that the route does not take is told to every bearer too.
    Access::Token(of_route.find(|(known, ..)| *known == method.as_str()).map_or(&[], |(.., scopes)| scopes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every path that the router's source text writes.
    fn routes() -> BTreeSet<&'static str> {
        let text = include_str!("mod.rs").split(".route(").skip(1);
        text.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
    }

    #[test]
    fn every_route_is_in_the_table_and_nothing_else_is() {
        let known: BTreeSet<&str> = TABLE.iter().map(|(_, route, _)| *route).chain(OPEN).collect();

        assert!(routes().len() > 8);
        assert_eq!(routes(), known);
    }

    #[test]
    fn a_route_that_nobody_wrote_down_is_nobodys() {
        assert_eq!(needed(&Method::GET, Some("/api/new")), Access::Nobody);
    }

    #[test]
    fn each_method_has_its_own_scope() {
        for (method, route, access) in [
            (Method::GET, Some("/healthz"), Access::Open),
            (Method::POST, Some("/api/tasks"), Access::Token(SEND)),
            (Method::HEAD, Some("/api/tasks"), Access::Token(READ)),
            (Method::DELETE, Some("/api/tasks"), Access::Token(&[])),
            (Method::GET, Some("/api/tasks/{task}"), Access::Token(SENT)),
            (Method::POST, Some("/api/tasks/{task}/revoke"), Access::Token(OPERATE)),
            (Method::GET, None, Access::Token(&[])),
        ] {
            assert_eq!(needed(&method, route), access, "{method} {route:?}");
        }
    }
}
