use super::*;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

/// A scan directory with a service `web`, both watched.
fn watched() -> (TempDir, PathBuf, PathBuf, Watch) {
    let dir = tempfile::tempdir().expect("dir");
    let scan = dir.path().join("scan");
    let web = scan.join("web");
    fs::create_dir_all(web.join("log")).expect("dirs");
    fs::write(web.join("run"), "").expect("run");
    let mut watch = Watch::new().expect("inotify");
    watch.scan_directory(&scan).expect("scan");
    watch
        .service(&"web".into(), &web.clone().into())
        .expect("service");
    (dir, scan, web, watch)
}

/// All events of what was done before are there when the call that did it returns.
fn changes(watch: &mut Watch) -> Vec<Change> {
    watch.read().expect("read")
}

fn web() -> Vec<Change> {
    vec![Change::Service("web".into())]
}

fn readable(watch: &Watch) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(watch.fd().expect("inotify"), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).expect("poll") == 1
}

#[test]
fn nothing_done_is_nothing_to_read() {
    let (_dir, _, _, mut watch) = watched();
    assert!(!readable(&watch));
    assert_eq!(changes(&mut watch), []);
}

#[test]
fn entries_that_come_and_go_ask_for_a_scan() {
    let (dir, scan, _, mut watch) = watched();
    fs::create_dir(scan.join("new")).expect("new");
    assert_eq!(changes(&mut watch), [Change::Scan]);
    fs::rename(scan.join("new"), dir.path().join("away")).expect("away");
    assert_eq!(changes(&mut watch), [Change::Scan]);
    symlink(dir.path().join("away"), scan.join("link")).expect("link");
    assert_eq!(changes(&mut watch), [Change::Scan]);
    fs::remove_file(scan.join("link")).expect("remove");
    assert_eq!(changes(&mut watch), [Change::Scan]);
    fs::create_dir(scan.join(".hidden")).expect("hidden");
    assert_eq!(changes(&mut watch), []);
}

#[test]
fn files_of_the_definition_are_told_and_others_are_not() {
    let (_dir, _, dir, mut watch) = watched();
    for name in [
        "run",
        "finish",
        "check",
        "down",
        "service.toml",
        "log/run",
        "log/down",
    ] {
        fs::write(dir.join(name), "x").expect("write");
        assert_eq!(changes(&mut watch), web(), "{name} written");
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir.join(name), mode).expect("chmod");
        assert_eq!(changes(&mut watch), web(), "{name} chmod");
        fs::rename(dir.join(name), dir.join("other")).expect("rename");
        assert_eq!(changes(&mut watch), web(), "{name} renamed");
        fs::rename(dir.join("other"), dir.join(name)).expect("rename");
        assert_eq!(changes(&mut watch), web(), "{name} renamed back");
        fs::remove_file(dir.join(name)).expect("remove");
        assert_eq!(changes(&mut watch), web(), "{name} removed");
    }
    for name in ["data", "run.new", "log/current"] {
        fs::write(dir.join(name), "x").expect("write");
        fs::remove_file(dir.join(name)).expect("remove");
        assert_eq!(changes(&mut watch), [], "{name}");
    }
    fs::create_dir(dir.join("control")).expect("control");
    assert_eq!(changes(&mut watch), web());
}

#[test]
fn in_a_heeded_directory_the_next_change_of_anything_is_told_once() {
    let (_dir, _, dir, mut watch) = watched();
    let other = [Change::Other("web".into())];
    let write = |watch: &mut Watch| {
        fs::write(dir.join("secrets"), "A=1").expect("write");
        changes(watch)
    };
    assert!(!watch.heed("web"));
    assert_eq!(write(&mut watch), other);
    assert_eq!(write(&mut watch), []);
    // It came before the news that nothing works: which was first, nobody can say. A machine that is
    // busy may take too long to ask.
    let told = (0..100).any(|_| {
        let told = watch.heed("web");
        if !told {
            write(&mut watch);
        }
        told
    });
    assert!(told);
    // Told already, so the directory is not heeded until the next failure.
    assert_eq!(write(&mut watch), []);
    while watch.heed("web") {}
    fs::create_dir(dir.join("supervise")).expect("supervise");
    assert_eq!(changes(&mut watch), []);
    assert_eq!(write(&mut watch), other);
    assert!(!watch.heed("nobody"));
}

#[test]
fn a_file_that_is_being_written_gives_no_event_at_all() {
    let (_dir, _, dir, mut watch) = watched();
    let mut file = fs::File::create(dir.join("data")).expect("file");
    changes(&mut watch);
    file.write_all(b"line\n").expect("written");
    assert!(!readable(&watch));
}

