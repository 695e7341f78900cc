//! From a file's text to a script that can be called, or to what is wrong with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rhai::{AST, ASTNode, Dynamic, Engine, EvalAltResult, FnAccess, Module, Position, Scope, Stmt};
use sha2::{Digest, Sha256};

use super::import::{Load, Loaded, Reads, Roots};
use super::limit::{self, Ending};
use super::memory::{Left, stack_for};
use super::parse::parse;
use super::{Broken, Function, Limits, Script, Stop, failure, kept};

/// The longest that compiling a file may take; its imports are compiled while its module level runs.
const COMPILE_LIMIT: Duration = Duration::from_secs(2);

/// The longest that the module levels of a file and of its imports may take together.
const LOAD_LIMIT: Duration = Duration::from_secs(1);

impl Script {
    /// Compiles `source`, the text of `file` (its path from the project's folder, with `/`), and evaluates its
    /// module level and those of its imports. Blocks for as long as that takes, little more than a second at most.
    ///
    /// # Errors
    /// What is wrong first: in `file` or in a file that it imports.
    pub fn load(engine: &Engine, roots: &Roots, file: &str, source: &str) -> Result<Self, Broken> {
        Self::load_noting(engine, roots, file, source).0
    }

    /// The same, and what it came of: while nothing of that has changed, the same would come of it again.
    pub fn load_noting(engine: &Engine, roots: &Roots, file: &str, source: &str) -> (Result<Self, Broken>, Reads) {
        let broken = |message: String| Err(Broken::whole(file, message));
        let load = Load::new(roots, file, source);
        // A thread of its own, because who loads may stand on a small stack.
        let script = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("load".to_owned())
                .stack_size(stack_for(Limits::default().memory.as_u64()));
            match thread.spawn_scoped(scope, || read(engine, &load, file, source)) {
                Ok(thread) => {
                    thread.join().unwrap_or_else(|_| broken("native code panicked while it was loaded".to_owned()))
                }
                Err(error) => broken(format!("no thread to load it on: {error}")),
            }
        });
        (script, load.reads())
    }
}

fn read(engine: &Engine, load: &Load, file: &str, source: &str) -> Result<Script, Broken> {
    let bounded = |time_limit| limit::enter(&Limits { time_limit, ..Limits::default() }, Stop::new(), None);
    let entered = bounded(COMPILE_LIMIT);
    let ast = compile(engine, file, source)?;
    drop(entered);
    let entered = bounded(LOAD_LIMIT);
    let module = evaluate(engine, &ast, load.clone());
    let ending = entered.ending();
    drop(entered);
    let module = match (module, ending) {
        (Ok(module), None) => module,
        (Ok(_), Some(ending)) => return Err(explain(terminated(), Some(&ending), file, load)),
        (Err(error), ending) => return Err(explain(*error, ending.as_ref(), file, load)),
    };
    let Loaded { declarations, imports, sources } = load.finish();
    Ok(Script {
        file: file.to_owned(),
        hash: hash(file, &sources).into(),
        doc: lines_after(ast.doc(), "//!"),
        functions: functions(&ast),
        declarations,
        imports,
        module: Arc::new(module),
        shown: file.into(),
        entries: entries(&ast),
        sources,
        left: Left::default(),
    })
}

/// Compiles one file, and refuses what would fail or mislead later.
pub(super) fn compile(engine: &Engine, file: &str, source: &str) -> Result<AST, Broken> {
    let broken = |position: Position, message: String| broken(file, source, position, message);
    let mut ast = parse(engine, source).map_err(|(position, message)| broken(position, message))?;
    ast.set_source(file);
    let top: Vec<Position> =
        ast.statements().iter().filter(|line| matches!(line, Stmt::Import(..))).map(Stmt::position).collect();
    let mut wrong = None;
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        let Some(ASTNode::Stmt(Stmt::Import(import, position))) = path.last() else { return true };
        let alias = import.1.name.as_str();
        if path.len() > 1 || !top.contains(position) {
            let message = "`import` belongs at the top of a file: in a function or a block it would be resolved anew";
            wrong = Some(broken(*position, message.to_owned()));
        } else if alias == "global" || is_built_in(engine, alias) {
            let message = format!("`{alias}` would hide the built-in module of that name: choose another alias");
            wrong = Some(broken(*position, message));
        }
        wrong.is_none()
    });
    wrong.map_or(Ok(ast), Err)
}

