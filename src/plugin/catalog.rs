//! The immutable answer to "what is there?", swapped whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::arguments::{self, ArgumentError};
use super::path;
use crate::script::{Broken, Script};
use crate::task::{Options, nearest};

/// A task that can be run.
pub struct Task {
    /// Such as `math.add`.
    pub name: String,
    /// The function in its script that runs it.
    pub function: String,
    /// The parameter names of each overload, fewest first.
    pub overloads: Vec<Vec<String>>,
    pub doc: String,
    /// 1-based line of its (first) function.
    pub line: u32,
    pub options: Options,
    pub script: Arc<Script>,
    /// The plugin it belongs to; `None` for the project's own.
    pub plugin: Option<String>,
}

impl Task {
    /// Puts positional and named arguments in the order of the overload that takes them.
    ///
    /// # Errors
    /// Names the parameter that is missing, unknown or given twice.
    pub fn bind<V>(&self, args: Vec<V>, kwargs: Vec<(String, V)>) -> Result<Vec<V>, ArgumentError> {
        arguments::bind(&self.overloads, args, kwargs)
    }
}

/// A consumer: a script bound to a path of WebSockets.
pub struct Consumer {
    /// As written in the manifest: `/ws/chat/{room}/`.
    pub path: String,
    pub script: Arc<Script>,
    pub plugin: String,
}

/// A plugin, usable or broken.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Plugin {
    pub name: String,
    pub version: String,
    pub description: String,
    /// What is wrong with it; `None` when nothing is. Where there was a version that was whole, that one still serves.
    pub broken: Option<String>,
}

/// What exists now.
#[derive(Default)]
pub struct Catalog {
    pub tasks: BTreeMap<String, Arc<Task>>,
    pub consumers: Vec<Arc<Consumer>>,
    pub plugins: Vec<Plugin>,
    /// Files that do not compile. Where there was a version that did, that one still serves.
    pub broken: Vec<Broken>,
    /// The tasks whose file is gone. They stay for a moment.
    pub gone: BTreeSet<String>,
}

impl Catalog {
    pub fn task(&self, name: &str) -> Option<&Arc<Task>> {
        self.tasks.get(name)
    }

    /// The name most like `name`, of a task that is not about to go; `None` when nothing is near.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.tasks.keys().map(String::as_str).filter(|name| !self.gone.contains(*name)))
    }

    /// What is wrong with the file that would have the task `name`; `None` when nothing is, or there is none.
    pub fn broken_file_of(&self, name: &str) -> Option<&Broken> {
        let module = format!("tasks/{}.rhai", module_of(name)?.replace('.', "/"));
        let plugin = format!("plugins/{}/", name.split('.').next()?);
        self.broken.iter().find(|broken| broken.file == module || broken.file.starts_with(&plugin))
    }

    /// The consumer of a request path, with or without its last slash, and what the path's parameters are, percent-
    /// decoded; `None` when no consumer is bound to it.
    /// Where several fit, the first counts; a parameter has 1 to 64 characters.
    pub fn consumer(&self, path: &str) -> Option<(&Arc<Consumer>, BTreeMap<String, String>)> {
        self.consumers.iter().find_map(|consumer| Some((consumer, path::fit(&consumer.path, path)?)))
    }
}

/// What the names of all tasks of a file begin with: `math` of `math.add`.
pub fn module_of(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(module, _)| module)
}

/// The current catalog, shared by everyone who looks things up. Cheap to clone.
#[derive(Clone)]
pub struct Catalogs {
    current: Arc<ArcSwap<Catalog>>,
    generation: Arc<watch::Sender<u64>>,
}

impl Default for Catalogs {
    fn default() -> Self {
        Self { current: Arc::default(), generation: Arc::new(watch::Sender::new(0)) }
    }
}

impl Catalogs {
    /// The catalog as it stands. Hold it for one decision, not for long.
    pub fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Puts `catalog` in the place of the current one.
    pub fn swap(&self, catalog: Catalog) {
        self.current.store(Arc::new(catalog));
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Changes each time the catalog is swapped.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_seen_by_all() {
        let catalogs = Catalogs::default();
        let (other, changes) = (catalogs.clone(), catalogs.changes());

        catalogs
            .swap(Catalog { plugins: vec![Plugin { name: "chat".into(), ..Plugin::default() }], ..Catalog::default() });

        assert_eq!(other.current().plugins[0].name, "chat");
        assert!(changes.has_changed().unwrap());
    }
}
