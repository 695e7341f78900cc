//! Which tests the files of a folder give.

use super::*;

/// Its tasks and its tests.
fn tests(files: &[(&str, &str)]) -> (Arc<Catalog>, Catalog) {
    let mut project = Project::new(files);
    project.loader = Loader::for_tests(project.folder.path().to_owned());
    let tasks = project.load();
    (tasks, project.loader.tests())
}

#[test]
fn public_functions_without_parameters_are_tests() {
    let (tasks, tests) = tests(&[
        ("tasks/math.rhai", "fn add(x, y) { x + y }"),
        (
            "tasks/math_test.rhai",
            "import \"math\" as math;\nassert(true);\nfn adds() { assert_eq(math::add(1, 2), 3) }\nfn adds(x) { x }\nfn helper(x) { x }\nprivate fn own() { 1 }\nfn zero() { own() }",
        ),
        ("tasks/_lib/prices_test.rhai", "import \"_lib/helpers_test\" as helpers;\nfn holds() { helpers::ok(1) }"),
        ("tasks/_lib/helpers_test.rhai", "fn ok(x) { assert(x == 1) }"),
        ("plugins/echo/plugin.toml", &format!("{ECHO}tasks = \"jobs\"")),
        ("plugins/echo/jobs/say.rhai", "fn hi() { 1 }"),
        ("plugins/echo/jobs/say_test.rhai", "import \"jobs/say\" as say;\nfn says() { say::hi() }"),
        ("plugins/echo/other_test.rhai", "fn not_in_its_folder_of_tasks() { }"),
    ]);

    assert_eq!(names(&tasks), ["echo.say.hi", "math.add"]);
    assert_eq!(names(&tests), ["_lib.prices_test.holds", "echo.say_test.says", "math_test.adds", "math_test.zero"]);
    assert_eq!((wrongs(&tasks), wrongs(&tests)), (vec![], vec![]));
    assert_eq!(tests.tasks["echo.say_test.says"].plugin.as_deref(), Some("echo"));
    assert_eq!(
        (tests.tasks["math_test.zero"].line, &*tests.tasks["math_test.zero"].script.file),
        (7, "tasks/math_test.rhai")
    );
}

#[test]
fn a_file_of_tests_that_is_wrong_is_said_where_tests_are_asked_for() {
    let (tasks, tests) = tests(&[
        ("tasks/bad.rhai", "fn f() { x }"),
        ("tasks/bad_test.rhai", "import \"bad\" as bad;\nfn f() { bad::f() }"),
        ("tasks/worse_test.rhai", "fn f() {"),
        ("tasks/a/b_test.rhai", "fn f() { }"),
        ("plugins/a/plugin.toml", &format!("{ECHO}tasks = \"jobs\"").replace("\"echo\"", "\"a\"")),
        ("plugins/a/jobs/b_test.rhai", "fn f() { }"),
    ]);

    // What `bad_test.rhai` fails by is known from `bad.rhai`.
    assert_eq!(tasks.broken.len(), 1, "{:?}", tasks.broken);
    assert_eq!(
        wrongs(&tests),
        [
            "tasks/worse_test.rhai:1:9: expecting '}' to terminate this block",
            "plugins/a/jobs/b_test.rhai:1: task `a.b_test.f` is defined already, at tasks/a/b_test.rhai:1"
        ]
    );
    assert_eq!(names(&tests), ["a.b_test.f"]);
}