/// Whether scripts have a module `name` without importing it; rhai keeps the list to itself, but its compiler asks.
fn is_built_in(engine: &Engine, name: &str) -> bool {
    !name.is_empty() && engine.compile(format!("{name}::x")).is_ok()
}

/// Evaluates a module level into what its functions are called through, which holds nothing but plain values.
pub(super) fn evaluate(engine: &Engine, ast: &AST, load: Load) -> Result<Module, Box<EvalAltResult>> {
    let mut global = engine.new_global_runtime_state();
    global.tag = Dynamic::from(load.clone());
    let module = Module::eval_ast_as_new_raw(engine, &mut Scope::new(), &mut global, ast)?;
    kept::check(ast, &module, load.constants())?;
    Ok(module)
}

fn terminated() -> EvalAltResult {
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE)
}

pub(super) fn explain(error: EvalAltResult, ending: Option<&Ending>, file: &str, load: &Load) -> Broken {
    let (frames, root) = failure::unwrap(error);
    if let EvalAltResult::ErrorRuntime(value, _) = &root
        && let Some(broken) = value.clone().try_cast::<Broken>()
    {
        return broken;
    }
    let place = frames.last().map_or(file, |frame| frame.file.as_str());
    let message = match ending {
        Some(Ending::OutOfMemory) => {
            let limit = Limits::default().memory;
            format!("the lines outside of functions took more than {limit} of memory: they run when the file is loaded")
        }
        Some(_) => {
            let limit = crate::task::show_duration(LOAD_LIMIT);
            format!("the lines outside of functions took longer than {limit}: they run when the file is loaded")
        }
        None => failure::message(&root),
    };
    broken(place, &load.source(place).unwrap_or_default(), root.position(), message)
}

fn broken(file: &str, source: &str, position: Position, message: String) -> Broken {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    match position.line() {
        Some(line) => Broken::at(file, source, number(line), position.position().map(number), message),
        None => Broken::whole(file, message),
    }
}

fn functions(ast: &AST) -> Vec<Function> {
    let line = |position: Position| u32::try_from(position.line().unwrap_or(1)).unwrap_or(u32::MAX);
    let mut functions: Vec<Function> = named(ast)
        .map(|function| Function {
            name: function.name.to_string(),
            params: function.params.iter().map(ToString::to_string).collect(),
            doc: function.comments.iter().map(|comment| lines_after(comment, "///")).collect::<Vec<_>>().join("\n"),
            private: function.access == FnAccess::Private,
            line: line(function.body.start_position()),
            last_line: line(function.body.end_position()),
        })
        .collect();
    functions.sort_by_key(|function| (function.line, function.params.len()));
    functions
}

/// What can be called from outside: for each name, its numbers of parameters and where their code begins.
fn entries(ast: &AST) -> HashMap<String, BTreeMap<usize, Position>> {
    let mut entries: HashMap<String, BTreeMap<usize, Position>> = HashMap::new();
    for function in named(ast).filter(|function| function.access == FnAccess::Public) {
        let overloads = entries.entry(function.name.to_string()).or_default();
        overloads.insert(function.params.len(), function.body.start_position());
    }
    entries
}

/// Its functions without closures and without methods of types, which have no name of their own to be called by.
fn named(ast: &AST) -> impl Iterator<Item = &rhai::ScriptFuncDef> {
    ast.iter_fn_def()
        .map(|function| &**function)
        .filter(|function| !function.name.starts_with("anon$") && function.this_type.is_none())
}

/// The text of a doc comment whose lines begin with `mark`, or of a block comment.
fn lines_after(comment: &str, mark: &str) -> String {
    let block = comment.strip_prefix("/**").and_then(|text| text.strip_suffix("*/"));
    let lines = block.unwrap_or(comment).lines().map(|line| {
        let line = if block.is_some() { line.trim_start() } else { line };
        let line = line.strip_prefix(mark).unwrap_or(line);
        line.strip_prefix(' ').unwrap_or(line).trim_end()
    });
    lines.collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned()
}

