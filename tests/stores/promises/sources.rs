use std::collections::BTreeMap;

use umbel::store::{Source, Stores};

use crate::place::{Place, open};

fn source(hash: &str, text: &str) -> Source {
    let files = [("tasks/math.rhai", text), ("tasks/_lib/값.rhai", "const PI = 3; // 세\u{0}\"\n")];
    let files: BTreeMap<String, String> = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    Source { hash: hash.into(), files }
}

async fn keep(stores: &Stores, sources: &[Source]) {
    stores.sources.keep(sources.to_vec()).await.unwrap();
}

pub async fn a_source_is_read_back_as_it_was<P: Place>() {
    let place: P = open().await;
    let (old, new) = (source("c0de1", "fn add(x, y) { x + y }"), source("c0de2", "fn add(x, y) { y + x }"));

    keep(place.stores(), &[old.clone(), new.clone()]).await;

    assert_eq!(place.stores().sources.source("c0de1").await.unwrap(), Some(old));
    assert_eq!(place.stores().sources.source("c0de2").await.unwrap(), Some(new));
    assert_eq!(place.stores().sources.source("c0de").await.unwrap(), None);
    assert_eq!(place.stores().sources.source("").await.unwrap(), None);
}

pub async fn a_source_kept_twice_is_kept_once<P: Place>() {
    let place: P = open().await;
    let kept = source("c0de", "fn add(x, y) { x + y }");

    keep(place.stores(), &[]).await;
    keep(place.stores(), &[kept.clone(), kept.clone()]).await;
    keep(place.stores(), std::slice::from_ref(&kept)).await;

    assert_eq!(place.stores().sources.source("c0de").await.unwrap(), Some(kept));
}

pub async fn sources_outlive_their_process<P: Place>() {
    let place: P = open().await;
    let kept = source("c0de", "fn add(x, y) { x + y }");
    keep(place.stores(), std::slice::from_ref(&kept)).await;

    let place = place.die().await;

    assert_eq!(place.stores().sources.source("c0de").await.unwrap(), Some(kept));
}
