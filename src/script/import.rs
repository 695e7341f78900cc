//! What a module level may do: import other scripts, and declare options of tasks.
//!
//! Both happen while a file is loaded and never later: `import` in a function would see a newer file than its task,
//! or none. A [`Load`] travels as the tag of rhai's global state from file to file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhai::{Dynamic, Engine, EvalAltResult, GlobalRuntimeState, ModuleResolver, NativeCallContext, Position};
use rhai::{Scope, Shared};

use super::kept::Constants;
use super::{Broken, Declaration, HostError, Native, load};
use crate::task::check_name;
use crate::watch::Snapshot;

/// How many files deep imports may go: what a file imports may import others, and so on.
const MAX_DEPTH: usize = 32;

/// How many files one script may import, directly or not.
const MAX_IMPORTS: usize = 256;

/// How much text a script and its imports may have together, in bytes.
const MAX_TEXT: usize = 4 << 20;

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
    /// The constants of the file that is evaluated now, once it has some.
    constants: Arc<Mutex<Option<Constants>>>,
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
            constants: Arc::default(),
        }
    }

    pub(super) fn note(&self, constants: Constants) {
        *self.constants.lock().unwrap_or_else(PoisonError::into_inner) = Some(constants);
    }

    pub(super) fn constants(&self) -> Option<Constants> {
        self.constants.lock().unwrap_or_else(PoisonError::into_inner).take()
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
        let made = self.make(engine, &shown, &source, folder);
        let mut progress = self.lock();
        progress.open.pop();
        let module: Shared<rhai::Module> = made?.into();
        progress.modules.insert(real, module.clone());
        progress.imports.insert(file);
        Ok(module)
    }

    fn make(
        &self,
        engine: &Engine,
        shown: &str,
        source: &str,
        folder: Arc<Path>,
    ) -> Result<rhai::Module, Box<EvalAltResult>> {
        let inner = Self { folder, imported: true, constants: Arc::default(), ..self.clone() };
        let ast = load::compile(engine, shown, source).map_err(carry)?;
        load::evaluate(engine, &ast, inner).map_err(|error| match error.unwrap_inner() {
            // Its time is over: who loads says so.
            EvalAltResult::ErrorTerminated(..) => error,
            _ => carry(load::explain(*error, None, shown, self)),
        })
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
    check_name(name).map_err(|bad| HostError::new("ValueError", format!("the name of a task {bad}")))?;
    if !load.imported {
        let declaration = Declaration::new(name, options, context.call_position());
        load.lock().declarations.push(declaration);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
