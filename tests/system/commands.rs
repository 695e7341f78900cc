//! The commands, as a user types them.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use redis::Commands;

use crate::support::house::{Plan, eventually, umbel};
use crate::support::redis_server::RedisServer;

fn run(folder: &Path, arguments: &[&str]) -> (Output, String, String) {
    let output = umbel(folder).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

#[test]
fn new_makes_a_folder_that_runs_at_once() {
    let place = tempfile::tempdir().unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());

    let (made, _, next) = run(place.path(), &["new", folder.path().to_str().unwrap()]);
    let (checked, found, _) = run(folder.path(), &["check", "--strict"]);
    let house = Plan::in_folder(folder.clone()).start();
    let (_, greeting, _) = run(folder.path(), &["send", "welcome.greet", "world", "--wait"]);
    let (again, _, refused) = run(place.path(), &["new", folder.path().to_str().unwrap()]);

    assert!(made.status.success() && checked.status.success(), "{found}");
    assert_eq!(greeting, "\"Hello, world!\"");
    assert!(next.contains("send welcome.greet world --wait"), "{next}");
    assert_eq!(house.get("/api/catalog").json["plugins"][0]["name"], "chat");
    assert_eq!(again.status.code(), Some(2), "{refused}");
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
fn send_says_what_the_task_is_told() {
    let house = Plan::new().shipped("tasks/math.rhai").start();

    let options = ["--eta", "2100-01-01T00:00:00Z", "--priority", "3", "--queue", "io", "--id", "mine"];
    let (sent, id, why) = run(house.folder.path(), &[&["send", "math.add", "1", "2"][..], &options].concat());
    let (twice, _, refused) = run(house.folder.path(), &[&["send", "math.add", "1", "2"][..], &options].concat());
    let (late, _, waited) =
        run(house.folder.path(), &["send", "math.add", "1", "2", "--countdown", "1h", "--wait=10ms"]);

    assert!(sent.status.success(), "{why}");
    let run = house.get(&format!("/api/tasks/{id}")).json;
    assert_eq!(
        (&run["state"], &run["queue"], &run["priority"]),
        (&"SCHEDULED".into(), &"io".into(), &3.into()),
        "{run}"
    );
    assert!(twice.status.code() == Some(2) && refused.contains("`mine` exists"), "{refused}");
    assert!(late.status.code() == Some(1) && waited.contains("has not ended within 10ms: it is SCHEDULED"), "{waited}");
}

#[test]
fn an_umbel_elsewhere_is_reached_by_its_address() {
    let house = Plan::new().shipped("tasks/math.rhai").start();
    let elsewhere = tempfile::tempdir().unwrap();

    let server = format!("http://{}/", house.address);
    let (_, value, why) = run(elsewhere.path(), &["send", "math.add", "1", "2", "--wait", "--server", &server]);
    let (tls, _, refused) = run(elsewhere.path(), &["tasks", "--server", "https://example.com"]);

    assert_eq!(value, "3", "{why}");
    assert!(tls.status.code() == Some(2) && refused.contains("http://HOST:PORT"), "{refused}");
}

#[test]
fn tasks_and_inspect_show_what_ran() {
    let house = Plan::new().script("it.rhai", "fn ok(x) { info(\"hi\"); x }\nfn bad() { throw \"no\" }").start();
    let (_, id, _) = run(house.folder.path(), &["send", "it.bad"]);
    run(house.folder.path(), &["send", "it.ok", "[1,2]", "--wait"]);
    house.get(&format!("/api/tasks/{id}?wait=30s"));

    let (_, all, _) = run(house.folder.path(), &["tasks"]);
    let (_, failed, _) = run(house.folder.path(), &["tasks", "--state", "failure", "--since", "1h", "--json"]);
    let (_, told, _) = run(house.folder.path(), &["inspect", &id]);
    let (unknown, _, why) = run(house.folder.path(), &["inspect", "nothing"]);

    let lines: Vec<Vec<&str>> = all.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(
        lines.iter().map(|line| (line[1], line[2], line[5])).collect::<Vec<_>>(),
        [("it.ok", "SUCCESS", "[1,2]"), ("it.bad", "FAILURE", "RuntimeError: no")]
    );
    let failed: serde_json::Value = serde_json::from_str(&failed).unwrap();
    assert_eq!((failed.as_array().unwrap().len(), &failed[0]["id"]), (1, &id.clone().into()), "{failed}");
    assert!(told.contains("FAILURE") && told.contains("tasks/it.rhai:2:12"), "{told}");
    assert!(unknown.status.code() == Some(2) && why.contains("nothing"), "{why}");
}

#[test]
fn tasks_are_revoked_and_run_again() {
    let house = Plan::new().shipped("tasks/math.rhai").start();
    let (_, later, _) = run(house.folder.path(), &["send", "math.add", "1", "2", "--countdown", "1h"]);
    let (_, done, _) = run(house.folder.path(), &["send", "math.add", "1", "2"]);
    house.get(&format!("/api/tasks/{done}?wait=30s"));

    let (_, revoked, _) = run(house.folder.path(), &["revoke", &later, &done]);
    let (retried, again, why) = run(house.folder.path(), &["retry", &done]);

    assert_eq!(revoked, format!("{later} is revoked\n{done} had ended before: SUCCESS"));
    assert!(retried.status.success(), "{why}");
    assert_eq!(house.get(&format!("/api/tasks/{again}?wait=30s")).json["result"], 3);
}

#[test]
fn queues_are_paused_purged_and_shown() {
    let house = Plan::new().shipped("tasks/math.rhai").start();

    run(house.folder.path(), &["pause", "io"]);
    run(house.folder.path(), &["send", "math.add", "1", "2", "--queue", "io"]);
    let (_, shown, _) = run(house.folder.path(), &["inspect", "--json"]);
    let (unsure, _, why) = run(house.folder.path(), &["purge", "io"]);
    let (_, purged, _) = run(house.folder.path(), &["purge", "io", "--yes"]);
    run(house.folder.path(), &["resume", "io"]);
    let (_, value, _) = run(house.folder.path(), &["send", "math.add", "1", "2", "--queue", "io", "--wait"]);

    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let io = shown["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == "io");
    let waits = serde_json::json!({"name": "io", "ready": 1, "delayed": 0, "claimed": 0, "paused": true});
    assert_eq!(io, Some(&waits), "{shown}");
    assert!(shown["workers"].is_array(), "{shown}");
    assert!(unsure.status.code() == Some(2) && why.contains("--yes"), "{why}");
    assert_eq!((purged.as_str(), value.as_str()), ("removed 1 from `io`", "3"));
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_task() {
    let house = Plan::new().script("it.rhai", "fn long() { kv::set(\"on\", 1); while kv::get(\"off\") == () { sleep(0.01); } 7 }\nfn on() { kv::get(\"on\") }\nfn off() { kv::set(\"off\", 1) }").start();
    let mut command = umbel(house.folder.path());
    let waiting = command.args(["send", "it.long", "--wait", "--id", "long"]).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the task runs", || house.get("/api/tasks/long").json["state"] == "STARTED");

    std::process::Command::new("kill").args(["-INT", &waiting.id().to_string()]).status().unwrap();
    let output = waiting.wait_with_output().unwrap();
    run(house.folder.path(), &["send", "it.off"]);

    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the task goes on; `umbel inspect long` shows it"), "{said}");
    assert_eq!(house.get("/api/tasks/long?wait=30s").json["result"], 7);
}

#[test]
fn schedules_are_shown_without_an_umbel() {
    let folder = tempfile::tempdir().unwrap();
    let entry = "[nightly]\ntask = \"a.b\"\nschedule = { minute = 59, hour = 23 }\n";
    std::fs::write(folder.path().join("schedules.toml"), entry).unwrap();

    let (_, told, _) = run(folder.path(), &["schedules"]);
    let (_, json, _) = run(folder.path(), &["schedules", "--next", "3", "--json"]);

    assert!(told.starts_with("nightly\ta.b\t59 23 * * *\t2") && told.ends_with("T23:59:00Z"), "{told}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["next"].as_array().unwrap().len(), 3, "{json}");
}

#[test]
fn a_shell_learns_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), &["--help"]).1;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 15, "{help}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (output, script, _) = run(folder.path(), &["completions", shell]);
        assert!(output.status.success(), "{shell}");
        for command in &commands {
            assert!(script.contains(command), "{shell} does not learn `{command}`");
        }
    }
}