#[test]
fn our_own_supervise_is_silent_until_somebody_removes_it() {
    let (_dir, _, dir, mut watch) = watched();
    let held = crate::svdir::supervise::open(&dir).expect("supervise");
    crate::svdir::supervise::mirror_down(&dir, true).expect("down");
    assert_eq!(changes(&mut watch), []);
    fs::remove_dir_all(dir.join("supervise")).expect("remove");
    assert_eq!(changes(&mut watch), web());
    drop(held);
}

#[test]
fn a_log_that_comes_later_is_watched_too() {
    let (_dir, _, dir, mut watch) = watched();
    fs::remove_dir_all(dir.join("log")).expect("remove");
    assert_eq!(changes(&mut watch), web());
    fs::create_dir(dir.join("log")).expect("log");
    assert_eq!(changes(&mut watch), web());
    fs::write(dir.join("log/run"), "").expect("run");
    assert_eq!(changes(&mut watch), web());
}

#[test]
fn a_scan_directory_that_is_replaced_is_watched_again_by_itself() {
    let (dir, scan, _, mut watch) = watched();
    fs::rename(&scan, dir.path().join("old")).expect("away");
    assert!(changes(&mut watch).contains(&Change::Scan));
    fs::create_dir(&scan).expect("a new one");
    assert_eq!(changes(&mut watch), [Change::Scan]);
    fs::create_dir(scan.join("new")).expect("new");
    assert_eq!(changes(&mut watch), [Change::Scan]);
    fs::create_dir(dir.path().join("old/new")).expect("in the old one");
    assert_eq!(changes(&mut watch), []);
}

#[test]
fn links_on_the_way_that_are_set_anew_are_told() {
    let dir = tempfile::tempdir().expect("dir");
    let at = |name: &str| dir.path().join(name);
    for name in ["sets/one/web", "sets/two/web", "scan", "sv/web", "sv/web2"] {
        fs::create_dir_all(at(name)).expect("dirs");
    }
    symlink("one", at("sets/current")).expect("link");
    symlink("sets/current", at("service")).expect("link");
    let mut watch = Watch::new().expect("inotify");
    watch.scan_directory(&at("service")).expect("scan");
    symlink("two", at("sets/current.new")).expect("link");
    assert_eq!(changes(&mut watch), []);
    fs::rename(at("sets/current.new"), at("sets/current")).expect("switch");
    assert_eq!(changes(&mut watch), [Change::Scan]);
    fs::create_dir(at("sets/two/new")).expect("new");
    assert_eq!(changes(&mut watch), [Change::Scan]);

    symlink("../sv/web", at("scan/web")).expect("link");
    watch
        .service(&"web".into(), &at("scan/web").into())
        .expect("service");
    fs::remove_dir(at("sv/web")).expect("remove");
    changes(&mut watch);
    fs::rename(at("sv/web2"), at("sv/web")).expect("another in its place");
    assert_eq!(changes(&mut watch), [vec![Change::Scan], web()].concat());
}

/// As Kubernetes mounts a ConfigMap, and as a release directory is switched.
#[test]
fn a_link_in_the_middle_of_a_links_target_that_is_set_anew_is_told() {
    let (dir, _, service, mut watch) = watched();
    let elsewhere = dir.path().join("elsewhere");
    for (place, name) in [(&service, "..data"), (&elsewhere, "current")] {
        for version in ["..v1", "..v2"] {
            fs::create_dir_all(place.join(version)).expect("a version");
            fs::write(place.join(version).join("file"), version).expect("a file");
        }
        symlink("..v1", place.join(name)).expect("a link");
    }
    symlink("..data/file", service.join("service.toml")).expect("a link");
    symlink(elsewhere.join("current/file"), service.join("finish")).expect("a link");
    assert_eq!(changes(&mut watch), web());
    for (place, name) in [(&service, "..data"), (&elsewhere, "current")] {
        for version in ["..v2", "..v1", "..v3"] {
            symlink(version, place.join("new")).expect("a link");
            fs::rename(place.join("new"), place.join(name)).expect("set anew");
            assert_eq!(changes(&mut watch), web(), "{name} to {version}");
        }
        // What it leads to now comes later.
        fs::create_dir(place.join("..v3")).expect("a version");
        assert_eq!(changes(&mut watch), web(), "{name} leads somewhere");
        fs::write(place.join("..v3/file"), "").expect("a file");
        assert_eq!(changes(&mut watch), web(), "{name} leads to a file");
    }
}

