//! The document of the API: a validator accepts it, the answers are as it says, and a client made from it works.

use crate::support::house::Plan;
use crate::support::python::python;

const HELLO: &str = "fn greet(name) { task::progress(1, 2); info(\"hello\"); `Hello, ${name}!` }\n\
                     fn fail() { throw \"kaboom\" }\n\
                     fn stand() { while !task::is_revoked() { sleep(0.01); } }\n";

const SCHEDULES: &str = "[hourly]\ntask = \"hello.greet\"\nschedule = { minute = 0, hour = 11 }\nargs = [\"you\"]\n\
                         [often]\ntask = \"hello.greet\"\nschedule = \"1h\"\nargs = [\"you\"]\n";

#[test]
fn a_client_that_nobody_wrote_by_hand_sends_a_task() {
    let house = Plan::new()
        .shipped("tasks/math.rhai")
        .shipped("plugins")
        .script("hello.rhai", HELLO)
        .script("broken.rhai", "fn one() {\n  let x = ;\n}")
        .file("schedules.toml", SCHEDULES)
        .start();
    let folder = tempfile::tempdir().unwrap();

    let arguments = [house.url(""), folder.path().to_str().unwrap().to_owned(), house.pid().to_string()];
    let said = python("tests/system/python/client.py", &arguments.each_ref().map(String::as_str));

    assert_eq!((&said[0]["sum"], &said[0]["same"], &said[0]["missing"]), (&13.into(), &13.into(), &404.into()));
    assert!(said[0]["paths"].as_u64().unwrap() > 15, "{said:?}");
}
