//! services.example: every folder is a service that says what it shows, and its scripts are sound.

use crate::tidy::tree;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The example that must not work.
const BROKEN: &str = "services.example/broken/run";

/// Scripts by the names that a supervisor looks for.
fn scripts() -> Vec<String> {
    let named = |path: &String| {
        ["/run", "/finish", "/check"]
            .iter()
            .any(|name| path.ends_with(name))
            || path.contains("/control/")
    };
    tree::files_below("services.example")
        .into_iter()
        .filter(named)
        .collect()
}

pub fn definitions() -> Vec<String> {
    let all = tree::files_below("services.example");
    all.into_iter()
        .filter(|path| path.ends_with("/service.toml"))
        .collect()
}

fn mode(path: &str) -> u32 {
    fs::metadata(tree::root().join(path))
        .unwrap()
        .permissions()
        .mode()
}

/// Comment lines at the top, the interpreter's line aside.
fn opening_comment(text: &str) -> usize {
    let lines = text.lines().skip_while(|line| line.starts_with("#!"));
    lines.take_while(|line| line.starts_with("# ")).count()
}

#[test]
fn every_folder_is_a_service() {
    for entry in fs::read_dir(tree::root().join("services.example")).unwrap() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden {
            let service = path.join("run").exists() || path.join("service.toml").exists();
            assert!(service, "{} is no service", path.display());
        }
    }
}

#[test]
fn every_script_is_executable_but_the_broken_one() {
    for path in scripts() {
        assert_eq!(
            mode(&path) & 0o111 != 0,
            path != BROKEN,
            "{path}: mode {:o}",
            mode(&path)
        );
    }
    assert!(scripts().contains(&BROKEN.to_owned()));
}

#[test]
fn every_service_says_in_two_lines_what_it_shows() {
    for path in scripts() {
        assert!(
            tree::read(&path).starts_with("#!/bin/sh\n"),
            "{path}: another shell"
        );
        // A check of a daemon is one line; its run has said the rest.
        let wanted = if path.contains("/.daemons/") || path.ends_with("/check") {
            1
        } else {
            2
        };
        assert!(
            opening_comment(&tree::read(&path)) >= wanted,
            "{path}: does not say what it shows"
        );
    }
    for path in definitions() {
        let folder = path.trim_end_matches("/service.toml");
        let told = tree::root().join(folder).join("run").exists();
        assert!(
            told || opening_comment(&tree::read(&path)) >= 2,
            "{path}: does not say what it shows"
        );
    }
}

#[test]
fn every_script_is_sound_shell() {
    for path in scripts() {
        let output = Command::new("/bin/sh")
            .arg("-n")
            .arg(tree::root().join(&path))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{path}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn every_example_is_told_in_the_readme_beside_it() {
    let readme = tree::read("services.example/README.md");
    for path in scripts().into_iter().chain(definitions()) {
        let name = path.split('/').nth(1).unwrap_or_default();
        // Those that do not start along with the others have a page of their own.
        let told = match name.starts_with('.') {
            true => format!("({name}/README.md)"),
            false => format!("| `{name}` |"),
        };
        assert!(readme.contains(&told), "{name} is not in the table");
    }
}

#[test]
fn an_opening_comment_is_counted_in_a_sample() {
    assert_eq!(opening_comment("#!/bin/sh\n# one\n# two\necho\n# three"), 2);
    assert_eq!(opening_comment("#!/bin/sh\necho\n# one"), 0);
}
