//! The house stands on its floors: a room uses rooms below it, or beside it one way, never above, never in a circle.
//!
//! The floors are read from the comments of `src/lib.rs`, what a room uses from its `crate::` paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)
}

/// The floor of each room, lowest first.
fn floors() -> BTreeMap<String, usize> {
    let mut floors = BTreeMap::new();
    let mut floor = None;
    for line in std::fs::read_to_string(source("lib.rs")).unwrap().lines() {
        if line.starts_with("// Floor") || line.starts_with("// Roof") {
            floor = Some(floor.map_or(0, |floor| floor + 1));
        } else if let Some(room) = line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")) {
            let room = room.trim_end_matches(';').to_owned();
            floors.insert(room, floor.expect("a room above the first floor comment"));
        }
    }
    floors
}

fn files_of(room: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![source(room)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    let alone = source(&format!("{room}.rs"));
    files.extend(alone.exists().then_some(alone));
    files
}

/// The rooms named by `crate::` in the code of a file, without its comments and without its tests.
fn uses(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

fn used_rooms() -> BTreeMap<String, BTreeSet<String>> {
    let floors = floors();
    floors
        .keys()
        .map(|room| {
            let files = files_of(room);
            let used = files.iter().flat_map(|file| uses(file));
            (room.clone(), used.filter(|used| used != room && floors.contains_key(used)).collect())
        })
        .collect()
}

#[test]
fn every_room_is_on_a_floor_and_has_files() {
    let floors = floors();

    assert!(floors.len() > 5, "{floors:?}");
    for room in floors.keys() {
        assert!(!files_of(room).is_empty(), "`{room}` has no file");
    }
    for entry in std::fs::read_dir(source("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let room = name.trim_end_matches(".rs");
        assert!(floors.contains_key(room) || ["lib", "main"].contains(&room), "`{name}` is on no floor of lib.rs");
    }
}

#[test]
fn no_room_uses_one_above_it() {
    let floors = floors();
    for (room, used) in used_rooms() {
        for used in used {
            assert!(floors[&used] <= floors[&room], "`{room}` uses `{used}`, which is above it");
        }
    }
}

#[test]
fn no_rooms_use_each_other_in_a_circle() {
    let rooms = used_rooms();
    for start in rooms.keys() {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&String> = rooms[start].iter().collect();
        while let Some(room) = open.pop() {
            assert_ne!(room, start, "`{start}` uses itself by way of other rooms: {seen:?}");
            if seen.insert(room) {
                open.extend(&rooms[room]);
            }
        }
    }
}

#[test]
fn only_the_store_room_names_its_two_stores() {
    for room in floors().keys().filter(|room| *room != "store") {
        for file in files_of(room) {
            let text = std::fs::read_to_string(&file).unwrap();
            for name in ["store::embedded", "store::redis"] {
                assert!(!text.contains(name), "{} names `{name}`", file.display());
            }
        }
    }
}

#[test]
fn every_room_says_what_it_is() {
    for room in floors().keys() {
        let door = [source(&format!("{room}/mod.rs")), source(&format!("{room}.rs"))];
        let door = door.iter().find(|path| path.exists()).unwrap();
        let text = std::fs::read_to_string(door).unwrap();
        assert!(text.starts_with("//! "), "{} does not begin with what it is", door.display());
    }
}

#[test]
fn no_room_is_a_drawer() {
    for file in floors().keys().flat_map(|room| files_of(room)) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let drawers = ["util", "utils", "common", "helper", "helpers", "manager", "types", "misc"];
        assert!(!drawers.contains(&name), "{}: name it after what it does", file.display());
    }
}
