//! What a module level may do: import other scripts, and declare options of tasks.
//!
//! Both happen while a file is loaded and never later: `import` in a function would see a newer file than its task,
//! or none. A [`Load`] travels as the tag of rhai's global state from file to file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhai::{Dynamic, Engine, EvalAltResult, GlobalRuntimeState, ModuleResolver, NativeCallContext, Position};
use rhai::{Scope, Shared};

use super::{Broken, Declaration, HostError, Native, load};
use crate::watch::Snapshot;

/// How many files deep imports may go: what a file imports may import others, and so on.
const MAX_DEPTH: usize = 32;

/// How many files one script may import, directly or not.
const MAX_IMPORTS: usize = 256;

/// How much text a script and its imports may have together, in bytes.
const MAX_TEXT: usize = 16 << 20;

/// Where imports are looked for.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// The project's folder; errors and tracebacks show files from here.
    pub project: PathBuf,
    /// The folder that paths in `import` start from. No import leaves it.
    pub scripts: PathBuf,
    /// Modules of plugins, by what `import` calls them.
    pub modules: BTreeMap<String, PluginModule>,
    /// The files there are. What is not in it is not there.
    pub files: Arc<Snapshot>,
}

/// A file of a plugin that others import by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginModule {
    pub file: PathBuf,
    /// The folder of its plugin, which its own imports start from, whoever imports it.
    pub folder: PathBuf,
}

impl Roots {
    /// `path` from the project's folder, with `/`.
    pub fn shown(&self, path: &Path) -> String {
        let names: Vec<_> = path
            .strip_prefix(&self.project)
            .unwrap_or(path)
            .components()
            .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        names.join("/")
    }

    /// The file that `import "path"` means in a script whose imports start from `folder`, and the folder that its own
    /// imports start from.
    fn find(&self, folder: &Arc<Path>, path: &str) -> Result<(PathBuf, Arc<Path>), String> {
        if let Some(module) = self.modules.get(path) {
            return Ok((module.file.clone(), module.folder.as_path().into()));
        }
        let plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['\\', ':', '\0']);
        if !path.split('/').all(plain) {
            let shown = self.shown(folder);
            return Err(format!("`{path}` is not importable: write a path inside `{shown}/`, as in `_lib/prices`"));
        }
        Ok((folder.join(format!("{path}.rhai")), folder.clone()))
    }
}

/// What a script was made of: each file that was looked for, and what was found.
#[derive(Debug, Clone, Default)]
pub struct Reads(BTreeMap<PathBuf, Option<Result<Arc<str>, String>>>);

impl Reads {
    /// Whether the same would be found in `files`.
    pub fn are_as_in(&self, files: &Snapshot) -> bool {
        self.0.iter().all(|(path, found)| found.as_ref() == files.text(path))
    }
}

/// The loading of one script and of everything it imports.
#[derive(Clone)]
pub(super) struct Load {
    progress: Arc<Mutex<Progress>>,
    roots: Arc<Roots>,
    /// Where the imports of the file that is evaluated now start from.
    folder: Arc<Path>,
    /// It is evaluated as an import: its tasks are not declared.
    imported: bool,
}

#[derive(Default)]
struct Progress {
    declarations: Vec<Declaration>,
    /// Every file that was imported, evaluated once, by what it really is.
    modules: BTreeMap<PathBuf, Shared<rhai::Module>>,
    /// The paths that they were imported by.
    imports: BTreeSet<PathBuf>,
    /// The texts of all files, as tracebacks call them.
    sources: HashMap<String, Arc<str>>,
    reads: Reads,
    /// The files that are being evaluated, the importing one before the imported one.
    open: Vec<PathBuf>,
}

/// What loading found, apart from the module itself.
pub(super) struct Loaded {
    pub declarations: Vec<Declaration>,
    pub imports: Vec<PathBuf>,
    pub sources: HashMap<String, Arc<str>>,
}

impl Load {
    pub(super) fn new(roots: &Roots, file: &str, source: &str) -> Self {
        let path = roots.project.join(file);
        let source: Arc<str> = source.into();
        let progress = Progress {
            open: vec![roots.files.real(&path)],
            reads: Reads(BTreeMap::from([(path, Some(Ok(source.clone())))])),
            sources: HashMap::from([(file.to_owned(), source)]),
            ..Progress::default()
        };
        Self {
            progress: Arc::new(Mutex::new(progress)),
            folder: roots.scripts.as_path().into(),
            roots: Arc::new(roots.clone()),
            imported: false,
        }
    }

    pub(super) fn finish(&self) -> Loaded {
        let mut progress = self.lock();
        Loaded {
            declarations: std::mem::take(&mut progress.declarations),
            imports: std::mem::take(&mut progress.imports).into_iter().collect(),
            sources: std::mem::take(&mut progress.sources),
        }
    }