#[test]
fn what_run_links_to_is_told_however_it_is_changed() {
    let (dir, _, place, mut watch) = watched();
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).expect("shared");
    let (one, two) = (shared.join("one"), shared.join("two"));
    for run in [&one, &two] {
        fs::write(run, "").expect("a script");
    }
    symlink("../../../shared/hop", place.join("log/run")).expect("link");
    fs::remove_file(place.join("run")).expect("removed");
    symlink(&one, place.join("run")).expect("link");
    assert_eq!(changes(&mut watch), web());
    fs::set_permissions(&one, fs::Permissions::from_mode(0o755)).expect("mode");
    assert_eq!(changes(&mut watch), web());
    fs::write(&one, "#!/bin/sh").expect("written");
    assert_eq!(changes(&mut watch), web());
    fs::write(&two, "#!/bin/sh").expect("written");
    assert_eq!(changes(&mut watch), [], "nobody links to it");
    // As editors do it.
    fs::rename(&two, &one).expect("replaced");
    assert_eq!(changes(&mut watch), web());
    fs::write(&one, "#!/bin/sh -e").expect("written");
    assert_eq!(changes(&mut watch), web(), "watched is what is there now");
    // Over two links, and not there yet.
    symlink(&two, shared.join("hop")).expect("link");
    assert_eq!(changes(&mut watch), web());
    fs::write(&two, "").expect("made");
    assert_eq!(changes(&mut watch), web());
    fs::set_permissions(&two, fs::Permissions::from_mode(0o755)).expect("mode");
    assert_eq!(changes(&mut watch), web());
    assert_eq!(changes(&mut watch), []);
    watch.forget("web");
    fs::write(&one, "").expect("written");
    fs::write(&two, "").expect("written");
    assert_eq!(changes(&mut watch), []);
}

#[test]
fn a_scan_directory_that_is_not_there_yet_is_told_when_it_comes() {
    let dir = tempfile::tempdir().expect("dir");
    let mut watch = Watch::new().expect("inotify");
    let scan = dir.path().join("scan");
    watch.scan_directory(&scan).expect_err("not there");
    fs::create_dir(&scan).expect("now");
    assert_eq!(changes(&mut watch), [Change::Scan]);
    fs::create_dir(scan.join("new")).expect("new");
    assert_eq!(changes(&mut watch), [Change::Scan]);
}

#[test]
fn two_names_for_one_directory_are_both_told_and_forgotten_apart() {
    let (_dir, scan, dir, mut watch) = watched();
    symlink("web", scan.join("also")).expect("link");
    watch
        .service(&"also".into(), &scan.join("also").into())
        .expect("service");
    changes(&mut watch);
    fs::write(dir.join("run"), "x").expect("write");
    let both = [vec![Change::Service("also".into())], web()].concat();
    assert_eq!(changes(&mut watch), both);
    watch.forget("also");
    fs::write(dir.join("run"), "x").expect("write");
    assert_eq!(changes(&mut watch), web());
    watch.forget("web");
    fs::write(dir.join("run"), "x").expect("write");
    assert_eq!(changes(&mut watch), []);
}

#[test]
fn a_service_directory_that_is_the_scan_directory_keeps_both_masks() {
    let (_dir, scan, _, mut watch) = watched();
    watch
        .service(&"self".into(), &scan.clone().into())
        .expect("service");
    watch.scan_directory(&scan).expect("scan");
    fs::write(scan.join("run"), "").expect("write");
    let wanted = [Change::Scan, Change::Service("self".into())];
    assert_eq!(changes(&mut watch), wanted);
    fs::write(scan.join("run"), "x").expect("write");
    assert_eq!(changes(&mut watch), [Change::Service("self".into())]);
}

#[test]
fn a_removed_service_asks_for_a_scan() {
    let (_dir, scan, dir, mut watch) = watched();
    fs::remove_dir_all(&dir).expect("remove");
    let found = changes(&mut watch);
    assert!(found.contains(&Change::Scan), "{found:?}");
    fs::create_dir(scan.join("web")).expect("again");
    assert_eq!(changes(&mut watch), [Change::Scan]);
}

#[test]
fn an_overflow_means_that_anything_may_have_changed() {
    let (_dir, _, _, watch) = watched();
    let event = InotifyEvent {
        wd: *watch.watched.keys().next().expect("one"),
        mask: AddWatchFlags::IN_Q_OVERFLOW,
        cookie: 0,
        name: None,
    };
    let mut found = Found::default();
    watch.take(&event, &mut found);
    assert!(found.scan_replaced);
    let wanted = [vec![Change::Scan], web()].concat();
    assert_eq!(Vec::from_iter(found.changes), wanted);
}

#[test]
fn a_local_file_system_is_reliable_and_a_missing_one_is_not() {
    assert!(reliable(Path::new("/proc")));
    assert!(!reliable(Path::new("/no/such/directory")));
}

#[test]
fn without_inotify_nothing_is_told_and_nothing_fails_but_the_watching() {
    let dir = TempDir::new().expect("dir");
    let mut watch = Watch::blind();
    assert!(watch.is_blind() && watch.fd().is_none());
    assert!(watch.scan_directory(dir.path()).is_err());
    let place = dir.path().to_path_buf().into();
    assert!(watch.service(&"web".into(), &place).is_err());
    watch.forget("web");
    assert_eq!(changes(&mut watch), []);
}
