//! A project folder, read again and again as it is edited.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::difference::{difference, mended};
use super::*;
use crate::script::Broken;
use crate::task::Priority;

/// A project folder with a loader.
struct Project {
    folder: TempDir,
    loader: Loader,
}

const ECHO: &str = "name = \"echo\"\nversion = \"1.0.0\"\napi = 1\n";

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut project = Self { loader: Loader::new(folder.path().to_owned()), folder };
        project.loader.linger = Duration::ZERO;
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
    let queues: Vec<&str> = catalog.tasks.values().map(|task| task.options.queue.as_str()).collect();
    assert_eq!(queues, ["mail", "io", "celery"]);
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
    assert_eq!(difference(&before, &after), ["tasks/uses.rhai: changed through tasks/_lib/y.rhai"]);
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
        (&format!("{ECHO}tasks = \"jobs\""), "plugins/echo/plugin.toml:4:9: there is no folder `plugins/echo/jobs`"),
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

    project.save(&[("plugins/echo/tasks/say.rhai", "fn f( { 2 }"), ("plugins/echo/tasks/more.rhai", "fn g() { 1 }")]);
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

    assert_eq!(difference(&one, &two), ["tasks/a.rhai: changed through plugins/echo/one.rhai plugins/echo/two.rhai"]);
    assert_eq!(difference(&two, &broken), [""; 0]);
    assert_eq!((broken.broken.len(), broken.plugins[0].name.as_str()), (1, "echo"));
}

