//! One folder of `plugins/`: its manifest, and everything it brings. It is used whole or not at all.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use super::declared::Owner;
use super::manifest::{Manifest, Wrong};
use super::scripts::Scripts;
use super::tree::Found;
use super::{Consumer, Plugin, Task, declared, handlers, path, tree};
use crate::script::{Broken, PluginModule, Script};
use crate::watch::Snapshot;

pub(super) const MANIFEST: &str = "plugin.toml";

/// What a plugin brings into the catalog.
#[derive(Clone)]
pub(super) struct Bundle {
    pub plugin: Plugin,
    pub modules: BTreeMap<String, PluginModule>,
    pub tasks: Vec<Arc<Task>>,
    pub consumers: Vec<Arc<Consumer>>,
}

/// A plugin's manifest that is in order, before anything else of the plugin is read.
pub(super) struct Draft {
    folder: PathBuf,
    /// The same from the project's folder, with `/`.
    shown: String,
    text: Arc<str>,
    manifest: Manifest,
}

impl Draft {
    /// Reads the manifest in `folder`; `others` are the drafts before it.
    pub fn read<'a>(
        files: &Snapshot,
        folder: &Path,
        shown: &str,
        mut others: impl Iterator<Item = &'a Draft>,
    ) -> Result<Self, Broken> {
        let file = format!("{shown}/{MANIFEST}");
        let text = files.text(&folder.join(MANIFEST)).cloned().unwrap_or_else(|| Err("is not there".to_owned()));
        let text = text.map_err(|why| Broken::whole(&file, why))?;
        let manifest = Manifest::parse(&text).map_err(|wrong| locate(&file, &text, wrong))?;
        let draft = Self { folder: folder.to_owned(), shown: shown.to_owned(), text, manifest };
        match others.find_map(|other| draft.clash(other)) {
            Some(broken) => Err(broken),
            None => Ok(draft),
        }
    }

    // Others import by these names before it is known whether what has them can be used.
    fn clash(&self, other: &Draft) -> Option<Broken> {
        if self.name() == other.name() {
            return Some(self.taken("name", &self.manifest.name, &other.shown));
        }
        let module = self.manifest.modules.keys().find(|name| other.manifest.modules.contains_key(*name))?;
        Some(self.taken("module", module, &other.shown))
    }

    fn taken(&self, what: &str, place: &Spanned<String>, owner: &str) -> Broken {
        let name = place.get_ref();
        self.wrong(place.span(), format!("the {what} `{name}` is that of `{owner}` already"))
    }

    pub fn name(&self) -> &str {
        self.manifest.name.get_ref()
    }

    /// What others may import of it.
    pub fn modules(&self) -> BTreeMap<String, PluginModule> {
        let file = |(name, file): (&Spanned<String>, &Spanned<String>)| {
            let file = self.folder.join(file.get_ref());
            (name.get_ref().clone(), PluginModule { file, folder: self.folder.clone() })
        };
        self.manifest.modules.iter().map(file).collect()
    }

    /// What it says of itself, for one that is `broken` or not.
    pub fn plugin(&self, broken: Option<String>) -> Plugin {
        let Manifest { version, description, .. } = &self.manifest;
        let (name, version, description) = (self.name().to_owned(), version.clone(), description.clone());
        Plugin { name, version, description, broken }
    }

    /// Loads everything that the manifest names. `bound` are the consumers of others, whose paths it cannot have.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self, scripts: &mut Scripts, bound: &[Arc<Consumer>]) -> Result<Bundle, Vec<Broken>> {
        let mut broken = Vec::new();
        let tasks = self.tasks(scripts, &mut broken);
        for file in self.manifest.modules.values() {
            broken.extend(self.script(scripts, file).err());
        }
        let mut consumers = Vec::new();
        for binding in &self.manifest.consumers {
            if let Some(other) = bound.iter().find(|other| path::are_same(&other.path, binding.path.get_ref())) {
                broken.push(self.taken("path", &binding.path, &format!("plugins/{}", other.plugin)));
                continue;
            }
            match self.script(scripts, &binding.script) {
                Ok(script) => {
                    broken.extend(handlers::uncallable(&script));
                    let (path, plugin) = (binding.path.get_ref().clone(), self.name().to_owned());
                    consumers.push(Arc::new(Consumer { path, script, plugin }));
                }
                Err(why) => broken.push(why),
            }
        }
        if !broken.is_empty() {
            return Err(broken);
        }
        Ok(Bundle { plugin: self.plugin(None), modules: self.modules(), tasks, consumers })
    }

    fn tasks(&self, scripts: &mut Scripts, broken: &mut Vec<Broken>) -> Vec<Arc<Task>> {
        let Some(place) = &self.manifest.tasks else { return Vec::new() };
        let (folder, shown) = (self.folder.join(place.get_ref()), format!("{}/{}", self.shown, place.get_ref()));
        let found = tree::scripts(&scripts.files(), &folder, &shown);
        if found.is_empty() && !folder.is_dir() {
            broken.push(self.wrong(place.span(), format!("there is no folder `{shown}`")));
            return Vec::new();
        }
        self.declared(scripts, found, broken)
    }

    /// The functions of the tests beside its tasks.
    pub fn tests(&self, scripts: &mut Scripts, broken: &mut Vec<Broken>) -> Vec<Arc<Task>> {
        let Some(place) = &self.manifest.tasks else { return Vec::new() };
        let (folder, shown) = (self.folder.join(place.get_ref()), format!("{}/{}", self.shown, place.get_ref()));
        let found = tree::tests(&scripts.files(), &folder, &shown);
        self.declared(scripts, found, broken)
    }

    fn declared(&self, scripts: &mut Scripts, found: Vec<Found>, broken: &mut Vec<Broken>) -> Vec<Arc<Task>> {
        let owner = Owner { name: self.name(), caps: self.manifest.caps() };
        let mut tasks = Vec::new();
        for found in found {
            match declared::load(scripts, found, &self.folder, Some(owner)) {
                Ok(found) => tasks.extend(found),
                Err(why) => broken.extend(why),
            }
        }
        tasks
    }

    fn script(&self, scripts: &mut Scripts, file: &Spanned<String>) -> Result<Arc<Script>, Broken> {
        let shown = format!("{}/{}", self.shown, file.get_ref());
        if scripts.files().text(&self.folder.join(file.get_ref())).is_none() {
            return Err(self.wrong(file.span(), format!("there is no file `{shown}`")));
        }
        scripts.load(&shown, &self.folder)
    }

    fn wrong(&self, span: Range<usize>, message: String) -> Broken {
        locate(&format!("{}/{MANIFEST}", self.shown), &self.text, Wrong { message, span: Some(span) })
    }
}

fn locate(file: &str, text: &str, wrong: Wrong) -> Broken {
    let Some(before) = wrong.span.and_then(|span| text.get(..span.start)) else {
        return Broken::whole(file, wrong.message);
    };
    let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let column = number(line.chars().count());
    Broken::at(file, text, number(before.matches('\n').count()), Some(column), wrong.message)
}
