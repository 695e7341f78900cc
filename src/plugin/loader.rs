//! Reads the project folder into catalogs, again and again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rhai::Engine;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::bundle::{Bundle, Draft, MANIFEST};
use super::difference::{difference, mended};
use super::scripts::Scripts;
use super::{Catalog, Catalogs, Plugin, Task, declared, path, tree};
use crate::module;
use crate::script::{self, Broken, Script};
use crate::watch::{Snapshot, Watch};

const TASKS: &str = "tasks";
const PLUGINS: &str = "plugins";

/// How long a task stays whose file is gone: who replaces a folder removes it first, and what is queued for the task
/// meanwhile would fail as unknown.
const LINGER: Duration = Duration::from_secs(2);

/// Loads `tasks/` and `plugins/` of one project folder, and remembers the last good version of each file.
pub struct Loader {
    folder: PathBuf,
    engine: Arc<Engine>,
    catalogs: Catalogs,
    scripts: Scripts,
    /// The tasks of each file of `tasks/` when it was last whole.
    files: BTreeMap<String, Vec<Arc<Task>>>,
    /// Each folder of `plugins/` when it was last whole.
    bundles: BTreeMap<PathBuf, Bundle>,
    /// Since when each task is gone that is still in the catalog.
    gone: HashMap<String, Instant>,
    pub(super) linger: Duration,
}

impl Loader {
    /// For the project in `folder`. Nothing is read yet: the catalog is empty until [`Loader::load`].
    pub fn new(folder: PathBuf) -> Self {
        Self::equipped(folder, module::register)
    }

    /// The same for [`Loader::tests`]: what it loads may assert.
    pub fn for_tests(folder: PathBuf) -> Self {
        Self::equipped(folder, |engine| {
            module::register(engine);
            module::register_assertions(engine);
        })
    }

    fn equipped(folder: PathBuf, equip: impl FnOnce(&mut Engine)) -> Self {
        // Without links, for imports are resolved to files without links, and both are shown from here.
        let folder = folder.canonicalize().or_else(|_| std::path::absolute(&folder)).unwrap_or(folder);
        let mut engine = script::engine();
        equip(&mut engine);
        let engine = Arc::new(engine);
        let scripts = Scripts::new(engine.clone(), folder.clone());
        Self {
            folder,
            engine,
            catalogs: Catalogs::default(),
            scripts,
            files: BTreeMap::new(),
            bundles: BTreeMap::new(),
            gone: HashMap::new(),
            linger: LINGER,
        }
    }

    /// The engine that its scripts are made for.
    pub fn engine(&self) -> Arc<Engine> {
        self.engine.clone()
    }

    /// Where each load puts its catalog.
    pub fn catalogs(&self) -> Catalogs {
        self.catalogs.clone()
    }

    /// Every script of the last load that could be loaded, by its file: tasks, libraries, modules and consumers, and
    /// tests where they were asked for.
    pub fn scripts(&self) -> impl Iterator<Item = &Arc<Script>> {
        self.scripts.all()
    }

    /// Every script of the last load, by its file, and why it could not be loaded: what is wrong in it, or in what it
    /// imports.
    pub fn outcomes(&self) -> impl Iterator<Item = (&str, Option<&Broken>)> {
        self.scripts.outcomes()
    }

    /// The manifests of the last load, by their paths from the project's folder.
    pub fn manifests(&self) -> Vec<String> {
        let (plugins, files) = (self.folder.join(PLUGINS), self.scripts.files());
        let folders = with_manifest(&plugins, &files);
        folders.map(|folder| format!("{PLUGINS}/{}/{MANIFEST}", name(folder))).collect()
    }

    /// Reads everything, and swaps the catalog if anything differs; the log says what. What is wrong is in the
    /// catalog too (`broken`, and `broken` of its plugins) and stops nothing else. Blocks.
    pub fn load(&mut self) {
        self.read(Arc::new(Snapshot::take(&self.folder, &self.roots(), &self.scripts.files())));
    }