#[test]
fn the_tasks_of_a_plugin_begin_with_its_name() {
    let catalog = loaded(&[
        ("plugins/echo/plugin.toml", &format!("{ECHO}tasks = \"tasks\"")),
        ("plugins/echo/tasks/a.rhai", "task(\"math.add\", #{ run: \"f\" });\nfn f() { 1 }"),
    ]);

    let wrong = "plugins/echo/tasks/a.rhai:1:1: the tasks of plugin `echo` begin with `echo.`, and `math.add` does not";
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

#[test]
fn a_change_is_told_by_what_has_changed() {
    let source = |options: &str, one: &str, helper: &str| {
        format!(
            "task(\"one\", #{{ {options} }});\nfn one() {{\n    {one}\n}}\nfn two() {{ help() }}\nprivate fn help() {{ {helper} }}\n"
        )
    };
    let mut project = Project::new(&[("tasks/a.rhai", &source("", "1", "1"))]);
    let mut before = project.load();
    for (source, told) in [
        (source("", "2", "1"), "tasks/a.rhai: changed a.one"),
        (source("queue: \"io\"", "2", "1"), "tasks/a.rhai: changed a.one"),
        (source("queue: \"io\"", "2", "2"), "tasks/a.rhai: changed outside of its tasks"),
        (format!("// Moved.\n{}", source("queue: \"io\"", "2", "2")), "tasks/a.rhai: changed outside of its tasks"),
        (source("queue: \"io\"", "2", "2").replace("two", "three"), "tasks/a.rhai: added a.three, removed a.two"),
    ] {
        project.save(&[("tasks/a.rhai", &source)]);
        let after = project.load();

        assert_eq!(difference(&before, &after), [told]);
        before = after;
    }
}

#[test]
fn the_limits_of_a_manifest_are_those_of_its_tasks_and_change_with_it() {
    let manifest = |limits: &str| format!("{ECHO}tasks = \"tasks\"\n[limits]\n{limits}");
    let mut project = Project::new(&[
        ("plugins/echo/plugin.toml", &manifest("time_limit = \"20s\"")),
        ("plugins/echo/tasks/a.rhai", "fn f() { 1 }"),
    ]);
    let time_limit = |catalog: &Catalog| catalog.tasks["echo.a.f"].options.caps.time_limit;

    let before = project.load();
    assert_eq!(time_limit(&before), Some(Duration::from_secs(20)));
    project.save(&[("plugins/echo/plugin.toml", &manifest("time_limit = \"5s\""))]);
    let after = project.load();

    assert_eq!(time_limit(&after), Some(Duration::from_secs(5)));
    assert_eq!(difference(&before, &after), ["plugins/echo/tasks/a.rhai: changed echo.a.f"]);
    project.save(&[("plugins/echo/plugin.toml", &manifest("time = 5"))]);
    let wrong = wrongs(&project.load());
    assert!(wrong[0].starts_with("plugins/echo/plugin.toml:6:1: unknown field `time`"), "{wrong:?}");
}

#[test]
fn many_changes_are_counted() {
    let mut project = Project::new(&[]);
    let before = project.load();
    for number in 0..60 {
        project.save(&[(&format!("tasks/a{number}.rhai"), "fn f() { 1 }")]);
    }

    let told = difference(&before, &project.load());

    assert_eq!((told.len(), told.last().unwrap().as_str()), (51, "and 10 files more have changed"));
}

#[test]
fn what_has_failed_is_not_evaluated_again_until_something_of_it_changes() {
    let mut project = Project::new(&[
        ("tasks/a.rhai", "import \"_lib/x\" as x;\nlet n = 0;\nwhile x::go_on() { n += 1; }\nfn f() { 1 }"),
        ("tasks/_lib/x.rhai", "fn go_on() { true }"),
    ]);
    let wrong = wrongs(&project.load());
    assert!(wrong[0].contains("took longer than 1s"), "{wrong:?}");

    project.save(&[("tasks/b.rhai", "fn f() { 1 }")]);
    let began = std::time::Instant::now();
    let again = project.load();
    assert_eq!((wrongs(&again), names(&again)), (wrong, vec!["b.f"]));
    assert!(began.elapsed() < Duration::from_secs(1), "it was evaluated again");
    project.save(&[("tasks/_lib/x.rhai", "fn go_on() { false }")]);

    assert_eq!(names(&project.load()), ["a.f", "b.f"]);
}

#[test]
fn an_import_that_was_missing_is_found_when_it_comes() {
    let mut project = Project::new(&[("tasks/a.rhai", "import \"_lib/x\" as x;\nfn f() { x::f() }")]);
    assert_eq!(wrongs(&project.load()), ["tasks/a.rhai:1:8: `tasks/_lib/x.rhai` is not there"]);

    project.save(&[("tasks/_lib/x.rhai", "fn f() { 1 }")]);

    assert_eq!(names(&project.load()), ["a.f"]);
}

#[test]
fn a_task_that_is_gone_stays_for_a_while_with_its_script() {
    let mut project = Project::new(&[("tasks/a.rhai", "fn f() { 1 }\nfn g() { 1 }"), ("tasks/b.rhai", "fn f() { 1 }")]);
    let before = project.load();
    project.loader.linger = Duration::from_secs(3600);

    fs::remove_dir_all(project.folder.path().join("tasks")).unwrap();
    let empty = project.load();
    assert_eq!(names(&empty), ["a.f", "a.g", "b.f"]);
    assert_eq!((before.nearest("a.ff"), empty.nearest("a.ff")), (Some("a.f"), None));
    assert!(Arc::ptr_eq(&empty.tasks["a.f"], &before.tasks["a.f"]));
    project.save(&[("tasks/a.rhai", "fn f() { 2 }")]);
    let back = project.load();
    assert_eq!(names(&back), ["a.f", "a.g", "b.f"]);
    assert!(!Arc::ptr_eq(&back.tasks["a.f"], &before.tasks["a.f"]));

    project.loader.linger = Duration::ZERO;
    assert_eq!(names(&project.load()), ["a.f"]);
}

#[test]
fn of_the_files_that_were_broken_those_are_mended_that_are_there() {
    let bad = "fn f() { let x = ; }";
    let mut project = Project::new(&[("tasks/a.rhai", bad), ("tasks/b.rhai", bad), ("tasks/c.rhai", bad)]);
    let before = project.load();
    project.save(&[("tasks/a.rhai", "fn f() { 1 }")]);
    project.remove("tasks/b.rhai");

    let after = project.load();

    let folder = project.folder.path().to_owned();
    let mended: Vec<&str> = mended(&before, &after, |file| folder.join(file).exists()).collect();
    assert_eq!(mended, ["tasks/a.rhai"]);
}

#[test]
fn a_missing_task_is_found_in_its_broken_file() {
    let catalog =
        loaded(&[("tasks/shop/orders.rhai", "fn total() { let x = ; }"), ("tasks/math.rhai", "fn total() { 1 }")]);

    let file = |name: &str| catalog.broken_file_of(name).map(|broken| (broken.file.as_str(), broken.line));

    assert_eq!(file("shop.orders.total"), Some(("tasks/shop/orders.rhai", Some(1))));
    assert_eq!((file("math.sum"), file("orders.total"), file("total")), (None, None, None));
}

#[tokio::test]
async fn what_is_gone_goes_without_another_change() {
    let Project { folder, mut loader } = Project::new(&[("tasks/a.rhai", "fn f() { 1 }")]);
    loader.load();
    loader.linger = Duration::from_millis(100);
    let catalogs = loader.catalogs();
    let (mut changes, stop) = (catalogs.changes(), CancellationToken::new());
    let keeping = tokio::spawn(loader.keep_fresh(stop.clone()));

    fs::remove_file(folder.path().join("tasks/a.rhai")).unwrap();

    until(&mut changes, &catalogs, |catalog| catalog.tasks.is_empty()).await;
    stop.cancel();
    keeping.await.unwrap();
}

#[test]
fn of_two_plugins_with_one_path_the_first_that_works_has_it() {
    let manifest =
        |name: &str| format!("{}[[consumers]]\npath = \"/ws/x/\"\nscript = \"x.rhai\"\n", ECHO.replace("echo", name));
    let mut project = Project::new(&[
        ("plugins/a/plugin.toml", &manifest("a")),
        ("plugins/a/x.rhai", "fn connect( { 1 }"),
        ("plugins/b/plugin.toml", &manifest("b")),
        ("plugins/b/x.rhai", "fn connect(scope) { 1 }"),
    ]);
    let owner = |catalog: &Catalog| catalog.consumer("/ws/x/").unwrap().0.plugin.clone();

    let catalog = project.load();
    assert_eq!(owner(&catalog), "b");
    assert!(wrongs(&catalog)[0].starts_with("plugins/a/x.rhai:1:"), "{:?}", wrongs(&catalog));
    project.save(&[("plugins/a/x.rhai", "fn connect(scope) { 1 }")]);
    let catalog = project.load();

    assert_eq!((owner(&catalog), catalog.consumers.len()), ("a".to_owned(), 1));
    assert_eq!(wrongs(&catalog), ["plugins/b/plugin.toml:5:8: the path `/ws/x/` is that of `plugins/a` already"]);
}