#[test]
fn where_nothing_can_be_written_a_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["completions", "bash"][..], &["config"]] {
        let full = std::fs::File::create("/dev/full").unwrap();

        let output = umbel(folder.path()).args(arguments).stdout(full).output().unwrap();

        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{arguments:?}: {said}");
    }
}

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    for file in ["data/umbel.db", "mine"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    let mine = folder.path().join("mine");
    let mine = mine.to_str().unwrap();
    for (arguments, way_out) in [
        (&["backup", mine][..], "name a new file"),
        (&["backup", "/"], "exists already"),
        (&["backup", "copy.db", "--store", "memory:"], "cannot be copied"),
        (&["token", ""], "say whose token it is"),
        (&["token", " "], "say whose token it is"),
    ] {
        let (output, _, said) = run(folder.path(), arguments);
        assert!(output.status.code() == Some(2) && said.contains(way_out), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read(mine).unwrap(), b"");
    let (checked, _, said) = run(&folder.path().join("nowhere"), &["check"]);
    assert!(checked.status.code() == Some(2) && said.contains("there is no such folder"), "{said}");
}

#[test]
fn send_says_what_to_do_when_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();

    let (output, _, why) = run(folder.path(), &["send", "math.add", "1", "2"]);

    assert_eq!(output.status.code(), Some(3));
    assert!(why.contains("umbel up"), "{why}");
}

