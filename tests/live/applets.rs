//! `outlast applets`: the links, and what must not be replaced.

use super::world::{BINARY, children, comm_of, eventually, kill, lives, write_script};
use nix::sys::signal::Signal;
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

/// runsvdir itself and then its supervisor are killed: what it had started is in hand again, and ends
/// when it is told to.
#[test]
fn without_its_front_a_killed_runsvdir_has_its_services_in_hand_again() {
    let dir = tempfile::tempdir().expect("dir");
    let links = dir.path().join("bin");
    applets(&["bin"], dir.path());
    let services = dir.path().join("services");
    write_script(&services.join("web/run"), "#!/bin/sh\nexec sleep 1000\n");
    let logged = services.join("logged");
    write_script(&logged.join("run"), "#!/bin/sh\nexec sleep 1000\n");
    write_script(&logged.join("log/run"), "#!/bin/sh\nexec cat >/dev/null\n");
    let both = [services.join("web"), logged];
    let sv = |word: &str| {
        let args = both.iter().map(|it| it.to_str().expect("text"));
        let args: Vec<&str> = [word].into_iter().chain(args).collect();
        let (_, out, _) = outlast(&links.join("sv"), &args, dir.path());
        out
    };
    let up = |what: &str| {
        eventually(what, || {
            let shown = sv("status");
            let up = shown.lines().filter(|line| line.starts_with("run: "));
            (up.count() == 2 && shown.contains("run: log: ")).then_some(shown)
        })
    };
    let mut front = Command::new(links.join("runsvdir"))
        .args(["-P", "services"])
        .current_dir(dir.path())
        .spawn()
        .expect("runsvdir");
    let pids = |shown: &str| -> Vec<i32> {
        let numbers = shown.split("(pid ").skip(1);
        let numbers = numbers.filter_map(|rest| rest.split_once(')')?.0.parse().ok());
        numbers.collect()
    };
    let before = pids(&up("they run"));
    let keeper = eventually("its keeper", || {
        let mut all = children(i32::try_from(front.id()).expect("pid")).into_iter();
        all.find(|pid| comm_of(*pid) == "outlast-keeper")
    });
    let supervisor = |other: i32| {
        eventually("a supervisor", || {
            let mut all = children(keeper).into_iter();
            all.find(|pid| comm_of(*pid) == "outlast-super" && *pid != other)
        })
    };
    let first = supervisor(0);
    front.kill().expect("killed");
    front.wait().expect("waited for");
    kill(first, Signal::SIGKILL);
    supervisor(first);
    assert_eq!(pids(&up("they are in hand again")), before);
    sv("exit");
    eventually("all has ended", || {
        let mut all = before.iter().chain([&keeper]);
        (!all.any(|pid| lives(*pid))).then_some(())
    });
}
