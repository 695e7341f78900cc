//! What a consumer is told of its connection.

use std::collections::BTreeMap;

use rhai::{Dynamic, Map};

/// What is known of a connection; a script sees it as a map, with `user` as `()`.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Of the request, percent-decoded.
    pub path: String,
    /// The parameters of the consumer's path, as [`Catalog::consumer`](crate::plugin::Catalog::consumer) gives them.
    pub params: BTreeMap<String, String>,
    /// The query, decoded; of a name given twice, the last value.
    pub query: BTreeMap<String, String>,
    /// The request's headers that a consumer may know, by lower-case name: `origin`, `user-agent`.
    pub headers: BTreeMap<String, String>,
    /// The client's address; `None` when the transport has none.
    pub client: Option<String>,
}

impl Scope {
    pub(super) fn into_dynamic(self) -> Dynamic {
        let texts = |texts: BTreeMap<String, String>| -> Dynamic {
            texts.into_iter().map(|(name, text)| (name.into(), text.into())).collect::<Map>().into()
        };
        Map::from_iter([
            ("path".into(), self.path.into()),
            ("params".into(), texts(self.params)),
            ("query".into(), texts(self.query)),
            ("headers".into(), texts(self.headers)),
            ("client".into(), self.client.map_or(Dynamic::UNIT, Dynamic::from)),
            ("user".into(), Dynamic::UNIT),
        ])
        .into()
    }
}