fn write_in(folder: &std::path::Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn check_names_every_problem_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write_in(folder.path(), path, text);
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
fn check_tells_of_what_was_named_and_of_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| write_in(folder.path(), path, text);
    write("tasks/good.rhai", "fn one() { 1 }");
    write("tasks/a/bad.rhai", "fn one() { nothing_has_this() }");
    write("tasks/_lib/broken.rhai", "fn one() {");
    write("tasks/imports.rhai", "import \"_lib/broken\" as it;\nfn two() { it::one() }");
    write("plugins/odd/plugin.toml", "name = \"odd\"\nversion = \"1\"\napi = 1\n");
    write("plugins/odd/unused.rhai", "fn one() { 1 }");
    write("other/one.rhai", "fn one() { 1 }");

    for (named, code) in [
        ("tasks", 1),
        ("tasks/a", 1),
        (".", 1),
        ("tasks/a/bad.rhai", 1),
        ("tasks/imports.rhai", 1),
        ("tasks/good.rhai", 0),
        ("plugins", 0),
        ("plugins/odd/plugin.toml", 0),
        ("plugins/odd/unused.rhai", 2),
        ("other/one.rhai", 2),
        ("other", 2),
    ] {
        let path = folder.path().join(named);
        let (output, out, err) = run(folder.path(), &["check", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(code), "check {named}: {out}{err}");
    }
}

#[test]
fn an_open_door_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();

    let (output, _, why) = run(folder.path(), &["up", "--listen", "0.0.0.0:0"]);

    assert_eq!(output.status.code(), Some(2));
    assert!(why.contains("loopback"), "{why}");
}

#[test]
fn inspect_shows_dead_letters() {
    let redis = RedisServer::start();
    let house = Plan::new().shipped("tasks/math.rhai").store(&redis.url()).start();
    let mut raw = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let none = run(house.folder.path(), &["inspect", "--dead"]).1;
    for message in ["first, no JSON", "second\tno JSON"] {
        let _: u64 = raw.lpush("celery", message).unwrap();
    }
    eventually("both are laid aside", || house.get("/api/dead-letters").json["count"] == 2);

    let (shown, rows, _) = run(house.folder.path(), &["inspect", "--dead"]);
    let (_, json, _) = run(house.folder.path(), &["inspect", "--dead", "--json"]);
    let (_, _, hint) = run(house.folder.path(), &["inspect"]);

    assert_eq!((shown.status.code(), none.as_str()), (Some(0), ""));
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split('\t').collect()).collect();
    let facts: Vec<&[&str]> = rows.iter().map(|row| &row[1..5]).collect();
    assert_eq!(facts, [["celery", "", "", "14"]; 2]);
    assert!(rows.iter().all(|row| row.len() == 6 && row[5].contains("JSON")), "{rows:?}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["count"], &json["dead_letters"][0]["envelope"]), (&2.into(), &"second\tno JSON".into()));
    assert!(hint.contains("2 messages could not be run: `umbel inspect --dead` shows them"), "{hint}");
}
