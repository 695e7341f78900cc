//! Scripts that are edited without mercy while tasks run: no task is lost, and none runs on a mixture of versions.

mod swaps;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};

/// A library and two scripts that import it, all of one version. What `check` returns tells of which.
fn set(version: u32) -> [(&'static str, String); 3] {
    let importer = format!(
        "import \"_lib/shared\" as lib;\n\
         fn check() {{ let first = lib::version(); sleep(0.02); [{version}, first, lib::version()] }}\n\
         fn version() {{ {version} }}\n"
    );
    [
        ("_lib/shared.rhai", format!("fn version() {{ {version} }}\n")),
        ("a.rhai", importer.clone()),
        ("b.rhai", importer),
    ]
}

fn save(folder: &Path, files: &[(&str, String)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A new file is put in the place of the old one, as careful editors do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("tmp");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn project(version: u32) -> Plan {
    set(version).iter().fold(Plan::new(), |plan, (name, text)| plan.script(name, text))
}

fn call(house: &House, task: &str) -> Value {
    house.post(&format!("/api/tasks/{task}?wait=60s"), &json!({})).json["result"].clone()
}

/// Calls `a.check` and `b.check` again and again while `edit` runs, from one call before it to one after it. Gives what
/// each returned.
///
/// # Panics
/// When one is refused, fails or is lost.
fn under_load(house: &House, edit: impl FnOnce()) -> Vec<Vec<u64>> {
    let (called, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let calls = |task: &str| {
        let mut results = Vec::new();
        loop {
            let is_last = done.load(Ordering::Acquire);
            let run = house.post(&format!("/api/tasks/{task}?wait=60s"), &json!({}));
            assert_eq!((run.status, &run.json["state"]), (200, &json!("SUCCESS")), "{}", run.json);
            results.push(serde_json::from_value(run.json["result"].clone()).unwrap());
            called.fetch_add(usize::from(results.len() == 1), Ordering::AcqRel);
            if is_last {
                return results;
            }
        }
    };
    std::thread::scope(|scope| {
        let calling = ["a.check", "b.check", "a.check"].map(|task| scope.spawn(move || calls(task)));
        let edited = std::panic::catch_unwind(AssertUnwindSafe(|| {
            eventually("each was called once", || called.load(Ordering::Acquire) == calling.len());
            edit();
        }));
        done.store(true, Ordering::Release);
        edited.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        calling.into_iter().flat_map(|calling| calling.join().unwrap()).collect()
    })
}

fn is_whole(result: &[u64]) -> bool {
    result.len() == 3 && result.iter().all(|version| *version == result[0])
}

/// None is of a mixture, and there are some of what was there before the edit and of what was there after it.
fn assert_whole(results: &[Vec<u64>]) {
    let mixed: Vec<_> = results.iter().filter(|result| !is_whole(result)).collect();
    assert!(mixed.is_empty(), "of {} runs these are mixed: {mixed:?}", results.len());
    let versions: std::collections::BTreeSet<_> = results.iter().map(|result| result[0]).collect();
    assert!(versions.len() > 1, "nothing was reloaded while {} tasks ran", results.len());
}

fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]).args(arguments);
    // Nothing of the developer's: neither settings, nor the repository that a hook may run in.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GIT_")) {
        command.env_remove(name);
    }
    let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("`git` can be run; is it installed?");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_save_each_10_ms_loses_no_task_and_starves_no_reload() {
    let house = project(0).start();
    let path = house.path("tasks/a.rhai");
    let last = 300;

    let results = under_load(&house, || {
        for version in 1..=last {
            replace(&path, &set(version)[1].1);
            // The stress itself.
            std::thread::sleep(Duration::from_millis(10));
        }
        eventually("the last one runs", || call(&house, "a.version") == last);
    });

    let own: std::collections::BTreeSet<u64> = results.iter().map(|result| result[0]).collect();
    assert!(own.len() > 2, "only these were seen while it was saved: {own:?}");
    assert!(results.iter().all(|result| (result[1], result[2]) == (0, 0)), "the library never changed");
}

#[test]
fn sets_that_are_saved_file_by_file_agree_in_the_end() {
    let house = project(0).start();
    let last = 100;

    let results = under_load(&house, || {
        for version in 1..=last {
            for (name, text) in set(version) {
                replace(&house.path("tasks").join(name), &text);
            }
            // The stress itself.
            std::thread::sleep(Duration::from_millis(10));
        }
        for task in ["a.check", "b.check"] {
            eventually("the last one runs", || call(&house, task) == json!([last, last, last]));
        }
    });

    for result in results {
        assert_eq!(result[1], result[2], "the library changed under a running task");
        // The library is saved first.
        assert!(result[1] == result[0] || result[1] == result[0] + 1, "these never stood together: {result:?}");
    }
}

/// The problem that `/api/catalog` tells of `file`; null when there is none.
fn problem(house: &House, file: &str) -> Value {
    let catalog = house.get("/api/catalog").json;
    let broken = catalog["broken"].as_array().unwrap().iter().find(|broken| broken["file"] == file);
    broken.map_or(Value::Null, |broken| broken["message"].clone())
}

#[test]
fn a_half_written_file_keeps_what_it_was() {
    let house = project(1).start();
    let (_, whole) = &set(2)[1];
    let halves: [(&[u8], &str); 4] = [
        (b"", "is empty; its tasks stay"),
        (&whole.as_bytes()[..whole.len() / 2], ""),
        (&[b' '; 2 << 20], "is larger than 1 MiB"),
        (b"fn version() { \"\xff\" }", "is not UTF-8 text"),
    ];
    for (half, why) in halves {
        fs::write(house.path("tasks/a.rhai"), half).unwrap();

        eventually("it is told", || problem(&house, "tasks/a.rhai").as_str().is_some_and(|told| told.starts_with(why)));
        assert_eq!(call(&house, "a.version"), 1, "{why}");
    }
    fs::write(house.path("tasks/_lib/shared.rhai"), "").unwrap();
    eventually("it is told", || {
        problem(&house, "tasks/b.rhai").as_str().is_some_and(|told| told.ends_with("`tasks/_lib/shared.rhai` is empty"))
    });
    assert_eq!(call(&house, "b.check"), json!([1, 1, 1]));

    save(&house.path("tasks"), &set(2));

    eventually("it is whole", || call(&house, "a.check") == json!([2, 2, 2]));
    eventually("nothing is wrong", || house.get("/api/catalog").json["broken"] == json!([]));
    eventually("it is said", || house.log_lines().iter().any(|line| line.contains("tasks/a.rhai: works again")));
}

#[test]
fn what_is_no_script_blocks_nothing() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.rhai"), "fn secret() { 1 }").unwrap();
    let plan = Plan::new()
        .script("good.rhai", "fn one() { 1 }")
        .script("windows.rhai", "\u{feff}fn two() {\r\n    2\r\n}\r\n")
        .script("de/ep/er/und/er/x.rhai", "fn three() { 3 }")
        .script("Case.rhai", "fn four() { 4 }")
        .script("cafe\u{301}.rhai", "fn five() { 5 }")
        .script("메일.rhai", "fn 여섯() { 6 }");
    let tasks = plan.path("tasks");
    assert!(Command::new("mkfifo").arg(tasks.join("pipe.rhai")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(tasks.join("socket.rhai")).unwrap();
    symlink("/dev/zero", tasks.join("zero.rhai")).unwrap();
    symlink(outside.path().join("x.rhai"), tasks.join("out.rhai")).unwrap();
    symlink(outside.path(), tasks.join("outside")).unwrap();
    symlink("nowhere", tasks.join("dangling.rhai")).unwrap();
    symlink("circle.rhai", tasks.join("circle.rhai")).unwrap();
    symlink(".", tasks.join("here")).unwrap();
    let house = plan.start();

    for (task, result) in [
        ("good.one", 1),
        ("windows.two", 2),
        ("de.ep.er.und.er.x.three", 3),
        ("Case.four", 4),
        ("caf%C3%A9.five", 5),
        ("%EB%A9%94%EC%9D%BC.%EC%97%AC%EC%84%AF", 6),
    ] {
        assert_eq!(call(&house, task), result, "{task}");
    }
    let broken: BTreeMap<String, String> = house.get("/api/catalog").json["broken"]
        .as_array()
        .unwrap()
        .iter()
        .map(|broken| [&broken["file"], &broken["message"]].map(|text| text.as_str().unwrap().to_owned()).into())
        .collect();
    for (file, why) in [
        ("circle.rhai", "is a link to `circle.rhai`, which cannot be read"),
        ("dangling.rhai", "is a link to `nowhere`, which cannot be read"),
        ("out.rhai", "leads out of the project"),
        ("outside", "leads out of the project"),
        ("pipe.rhai", "is not a file"),
        ("socket.rhai", "is not a file"),
        ("zero.rhai", "leads out of the project"),
    ] {
        let told = broken.get(&format!("tasks/{file}"));
        assert!(told.is_some_and(|told| told.starts_with(why)), "{file}: {told:?}");
    }
    assert_eq!(broken.len(), 7, "{broken:?}");

    // A pipe in the place of a script, and a name that differs in the case of a letter.
    fs::remove_file(tasks.join("pipe.rhai")).unwrap();
    assert!(Command::new("mkfifo").arg(house.path("next.rhai")).status().unwrap().success());
    fs::rename(house.path("next.rhai"), tasks.join("good.rhai")).unwrap();
    fs::rename(tasks.join("Case.rhai"), tasks.join("case.rhai")).unwrap();
    eventually("the new name runs", || call(&house, "case.four") == 4);
    eventually("the old name is gone", || house.post("/api/tasks/Case.four", &json!({})).status == 404);
    assert_eq!(problem(&house, "tasks/good.rhai"), "is not a file");
    assert_eq!(call(&house, "good.one"), 1);
}

#[test]
fn two_files_that_give_one_task_are_told_and_the_first_counts() {
    let house = Plan::new().script("a.rhai", "fn f() { 1 }").start();

    house.write("tasks/b.rhai", "task(\"a.f\", #{ run: \"g\" }); fn g() { 2 }");
    eventually("it is told", || problem(&house, "tasks/b.rhai") == "task `a.f` is defined already, at tasks/a.rhai:1");
    assert_eq!(call(&house, "a.f"), 1);
    fs::remove_file(house.path("tasks/a.rhai")).unwrap();

    eventually("the other one has the name", || call(&house, "a.f") == 2);
}

#[test]
fn plugins_come_and_go() {
    let manifest =
        |name: &str, rest: &str| format!("name = \"{name}\"\nversion = \"1\"\napi = 1\ntasks = \"tasks\"\n{rest}");
    let house = Plan::new().script("a.rhai", "fn f() { 1 }").start();

    house.write("plugins/one/tasks/x.rhai", "fn f() { 1 }");
    house.write("plugins/one/plugin.toml", &manifest("one", ""));
    eventually("its task runs", || call(&house, "one.x.f") == 1);
    house.write("plugins/one/tasks/x.rhai", "fn f() { 2 }");
    eventually("its new version runs", || call(&house, "one.x.f") == 2);
    house.write("plugins/one/plugin.toml", &manifest("one", "hoks = 1\n"));
    eventually("it is told", || house.get("/api/catalog").json["broken"][0]["line"] == 5);
    assert_eq!(call(&house, "one.x.f"), 2);
    fs::remove_dir_all(house.path("plugins")).unwrap();
    eventually("it is gone", || house.post("/api/tasks/one.x.f", &json!({})).status == 404);
    house.write("plugins/one/tasks/x.rhai", "fn f() { 3 }");
    house.write("plugins/one/plugin.toml", &manifest("one", ""));

    eventually("it is back", || call(&house, "one.x.f") == 3);
}

#[test]
fn a_schedule_that_is_replaced_removed_and_written_again_is_followed() {
    let house =
        Plan::new().script("a.rhai", "fn f(n) { kv::set(\"last\", n) }\nfn last() { kv::get(\"last\") }").start();
    let entry = |n: u32| format!("[often]\ntask = \"a.f\"\nschedule = \"100ms\"\nargs = [{n}]\n");

    house.write("schedules.toml", &entry(1));
    eventually("it is followed", || call(&house, "a.last") == 1);
    replace(&house.path("schedules.toml"), &entry(2));
    eventually("the new one is followed", || call(&house, "a.last") == 2);
    fs::remove_file(house.path("schedules.toml")).unwrap();
    eventually("it is said", || {
        house.log_lines().iter().any(|line| line.contains("removed") && line.contains("often"))
    });
    house.write("schedules.toml", &entry(3));

    eventually("it is followed again", || call(&house, "a.last") == 3);
}

#[test]
fn of_a_thousand_files_only_the_changed_one_is_another_version() {
    let text = |number: u32, version: u32| {
        format!(
            "import \"_lib/shared\" as lib;\nfn version() {{ {version} + lib::version() }}\nfn number() {{ {number} }}"
        )
    };
    let plan = (0..1000).fold(Plan::new().script("_lib/shared.rhai", "fn version() { 0 }"), |plan, number| {
        plan.script(&format!("m{}/t{number}.rhai", number % 10), &text(number, 0))
    });
    let began = Instant::now();
    let house = plan.start();
    println!("started with 1,000 files in {:?}", began.elapsed());
    let hashes = || -> BTreeMap<String, String> {
        let tasks = house.get("/api/catalog").json["tasks"].take();
        let of = |task: &Value| [&task["name"], &task["hash"]].map(|text| text.as_str().unwrap().to_owned()).into();
        tasks.as_array().unwrap().iter().map(of).collect()
    };
    let before = hashes();
    assert_eq!(before.len(), 2000);

    for version in 1..4 {
        let saved = Instant::now();
        house.write("tasks/m7/t77.rhai", &text(77, version));
        eventually("it runs", || call(&house, "m7.t77.version") == version);
        println!("a change of one file of 1,000 ran after {:?}", saved.elapsed());
    }

    let after = hashes();
    let changed: Vec<_> = after.iter().filter(|(name, hash)| before[*name] != **hash).map(|(name, _)| name).collect();
    assert_eq!(changed, ["m7.t77.number", "m7.t77.version"]);
    let saved = Instant::now();
    house.write("tasks/_lib/shared.rhai", "fn version() { 100 }");
    eventually("it runs", || call(&house, "m3.t3.version") == 100);
    println!("a change of what all 1,000 import ran after {:?}", saved.elapsed());
}