    /// The tests of the files of the last load, as tasks of a catalog of their own: the functions without parameters
    /// in `*_test.rhai`. What is wrong with these files is in it too, unless the load has found it. Blocks.
    pub fn tests(&mut self) -> Catalog {
        let (files, folder) = (self.scripts.files(), self.folder.join(TASKS));
        let (mut tests, mut broken) = (Vec::new(), Vec::new());
        for found in tree::tests(&files, &folder, TASKS) {
            match declared::load(&mut self.scripts, found, &folder, None) {
                Ok(found) => tests.extend(found),
                Err(why) => broken.extend(why),
            }
        }
        let drafts = self.drafts(&files);
        for draft in drafts.iter().filter_map(|(_, draft)| draft.as_ref().ok()) {
            tests.extend(draft.tests(&mut self.scripts, &mut broken));
        }
        let mut catalog = Catalog { broken, ..Catalog::default() };
        for test in tests.iter().filter(|test| test.overloads.iter().any(Vec::is_empty)) {
            add(test, &mut catalog);
        }
        let mut said: HashSet<String> = self.catalogs.current().broken.iter().map(Broken::to_string).collect();
        catalog.broken.retain(|broken| said.insert(broken.to_string()));
        catalog
    }

    fn roots(&self) -> [PathBuf; 2] {
        [TASKS, PLUGINS].map(|name| self.folder.join(name))
    }

    fn read(&mut self, files: Arc<Snapshot>) {
        if files.holds_the_same(&self.scripts.files()) && self.gone.is_empty() {
            return;
        }
        let drafts = self.drafts(&files);
        let modules = drafts.iter().flat_map(|(folder, draft)| match draft {
            Ok(draft) => draft.modules(),
            Err(_) => self.bundles.get(folder).map(|last| last.modules.clone()).unwrap_or_default(),
        });
        self.scripts.begin(files.clone(), modules.collect());
        let mut catalog = Catalog::default();
        catalog.broken.extend(files.left_out().map(|why| Broken::whole(TASKS, why.to_owned())));
        self.load_files(&mut catalog);
        self.load_bundles(drafts, &mut catalog);
        self.scripts.end();
        let mut said = HashSet::new();
        catalog.broken.retain(|broken| said.insert(broken.to_string()));
        self.let_linger(&mut catalog, Instant::now());
        self.publish(catalog);
    }

