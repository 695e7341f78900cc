//! Scripts that are edited while umbel runs.

use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};

fn call(house: &House, task: &str) -> Value {
    house.post(&format!("/api/tasks/{task}?wait=5s"), &json!({})).json["result"].clone()
}

#[test]
fn a_saved_script_is_a_task() {
    let house = Plan::new().start();

    house.write("tasks/hello.rhai", "fn hi() { \"hello\" }");

    eventually("it can be called", || call(&house, "hello.hi") == "hello");
}

#[test]
fn a_saved_change_is_what_runs_next() {
    let house = Plan::new().script("it.rhai", "fn version() { 1 }").start();
    assert_eq!(call(&house, "it.version"), 1);

    house.write("tasks/it.rhai", "fn version() { 2 }");

    eventually("the new version runs", || call(&house, "it.version") == 2);
}

#[test]
fn a_broken_script_keeps_its_last_good_version_and_says_where_it_is_wrong() {
    let house = Plan::new().script("it.rhai", "fn version() { 1 }").start();

    house.write("tasks/it.rhai", "fn version() {\n    2 +\n}\n");
    eventually("the catalog tells", || {
        let broken = &house.get("/api/catalog").json["broken"];
        broken[0]["file"] == "tasks/it.rhai" && broken[0]["line"] == 3 && broken[0]["excerpt"].is_string()
    });

    assert_eq!(call(&house, "it.version"), 1);
    house.write("tasks/it.rhai", "fn version() { 3 }");
    eventually("the mended version runs", || call(&house, "it.version") == 3);
    assert_eq!(house.get("/api/catalog").json["broken"], json!([]));
}

#[test]
fn a_change_in_an_import_is_seen_by_who_imports_it() {
    let house = Plan::new()
        .script("_lib/prices.rhai", "fn vat() { 10 }")
        .script("shop.rhai", "import \"_lib/prices\" as prices;\nfn vat() { prices::vat() }")
        .start();
    assert_eq!(call(&house, "shop.vat"), 10);

    house.write("tasks/_lib/prices.rhai", "fn vat() { 20 }");

    eventually("the importer sees it", || call(&house, "shop.vat") == 20);
}

#[test]
fn a_running_task_ends_on_the_version_it_began_with() {
    let source = |version: u32| {
        format!(
            "fn run() {{ while kv::get(\"gate\") != true {{ sleep(0.01); }} version() }}\nfn version() {{ {version} }}\nfn open() {{ kv::set(\"gate\", true) }}"
        )
    };
    let house = Plan::new().script("it.rhai", &source(1)).start();
    let sent = house.post("/api/tasks/it.run", &json!({}));
    let path = format!("/api/tasks/{}", sent.json["id"].as_str().unwrap());
    eventually("it runs", || house.get(&path).json["state"] == "STARTED");

    house.write("tasks/it.rhai", &source(2));
    eventually("the new version is in use", || call(&house, "it.version") == 2);
    call(&house, "it.open");

    assert_eq!(house.get(&format!("{path}?wait=10s")).json["result"], 1);
}

#[test]
fn a_removed_script_is_no_task() {
    let house = Plan::new().script("it.rhai", "fn one() { 1 }").start();

    std::fs::remove_file(house.path("tasks/it.rhai")).unwrap();

    eventually("it is gone", || house.post("/api/tasks/it.one", &json!({})).status == 404);
}

#[test]
fn the_code_that_a_run_ran_can_be_read_when_it_has_changed() {
    let library = |version: u32| format!("fn version() {{ {version} }}");
    let script = "import \"_lib\" as lib;\nfn version() { lib::version() }";
    let house = Plan::new().script("_lib.rhai", &library(1)).script("it.rhai", script).start();
    let run = |version: u32| {
        let mut run = Value::Null;
        eventually("it runs", || {
            run = house.post("/api/tasks/it.version?wait=5s", &json!({})).json;
            run["result"] == version
        });
        run
    };

    let first = run(1);
    house.write("tasks/_lib.rhai", &library(2));
    let second = run(2);

    assert_ne!(first["code"], second["code"]);
    for (run, version) in [(first, 1), (second, 2)] {
        let path = format!("/api/tasks/{}/source", run["id"].as_str().unwrap());
        eventually("its code is kept", || house.get(&path).status == 200);
        let source = house.get(&path).json;
        assert_eq!(source["hash"], run["code"]);
        assert_eq!(source["files"], json!({ "tasks/_lib.rhai": library(version), "tasks/it.rhai": script }));
    }
}
