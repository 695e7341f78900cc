//! What is shipped beside the program: the image is built from files that are there.

use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The files that the program holds, from the top of the repository. Those of tests are left out.
fn included() -> Vec<String> {
    let mut files = Vec::new();
    sources(&Path::new(ROOT).join("src"), &mut files);
    let of_file = |file: &PathBuf| -> Vec<String> {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.split("\n#[cfg(test)]").next().unwrap();
        let named = code.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let whole = |name: &str| file.parent().unwrap().join(name).canonicalize().unwrap();
        named.map(|name| whole(name).strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned()).collect()
    };
    files.iter().flat_map(of_file).collect()
}

#[test]
fn the_image_is_built_from_everything_that_the_program_holds() {
    let dockerfile = read("packaging/Dockerfile");
    let build = dockerfile.split("\nFROM ").nth(1).unwrap();
    let copied: Vec<&str> = build
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .flat_map(|line| line.rsplit_once(' ').unwrap().0.split(' '))
        .collect();
    let ignore = read("packaging/Dockerfile.dockerignore");
    let sent: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let is_in = |file: &str, folders: &[&str]| folders.iter().any(|folder| Path::new(file).starts_with(folder));

    let included = included();

    assert!(included.iter().any(|file| file.starts_with("plugins/")), "{included:?}");
    for file in included.iter().map(String::as_str).chain(["Cargo.toml", "Cargo.lock", "tests/floors.rs"]) {
        assert!(is_in(file, &copied), "packaging/Dockerfile copies no `{file}`");
        assert!(is_in(file, &sent), "packaging/Dockerfile.dockerignore shuts `{file}` out");
    }
}
