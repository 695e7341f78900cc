//! schedules.toml, edited while umbel runs.

use serde_json::{Value, json};

use crate::support::house::{House, Plan, eventually};

fn runs(house: &House, task: &str) -> Vec<Value> {
    let listed = house.get(&format!("/api/tasks?name={task}&state=SUCCESS&limit=1000")).json;
    listed["tasks"].as_array().unwrap().clone()
}

#[test]
fn an_entry_that_is_added_fires_periodically_with_its_arguments() {
    let house = Plan::new().shipped("tasks/math.rhai").start();

    house.write(
        "schedules.toml",
        "[beat]\ntask = \"math.add\"\nschedule = \"200ms\"\nargs = [10]\nkwargs = { y = 3 }\n",
    );

    eventually("it fires again and again", || runs(&house, "math.add").len() >= 3);
    assert_eq!(runs(&house, "math.add")[0]["result"], 13);
}

#[test]
fn a_removed_entry_fires_no_more_and_a_bad_file_keeps_the_old_schedule() {
    let entry = |name: &str, task: &str| format!("[{name}]\ntask = \"{task}\"\nschedule = \"100ms\"\nargs = [[1]]\n");
    let house = Plan::new().shipped("tasks/math.rhai").file("schedules.toml", &entry("one", "math.xsum")).start();
    eventually("it fires", || !runs(&house, "math.xsum").is_empty());

    house.write("schedules.toml", "[one]\ntask = \"math.xsum\"\nschedule = \"never\"\n");
    eventually("the log says what is wrong", || {
        house.log_lines().iter().any(|line| line.contains("schedules.toml:3") && line.contains("one"))
    });
    let so_far = runs(&house, "math.xsum").len();
    eventually("the old schedule goes on", || runs(&house, "math.xsum").len() > so_far);

    house.write("schedules.toml", "");
    eventually("the log shows the difference", || {
        house.log_lines().iter().any(|line| line.contains("removed") && line.contains("one"))
    });
    let at_the_end = runs(&house, "math.xsum").len();
    // Three ticks of an entry that is still there: the removed one had its time to fire.
    house.write("schedules.toml", &entry("two", "math.xsum").replace("[[1]]", "[[2]]"));
    eventually("another entry fires", || runs(&house, "math.xsum").len() >= at_the_end + 3);
    let last: Vec<Value> = runs(&house, "math.xsum")[..3].iter().map(|run| run["result"].clone()).collect();
    assert_eq!(json!(last), json!([2, 2, 2]));
}
