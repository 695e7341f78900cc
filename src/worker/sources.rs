//! Keeps the code of the catalog in the store, so that what a run ran can be read when its file has changed.
//!
//! It goes by the catalog and not by the runs: a run only bears the hash. A run may so be stored a moment before its
//! code is, and while the store is away nothing of either is.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Backoff;
use crate::plugin::{Catalog, Catalogs};
use crate::script::Script;
use crate::store::{Source, Sources};

/// How much text is given to the store in one call, in bytes, unless one script alone has more.
const AT_ONCE: usize = 8 << 20;

/// The most scripts that wait for a store that is away; what comes then is not kept before it is used again.
const MOST_WAITING: usize = 10_000;

/// After this everything is kept once more: a store drops what nobody has kept for the longest time.
const AGAIN: Duration = Duration::from_secs(3600);

/// Keeps the scripts of every catalog from now on, until `stop`.
pub async fn keep(catalogs: Catalogs, store: Arc<dyn Sources>, stop: CancellationToken) {
    let mut changes = catalogs.changes();
    let mut shelf = Shelf::default();
    let mut again = Instant::now() + AGAIN;
    loop {
        changes.mark_unchanged();
        shelf.note(&catalogs.current());
        let batch = shelf.batch();
        if batch.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep_until(again) => {
                    again += AGAIN;
                    shelf.known.clear();
                }
            }
            continue;
        }
        let mut storing = pin!(store_all(&*store, batch, &stop));
        loop {
            tokio::select! {
                kept = &mut storing => if kept { break } else { return },
                // No catalog is passed over because the store is slow.
                Ok(()) = changes.changed() => shelf.note(&catalogs.current()),
            }
        }
    }
}

/// False when it was stopped before.
async fn store_all(store: &dyn Sources, batch: Vec<Arc<Script>>, stop: &CancellationToken) -> bool {
    let source = |script: &Arc<Script>| Source {
        hash: script.hash.to_string(),
        files: script.sources().map(|(file, text)| (file.to_owned(), text.to_owned())).collect(),
    };
    let mut backoff = Backoff::new();
    let mut told = false;
    while let Err(cause) = store.keep(batch.iter().map(source).collect()).await {
        if backoff.is_first() && !cause.is_told() {
            told = true;
            warn!("cannot keep the code of {} scripts, trying again: {cause}", batch.len());
        }
        if !backoff.pause(stop).await {
            return false;
        }
    }
    if told {
        info!("the code of {} scripts is kept again", batch.len());
    }
    true
}

/// What is to be kept.
#[derive(Default)]
struct Shelf {
    waiting: BTreeMap<String, Arc<Script>>,
    /// Hashes of scripts of the catalog that were taken from here.
    known: HashSet<String>,
}

impl Shelf {
    fn note(&mut self, catalog: &Catalog) {
        let scripts: BTreeMap<&str, &Arc<Script>> =
            catalog.tasks.values().map(|task| (&*task.script.hash, &task.script)).collect();
        self.known.retain(|hash| scripts.contains_key(hash.as_str()));
        for (hash, script) in scripts {
            if self.waiting.len() < MOST_WAITING && !self.known.contains(hash) {
                self.known.insert(hash.to_owned());
                self.waiting.insert(hash.to_owned(), script.clone());
            }
        }
    }

    /// What goes to the store in one call.
    fn batch(&mut self) -> Vec<Arc<Script>> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while let Some((_, script)) = self.waiting.first_key_value() {
            size += script.sources().map(|(_, text)| text.len()).sum::<usize>();
            if size > AT_ONCE && !batch.is_empty() {
                break;
            }
            batch.extend(self.waiting.pop_first().map(|(_, script)| script));
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tokio::sync::mpsc;

    use super::*;
    use crate::plugin::Loader;
    use crate::store::{Error, Result};

    /// Is away for the first call, and tells of each.
    struct Store {
        away: Mutex<bool>,
        calls: mpsc::UnboundedSender<Vec<Source>>,
    }

    #[async_trait]
    impl Sources for Store {
        async fn keep(&self, sources: Vec<Source>) -> Result<()> {
            if std::mem::take(&mut *self.away.lock().unwrap()) {
                return Err(Error::Away { reason: "gone".to_owned() });
            }
            self.calls.send(sources).unwrap();
            Ok(())
        }

        async fn source(&self, _hash: &str) -> Result<Option<Source>> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn each_version_is_kept_once_with_what_it_imports() {
        let folder = tempfile::tempdir().unwrap();
        let save = |file: &str, text: &str| {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        save("tasks/a.rhai", "import \"_x\" as x;\nfn f() { 1 }\nfn g() { 2 }");
        save("tasks/_x.rhai", "fn x() { 1 }");
        save("tasks/b.rhai", "fn f() { 1 }");
        let mut loader = Loader::new(folder.path().to_owned());
        loader.load();
        let (calls, mut kept) = mpsc::unbounded_channel();
        let store = Arc::new(Store { away: Mutex::new(true), calls });
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(keep(loader.catalogs(), store, stop.clone()));

        let first = kept.recv().await.unwrap();
        save("tasks/b.rhai", "fn f() { 2 }");
        loader.load();
        let second = kept.recv().await.unwrap();
        stop.cancel();
        keeping.await.unwrap();

        let catalog = loader.catalogs().current();
        let of = |hash: &str| first.iter().find(|source| source.hash == hash).unwrap();
        let files: Vec<_> = of(&catalog.tasks["a.f"].script.hash).files.keys().collect();
        assert_eq!(files, ["tasks/_x.rhai", "tasks/a.rhai"]);
        assert_eq!((first.len(), second.len()), (2, 1));
        assert_eq!(second[0].files["tasks/b.rhai"], "fn f() { 2 }");
        assert_eq!(*second[0].hash, *catalog.tasks["b.f"].script.hash);
        assert!(kept.try_recv().is_err());
    }
}
