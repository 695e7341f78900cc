//! Compiles scripts, and keeps those whose texts and imports have not changed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhai::Engine;

use crate::script::{Broken, PluginModule, Reads, Roots, Script};
use crate::watch::Snapshot;

pub(super) struct Scripts {
    engine: Arc<Engine>,
    roots: Roots,
    kept: HashMap<String, Kept>,
    /// The modules of plugins are others than in the last pass: an import may mean another file.
    moved: bool,
}

/// What came of a file.
struct Kept {
    /// Also what failed is kept: a module level without an end would hold up each pass for a second.
    result: Result<Arc<Script>, Broken>,
    /// What `result` came of.
    reads: Reads,
    /// The last one that was good.
    good: Option<Arc<Script>>,
    /// It was asked for in this pass.
    asked: bool,
}

impl Scripts {
    pub fn new(engine: Arc<Engine>, project: PathBuf) -> Self {
        let roots = Roots { project, ..Roots::default() };
        Self { engine, roots, kept: HashMap::new(), moved: false }
    }

    /// What there is, in this pass.
    pub fn files(&self) -> Arc<Snapshot> {
        self.roots.files.clone()
    }

    /// Begins a pass over `files`; `modules` are those of plugins.
    pub fn begin(&mut self, files: Arc<Snapshot>, modules: BTreeMap<String, PluginModule>) {
        self.moved = modules != self.roots.modules;
        self.roots.files = files;
        self.roots.modules = modules;
        self.kept.values_mut().for_each(|kept| kept.asked = false);
    }

    /// Ends a pass: what nobody asked for is forgotten.
    pub fn end(&mut self) {
        self.kept.retain(|_, kept| kept.asked);
    }

    /// Every script of the last pass that could be loaded, by its file.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Script>> {
        let loaded: BTreeMap<_, _> =
            self.kept.iter().filter_map(|(file, kept)| Some((file, kept.result.as_ref().ok()?))).collect();
        loaded.into_values()
    }

    /// Every file that was loaded in the last pass, and why it could not be.
    pub fn outcomes(&self) -> impl Iterator<Item = (&str, Option<&Broken>)> {
        self.kept.iter().map(|(file, kept)| (file.as_str(), kept.result.as_ref().err()))
    }

    /// The script of `file`, a path from the project's folder; its imports start from `folder`. The same as in the
    /// last pass when neither it nor what it imports has changed, and the same error.
    pub fn load(&mut self, file: &str, folder: &Path) -> Result<Arc<Script>, Broken> {
        let good = match self.kept.get_mut(file) {
            Some(kept) => {
                kept.asked = true;
                if !self.moved && kept.reads.are_as_in(&self.roots.files) {
                    return kept.result.clone();
                }
                kept.good.clone()
            }
            None => None,
        };
        let source = self.source(file, good.as_deref()).map_err(|why| Broken::whole(file, why))?;
        self.roots.scripts = folder.to_owned();
        let (result, reads) = Script::load_noting(&self.engine, &self.roots, file, &source);
        let result = result.map(|new| match &good {
            Some(good) if good.hash == new.hash => good.clone(),
            _ => Arc::new(new),
        });
        let good = result.as_ref().ok().cloned().or(good);
        self.kept.insert(file.to_owned(), Kept { result: result.clone(), reads, good, asked: true });
        result
    }

    fn source(&self, file: &str, good: Option<&Script>) -> Result<Arc<str>, String> {
        let source = self.roots.files.text(&self.roots.project.join(file));
        let source = source.cloned().unwrap_or_else(|| Err("is not there".to_owned()))?;
        // Editors empty a file before they write it. Who means it removes the file.
        if source.trim().is_empty() && good.is_some_and(|good| !good.functions.is_empty()) {
            return Err("is empty; its tasks stay until something is written into it or it is removed".to_owned());
        }
        Ok(source)
    }
}