/// The first 128 bits of SHA-256 over the script's path and text, then those of each import. The same on every machine:
/// paths begin at the project's folder, and texts are as they lie there, whatever their lines end with.
fn hash(file: &str, sources: &HashMap<String, Arc<str>>) -> String {
    let mut hasher = Sha256::new();
    let own = sources.get_key_value(file);
    let imports: BTreeMap<_, _> = sources.iter().filter(|(name, _)| *name != file).collect();
    for (name, source) in own.into_iter().chain(imports) {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((source.len() as u64).to_le_bytes());
        hasher.update(source.as_bytes());
    }
    hasher.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::engine;

    fn load(source: &str) -> Result<Script, Broken> {
        Script::load(&engine(), &Roots::default(), "tasks/math.rhai", source)
    }

    #[test]
    fn functions_come_with_what_the_catalog_shows() {
        let script = load(
            r#"//! Arithmetic,
//! as in Celery.

/// Adds two
/// numbers.
fn add(x, y) { let f = |z| x + z; f.call(y) }
/** Says
 *  hello. */
fn 인사() { }
private fn helper() { }
fn add(x) {
    x
}
fn int.twice() { this * 2 }
"#,
        )
        .unwrap();

        let shown: Vec<_> = script
            .functions
            .iter()
            .map(|it| (it.name.as_str(), it.params.join(","), (it.line, it.last_line), it.private, it.doc.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("add", "x,y".to_owned(), (6, 6), false, "Adds two\nnumbers."),
                ("인사", String::new(), (9, 9), false, "Says\n*  hello."),
                ("helper", String::new(), (10, 10), true, ""),
                ("add", "x".to_owned(), (11, 13), false, ""),
            ]
        );
        assert_eq!(script.doc, "Arithmetic,\nas in Celery.");
    }

    #[test]
    fn declarations_are_kept_with_their_places() {
        let script =
            load("\ntask(\"add\", #{ queue: \"io\" });\n  task(\"mail.new\", #{ run: \"add\" });\nfn add() { }")
                .unwrap();

        let places: Vec<_> = script.declarations.iter().map(|it| (it.name.as_str(), it.line, it.column)).collect();
        assert_eq!(places, [("add", 2, 1), ("mail.new", 3, 3)]);
        assert_eq!(script.options(&script.declarations[1]).unwrap().1.as_deref(), Some("add"));
    }

    #[test]
    fn a_wrong_option_is_shown_in_its_line() {
        let script = load("fn add() { }\ntask(\"add\", #{ que: 1 });").unwrap();

        let broken = script.options(&script.declarations[0]).unwrap_err();

        assert_eq!((broken.line, broken.excerpt.as_deref()), (Some(2), Some("task(\"add\", #{ que: 1 });\n^")));
    }

    #[test]
    fn what_does_not_compile_is_told_with_its_place() {
        for (source, place, message) in [
            ("fn f() {\n    let x = ;\n}", Some((2, 13)), "unexpected ';'"),
            ("fn f(default) { }", Some((1, 6)), "`default` is a word of the language: choose another name"),
            ("fn f() { eval(\"1\") }", Some((1, 10)), "reserved keyword 'eval' is disabled"),
            ("fn f() { missing }", Some((1, 10)), "there is no variable `missing` here"),
            ("let a = 1; fn f() { a }", Some((1, 21)), "there is no variable `a` here"),
            ("fn f() { nowhere::x() }", Some((1, 10)), "there is no module `nowhere`"),
            ("fn f() { import \"x\" as x; }", Some((1, 10)), "`import` belongs at the top of a file"),
            ("fn f() { let g = || { import \"x\" as x; 1 }; }", Some((1, 23)), "`import` belongs at the top of a file"),
            (
                "let a = 1; if a > 0 { import \"x\" as x; a = 2; }",
                Some((1, 23)),
                "`import` belongs at the top of a file",
            ),
            ("import \"x\" as global;", Some((1, 1)), "`global` would hide the built-in module"),
            ("fn f() { }\nthrow \"no\";", Some((2, 1)), "no"),
            ("fn f(x) { x.y }\n\nf(1);", Some((1, 13)), "Unknown property"),
            ("let m = #{}; m.missing;", Some((1, 16)), "Property not found: missing"),
            ("fn f() {", Some((1, 9)), "expecting '}'"),
        ] {
            let broken = load(source).unwrap_err();
            assert!(broken.message.starts_with(message), "{source}: {broken:?}");
            assert_eq!(
                (broken.line.zip(broken.column), broken.file.as_str()),
                (place, "tasks/math.rhai"),
                "{source}: {broken:?}"
            );
            assert!(broken.excerpt.is_some(), "{source}");
        }
    }

    #[test]
    fn words_of_the_language_name_no_function_and_no_parameter() {
        let reserved = "use case async public package super var protected spawn shared is sync curry static default \
                        print this thread yield new call match await null debug type_of with void nil module go goto";
        for word in reserved.split_whitespace() {
            for source in [format!("fn {word}() {{ }}"), format!("fn f({word}) {{ }}")] {
                let broken = load(&source).unwrap_err();
                assert_eq!(broken.message, format!("`{word}` is a word of the language: choose another name"));
                assert_eq!(broken.line, Some(1));
            }
        }
        for word in ["fn", "as", "private", "import", "export", "eval"] {
            for source in [format!("fn {word}() {{ }}"), format!("fn f({word}) {{ }}")] {
                assert!(load(&source).is_err_and(|broken| broken.line == Some(1)), "{source}");
            }
        }
    }

    #[test]
    fn a_module_level_without_end_is_broken_and_not_for_ever() {
        for source in
            ["loop { }", "fn f() { try { loop { } } catch { } }\nf();", "try { [1].map(|_x| { loop { } }); } catch { }"]
        {
            let broken = load(source).unwrap_err();
            assert!(broken.message.contains("took longer than 1s"), "{source}: {broken}");
        }
    }

    #[test]
    fn what_would_take_for_ever_to_compile_is_broken() {
        let many = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<String>();
        for (source, message) in [
            (format!("fn f({}) {{ 1 }}", many(100_000, &|n| format!("a{n},"))), "to compile this file takes too much"),
            (format!("fn f(x) {{ switch x {{ {} }} }}", many(9_000, &|n| format!("{n}=>1,"))), "at most 5000 arms"),
        ] {
            let broken = load(&source).unwrap_err();

            assert!(broken.message.contains(message), "{broken}");
            assert_eq!(broken.line, Some(1));
            assert!(load("fn f() { 1 }").is_ok(), "the next file is another one");
        }
    }

    #[test]
    fn the_limits_are_the_same_in_every_build() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(load(&format!("fn f() {{ {} }}", nested(9))).is_ok());
        assert!(load(&format!("fn f() {{ {} }}", nested(12))).unwrap_err().message.contains("nested too deeply"));
        assert!(load(&format!("{};", nested(20))).is_ok());

        assert!(load("fn f(n) { if n > 0 { f(n - 1) } }\nf(120);").is_ok());
        assert!(load("fn f(n) { if n > 0 { f(n - 1) } }\nf(140);").unwrap_err().message.contains("127 levels deep"));
    }

    #[test]
    fn the_hash_is_that_of_the_text() {
        let (one, same, other) = (load("fn f() { 1 }"), load("fn f() { 1 }"), load("fn f() { 2 }"));

        let hashes = [one, same, other].map(|script| script.unwrap().hash);
        assert_eq!((hashes[0].len(), hashes[0] == hashes[1], hashes[0] == hashes[2]), (32, true, false));
    }

    #[test]
    fn a_panic_while_loading_is_a_broken_file() {
        let mut engine = engine();
        engine.register_fn("explode", || -> i64 { panic!("boom") });

        let broken = Script::load(&engine, &Roots::default(), "a.rhai", "explode();").unwrap_err();

        assert_eq!(broken.message, "native code panicked while it was loaded");
    }
}
