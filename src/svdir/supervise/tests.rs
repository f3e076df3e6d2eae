use super::*;
use crate::svdir::status::decode;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Instant;

fn status() -> Status {
    Status {
        since: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970"),
        pid: Some(std::process::id()),
        paused: false,
        want: Want::Up,
        got_term: false,
        state: State::Run,
    }
}

/// A child that another test has just forked holds our descriptors until its exec: what was
/// let go of is free a moment later.
fn until(mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reached() {
        assert!(Instant::now() < deadline, "not reached in time");
        std::thread::yield_now();
    }
}

fn open_when_free(dir: &Path) -> Result<Supervise, OpenError> {
    let mut opened = open(dir);
    until(|| {
        if matches!(opened, Err(OpenError::Locked(_))) {
            opened = open(dir);
        }
        !matches!(opened, Err(OpenError::Locked(_)))
    });
    opened
}

fn installed(program: &str) -> bool {
    let there = Path::new("/usr/bin").join(program).exists();
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}

fn modes(supervise: &Path) -> Vec<(String, u32)> {
    let mut modes: Vec<_> = fs::read_dir(supervise)
        .expect("supervise")
        .map(|entry| {
            let entry = entry.expect("entry");
            let name = entry.file_name().into_string().expect("name");
            (name, entry.metadata().expect("metadata").mode())
        })
        .collect();
    modes.push((".".into(), fs::metadata(supervise).expect("dir").mode()));
    modes.sort();
    modes
}

#[test]
fn a_status_is_there_before_the_first_run_and_an_older_one_is_kept() {
    let dir = tempfile::tempdir().expect("dir");
    fs::write(dir.path().join("down"), "").expect("down");
    let read = || decode(&fs::read(dir.path().join("supervise/status")).expect("status"));
    let first = open(dir.path()).expect("first");
    let found = read().expect("a status");
    assert_eq!((found.state, found.want), (State::Down, Want::Down));
    write(dir.path(), &status()).expect("written");
    drop(first);
    open_when_free(dir.path()).expect("again");
    assert_eq!(read().expect("a status").state, State::Run);
}

#[test]
fn a_second_supervisor_is_refused_before_it_has_changed_anything() {
    let dir = tempfile::tempdir().expect("dir");
    let first = open(dir.path()).expect("first");
    fs::remove_file(dir.path().join("supervise/ok")).expect("remove");
    let error = open(dir.path()).expect_err("second");
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    assert!(!dir.path().join("supervise/ok").exists());
    drop(first);
    open_when_free(dir.path()).expect("free again");
}

#[test]
fn a_link_that_leads_nowhere_gets_its_target_one_level_deep() {
    let dir = tempfile::tempdir().expect("dir");
    let run = tempfile::tempdir().expect("run");
    let svc = dir.path().join("svc");
    fs::create_dir(&svc).expect("svc");
    symlink(run.path().join("svc"), svc.join("supervise")).expect("link");
    open(&svc).expect("opened");
    assert_eq!(
        fs::metadata(run.path().join("svc")).expect("made").mode() & 0o7777,
        0o700
    );
    fs::remove_file(svc.join("supervise")).expect("remove");
    symlink(run.path().join("a/b"), svc.join("supervise")).expect("link");
    let error = open(&svc).expect_err("two levels");
    assert!(error.to_string().contains("cannot make"), "{error}");
    fs::remove_file(svc.join("supervise")).expect("remove");
    symlink("../beside", svc.join("supervise")).expect("link");
    open(&svc).expect("a relative one");
    assert!(dir.path().join("beside/lock").exists());
}

#[test]
fn a_control_that_is_no_fifo_is_an_error_that_tells_the_cure() {
    let dir = tempfile::tempdir().expect("dir");
    drop(open(dir.path()).expect("first"));
    let control = dir.path().join("supervise/control");
    fs::remove_file(&control).expect("remove");
    fs::write(&control, "").expect("file");
    let error = open_when_free(dir.path()).expect_err("no fifo");
    assert!(
        error
            .to_string()
            .contains(&format!("rm {}", control.display())),
        "{error}"
    );
}

#[test]
fn a_removed_supervise_is_noticed_and_made_anew() {
    let dir = tempfile::tempdir().expect("dir");
    let first = open(dir.path()).expect("first");
    assert!(still_ours(dir.path(), &first.lock));
    fs::remove_dir_all(dir.path().join("supervise")).expect("remove");
    assert!(!still_ours(dir.path(), &first.lock));
    let second = open(dir.path()).expect("anew, the old lock still held");
    assert!(still_ours(dir.path(), &second.lock));
    assert!(!still_ours(dir.path(), &first.lock));
}