    pub(super) fn reads(&self) -> Reads {
        self.lock().reads.clone()
    }

    pub(super) fn source(&self, file: &str) -> Option<Arc<str>> {
        self.lock().sources.get(file).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn import(&self, engine: &Engine, path: &str) -> Result<Shared<rhai::Module>, Box<EvalAltResult>> {
        let (file, folder) = self.roots.find(&self.folder, path)?;
        let real = self.roots.files.real(&file);
        if let Some(module) = self.lock().modules.get(&real) {
            return Ok(module.clone());
        }
        let shown = self.roots.shown(&file);
        let source = self.read(&file).map_err(|why| format!("`{shown}` {why}"))?;
        self.open(&real)?;
        self.lock().sources.insert(shown.clone(), source.clone());
        let inner = Self { folder, imported: true, ..self.clone() };
        let ast = load::compile(engine, &shown, &source).map_err(carry)?;
        let module = load::evaluate(engine, &ast, inner).map_err(|error| match error.unwrap_inner() {
            // Its time is over: who loads says so.
            EvalAltResult::ErrorTerminated(..) => error,
            _ => carry(load::explain(*error, None, &shown, self)),
        })?;
        let module: Shared<rhai::Module> = module.into();
        let mut progress = self.lock();
        progress.open.pop();
        progress.modules.insert(real, module.clone());
        progress.imports.insert(file);
        Ok(module)
    }

    /// The text of `file`, noted as what was found there.
    fn read(&self, file: &Path) -> Result<Arc<str>, String> {
        let found = self.roots.files.text(file).cloned();
        let mut progress = self.lock();
        progress.reads.0.insert(file.to_owned(), found.clone());
        let source = found.unwrap_or_else(|| Err("is not there".to_owned()))?;
        // It is being saved: an importer made of it would miss every function of it, and only when it runs.
        if source.trim().is_empty() {
            return Err("is empty".to_owned());
        }
        let has = progress.sources.values().map(|text| text.len()).sum::<usize>();
        if has + source.len() > MAX_TEXT {
            return Err(format!("is too much: a script and its imports may have {} MiB together", MAX_TEXT >> 20));
        }
        Ok(source)
    }

    fn open(&self, file: &Path) -> Result<(), String> {
        let mut progress = self.lock();
        if let Some(begin) = progress.open.iter().position(|known| known == file) {
            let circle: Vec<String> = progress.open[begin..].iter().map(|path| self.roots.shown(path)).collect();
            return Err(format!("imports go in a circle: {} -> {}", circle.join(" -> "), circle[0]));
        }
        if progress.open.len() > MAX_DEPTH {
            return Err(format!("imports go deeper than {MAX_DEPTH} files"));
        }
        if progress.modules.len() + progress.open.len() > MAX_IMPORTS {
            return Err(format!("one script may import {MAX_IMPORTS} files, directly or not"));
        }
        progress.open.push(file.to_owned());
        Ok(())
    }
}

/// Takes a `Broken` through rhai's errors; [`load`] unpacks it.
fn carry(broken: Broken) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(Dynamic::from(broken), Position::NONE).into()
}

/// Resolves `import` while a file is loaded.
pub(super) struct Importer;

