//! `outlast applets`: the links, and what must not be replaced.

use super::world::BINARY;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

fn outlast(program: &Path, args: &[&str], dir: &Path) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .args(args)
        .current_dir(dir)
        .output()
        .expect("outlast");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn applets(args: &[&str], dir: &Path) -> (Option<i32>, String, String) {
    outlast(Path::new(BINARY), &[&["applets"], args].concat(), dir)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("directory")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("name")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn links_are_made_once_and_kept_from_then_on() {
    let dir = tempfile::tempdir().expect("dir");
    let (code, out, err) = applets(&["a/b"], dir.path());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("a/b/sv -> "), "{out}");
    let links = dir.path().join("a/b");
    for name in super::super::compat::twin::NAMES {
        let target = fs::read_link(links.join(name)).expect("link");
        assert!(target.is_absolute());
        assert_eq!(
            target.canonicalize().expect("there"),
            Path::new(BINARY).canonicalize().expect("there")
        );
    }
    let said = Command::new(links.join("denvdir"))
        .output()
        .expect("denvdir");
    assert_eq!(
        (said.status.code(), said.stderr.as_slice()),
        (Some(100), b"usage: envdir dir child\n\n".as_slice())
    );
    let (code, again, _) = applets(&["a/b"], dir.path());
    assert_eq!(code, Some(0));
    assert!(!again.contains("made") && again.contains("kept"), "{again}");
    assert_eq!(names(&links).len(), outlast::applets::names::NAMES.len());
}

#[test]
fn what_is_not_ours_stays_and_nothing_else_is_changed() {
    let dir = tempfile::tempdir().expect("dir");
    fs::write(dir.path().join("chpst"), "theirs").expect("file");
    let (code, out, err) = applets(&["."], dir.path());
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("chpst is a file of its own and not outlast's"),
        "{err}"
    );
    assert!(err.contains("--force"), "{err}");
    assert_eq!(names(dir.path()), ["chpst"]);

    fs::remove_file(dir.path().join("chpst")).expect("removed");
    symlink("/bin/sh", dir.path().join("sv")).expect("link");
    let (code, _, err) = applets(&["."], dir.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("sv is a link to /bin/sh"), "{err}");

    let (code, out, err) = applets(&["--force", "."], dir.path());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.contains("replaced ") && out.contains("/sv -> "),
        "{out}"
    );

    fs::remove_file(dir.path().join("sv")).expect("removed");
    fs::create_dir(dir.path().join("sv")).expect("directory");
    let (code, _, err) = applets(&["--force", "."], dir.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("sv is a directory"), "{err}");
}

#[test]
fn links_of_another_place_of_ours_are_replaced() {
    let dir = tempfile::tempdir().expect("dir");
    symlink("/opt/old/outlast", dir.path().join("sv")).expect("link");
    let (code, out, _) = applets(&["--json", "."], dir.path());
    assert_eq!(code, Some(0));
    let all: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let done = |name: &str| {
        let found = all.as_array().expect("array").iter();
        let found = found.filter(|link| link["name"] == name);
        found.map(|link| link["done"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(done("sv"), ["replaced"]);
    assert_eq!(done("chpst"), ["made"]);
}

/// A link that stands for the program, as /usr/bin/outlast may, is followed over upgrades.
#[test]
fn links_lead_to_the_path_that_was_called_and_may_be_relative() {
    let dir = tempfile::tempdir().expect("dir");
    let here = dir.path().canonicalize().expect("path");
    fs::create_dir(here.join("bin")).expect("bin");
    let called = here.join("bin/outlast");
    symlink(BINARY, &called).expect("link");
    let target = |path: &str| fs::read_link(here.join(path)).expect("link");

    assert_eq!(outlast(&called, &["applets", "links"], &here).0, Some(0));
    assert_eq!(target("links/sv"), called);
    assert_eq!(outlast(&called, &["applets", "bin"], &here).0, Some(0));
    assert_eq!(target("bin/sv"), Path::new("outlast"));
    let (code, out, _) = outlast(&called, &["applets", "--relative", "links"], &here);
    assert_eq!(code, Some(0));
    assert_eq!(target("links/sv"), Path::new("../bin/outlast"));
    assert!(out.contains("replaced"), "{out}");
    let said = Command::new(here.join("links/setlock"))
        .output()
        .expect("setlock");
    assert_eq!(said.status.code(), Some(100));
}