    /// Loads whenever a file changes, until it is stopped.
    pub async fn keep_fresh(mut self, stop: CancellationToken) {
        let (folder, roots) = (self.folder.clone(), self.roots().into());
        let (watch, mut changes) = Watch::start(folder, roots, self.scripts.files(), stop).await;
        // The first round reads what changed between an earlier load and the watch.
        loop {
            let files = changes.borrow_and_update().clone();
            let loading = tokio::task::spawn_blocking(move || {
                self.read(files);
                self
            });
            match loading.await {
                Ok(loader) => self = loader,
                Err(_) => return error!("loading has failed; scripts stay as they are until the next start"),
            }
            let goes_at = self.gone.values().min().map(|since| *since + self.linger);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return watch.stopped().await },
                () = sleep_until(goes_at.unwrap_or_else(Instant::now)), if goes_at.is_some() => {}
            }
        }
    }

    /// The manifest in each folder of `plugins/`. A folder without one is no plugin.
    fn drafts(&self, files: &Snapshot) -> Vec<(PathBuf, Result<Draft, Broken>)> {
        let mut drafts: Vec<(PathBuf, Result<Draft, Broken>)> = Vec::new();
        for folder in with_manifest(&self.folder.join(PLUGINS), files) {
            let shown = format!("{PLUGINS}/{}", name(folder));
            let draft = Draft::read(files, folder, &shown, drafts.iter().filter_map(|(_, draft)| draft.as_ref().ok()));
            drafts.push((folder.to_owned(), draft));
        }
        drafts
    }

    fn load_files(&mut self, catalog: &mut Catalog) {
        let folder = self.folder.join(TASKS);
        let mut files = BTreeMap::new();
        for found in tree::scripts(&self.scripts.files(), &folder, TASKS) {
            let file = found.file.clone();
            match declared::load(&mut self.scripts, found, &folder, None) {
                Ok(tasks) => files.insert(file, tasks),
                Err(why) => {
                    catalog.broken.extend(why);
                    self.files.remove(&file).and_then(|last| files.insert(file, last))
                }
            };
        }
        self.files = files;
        for task in self.files.values().flatten() {
            add(task, catalog);
        }
    }

    fn load_bundles(&mut self, drafts: Vec<(PathBuf, Result<Draft, Broken>)>, catalog: &mut Catalog) {
        let mut bundles = BTreeMap::new();
        for (folder, draft) in drafts {
            let said = draft.as_ref().ok().map(|draft| draft.plugin(None));
            let last = self.bundles.remove(&folder);
            let mut plugin = said.or_else(|| Some(last.as_ref()?.plugin.clone()));
            let bundle = match draft
                .map_err(|why| vec![why])
                .and_then(|draft| draft.load(&mut self.scripts, &catalog.consumers))
            {
                Ok(bundle) => Some(bundle),
                Err(why) => {
                    let plugin = plugin.get_or_insert_with(|| Plugin { name: name(&folder), ..Plugin::default() });
                    plugin.broken = why.first().map(Broken::to_string);
                    catalog.broken.extend(why);
                    last
                }
            };
            catalog.plugins.extend(plugin);
            if let Some(bundle) = bundle {
                bundle.tasks.iter().for_each(|task| add(task, catalog));
                // Those of the last good version of one that lost a path have it no more.
                let is_free = |path: &str| !catalog.consumers.iter().any(|bound| path::are_same(&bound.path, path));
                let free = bundle.consumers.iter().filter(|consumer| is_free(&consumer.path)).cloned();
                let free: Vec<_> = free.collect();
                catalog.consumers.extend(free);
                bundles.insert(folder, bundle);
            }
        }
        self.bundles = bundles;
    }

    fn let_linger(&mut self, catalog: &mut Catalog, now: Instant) {
        let before = self.catalogs.current();
        let mut gone = HashMap::new();
        for name in before.tasks.keys().filter(|name| !catalog.tasks.contains_key(*name)) {
            let since = self.gone.get(name).copied().unwrap_or(now);
            if now < since + self.linger {
                gone.insert(name.clone(), since);
            }
        }
        for name in gone.keys() {
            catalog.tasks.insert(name.clone(), before.tasks[name].clone());
        }
        catalog.gone = gone.keys().cloned().collect();
        self.gone = gone;
    }

    fn publish(&self, catalog: Catalog) {
        let before = self.catalogs.current();
        let changes = difference(&before, &catalog);
        let is_same =
            before.broken == catalog.broken && before.gone == catalog.gone && before.plugins == catalog.plugins;
        if changes.is_empty() && is_same {
            return;
        }
        for broken in catalog.broken.iter().filter(|broken| !before.broken.contains(broken)) {
            match &broken.excerpt {
                Some(excerpt) => error!("{broken}\n{excerpt}"),
                None => error!("{broken}"),
            }
        }
        for file in mended(&before, &catalog, |file| self.folder.join(file).exists()) {
            info!("{file}: works again");
        }
        self.catalogs.swap(catalog);
        for line in changes {
            info!("{line}");
        }
    }
}

/// Takes `task` into the catalog, unless its name is taken.
fn add(task: &Arc<Task>, catalog: &mut Catalog) {
    let Some(first) = catalog.tasks.get(&task.name) else {
        catalog.tasks.insert(task.name.clone(), task.clone());
        return;
    };
    let message = format!("task `{}` is defined already, at {}:{}", task.name, first.script.file, first.line);
    catalog.broken.push(task.script.broken(task.line, None, message));
}

/// The folders of `plugins` that have a manifest.
fn with_manifest<'a>(plugins: &'a Path, files: &'a Snapshot) -> impl Iterator<Item = &'a Path> {
    let manifests = files.under(plugins).filter(|path| path.file_name().is_some_and(|name| name == MANIFEST));
    manifests.filter_map(Path::parent).filter(move |folder| folder.parent() == Some(plugins))
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
