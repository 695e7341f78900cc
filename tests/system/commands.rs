//! The commands, as a user types them.

use std::path::Path;
use std::process::Output;

use crate::support::house::{Plan, umbel};

fn run(folder: &Path, arguments: &[&str]) -> (Output, String, String) {
    let output = umbel(folder).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

#[test]
fn new_makes_a_folder_that_runs_at_once() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("mine");

    let (made, ..) = run(place.path(), &["new", folder.to_str().unwrap()]);
    let (checked, _, problems) = run(&folder, &["check"]);
    let tasks = std::fs::read_dir(folder.join("tasks")).unwrap().count();
    let (again, _, refused) = run(place.path(), &["new", folder.to_str().unwrap()]);

    assert!(made.status.success() && checked.status.success(), "{problems}");
    assert!(tasks > 0);
    assert!(!again.status.success() && refused.contains("mine"), "{refused}");
}

#[test]
fn call_runs_here_and_prints_the_value() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tasks")).unwrap();
    std::fs::write(folder.path().join("tasks/it.rhai"), "fn add(x, y) { x + y }\nfn bad() { throw \"no\" }").unwrap();

    let (_, sum, _) = run(folder.path(), &["call", "it.add", "10", "3"]);
    let (_, joined, _) = run(folder.path(), &["call", "it.add", "ab", "y=cd"]);
    let (failed, _, why) = run(folder.path(), &["call", "it.bad"]);
    let (unknown, _, nearest) = run(folder.path(), &["call", "it.ad", "1", "2"]);

    assert_eq!((sum.as_str(), joined.as_str()), ("13", "\"abcd\""));
    assert_eq!(failed.status.code(), Some(1));
    assert!(why.contains("tasks/it.rhai:2"), "{why}");
    assert!(!unknown.status.success() && nearest.contains("it.add"), "{nearest}");
    assert!(!folder.path().join("data").exists(), "a call leaves nothing behind");
}

#[test]
fn send_finds_the_umbel_of_the_folder() {
    let house = Plan::new().shipped("tasks/math.rhai").start();

    let (sent, id, _) = run(house.folder.path(), &["send", "math.add", "10", "3"]);
    let (_, value, _) = run(house.folder.path(), &["send", "math.add", "10", "y=3", "--wait"]);

    assert!(sent.status.success());
    assert_eq!(house.get(&format!("/api/tasks/{id}?wait=5s")).json["result"], 13);
    assert_eq!(value, "13");
}

#[test]
fn send_says_what_to_do_when_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();

    let (output, _, why) = run(folder.path(), &["send", "math.add", "1", "2"]);

    assert_eq!(output.status.code(), Some(3));
    assert!(why.contains("umbel up"), "{why}");
}

#[test]
fn check_names_every_problem_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("tasks/good.rhai", "fn one() { 1 }");
    write("tasks/bad.rhai", "fn one() {\n  let x = ;\n}");
    write("schedules.toml", "[it]\ntask = \"good.one\"\nschedule = { minute = 61 }\n");
    write("plugins/odd/plugin.toml", "name = \"odd\"\nversion = \"1\"\napi = 1\nwhat = 1\n");

    let (output, out, err) = run(folder.path(), &["check"]);
    let (_, json, _) = run(folder.path(), &["check", "--json"]);

    assert_eq!(output.status.code(), Some(1));
    let said = out + &err;
    for part in ["tasks/bad.rhai:2:", "schedules.toml:3", "plugins/odd/plugin.toml:4"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let problems: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(problems.as_array().unwrap().len(), 3, "{json}");
}

#[test]
fn an_open_door_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();

    let (output, _, why) = run(folder.path(), &["up", "--listen", "0.0.0.0:0"]);

    assert_eq!(output.status.code(), Some(2));
    assert!(why.contains("loopback"), "{why}");
}
