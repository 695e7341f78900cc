//! Projects whose scripts import each other.

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
fn a_library_keeps_plain_values_only_and_hides_nothing_of_its_importer() {
    let project = project(&[
        ("tasks/_lib/plain.rhai", "const A = 1; fn f() { const B = 2; B + global::A }"),
        ("tasks/_lib/state.rhai", "let n = 0;\nconst NEXT = || { n += 1; n };\nfn next() { global::NEXT.call() }"),
    ]);

    let library = project.load("import \"_lib/state\" as state; fn f() { state::next() }").unwrap_err();
    let importer = project.load(
        "import \"_lib/plain\" as plain; let n = 0; const NEXT = || { n += 1; n }; plain::f(); fn f() { global::NEXT }",
    );

    assert_eq!((library.file.as_str(), library.line), ("tasks/_lib/state.rhai", Some(2)), "{library}");
    assert!(importer.unwrap_err().message.starts_with("`NEXT` holds a function that has captured a variable"));
}

#[test]
fn no_import_leaves_its_folder() {
    let project = project(&[("secret.rhai", "1"), ("tasks/.hidden.rhai", "1"), ("tasks/_lib/a.rhai", "fn a() { 1 }")]);
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
fn what_failed_once_is_no_circle_when_it_is_imported_again() {
    let project = project(&[("tasks/_lib/a.rhai", "throw \"kaboom\";")]);

    let refused = project.load("try { import \"_lib/a\" as a; } catch { }\nimport \"_lib/a\" as a;").unwrap_err();

    assert!(format!("{refused:?}").contains("kaboom"), "{refused:?}");
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
    assert_eq!((broken.file.as_str(), broken.line, broken.message.as_str()), ("tasks/_lib/throws.rhai", Some(3), "no"));
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
    let project =
        project(&[("tasks/large.rhai", &" ".repeat(5 << 20)), ("tasks/folder.rhai/x", ""), ("tasks/empty.rhai", "\n")]);
    fs::write(project.folder.path().join("tasks/bytes.rhai"), b"\xff").unwrap();

    assert_eq!(project.refused("large"), "`tasks/large.rhai` is larger than 1 MiB");
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

    let large: Vec<_> = (0..4).map(|n| (format!("tasks/_{n}.rhai"), "//".repeat(1 << 19))).collect();
    assert!(of(&large).load(&imports(4)).unwrap_err().message.contains("may have 4 MiB together"));
}

#[test]
fn the_hash_covers_what_is_imported_and_nothing_of_the_machine() {
    let files = [("tasks/_lib/a.rhai", "fn a() { 1 }"), ("tasks/_lib/b.rhai", "fn b() { 1 }")];
    let source = "import \"_lib/b\" as b;import \"_lib/a\" as a;";
    let (here, there) = (project(&files), project(&files));

    let before = here.load(source).unwrap().hash;
    assert_eq!(before, there.load(source).unwrap().hash);
    // It is kept with runs, and other processes and later versions look it up.
    assert_eq!(&*before, "b0c3cba2e9010ea577fa9b0a4e905e34");
    fs::write(here.folder.path().join("tasks/_lib/a.rhai"), "fn a() { 2 }").unwrap();

    assert_ne!(before, here.load(source).unwrap().hash);
}
