//! A project folder, read again and again as it is edited.

mod plugins;
mod tasks;
mod testing;

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
