//! Looking through a folder: the settings, the scripts, the timetable.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use chrono::Utc;

use super::wanted::Wanted;
use crate::beat::{self, Problem, Timetable};
use crate::cli::project;
use crate::client::{Client, Request, Routes, SubmitError};
use crate::config::{FILE, Settings, broken_at};
use crate::plugin::{Loader, is_test};
use crate::script::{self, Broken, Finding, Lint, Script, Sent, Severity};
use crate::task::to_json;
use crate::{module, store};

/// What was found in a folder.
pub(super) struct Found {
    findings: Vec<Finding>,
    /// The scripts that were loaded, and why one was not: something in it or in what it imports.
    scripts: Vec<(String, Option<Broken>)>,
    manifests: Vec<String>,
    /// How many of each there were.
    pub tasks: usize,
    pub plugins: usize,
    /// Of the timetable.
    pub entries: usize,
}

impl Found {
    /// The files that something would have been found in.
    pub fn read(&self) -> Vec<String> {
        let scripts = self.scripts.iter().map(|(file, _)| file);
        let found = self.findings.iter().map(|finding| &finding.at.file);
        let others = [FILE, beat::FILE].map(str::to_owned);
        scripts.chain(found).chain(&self.manifests).cloned().chain(others).collect()
    }

    /// What is wrong with the files that are `wanted`, also where it lies in what they import.
    pub fn about(self, wanted: &Wanted<'_>) -> Vec<Finding> {
        let Self { mut findings, scripts, .. } = self;
        let reasons: Vec<Broken> =
            scripts.into_iter().filter(|(file, _)| wanted.has(file)).filter_map(|(_, why)| why).collect();
        findings.retain(|finding| wanted.has(&finding.at.file) || reasons.contains(&finding.at));
        findings
    }
}

/// Looks through everything that `folder` holds.
pub(super) async fn look(folder: &Path, settings: Result<Settings, Vec<Broken>>) -> anyhow::Result<Found> {
    let (routes, mistakes) =
        settings.map_or_else(|mistakes| (Routes::default(), mistakes), |settings| (settings.routes, Vec::new()));
    let path = folder.to_owned();
    let loading = tokio::task::spawn_blocking(move || {
        let mut loader = Loader::for_tests(path);
        loader.load();
        let tests = loader.tests();
        (loader, tests)
    });
    let (loader, tests) = loading.await.context("the scripts could not be loaded")?;
    let catalogs = loader.catalogs();
    let catalog = catalogs.current();
    // A task or an entry is checked as what it will be: a task that somebody sends.
    let stores = store::open("memory:", folder, store::Settings::default()).await?;
    let client = Client::new(stores, catalogs, String::new()).routed(routes);
    // Where the settings cannot be read, any task may be one that they send elsewhere.
    let routes_are_known = mistakes.is_empty();
    let check = |request| match client.check(request) {
        Err(SubmitError::UnknownTask { .. }) if !routes_are_known => Ok(()),
        checked => checked,
    };

    let mut findings: Vec<Finding> = mistakes.into_iter().map(|broken| error("settings", broken)).collect();
    if let Some(why) = project::emptiness(folder) {
        findings.push(Finding { severity: Severity::Warning, code: "no-tasks", at: Broken::whole("tasks", why) });
    }
    findings.extend(catalog.broken.iter().chain(&tests.broken).cloned().map(|broken| error("not-loaded", broken)));
    findings.extend(loader.scripts().filter(|script| script.is_empty()).map(|script| {
        let why = "is empty; a running umbel keeps what it held before, until something is written into it";
        let at = Broken::whole(&script.file, why.to_owned());
        Finding { severity: Severity::Warning, code: "empty-file", at }
    }));
    findings.extend(in_scripts(&loader, &check));
    let (in_schedule, entries) = in_schedule(folder, &check);
    findings.extend(in_schedule);
    let scripts = loader.outcomes().map(|(file, why)| (file.to_owned(), why.cloned())).collect();
    let (tasks, plugins) = (catalog.tasks.len(), catalog.plugins.len());
    Ok(Found { findings, scripts, manifests: loader.manifests(), tasks, plugins, entries })
}

/// Whether a task could be sent so.
type Check<'a> = dyn Fn(Request) -> Result<(), SubmitError> + 'a;

fn in_scripts(loader: &Loader, check: &Check<'_>) -> Vec<Finding> {
    let mut engine = script::engine();
    module::register(&mut engine);
    let tasks = Lint::new(engine).with_options(&module::OPTIONS);
    let mut engine = script::engine();
    module::register(&mut engine);
    module::register_assertions(&mut engine);
    let tests = Lint::new(engine).with_options(&module::OPTIONS);
    let lint = |script: &Script| if is_test(&script.file) { &tests } else { &tasks };
    loader.scripts().flat_map(|script| lint(script).look(script, &|sent| refusal(check, sent))).collect()
}

