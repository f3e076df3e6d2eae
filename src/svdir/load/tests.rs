use super::*;
use crate::machine::spec::{Start, Stop};
use std::os::unix::fs::symlink;
use tempfile::TempDir;

fn service(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("dir");
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("dirs");
        fs::write(&path, content).expect("file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    }
    dir
}

fn loaded(dir: &TempDir) -> Definition {
    load(dir.path(), "web").expect("a definition")
}

#[test]
fn a_directory_made_for_runit_is_read_as_runit_reads_it() {
    let dir = service(&[
        ("run", ""),
        ("finish", ""),
        ("check", ""),
        ("down", ""),
        ("control/t", ""),
        ("log/run", ""),
        ("log/down", ""),
    ]);
    let Definition {
        spec,
        log,
        warnings,
    } = loaded(&dir);
    assert_eq!(spec.start, Start::Script);
    assert!(spec.down && spec.has_finish && spec.has_check && spec.has_control);
    assert!(spec.has_log_service);
    let log = log.expect("log");
    assert_eq!(
        (log.kind, log.down, log.stop),
        (Kind::Log, true, Stop::default())
    );
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn an_empty_directory_is_a_service_whose_start_will_fail() {
    let dir = service(&[]);
    assert_eq!(loaded(&dir).spec, Spec::default());
}

#[test]
fn links_that_lead_nowhere_do_not_count_but_for_service_toml() {
    let dir = service(&[]);
    for name in ["down", "finish", "check", "log", "control"] {
        symlink("nowhere", dir.path().join(name)).expect("link");
    }
    assert_eq!(loaded(&dir).spec, Spec::default());
    symlink("nowhere", dir.path().join("service.toml")).expect("link");
    let findings = load(dir.path(), "web").expect_err("dangling");
    assert!(
        findings.headline.contains("service.toml"),
        "{}",
        findings.headline
    );
}

#[test]
fn a_finish_that_is_a_directory_counts_and_one_that_waits_is_not_waited_for() {
    let dir = service(&[]);
    fs::create_dir(dir.path().join("finish")).expect("directory");
    let definition = loaded(&dir);
    assert!(definition.spec.has_finish);
    assert_eq!(
        definition.warnings,
        ["finish is not executable: chmod +x finish"]
    );
    fs::remove_dir(dir.path().join("finish")).expect("remove");
    nix::unistd::mkfifo(&dir.path().join("finish"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    assert!(loaded(&dir).spec.has_finish);
}

#[test]
fn a_log_that_is_no_directory_is_no_log_service_and_a_warning() {
    let dir = service(&[("run", ""), ("log", "")]);
    let definition = loaded(&dir);
    assert!(!definition.spec.has_log_service && definition.log.is_none());
    assert_eq!(
        definition.warnings,
        ["log is no directory, so it is not used"]
    );
}

#[test]
fn exec_beside_run_is_a_finding_that_names_both() {
    let dir = service(&[("run", ""), ("service.toml", "user = 'root'\nexec = 'x'\n")]);
    let findings = load(dir.path(), "web").expect_err("both");
    assert!(
        findings
            .headline
            .starts_with("service.toml:2:1: exec is set and ./run is there")
    );
    fs::remove_file(dir.path().join("run")).expect("remove");
    symlink("nowhere", dir.path().join("run")).expect("link");
    load(dir.path(), "web").expect_err("a link counts, wherever it leads");
    fs::remove_file(dir.path().join("run")).expect("remove");
    assert_eq!(loaded(&dir).spec.start, Start::Exec(vec!["x".into()]));
}

#[test]
fn settings_of_a_log_nobody_writes_are_warned_of() {
    let dir = service(&[
        ("run", ""),
        ("log/run", ""),
        ("service.toml", "log.keep = 3\n"),
    ]);
    let warnings = loaded(&dir).warnings;
    assert!(warnings[0].contains("[log] is not used"), "{warnings:?}");
}

#[test]
fn a_log_service_may_have_a_service_toml_but_no_log() {
    let dir = service(&[
        ("run", ""),
        ("log/service.toml", "exec = 'logger'\nuser = 'root'\n"),
    ]);
    let log = loaded(&dir).log.expect("log");
    assert_eq!(log.start, Start::Exec(vec!["logger".into()]));
    fs::write(dir.path().join("log/service.toml"), "[log]\nkeep = 1\n").expect("file");
    let findings = load(dir.path(), "web").expect_err("no log of a log");
    assert!(
        findings.text.contains("web/log/service.toml:1:2"),
        "{}",
        findings.text
    );
}

#[test]
fn a_relative_log_directory_is_below_the_service() {
    let dir = service(&[("run", ""), ("service.toml", "log.dir = 'main'\n")]);
    let wanted = dir.path().join("main").display().to_string();
    assert_eq!(loaded(&dir).spec.log.dir, Some(wanted));
}

#[test]
fn bytes_that_are_no_utf8_are_placed() {
    let dir = service(&[("run", "")]);
    fs::write(
        dir.path().join("service.toml"),
        b"umask = '022'\nuser = '\xffx'\n",
    )
    .expect("file");
    let findings = load(dir.path(), "web").expect_err("bytes");
    assert_eq!(findings.headline, "service.toml:2:9: this is not UTF-8");
    assert!(findings.text.contains("web/service.toml:2:9"));
    assert!(
        findings.text.contains("2 | user = '\u{fffd}x'\n"),
        "{}",
        findings.text
    );
}

#[test]
fn a_file_too_large_or_no_file_at_all_is_refused() {
    let dir = service(&[("run", "")]);
    let path = dir.path().join("service.toml");
    fs::write(&path, " ".repeat(FILE_BYTES_MAX)).expect("largest");
    loaded(&dir);
    fs::write(&path, " ".repeat(FILE_BYTES_MAX + 1)).expect("too large");
    let findings = load(dir.path(), "web").expect_err("too large");
    assert!(
        findings.headline.contains("larger than 65536 bytes"),
        "{}",
        findings.headline
    );
    fs::remove_file(&path).expect("remove");
    fs::create_dir(&path).expect("directory");
    let findings = load(dir.path(), "web").expect_err("directory");
    assert!(
        findings.headline.contains("no regular file"),
        "{}",
        findings.headline
    );
}

#[test]
fn a_directory_that_is_gone_or_none_is_said_to_be() {
    let dir = service(&[("file", "")]);
    let gone = load(&dir.path().join("gone"), "gone").expect_err("gone");
    assert!(gone.headline.contains("cannot read"), "{}", gone.headline);
    let file = load(&dir.path().join("file"), "file").expect_err("file");
    assert!(
        file.headline.contains("is no directory"),
        "{}",
        file.headline
    );
}

/// Another version of us may have taken the print that this one compares with.
#[test]
fn without_log_the_print_is_that_of_an_empty_one() {
    let dir = service(&[("run", "")]);
    let without = fingerprint(dir.path());
    fs::create_dir(dir.path().join("log")).expect("log");
    assert_eq!(fingerprint(dir.path()), without);
    fs::write(dir.path().join("log/run"), "").expect("run");
    assert_ne!(fingerprint(dir.path()), without);
}
