//! Compiles scripts, and keeps those whose texts and imports have not changed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhai::Engine;

use crate::script::{Broken, PluginModule, Roots, Script, read_source};

pub(super) struct Scripts {
    engine: Arc<Engine>,
    roots: Roots,
    /// The latest good version of each file, and whether it was asked for in this pass.
    kept: HashMap<String, (Arc<Script>, bool)>,
    /// What was read in this pass, so that all scripts are made of the same texts.
    texts: HashMap<String, Result<Arc<str>, String>>,
    /// The modules of plugins are others than in the last pass: an import may mean another file.
    moved: bool,
}

impl Scripts {
    pub fn new(engine: Arc<Engine>, project: PathBuf) -> Self {
        let roots = Roots { project, ..Roots::default() };
        Self { engine, roots, kept: HashMap::new(), texts: HashMap::new(), moved: false }
    }

    /// Begins a pass: files may have changed since the last one. `modules` are those of plugins.
    pub fn begin(&mut self, modules: BTreeMap<String, PluginModule>) {
        self.moved = modules != self.roots.modules;
        self.roots.modules = modules;
        self.texts.clear();
        self.kept.values_mut().for_each(|(_, asked)| *asked = false);
    }

    /// Ends a pass: what nobody asked for is forgotten.
    pub fn end(&mut self) {
        self.texts.clear();
        self.kept.retain(|_, (_, asked)| *asked);
    }

    /// The latest good version of each file, by its name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Script>> {
        let sorted: BTreeMap<&String, &Arc<Script>> =
            self.kept.iter().map(|(file, (script, _))| (file, script)).collect();
        sorted.into_values()
    }

    /// The script of `file`, a path from the project's folder; its imports start from `folder`. The same as in the
    /// last pass when neither it nor what it imports has changed.
    pub fn load(&mut self, file: &str, folder: &Path) -> Result<Arc<Script>, Broken> {
        let old = self.kept.get_mut(file).map(|(script, asked)| {
            *asked = true;
            script.clone()
        });
        let source = self.text(file).map_err(|why| Broken::whole(file, why))?;
        if let Some(old) = &old
            && !self.moved
            && old.sources().all(|(name, text)| self.text(name).as_deref() == Ok(text))
        {
            return Ok(old.clone());
        }
        self.roots.scripts = folder.to_owned();
        let new = Script::load(&self.engine, &self.roots, file, &source)?;
        let script = match old {
            Some(old) if old.hash == new.hash => old,
            _ => Arc::new(new),
        };
        self.kept.insert(file.to_owned(), (script.clone(), true));
        Ok(script)
    }

    fn text(&mut self, file: &str) -> Result<Arc<str>, String> {
        let path = self.roots.project.join(file);
        self.texts.entry(file.to_owned()).or_insert_with(|| read_source(&path)).clone()
    }
}