/// Why a task that a script sends would be refused; `None` when it would not.
fn refusal(check: &Check<'_>, sent: &Sent) -> Option<String> {
    let (args, kwargs) = sent.arguments.clone().unwrap_or_default();
    let kwargs: BTreeMap<String, ()> = kwargs.into_iter().map(|name| (name, ())).collect();
    let request = Request {
        task: sent.task.clone(),
        args: Some(to_json(&vec![(); args])),
        kwargs: Some(to_json(&kwargs)),
        ..Request::default()
    };
    match check(request) {
        Err(SubmitError::BadArguments { .. }) if sent.arguments.is_none() => None,
        Err(
            why @ (SubmitError::UnknownTask { .. } | SubmitError::BrokenTask { .. } | SubmitError::BadArguments { .. }),
        ) => Some(why.to_string()),
        _ => None,
    }
}

/// What is wrong in the timetable, and how many entries it has.
fn in_schedule(folder: &Path, check: &Check<'_>) -> (Vec<Finding>, usize) {
    let wrong = |broken| error("schedule", broken);
    let text = match std::fs::read_to_string(folder.join(beat::FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return (vec![wrong(Broken::whole(beat::FILE, format!("cannot be read: {error}")))], 0),
    };
    let timetable = match Timetable::parse(&text, beat::FILE) {
        Ok(timetable) => timetable,
        Err(bad) => return (bad.problems.iter().map(|problem| wrong(located(problem, &text))).collect(), 0),
    };
    let mut findings: Vec<Finding> = timetable
        .warnings()
        .iter()
        .map(|problem| Finding { severity: Severity::Warning, code: "schedule", at: located(problem, &text) })
        .collect();
    let places = places(&text);
    for entry in timetable.entries() {
        if let Err(error) = check(entry.request(Utc::now())) {
            let place = places.get(&entry.name).copied().unwrap_or_default();
            findings.push(wrong(broken_at(beat::FILE, &text, place, format!("[{}]: {error}", entry.name))));
        }
    }
    (findings, timetable.entries().len())
}

fn error(code: &'static str, at: Broken) -> Finding {
    Finding { severity: Severity::Error, code, at }
}

// The place goes apart, so that every problem is told in the same way.
fn located(problem: &Problem, text: &str) -> Broken {
    let of = [problem.entry.as_ref().map(|entry| format!("[{entry}]")), problem.field.clone()];
    let of: Vec<String> = of.into_iter().flatten().collect();
    let message =
        if of.is_empty() { problem.message.clone() } else { format!("{}: {}", of.join(" "), problem.message) };
    match problem.line.and_then(|line| u32::try_from(line).ok()) {
        Some(line) => Broken::at(beat::FILE, text, line, None, message),
        None => Broken::whole(beat::FILE, message),
    }
}

// Where each entry begins.
fn places(text: &str) -> BTreeMap<String, usize> {
    let keys: BTreeMap<toml::Spanned<String>, toml::Value> = toml::from_str(text).unwrap_or_default();
    keys.into_keys().map(|key| (key.get_ref().clone(), key.span().start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    async fn found(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = look(folder.path(), Settings::check(folder.path(), &Flags::default())).await.unwrap();
        found.findings.iter().map(|finding| finding.at.to_string()).collect()
    }

    #[tokio::test]
    async fn a_sound_folder_has_no_problems() {
        let math = ("tasks/math.rhai", "fn add(x, y) { x + y }");
        let schedules = ("schedules.toml", "[it]\ntask = \"math.add\"\nschedule = \"10s\"\nargs = [1, 2]\n");

        assert_eq!(found(&[math, schedules]).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_is_shipped_has_no_problems() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = look(folder, Settings::check(folder, &Flags::default())).await.unwrap();

        assert_eq!(found.findings, []);
    }

    #[tokio::test]
    async fn tests_are_looked_at_and_only_they_may_assert() {
        let found = found(&[
            ("tasks/math.rhai", "fn add(x, y) { assert(x > 0); x + y }"),
            ("tasks/math_test.rhai", "import \"math\" as math;\nfn f() { assert_eq(math::ad(1, 2), 3); assert(); }"),
            ("tasks/bad_test.rhai", "fn f() {"),
        ])
        .await;

        assert_eq!(
            found,
            [
                "tasks/bad_test.rhai:1:9: expecting '}' to terminate this block",
                "tasks/math.rhai:1:16: there is no function `assert`",
                "tasks/math_test.rhai:2:26: the module `math` has no function `ad`; did you mean `add`?",
                "tasks/math_test.rhai:2:40: `assert` takes 1 or 2 arguments; 0 were given",
            ]
        );
    }

    #[tokio::test]
    async fn every_mistake_is_found_with_its_place() {
        let found = found(&[
            ("tasks/math.rhai", "fn add(x, y) { x + y }"),
            ("tasks/bad.rhai", "fn one() {\n  let x = ;\n}"),
            ("plugins/odd/plugin.toml", "name = \"odd\"\nversion = \"1\"\napi = 1\nwhat = 1\n"),
            ("schedules.toml", "[a]\ntask = \"math.add\"\nschedule = { minute = 61 }\n"),
        ])
        .await;

        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("tasks/bad.rhai:2:11: "), "{found:?}");
        assert!(found[1].starts_with("plugins/odd/plugin.toml:4:1: "), "{found:?}");
        assert!(found[2].starts_with("schedules.toml:3: [a] schedule.minute: "), "{found:?}");
    }

    #[tokio::test]
    async fn scripts_libraries_and_consumers_are_looked_through() {
        let manifest =
            "name = \"echo\"\nversion = \"1\"\napi = 1\n[[consumers]]\npath = \"/ws/e/\"\nscript = \"echo.rhai\"\n";
        let found = found(&[
            (
                "tasks/a.rhai",
                "import \"_lib/b\" as b;\nfn f(x) {\n  delay(\"a.g\", [1]);\n  delay(\"a.f\", []);\n  b::g()\n}",
            ),
            ("tasks/_lib/b.rhai", "fn g() { kv::gett(\"x\") }"),
            ("plugins/echo/plugin.toml", manifest),
            ("plugins/echo/echo.rhai", "fn connect(scope) { acept(); }"),
        ])
        .await;

        assert_eq!(
            found,
            [
                "plugins/echo/echo.rhai:1:21: there is no function `acept`; did you mean `accept`?",
                "tasks/_lib/b.rhai:1:14: the module `kv` has no function `gett`; did you mean `get`?",
                "tasks/a.rhai:3:9: no task named `a.g`; did you mean `a.f`?",
                "tasks/a.rhai:4:9: arguments for `a.f` are not valid: missing argument `x`",
            ]
        );
    }

    #[tokio::test]
    async fn a_consumer_that_could_not_be_called_is_found() {
        let manifest =
            "name = \"echo\"\nversion = \"1\"\napi = 1\n[[consumers]]\npath = \"/ws/e/\"\nscript = \"echo.rhai\"\n";
        for (source, wrong) in [
            (
                "fn receive(frame) { }",
                "`receive` of a consumer takes 2 parameters, not 1: write `fn receive(scope, frame)`",
            ),
            ("fn connect() { }", "`connect` of a consumer takes 1 parameter, not 0: write `fn connect(scope)`"),
            ("fn on_a_b(e) { }", "`on_a_b` of a consumer takes 2 parameters, not 1: write `fn on_a_b(scope, event)`"),
        ] {
            let found = found(&[("plugins/echo/plugin.toml", manifest), ("plugins/echo/echo.rhai", source)]).await;

            assert_eq!(found, [format!("plugins/echo/echo.rhai:1: {wrong}")]);
        }
        let sound = "fn connect(scope) { accept() } private fn receive() { } fn disconnect(scope, code) { receive() } \
                     fn on_x(scope, event) { } fn on_x(event) { }";
        let found = found(&[("plugins/echo/plugin.toml", manifest), ("plugins/echo/echo.rhai", sound)]).await;
        assert_eq!(found, [""; 0]);
    }

    #[tokio::test]
    async fn a_remote_task_needs_no_script() {
        let settings = "store = \"redis://localhost\"\n[routes]\n\"far.*\" = { queue = \"python\", remote = true }\n\
                        \"near.*\" = { queue = \"near\" }";
        let schedules =
            "[a]\ntask = \"far.x\"\nschedule = \"10s\"\nargs = [1]\n\n[b]\ntask = \"near.x\"\nschedule = \"10s\"\n";

        let found =
            found(&[("tasks/_a.rhai", "fn f() { 1 }"), ("umbel.toml", settings), ("schedules.toml", schedules)]).await;

        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("schedules.toml:6:2: [b]: no task named `near.x`"), "{found:?}");
    }

    #[tokio::test]
    async fn a_mistake_in_the_settings_makes_no_task_unknown() {
        let settings =
            "store = \"redis://localhost\"\nslots = 0\n[routes]\n\"far.*\" = { queue = \"f\", remote = true }";
        let schedules = "[a]\ntask = \"far.x\"\nschedule = \"10s\"\n\n[b]\ntask = \"a.f\"\nschedule = \"10s\"\n";
        let script = ("tasks/a.rhai", "fn f(x) { delay(\"far.x\", [x]) }");

        let found = found(&[script, ("umbel.toml", settings), ("schedules.toml", schedules)]).await;

        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("umbel.toml:2:"), "{found:?}");
        assert!(found[1].starts_with("schedules.toml:5:2: [b]: arguments for `a.f` are not valid"), "{found:?}");
    }

    #[tokio::test]
    async fn an_entry_that_could_not_be_sent_is_found_too() {
        let found = found(&[
            ("tasks/math.rhai", "fn add(x, y) { x + y }"),
            (
                "schedules.toml",
                "[a]\ntask = \"math.ad\"\nschedule = \"10s\"\n\n[b]\ntask = \"math.add\"\nschedule = \"10s\"\nargs = [1]\n",
            ),
        ])
        .await;

        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("schedules.toml:1:2: [a]: no task named `math.ad`; did you mean"), "{found:?}");
        assert!(found[1].starts_with("schedules.toml:5:2: [b]: arguments for `math.add`"), "{found:?}");
    }
}