impl ModuleResolver for Importer {
    fn resolve(
        &self,
        _engine: &Engine,
        _source: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Shared<rhai::Module>, Box<EvalAltResult>> {
        Err(EvalAltResult::ErrorModuleNotFound(path.to_owned(), position).into())
    }

    fn resolve_raw(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        _scope: &mut Scope<'_>,
        path: &str,
        position: Position,
    ) -> Result<Shared<rhai::Module>, Box<EvalAltResult>> {
        let Some(load) = global.tag.clone().try_cast::<Load>() else {
            return self.resolve(engine, None, path, position);
        };
        load.import(engine, path).map_err(|mut error| {
            if error.position().is_none() {
                error.set_position(position);
            }
            error
        })
    }
}

/// Registers `task(name, options)`, which declares.
pub(super) fn register_task(engine: &mut Engine) {
    rhai::FuncRegistration::new("task")
        .with_params_info(["name: string", "options: map", "()"])
        .with_comments(["/// Declares options of a task of this file: `task(\"fetch\", #{ queue: \"io\" });`"])
        .with_volatility(true)
        .register_into_engine(engine, declare);
}

fn declare(context: NativeCallContext<'_>, name: &str, options: rhai::Map) -> Native<()> {
    let Some(load) = context.tag().and_then(|tag| tag.clone().try_cast::<Load>()) else {
        let why = "`task` declares options where a file is loaded: move the line out of the function";
        return Err(HostError::new("RuntimeError", why).into());
    };
    if !load.imported {
        let at = context.call_position();
        let line = u32::try_from(at.line().unwrap_or(1)).unwrap_or(u32::MAX);
        let column = u32::try_from(at.position().unwrap_or(1)).unwrap_or(u32::MAX);
        load.lock().declarations.push(Declaration { name: name.to_owned(), options, line, column });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::script::{Script, engine};

    struct Project {
        folder: tempfile::TempDir,
        roots: Roots,
    }

    /// A project with these files.
    fn project(files: &[(&str, &str)]) -> Project {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(folder.path().join("tasks")).unwrap();
        let plugin = folder.path().join("plugins/slack");
        let slack = PluginModule { file: plugin.join("slack.rhai"), folder: plugin };
        let roots = Roots {
            project: folder.path().to_owned(),
            scripts: folder.path().join("tasks"),
            modules: BTreeMap::from([("slack".to_owned(), slack)]),
            files: Arc::default(),
        };
        Project { folder, roots }
    }

    impl Project {
        fn load(&self, source: &str) -> Result<Script, Broken> {
            let folders = ["tasks", "plugins"].map(|name| self.folder.path().join(name));
            let files = Snapshot::take(self.folder.path(), &folders, &Snapshot::default());
            let roots = Roots { files: Arc::new(files), ..self.roots.clone() };
            Script::load(&engine(), &roots, "tasks/main.rhai", source)
        }

        fn refused(&self, path: &str) -> String {
            self.load(&format!("import \"{path}\" as it;")).unwrap_err().message
        }

        fn shown(&self, script: &Script) -> Vec<String> {
            script.imports.iter().map(|path| self.roots.shown(path)).collect()
        }
    }

    #[test]
    fn a_library_is_evaluated_once_and_recorded() {
        let project = project(&[
            (
                "tasks/_lib/prices.rhai",
                "import \"_lib/rate\" as rate; const BASE = 2; fn total(n) { n * rate::rate() * global::BASE }",
            ),
            ("tasks/_lib/rate.rhai", "task(\"rate\", #{}); fn rate() { 3 }"),
        ]);

        let script = project
            .load("import \"_lib/prices\" as prices; import \"_lib/rate\" as rate;\nconst T = prices::total(5); fn f() { prices::total(1) + rate::rate() }")
            .unwrap();

        assert_eq!(project.shown(&script), ["tasks/_lib/prices.rhai", "tasks/_lib/rate.rhai"]);
        assert!(script.declarations.is_empty(), "a library declares nothing for who imports it");
    }

    #[test]
    fn no_import_leaves_its_folder() {
        let project =
            project(&[("secret.rhai", "1"), ("tasks/.hidden.rhai", "1"), ("tasks/_lib/a.rhai", "fn a() { 1 }")]);
        let outside = tempfile::Builder::new().suffix(".rhai").tempfile().unwrap();
        std::os::unix::fs::symlink(outside.path(), project.folder.path().join("tasks/link.rhai")).unwrap();

        let absolute = project.folder.path().join("secret");
        for path in [
            "../secret",
            "_lib/../../secret",
            "./_lib/a",
            "",
            "/secret",
            "_lib//a",
            ".hidden",
            "a\\\\b",
            "c:a",
            absolute.to_str().unwrap(),
        ] {
            let message = project.refused(path);
            assert!(message.contains("is not importable: write a path inside `tasks/`"), "{path}: {message}");
        }
        assert!(project.refused("link").starts_with("`tasks/link.rhai` leads out of the project"));
        assert_eq!(project.refused("_lib/b"), "`tasks/_lib/b.rhai` is not there");
        assert!(project.load("import \"_lib/a\" as a;").is_ok());
    }

    #[test]
    fn a_circle_is_named() {
        let project = project(&[
            ("tasks/_lib/a.rhai", "import \"_lib/b\" as b;"),
            ("tasks/_lib/b.rhai", "import \"_lib/a\" as a;"),
            ("tasks/main.rhai", "import \"main\" as me;"),
        ]);

        let circle = "imports go in a circle: tasks/_lib/a.rhai -> tasks/_lib/b.rhai -> tasks/_lib/a.rhai";
        assert_eq!(project.refused("_lib/a"), circle);
        assert_eq!(project.refused("main"), "imports go in a circle: tasks/main.rhai -> tasks/main.rhai");
    }

    #[test]
    fn what_is_wrong_in_a_library_is_told_there() {
        let project = project(&[
            ("tasks/_lib/broken.rhai", "fn f() {\n  let x = ;\n}"),
            ("tasks/_lib/throws.rhai", "fn g() { 1 }\n\nthrow \"no\";"),
        ]);

        let broken = project.load("import \"_lib/broken\" as it;").unwrap_err();
        assert_eq!((broken.file.as_str(), broken.line), ("tasks/_lib/broken.rhai", Some(2)));
        assert_eq!(broken.excerpt.as_deref(), Some("let x = ;\n        ^"));

        let broken = project.load("\nimport \"_lib/throws\" as it;").unwrap_err();
        assert_eq!(
            (broken.file.as_str(), broken.line, broken.message.as_str()),
            ("tasks/_lib/throws.rhai", Some(3), "no")
        );
    }

    #[test]
    fn a_missing_import_is_told_where_it_is_asked_for() {
        let broken = project(&[]).load("\n  import \"_lib/x\" as x;").unwrap_err();

        assert_eq!((broken.file.as_str(), broken.line, broken.column), ("tasks/main.rhai", Some(2), Some(10)));
    }

    #[test]
    fn a_plugins_module_is_imported_by_name_and_imports_from_its_plugins_folder() {
        let project = project(&[
            ("plugins/slack/slack.rhai", "import \"words\" as words; fn post() { words::hello() }"),
            ("plugins/slack/words.rhai", "fn hello() { \"hi\" }"),
        ]);

        let script = project.load("import \"slack\" as slack; const HI = slack::post();").unwrap();

        assert_eq!(project.shown(&script), ["plugins/slack/slack.rhai", "plugins/slack/words.rhai"]);
        assert!(project.refused("words").contains("is not there"));
    }

    #[test]
    fn what_is_no_script_of_a_sensible_size_is_not_imported() {
        let project = project(&[
            ("tasks/large.rhai", &" ".repeat(5 << 20)),
            ("tasks/folder.rhai/x", ""),
            ("tasks/empty.rhai", "\n"),
        ]);
        fs::write(project.folder.path().join("tasks/bytes.rhai"), b"\xff").unwrap();

        assert_eq!(project.refused("large"), "`tasks/large.rhai` is larger than 4 MiB");
        assert_eq!(project.refused("folder"), "`tasks/folder.rhai` is not there");
        assert_eq!(project.refused("empty"), "`tasks/empty.rhai` is empty");
        assert_eq!(project.refused("bytes"), "`tasks/bytes.rhai` is not UTF-8 text");
    }

    #[test]
    fn imports_have_an_end() {
        let chain = |length: usize| -> Vec<(String, String)> {
            let link = |n| (format!("tasks/_{n}.rhai"), format!("import \"_{}\" as next; fn f() {{ 1 }}", n + 1));
            let last = (format!("tasks/_{length}.rhai"), "fn f() { 1 }".to_owned());
            (1..length).map(link).chain([last]).collect()
        };
        let of = |files: &[(String, String)]| {
            project(&files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>())
        };
        assert!(of(&chain(MAX_DEPTH)).load("import \"_1\" as it;").is_ok());
        let broken = of(&chain(MAX_DEPTH + 1)).load("import \"_1\" as it;").unwrap_err();
        assert_eq!(broken.message, "imports go deeper than 32 files");

        let many: Vec<_> = (0..=MAX_IMPORTS).map(|n| (format!("tasks/_{n}.rhai"), "1".to_owned())).collect();
        let imports = |count| (0..count).map(|n| format!("import \"_{n}\" as it{n};\n")).collect::<String>();
        assert!(of(&many).load(&imports(MAX_IMPORTS)).is_ok());
        let broken = of(&many).load(&imports(MAX_IMPORTS + 1)).unwrap_err();
        assert_eq!((broken.line, broken.message.contains("may import 256 files")), (Some(257), true), "{broken}");

        let large: Vec<_> = (0..6).map(|n| (format!("tasks/_{n}.rhai"), "//".repeat(3 << 19))).collect();
        assert!(of(&large).load(&imports(6)).unwrap_err().message.contains("may have 16 MiB together"));
    }

    #[test]
    fn the_hash_covers_what_is_imported_and_nothing_of_the_machine() {
        let files = [("tasks/_lib/a.rhai", "fn a() { 1 }"), ("tasks/_lib/b.rhai", "fn b() { 1 }")];
        let source = "import \"_lib/b\" as b;import \"_lib/a\" as a;";
        let (here, there) = (project(&files), project(&files));

        let before = here.load(source).unwrap().hash;
        assert_eq!(before, there.load(source).unwrap().hash);
        // It is kept with runs, and other processes and later versions look it up.
        assert_eq!(before, "b0c3cba2e9010ea577fa9b0a4e905e34");
        fs::write(here.folder.path().join("tasks/_lib/a.rhai"), "fn a() { 2 }").unwrap();

        assert_ne!(before, here.load(source).unwrap().hash);
    }
}
