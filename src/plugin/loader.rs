//! Reads the project folder into catalogs, again and again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhai::Engine;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::bundle::{Bundle, Draft, MANIFEST};
use super::difference::difference;
use super::scripts::Scripts;
use super::{Catalog, Catalogs, Plugin, Task, declared, tree};
use crate::module;
use crate::script::{self, Broken, Script};
use crate::watch::Watch;

const TASKS: &str = "tasks";
const PLUGINS: &str = "plugins";

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
}

impl Loader {
    /// For the project in `folder`. Nothing is read yet: the catalog is empty until [`Loader::load`].
    pub fn new(folder: PathBuf) -> Self {
        // Without links, for imports are resolved to files without links, and both are shown from here.
        let folder = folder.canonicalize().or_else(|_| std::path::absolute(&folder)).unwrap_or(folder);
        let mut engine = script::engine();
        module::register(&mut engine);
        let engine = Arc::new(engine);
        let scripts = Scripts::new(engine.clone(), folder.clone());
        Self {
            folder,
            engine,
            catalogs: Catalogs::default(),
            scripts,
            files: BTreeMap::new(),
            bundles: BTreeMap::new(),
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

    /// Every script of the last load that could be loaded, by its file: tasks, libraries, modules and consumers.
    pub fn scripts(&self) -> impl Iterator<Item = &Arc<Script>> {
        self.scripts.all()
    }

    /// Reads everything, and swaps the catalog if anything differs; the log says what. What is wrong is in the
    /// catalog too (`broken`, and `broken` of its plugins) and stops nothing else. Blocks.
    pub fn load(&mut self) {
        let drafts = self.drafts();
        let modules = drafts.iter().flat_map(|(folder, draft)| match draft {
            Ok(draft) => draft.modules(),
            Err(_) => self.bundles.get(folder).map(|last| last.modules.clone()).unwrap_or_default(),
        });
        self.scripts.begin(modules.collect());
        let mut catalog = Catalog::default();
        self.load_files(&mut catalog);
        self.load_bundles(drafts, &mut catalog);
        self.scripts.end();
        let mut said = HashSet::new();
        catalog.broken.retain(|broken| said.insert(broken.to_string()));
        self.publish(catalog);
    }

    /// Loads whenever a file changes, until it is stopped.
    pub async fn keep_fresh(mut self, stop: CancellationToken) {
        let roots = [TASKS, PLUGINS].map(|name| self.folder.join(name)).into();
        let (watch, mut changes) = Watch::start(roots, stop);
        // The first round looks at what changed between an earlier load and the watch.
        loop {
            let loading = tokio::task::spawn_blocking(move || {
                self.load();
                self
            });
            match loading.await {
                Ok(loader) => self = loader,
                Err(_) => return error!("loading has failed; scripts stay as they are until the next start"),
            }
            if changes.recv().await.is_none() {
                return watch.stopped().await;
            }
        }
    }

    /// The manifest in each folder of `plugins/`. A folder without one is no plugin.
    fn drafts(&self) -> Vec<(PathBuf, Result<Draft, Broken>)> {
        let Ok(listing) = std::fs::read_dir(self.folder.join(PLUGINS)) else { return Vec::new() };
        let mut folders: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
        folders.retain(|folder| !name(folder).starts_with('.') && folder.join(MANIFEST).is_file());
        folders.sort();
        let mut drafts: Vec<(PathBuf, Result<Draft, Broken>)> = Vec::new();
        for folder in folders {
            let shown = format!("{PLUGINS}/{}", name(&folder));
            let draft = Draft::read(&folder, &shown, drafts.iter().filter_map(|(_, draft)| draft.as_ref().ok()));
            drafts.push((folder, draft));
        }
        drafts
    }

    fn load_files(&mut self, catalog: &mut Catalog) {
        let folder = self.folder.join(TASKS);
        let mut files = BTreeMap::new();
        for found in tree::scripts(&folder, TASKS) {
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
            let bundle = match draft.map_err(|why| vec![why]).and_then(|draft| draft.load(&mut self.scripts)) {
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
                catalog.consumers.extend(bundle.consumers.iter().cloned());
                bundles.insert(folder, bundle);
            }
        }
        self.bundles = bundles;
    }

    fn publish(&self, catalog: Catalog) {
        let before = self.catalogs.current();
        let changes = difference(&before, &catalog);
        if changes.is_empty() && before.broken == catalog.broken && before.plugins == catalog.plugins {
            return;
        }
        for broken in catalog.broken.iter().filter(|broken| !before.broken.contains(broken)) {
            match &broken.excerpt {
                Some(excerpt) => error!("{broken}\n{excerpt}"),
                None => error!("{broken}"),
            }
        }
        let is_wrong = |file: &str| catalog.broken.iter().any(|broken| broken.file == file);
        let mended: BTreeSet<&str> = before.broken.iter().map(|broken| broken.file.as_str()).collect();
        for file in mended.into_iter().filter(|file| !is_wrong(file)) {
            info!("{file}: nothing is wrong any more");
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

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::sync::watch;

    use super::*;
    use crate::task::{Priority, QueueName};

    /// A project folder with a loader.
    struct Project {
        folder: TempDir,
        loader: Loader,
    }

    const ECHO: &str = "name = \"echo\"\nversion = \"1.0.0\"\napi = 1\n";

    impl Project {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let project = Self { loader: Loader::new(folder.path().to_owned()), folder };
            project.save(files);
            project
        }

        fn save(&self, files: &[(&str, &str)]) {
            for (file, text) in files {
                let path = self.folder.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        }

        fn remove(&self, file: &str) {
            fs::remove_file(self.folder.path().join(file)).unwrap();
        }

        fn load(&mut self) -> Arc<Catalog> {
            self.loader.load();
            self.loader.catalogs().current()
        }
    }

    fn loaded(files: &[(&str, &str)]) -> Arc<Catalog> {
        Project::new(files).load()
    }

    fn names(catalog: &Catalog) -> Vec<&str> {
        catalog.tasks.keys().map(String::as_str).collect()
    }

    fn wrongs(catalog: &Catalog) -> Vec<String> {
        catalog.broken.iter().map(Broken::to_string).collect()
    }

    #[test]
    fn public_functions_are_tasks_named_after_their_file() {
        let catalog = loaded(&[
            (
                "tasks/math.rhai",
                "/// Adds.\nfn add(x, y) { x + y }\nfn add(x) { add(x, 1) }\nprivate fn secret() {}\nfn each(a) { a.map(|n| n * 2) }",
            ),
            ("tasks/chartjs/tasks.rhai", "fn add(x, y) { x + y }"),
            ("tasks/words/메일.rhai", "fn 실행함수() { 1 }"),
            ("tasks/_lib/prices.rhai", "fn price() { 1 }"),
            ("tasks/_lib.rhai", "fn price() { 1 }"),
            ("tasks/math_test.rhai", "fn test() { 1 }"),
            ("tasks/notes.txt", "fn test() { 1 }"),
        ]);

        assert_eq!(names(&catalog), ["chartjs.tasks.add", "math.add", "math.each", "words.메일.실행함수"]);
        assert_eq!(wrongs(&catalog), [""; 0]);
        let add = &catalog.tasks["math.add"];
        assert_eq!(add.overloads, [vec!["x"], vec!["x", "y"]]);
        assert_eq!((add.line, add.doc.as_str(), add.script.file.as_str()), (2, "Adds.", "tasks/math.rhai"));
    }

    #[test]
    fn declared_options_belong_to_their_function() {
        let catalog = loaded(&[(
            "tasks/web.rhai",
            "task(\"fetch\", #{ queue: \"io\", priority: 3 });\ntask(\"mail.new\", #{ run: \"send_new\", queue: \"mail\" });\nfn fetch(url) { url }\nfn send_new() { 1 }\nfn plain() { 1 }",
        )]);

        assert_eq!(wrongs(&catalog), [""; 0]);
        assert_eq!(names(&catalog), ["mail.new", "web.fetch", "web.plain"]);
        assert_eq!(catalog.tasks["web.fetch"].options.priority, Priority(3));
        assert_eq!(catalog.tasks["mail.new"].function, "send_new");
        assert_eq!(catalog.queues(), ["celery", "io", "mail"].map(|name| QueueName::parse(name).unwrap()));
    }

    #[test]
    fn what_is_declared_wrongly_is_said_with_its_place() {
        for (script, wrong) in [
            (
                "\ntask(\"fecth\", #{});\nfn fetch() { 1 }",
                "tasks/a.rhai:2:1: this file has no public function `fecth`; did you mean `fetch`?",
            ),
            ("task(\"zzz\", #{});\nprivate fn zzz() { 1 }", "tasks/a.rhai:1:1: this file has no public function `zzz`"),
            ("task(\"f\", #{});\ntask(\"f\", #{});\nfn f() { 1 }", "tasks/a.rhai:2:1: task `a.f` is declared twice"),
            (
                "task(\"a b\", #{run: \"f\"});\nfn f() { 1 }",
                "tasks/a.rhai:1:1: `a b` is no name of a task; use letters, digits, `_` and `-`, parted by dots",
            ),
            ("task(\"x\", #{run: \"g\"});\nfn f() { 1 }", "tasks/a.rhai:1:1: this file has no public function `g`"),
            (
                "task(\"f\", #{que: 1});\nfn f() { 1 }",
                "tasks/a.rhai:1:1: options of `f`: there is no option `que`; did you mean `queue`?",
            ),
        ] {
            let catalog = loaded(&[("tasks/a.rhai", script), ("tasks/b.rhai", "fn ok() { 1 }")]);
            assert_eq!(wrongs(&catalog), [wrong]);
            assert!(catalog.broken[0].excerpt.as_ref().unwrap().starts_with("task("), "{wrong}");
            assert_eq!(names(&catalog), ["b.ok"]);
        }
    }

    #[test]
    fn a_file_that_breaks_keeps_its_last_good_version() {
        let mut project = Project::new(&[("tasks/a.rhai", "fn f() { 1 }"), ("tasks/b.rhai", "fn f() { 1 }")]);
        let good = project.load();

        project.save(&[("tasks/a.rhai", "fn f() {\n  1 +\n}"), ("tasks/b.rhai", "fn g() { 1 }")]);
        let catalog = project.load();

        assert_eq!(names(&catalog), ["a.f", "b.g"]);
        assert!(Arc::ptr_eq(&catalog.tasks["a.f"].script, &good.tasks["a.f"].script));
        assert_eq!((catalog.broken[0].file.as_str(), catalog.broken[0].line), ("tasks/a.rhai", Some(3)));
        project.save(&[("tasks/a.rhai", "fn f() { 1 }\nfn h() { 1 }")]);
        assert_eq!((names(&project.load()), wrongs(&project.load()).len()), (vec!["a.f", "a.h", "b.g"], 0));
    }

    #[test]
    fn only_what_changed_is_another_script() {
        let mut project = Project::new(&[
            ("tasks/a.rhai", "fn f() { 1 }"),
            ("tasks/uses.rhai", "import \"_lib/x\" as x;\nfn f() { x::value() }"),
            ("tasks/_lib/x.rhai", "import \"_lib/y\" as y;\nfn value() { y::value() }"),
            ("tasks/_lib/y.rhai", "fn value() { 1 }"),
        ]);
        let before = project.load();
        let same = |after: &Catalog, name: &str| Arc::ptr_eq(&before.tasks[name].script, &after.tasks[name].script);
        let mut changes = project.loader.catalogs().changes();

        assert!(Arc::ptr_eq(&project.load(), &before), "nothing differs, so nothing is swapped");
        assert!(!changes.has_changed().unwrap());
        project.save(&[("tasks/_lib/y.rhai", "fn value() { 2 }")]);
        let after = project.load();

        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!((same(&after, "a.f"), same(&after, "uses.f")), (true, false));
        assert_ne!(before.tasks["uses.f"].script.hash, after.tasks["uses.f"].script.hash);
        assert_eq!(difference(&before, &after), ["tasks/uses.rhai: changed uses.f"]);
    }

    #[test]
    fn tasks_of_a_removed_file_go() {
        let mut project = Project::new(&[("tasks/a.rhai", "fn f() { 1 }"), ("tasks/b.rhai", "fn f() { 1 }")]);
        let before = project.load();

        project.remove("tasks/a.rhai");
        let after = project.load();

        assert_eq!(names(&after), ["b.f"]);
        assert_eq!(difference(&before, &after), ["tasks/a.rhai: removed a.f"]);
    }

    #[test]
    fn a_name_given_twice_is_said_with_both_places() {
        let catalog = loaded(&[
            ("tasks/a.rhai", "\nfn f() { 1 }"),
            ("tasks/z.rhai", "task(\"a.f\", #{ run: \"g\" });\nfn g() { 2 }\nfn other() { 3 }"),
        ]);

        assert_eq!(names(&catalog), ["a.f", "z.other"]);
        assert_eq!(wrongs(&catalog), ["tasks/z.rhai:2: task `a.f` is defined already, at tasks/a.rhai:2"]);
        assert_eq!(catalog.tasks["a.f"].script.file, "tasks/a.rhai");
    }

    #[test]
    fn a_broken_library_is_said_once() {
        let catalog = loaded(&[
            ("tasks/a.rhai", "import \"_lib/x\" as x;\nfn f() { 1 }"),
            ("tasks/b.rhai", "import \"_lib/x\" as x;\nfn f() { 1 }"),
            ("tasks/_lib/x.rhai", "fn value( { 1 }"),
        ]);

        assert_eq!(catalog.broken.len(), 1, "{:?}", wrongs(&catalog));
        assert_eq!(catalog.broken[0].file, "tasks/_lib/x.rhai");
    }

    #[test]
    fn files_that_are_no_text_are_broken() {
        let mut project = Project::new(&[("tasks/a.rhai", ""), ("tasks/b.c.rhai", "fn f() { 1 }")]);
        fs::write(project.folder.path().join("tasks/a.rhai"), b"fn f() { \"\xff\" }").unwrap();

        let wrongs = wrongs(&project.load());

        assert_eq!(wrongs[0], "tasks/a.rhai: is not UTF-8 text");
        assert!(wrongs[1].starts_with("tasks/b.c.rhai: `b.c` has a character"), "{wrongs:?}");
    }

    #[test]
    fn a_plugin_brings_tasks_consumers_and_modules() {
        let manifest = format!(
            "{ECHO}tasks = \"jobs\"\n[modules]\necho = \"lib.rhai\"\n[[consumers]]\npath = \"/ws/echo/{{name}}/\"\nscript = \"echo.rhai\""
        );
        let catalog = loaded(&[
            ("plugins/echo/plugin.toml", &manifest),
            ("plugins/echo/jobs/say.rhai", "fn twice(x) { x + x }"),
            ("plugins/echo/lib.rhai", "import \"own\" as own;\nfn hello() { own::word() }"),
            ("plugins/echo/own.rhai", "fn word() { \"hello\" }"),
            ("plugins/echo/echo.rhai", "fn connect(scope) { 1 }"),
            ("plugins/notes/readme.txt", "no plugin"),
            ("tasks/a.rhai", "import \"echo\" as echo;\nfn f() { echo::hello() }"),
        ]);

        assert_eq!(wrongs(&catalog), [""; 0]);
        assert_eq!(names(&catalog), ["a.f", "echo.say.twice"]);
        assert_eq!(catalog.tasks["echo.say.twice"].plugin.as_deref(), Some("echo"));
        assert_eq!((catalog.plugins.len(), &catalog.plugins[0].broken), (1, &None));
        let (consumer, values) = catalog.consumer("/ws/echo/%EB%B0%A9").unwrap();
        assert_eq!((consumer.script.file.as_str(), values["name"].as_str()), ("plugins/echo/echo.rhai", "방"));
    }

    #[test]
    fn a_module_in_a_folder_imports_from_its_plugins_folder_for_whoever_imports_it() {
        let catalog = loaded(&[
            ("plugins/echo/plugin.toml", &format!("{ECHO}[modules]\necho = \"lib/echo.rhai\"")),
            ("plugins/echo/lib/echo.rhai", "import \"lib/own\" as own;\nfn hello() { own::word() }"),
            ("plugins/echo/lib/own.rhai", "fn word() { \"hello\" }"),
            ("tasks/a.rhai", "import \"echo\" as echo;\nfn f() { echo::hello() }"),
        ]);

        assert_eq!(wrongs(&catalog), [""; 0]);
        assert_eq!(names(&catalog), ["a.f"]);
    }

    #[test]
    fn a_broken_plugin_takes_nothing_else_down() {
        let consumer = "[[consumers]]\npath = \"/ws/echo/\"\nscript = \"echo.rhai\"\n";
        for (manifest, wrong) in [
            ("name = ", "plugins/echo/plugin.toml:1:8: "),
            (&*format!("{ECHO}[hooks]"), "plugins/echo/plugin.toml:4:2: `hooks` is not built yet"),
            (
                &format!("{ECHO}tasks = \"jobs\""),
                "plugins/echo/plugin.toml:4:9: there is no folder `plugins/echo/jobs`",
            ),
            (&format!("{ECHO}{consumer}"), "plugins/echo/plugin.toml:6:10: there is no file `plugins/echo/echo.rhai`"),
            (&format!("{ECHO}tasks = \"tasks\""), "plugins/echo/tasks/bad.rhai:1:"),
            (
                &ECHO.replace("echo", "chat"),
                "plugins/echo/plugin.toml:1:8: the name `chat` is that of `plugins/chat` already",
            ),
        ] {
            let catalog = loaded(&[
                ("plugins/chat/plugin.toml", &ECHO.replace("echo", "chat")),
                ("plugins/echo/plugin.toml", manifest),
                ("plugins/echo/tasks/bad.rhai", "fn f( { 1 }"),
                ("plugins/echo/tasks/good.rhai", "fn f() { 1 }"),
                ("tasks/a.rhai", "fn f() { 1 }"),
            ]);

            assert_eq!(names(&catalog), ["a.f"], "{wrong}");
            let said = catalog.plugins[1].broken.as_ref().unwrap();
            assert!(said.starts_with(wrong) && wrongs(&catalog) == [said.as_str()], "{said}");
            assert_eq!(catalog.plugins[0].broken, None);
        }
    }

    #[test]
    fn a_plugin_that_breaks_keeps_its_last_good_version() {
        let manifest = format!("{ECHO}tasks = \"tasks\"");
        let mut project = Project::new(&[
            ("plugins/echo/plugin.toml", &manifest),
            ("plugins/echo/tasks/say.rhai", "fn f() { 1 }"),
            ("plugins/echo/tasks/more.rhai", "fn f() { 1 }"),
        ]);
        project.load();

        project
            .save(&[("plugins/echo/tasks/say.rhai", "fn f( { 2 }"), ("plugins/echo/tasks/more.rhai", "fn g() { 1 }")]);
        let catalog = project.load();

        assert_eq!(names(&catalog), ["echo.more.f", "echo.say.f"]);
        assert!(catalog.plugins[0].broken.as_ref().unwrap().starts_with("plugins/echo/tasks/say.rhai:1:"));
        project.remove("plugins/echo/plugin.toml");
        assert_eq!((names(&project.load()), project.load().plugins.len()), (vec![], 0));
    }

    #[test]
    fn a_module_that_moves_reloads_its_importers_and_outlives_a_broken_manifest() {
        let manifest = |file: &str| format!("{ECHO}[modules]\necho = \"{file}\"");
        let mut project = Project::new(&[
            ("plugins/echo/plugin.toml", &manifest("one.rhai")),
            ("plugins/echo/one.rhai", "fn number() { 1 }"),
            ("plugins/echo/two.rhai", "fn number() { 2 }"),
            ("tasks/a.rhai", "import \"echo\" as echo;\nfn f() { echo::number() }"),
            ("tasks/b.rhai", "fn f() { 1 }"),
        ]);
        let one = project.load();

        project.save(&[("plugins/echo/plugin.toml", &manifest("two.rhai"))]);
        let two = project.load();
        project.save(&[("plugins/echo/plugin.toml", "name =")]);
        let broken = project.load();

        assert_eq!(difference(&one, &two), ["tasks/a.rhai: changed a.f"]);
        assert_eq!(difference(&two, &broken), [""; 0]);
        assert_eq!((broken.broken.len(), broken.plugins[0].name.as_str()), (1, "echo"));
    }

    #[test]
    fn the_tasks_of_a_plugin_begin_with_its_name() {
        let catalog = loaded(&[
            ("plugins/echo/plugin.toml", &format!("{ECHO}tasks = \"tasks\"")),
            ("plugins/echo/tasks/a.rhai", "task(\"math.add\", #{ run: \"f\" });\nfn f() { 1 }"),
        ]);

        let wrong =
            "plugins/echo/tasks/a.rhai:1:1: the tasks of plugin `echo` begin with `echo.`, and `math.add` does not";
        assert_eq!(wrongs(&catalog), [wrong]);
    }

    async fn until(changes: &mut watch::Receiver<u64>, catalogs: &Catalogs, is: impl Fn(&Catalog) -> bool) {
        let waiting = async {
            while !is(&catalogs.current()) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the catalog changes");
    }

    #[tokio::test]
    async fn what_is_saved_is_there() {
        let Project { folder, mut loader } = Project::new(&[]);
        loader.load();
        let catalogs = loader.catalogs();
        let (mut changes, stop) = (catalogs.changes(), CancellationToken::new());
        let keeping = tokio::spawn(loader.keep_fresh(stop.clone()));
        let path = folder.path().join("tasks/a.rhai");

        fs::create_dir(folder.path().join("tasks")).unwrap();
        fs::write(&path, "fn f() { 1 }").unwrap();
        until(&mut changes, &catalogs, |catalog| catalog.task("a.f").is_some()).await;
        fs::write(&path, "fn g(").unwrap();
        until(&mut changes, &catalogs, |catalog| catalog.broken.len() == 1).await;
        assert!(catalogs.current().task("a.f").is_some());
        fs::write(&path, "fn g() { 1 }").unwrap();
        until(&mut changes, &catalogs, |catalog| names(catalog) == ["a.g"] && catalog.broken.is_empty()).await;

        stop.cancel();
        keeping.await.unwrap();
    }
}
