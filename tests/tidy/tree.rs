//! The source tree as the rules see it: every file that belongs to the project, by relative path.

use std::fs;
use std::path::{Path, PathBuf};

/// Not part of the source: made by builds, wherever they are.
const BUILT: [&str; 2] = [".git", "target"];

/// Not part of the source: made by running the examples.
const RUN: [&str; 3] = ["supervise", "main", "state"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Paths relative to the root, `/` between their parts, sorted. Symbolic links are not followed.
pub fn files_below(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(folder)];
    while let Some(directory) = waiting.pop() {
        for entry in entries(&directory) {
            let kind = fs::symlink_metadata(&entry).unwrap().file_type();
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            // A worktree's `.git` is a file, a clone's a directory.
            if name == ".git" || (kind.is_dir() && skipped(&relative(&entry), &name)) {
                continue;
            }
            if kind.is_dir() {
                waiting.push(entry);
            } else if kind.is_file() {
                found.push(relative(&entry));
            }
        }
    }
    found.sort();
    found
}

fn skipped(path: &str, name: &str) -> bool {
    BUILT.contains(&name) || (path.starts_with("services.example/") && RUN.contains(&name))
}

pub fn rust_files() -> Vec<String> {
    let all = files_below(".");
    all.into_iter()
        .filter(|path| path.ends_with(".rs"))
        .collect()
}

/// Tests that stand in a file of their own, below `src` or not.
pub fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The room a source file belongs to: the folder or file below `src`.
pub fn room(path: &str) -> Option<&str> {
    let first = path.strip_prefix("src/")?.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    }
}

fn relative(path: &Path) -> String {
    let inside = path.strip_prefix(root()).unwrap().to_string_lossy();
    inside.trim_start_matches("./").to_owned()
}

#[test]
fn the_room_of_a_file_is_the_folder_below_src() {
    assert_eq!(room("src/keeper/book.rs"), Some("keeper"));
    assert_eq!(room("src/sys.rs"), Some("sys"));
    assert_eq!(room("tests/main.rs"), None);
}

#[test]
fn test_files_are_told_from_the_rest() {
    assert!(is_test("tests/main.rs") && is_test("src/svdir/load/tests.rs"));
    assert!(!is_test("src/svdir/load.rs"));
}

#[test]
fn the_tree_contains_this_file_and_no_build_output() {
    let files = files_below(".");
    assert!(
        files.contains(&"tests/tidy/tree.rs".to_owned()),
        "{files:?}"
    );
    assert!(!files.iter().any(|path| path.starts_with("target/")));
    assert!(!skipped("src/svdir/supervise", "supervise"));
    assert!(skipped("services.example/ticker/supervise", "supervise"));
}
