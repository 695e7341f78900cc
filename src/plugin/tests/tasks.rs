//! What tasks the scripts of a folder give.

use super::*;

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
fn a_missing_task_is_found_in_its_broken_file() {
    let catalog =
        loaded(&[("tasks/shop/orders.rhai", "fn total() { let x = ; }"), ("tasks/math.rhai", "fn total() { 1 }")]);

    let file = |name: &str| catalog.broken_file_of(name).map(|broken| (broken.file.as_str(), broken.line));

    assert_eq!(file("shop.orders.total"), Some(("tasks/shop/orders.rhai", Some(1))));
    assert_eq!((file("math.sum"), file("orders.total"), file("total")), (None, None, None));
}
