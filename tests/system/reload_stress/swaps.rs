//! Whole folders that are swapped: one change, and no task between two.

use super::*;

#[test]
fn a_checkout_of_another_branch_is_one_change() {
    let house = project(1).start();
    let folder = house.path("");
    git(&folder, &["init", "--quiet", "--initial-branch=one"]);
    for (branch, version) in [("one", 1), ("two", 2)] {
        git(&folder, &["checkout", "--quiet", "-B", branch]);
        save(&house.path("tasks"), &set(version));
        for number in 0..300 {
            house.write(&format!("tasks/more/m{number}.rhai"), &format!("fn version() {{ {version} }}"));
        }
        git(&folder, &["add", "tasks"]);
        git(&folder, &["commit", "--quiet", "--message", branch]);
    }

    eventually("the last branch runs", || call(&house, "more.m299.version") == 2);

    let results = under_load(&house, || {
        for version in [1, 2, 1, 2, 1] {
            git(&folder, &["checkout", "--quiet", if version == 1 { "one" } else { "two" }]);
            eventually("the other branch runs", || call(&house, "more.m299.version") == version);
        }
    });

    assert_whole(&results);
    assert_eq!(call(&house, "a.check"), json!([1, 1, 1]));
}

#[test]
fn a_folder_that_is_swapped_by_its_link_is_one_change() {
    let plan = Plan::new();
    for version in 0..2 {
        set(version).iter().for_each(|(name, text)| {
            let path = plan.path(&format!("releases/{version}/{name}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        });
    }
    symlink("releases/0", plan.path("tasks")).unwrap();
    let house = plan.start();

    let results = under_load(&house, || {
        let began = Instant::now();
        for version in 0..100 {
            symlink(format!("releases/{}", version % 2), house.path("next")).unwrap();
            fs::rename(house.path("next"), house.path("tasks")).unwrap();
            // The stress itself.
            std::thread::sleep(Duration::from_millis(10));
        }
        eventually("the last one runs", || call(&house, "a.check") == json!([1, 1, 1]));
        println!("100 swaps took {:?}", began.elapsed());
    });

    assert_whole(&results);
}

#[test]
fn a_folder_of_links_that_are_swapped_together_is_one_change() {
    // The way Kubernetes mounts a ConfigMap.
    let plan = Plan::new();
    let tasks = plan.path("tasks");
    for version in 0..4 {
        save(&tasks.join(format!("..{version}")), &set(version));
    }
    symlink("..0", tasks.join("..data")).unwrap();
    for name in ["a.rhai", "b.rhai", "_lib"] {
        symlink(format!("..data/{name}"), tasks.join(name)).unwrap();
    }
    let house = plan.start();

    let results = under_load(&house, || {
        for version in 1..4 {
            symlink(format!("..{version}"), tasks.join("..data_tmp")).unwrap();
            fs::rename(tasks.join("..data_tmp"), tasks.join("..data")).unwrap();
            eventually("it runs", || call(&house, "b.version") == version);
        }
    });

    assert_whole(&results);
}

#[test]
fn a_folder_that_is_replaced_by_another_loses_no_task() {
    let house = project(0).start();

    let results = under_load(&house, || {
        for version in 1..10 {
            save(&house.path("next"), &set(version));
            fs::rename(house.path("tasks"), house.path("old")).unwrap();
            fs::rename(house.path("next"), house.path("tasks")).unwrap();
            fs::remove_dir_all(house.path("old")).unwrap();
            eventually("it runs", || call(&house, "a.version") == version);
        }
    });

    assert_whole(&results);
}

#[test]
fn a_folder_that_is_removed_and_written_again_loses_no_task() {
    let house = project(0).start();

    let results = under_load(&house, || {
        for version in 1..6 {
            fs::remove_dir_all(house.path("tasks")).unwrap();
            save(&house.path("tasks"), &set(version));
            eventually("it runs", || call(&house, "a.version") == version && call(&house, "b.version") == version);
        }
    });

    // Written one by one, so that one may be read without the other; but what one run sees stays as it is.
    assert!(results.iter().all(|result| result[1] == result[2]), "{results:?}");
}
