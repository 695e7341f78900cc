//! What plugins bring, and what becomes of broken ones.

use super::*;

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