#[test]
fn a_duplicate_of_the_lock_holds_it_and_a_successor_needs_only_the_fifos() {
    let dir = tempfile::tempdir().expect("dir");
    let first = open(dir.path()).expect("first");
    let kept = first.lock.try_clone().expect("duplicate");
    drop(first);
    assert!(matches!(open(dir.path()), Err(OpenError::Locked(_))));
    fifos(dir.path()).expect("fifos");
    drop(kept);
}

#[test]
fn a_new_file_that_was_left_or_planted_is_not_written_through() {
    let dir = tempfile::tempdir().expect("dir");
    let _held = open(dir.path()).expect("open");
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").expect("victim");
    symlink(&victim, dir.path().join("supervise/status.new")).expect("plant");
    write(dir.path(), &status()).expect("written");
    assert_eq!(fs::read_to_string(&victim).expect("victim"), "precious");
    let bytes = fs::read(dir.path().join("supervise/status")).expect("status");
    assert_eq!(decode(&bytes).map(|status| status.state), Some(State::Run));
}

#[test]
fn down_is_mirrored_and_taken_back() {
    let dir = tempfile::tempdir().expect("dir");
    let _held = open(dir.path()).expect("open");
    let down = dir.path().join("supervise/down");
    for wanted in [true, true, false, false] {
        mirror_down(dir.path(), wanted).expect("mirrored");
        assert_eq!(down.exists(), wanted);
    }
}

/// Starts runsv on a service that sleeps and returns when its first status is there.
fn runsv(dir: &Path) -> std::process::Child {
    let run = dir.join("run");
    fs::write(&run, "#!/bin/sh\nexec sleep 1000\n").expect("run");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).expect("mode");
    let child = Command::new("runsv").arg(dir).spawn().expect("runsv");
    let is_up = || {
        fs::read(dir.join("supervise/status"))
            .ok()
            .and_then(|bytes| decode(&bytes))
            .is_some_and(|status| status.state == State::Run)
    };
    until(is_up);
    child
}

#[test]
fn files_and_modes_are_those_that_the_real_runsv_makes() {
    if !installed("runsv") {
        return;
    }
    let theirs = tempfile::tempdir().expect("dir");
    let mut child = runsv(theirs.path());
    let listed = modes(&theirs.path().join("supervise"));
    let bytes = fs::read(theirs.path().join("supervise/status")).expect("status");
    let stat = fs::read_to_string(theirs.path().join("supervise/stat")).expect("stat");
    let pid = fs::read_to_string(theirs.path().join("supervise/pid")).expect("pid");
    let locked = open(theirs.path());
    let mut control = OpenOptions::new()
        .write(true)
        .open(theirs.path().join("supervise/control"))
        .expect("control");
    control.write_all(b"x").expect("exit");
    child.wait().expect("runsv ends");

    assert!(matches!(locked, Err(OpenError::Locked(_))));
    let status = decode(&bytes).expect("status");
    assert_eq!(encode(&status).as_slice(), bytes);
    assert_eq!(stat_text(&status), stat);
    assert_eq!(pid_text(&status), pid);
    let ours = tempfile::tempdir().expect("dir");
    let _held = open(ours.path()).expect("open");
    write(ours.path(), &status).expect("write");
    assert_eq!(modes(&ours.path().join("supervise")), listed);
}

#[test]
fn the_real_sv_reads_what_we_write() {
    if !installed("sv") {
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    let sv = |command: &str| {
        let output = Command::new("sv")
            .args([command, &dir.path().display().to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("sv");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let held = open(dir.path()).expect("open");
    write(dir.path(), &status()).expect("write");
    let (code, text) = sv("status");
    let pid = std::process::id();
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("run: ") && text.contains(&format!("(pid {pid}) ")),
        "{text}"
    );
    assert_eq!(sv("check").0, Some(0));
    let down = Status {
        pid: None,
        state: State::Down,
        want: Want::Down,
        ..status()
    };
    write(dir.path(), &down).expect("write");
    assert!(sv("status").1.starts_with("down: "));
    assert_eq!(sv("hup").0, Some(0));
    let mut byte = [0; 8];
    assert_eq!(nix::unistd::read(&held.fifos.control, &mut byte), Ok(1));
    assert_eq!(byte[0], b'h');
    drop(held);
    until(|| sv("status").1.contains("runsv not running"));
}

#[test]
fn a_status_that_was_never_finished_is_written_anew() {
    let dir = tempfile::tempdir().expect("dir");
    drop(open(dir.path()).expect("first"));
    let status = dir.path().join("supervise/status");
    for name in ["pid", "stat", "status"] {
        let path = dir.path().join("supervise").join(name);
        assert!(
            path.exists() && !path.with_extension("new").exists(),
            "{name}"
        );
    }
    fs::write(&status, "").expect("emptied");
    drop(open_when_free(dir.path()).expect("again"));
    assert!(decode(&fs::read(&status).expect("status")).is_some());
}
