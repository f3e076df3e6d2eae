//! `outlast upgrade`: another binary, the same services, no line lost; and the way back.

use super::keeperless::ENDING;
use super::world::{BINARY, World, children, comm_of, eventually, kill, lacks, lives, needs_root};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb, Want};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A user without rights.
const NOBODY: u32 = 65_534;

/// The program that a process runs.
fn program(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}

/// Our binary under another name.
fn copied(world: &World) -> PathBuf {
    let copy = world.path("outlast-next");
    fs::copy(BINARY, &copy).expect("copied");
    copy.canonicalize().expect("a path")
}

/// The binary with this fault; None, with a line to say so, when it was not built.
fn faulty(world: &World, fault: &str) -> Option<PathBuf> {
    faulty_at(&world.path(fault))
}

/// ... which is the name of this file.
pub fn faulty_at(copy: &Path) -> Option<PathBuf> {
    let built = Path::new(BINARY).with_file_name("examples").join("faulty");
    if !built.exists() {
        println!("skipped: build it with: cargo build --example faulty");
        return None;
    }
    fs::copy(built, copy).expect("copied");
    Some(copy.to_owned())
}

fn upgrade(world: &World, binary: &Path) -> (Option<i32>, String, String) {
    let output = world.outlast(&["upgrade", "--binary", &binary.to_string_lossy()]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// One that runs and writes, one that was stopped, one that crashes for ever.
fn inhabited() -> (World, i32) {
    let world = World::new();
    world.run("web", "n=0; while :; do n=$((n+1)); echo line $n; done");
    world.run("stopped", "exec sleep 1000");
    world.run("crashing", "exit 7");
    world.service(
        "ready",
        &[
            ("run", "#!/bin/sh\nexec sleep 1000\n"),
            ("finish", "#!/bin/sh\nexit 0\n"),
            ("check", "#!/bin/sh\nexit 0\n"),
        ],
    );
    let pid = world.until_up("web");
    world.until_up("stopped");
    world.must(Verb::Stop, &["stopped"]);
    world.until_state("crashing", State::Backoff);
    world.until("ready", "ready", |service| service.ready);
    (world, pid)
}

fn nothing_has_changed(world: &World, pid: i32) {
    let web = world.until_state("web", State::Up);
    assert_eq!((web.pid, web.restarts), (Some(pid), 0), "{}", world.said());
    assert_eq!(world.until_state("stopped", State::Down).want, Want::Down);
    let crashing = world.until("crashing", "still crashing", |service| {
        service.state == State::Backoff
    });
    assert_eq!(crashing.last_exit.expect("an exit").code, Some(7));
}

/// The numbered lines that a log has lost, doubled or mixed up, as far as it goes.
pub fn gaps(world: &World, name: &str) -> Vec<String> {
    let dir = world.path("log").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .expect("a log")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('@'))
        })
        .collect();
    files.sort();
    files.push(dir.join("current"));
    let mut numbers = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).expect("a log file");
        numbers.extend(text.lines().map(|line| {
            line.rsplit_once("line ")
                .and_then(|(_, number)| number.parse::<u64>().ok())
                .ok_or(line.to_owned())
        }));
    }
    let pairs = numbers.windows(2);
    pairs
        .filter(|pair| !matches!(pair, [Ok(a), Ok(b)] if a + 1 == *b))
        .map(|pair| format!("{pair:?}"))
        .collect()
}

#[test]
fn a_new_binary_takes_over_and_no_service_notices() {
    let (world, pid) = inhabited();
    let next = copied(&world);
    let keeper = world.keeper_pid();
    let old: BTreeSet<i32> = ["outlast-super", "outlast-scribe"]
        .map(|part| world.part(part))
        .into();
    let (code, out, err) = upgrade(&world, &next);
    assert_eq!(code, Some(0), "{out}{err}{}", world.said());
    assert!(out.starts_with("upgraded to outlast "), "{out}");
    assert_eq!(program(keeper), next);
    assert_eq!(comm_of(keeper), "outlast-keeper");
    assert_eq!(program(world.part("outlast-super")), next);
    nothing_has_changed(&world, pid);
    eventually("a scribe of the new binary", || {
        (program(world.part("outlast-scribe")) == next).then_some(())
    });
    eventually("the old parts have ended", || {
        old.iter().all(|pid| !lives(*pid)).then_some(())
    });
    // ... and it does what it has to: ends, commands, new services.
    kill(pid, Signal::SIGTERM);
    world.until("web", "up again", |web| {
        web.state == State::Up && web.restarts == 1
    });
    world.must(Verb::Start, &["stopped"]);
    world.run("late", "exec sleep 1000");
    world.until_up("late");
}

#[test]
fn no_line_is_lost_by_an_upgrade_nor_written_twice() {
    let world = World::new();
    world.run("web", "n=0; while :; do n=$((n+1)); echo line $n; done");
    world.until_line("web", "line 100");
    let next = copied(&world);
    let mut last = PathBuf::from(BINARY);
    for _ in 0..3 {
        let binary = if last == next {
            Path::new(BINARY)
        } else {
            &next
        };
        let (code, _, err) = upgrade(&world, binary);
        assert_eq!(code, Some(0), "{err}");
        last = binary.to_path_buf();
        let seen = world.lines("web").len();
        eventually("it goes on", || {
            (world.lines("web").len() != seen).then_some(())
        });
    }
    world.must(Verb::Stop, &["web"]);
    assert_eq!(gaps(&world, "web"), Vec::<String>::new());
}

#[test]
fn a_command_that_waits_is_answered_by_the_new_supervisor() {
    let world = World::new();
    world.service(
        "slow",
        &[
            ("run", "#!/bin/sh\ntrap 'touch asked' TERM\necho $$ >pid\nwhile [ ! -e go ]; do sleep 0.02; done\n"),
            ("service.toml", "[stop]\ntimeout = \"60s\"\n"),
        ],
    );
    world.until_up("slow");
    let next = copied(&world);
    let stop = Command::new(BINARY)
        .args(["stop", "slow"])
        .env("OUTLAST_SOCKET", world.socket())
        .spawn()
        .expect("outlast stop");
    eventually("it is being stopped", || {
        world.path("services/slow/asked").exists().then_some(())
    });
    let (code, _, err) = upgrade(&world, &next);
    assert_eq!(code, Some(0), "{err}");
    fs::write(world.path("services/slow/go"), "").expect("go");
    let output = stop.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(world.until_state("slow", State::Down).want, Want::Down);
}

#[test]
fn a_binary_that_is_not_fit_is_refused_and_nothing_happens() {
    let (world, pid) = inhabited();
    let supervisor = world.part("outlast-super");
    let script = world.path("script");
    super::world::write_script(&script, "#!/bin/sh\necho 1\n");
    let mut unfit = vec![(script, "not")];
    if !lacks("true") {
        unfit.push((PathBuf::from("/bin/true"), "no outlast that can take over"));
    }
    unfit.extend(faulty(&world, "garbled").map(|path| (path, "no outlast that can take over")));
    for (binary, words) in unfit {
        let (code, out, err) = upgrade(&world, &binary);
        assert_eq!(code, Some(1), "{binary:?} {out}{err}");
        assert!(
            err.contains(words) && err.contains("not upgraded"),
            "{binary:?} {err}"
        );
    }
    assert_eq!(world.part("outlast-super"), supervisor);
    nothing_has_changed(&world, pid);
}

fn comes_back(fault: &str, words: &str) {
    let (world, pid) = inhabited();
    let Some(binary) = faulty(&world, fault) else {
        return;
    };
    for _ in 0..2 {
        let (code, out, err) = upgrade(&world, &binary);
        assert_eq!(code, Some(1), "{out}{err}{}", world.said());
        assert!(err.contains(words), "{err}");
        assert_eq!(program(world.keeper_pid()), Path::new(BINARY));
        assert_eq!(program(world.part("outlast-super")), Path::new(BINARY));
        nothing_has_changed(&world, pid);
    }
    // What is fit still gets its turn afterwards.
    let (code, _, err) = upgrade(&world, &copied(&world));
    assert_eq!(code, Some(0), "{err}");
    nothing_has_changed(&world, pid);
}

#[test]
fn the_old_binary_comes_back_when_the_new_supervisor_never_answers() {
    comes_back("mute", "did not answer within 5 s");
}

#[test]
fn the_old_binary_comes_back_when_the_new_supervisor_crashes() {
    comes_back("dying", "the new supervisor ended at once");
}

#[test]
fn a_new_supervisor_that_babbles_is_killed_and_the_old_binary_comes_back() {
    comes_back("babbling", "the new supervisor ended at once");
}

#[test]
fn the_old_binary_comes_back_when_the_new_one_can_not_read_the_book() {
    comes_back("blind", "the new binary could not read the book");
}

#[test]
fn an_ordinary_user_upgrades_his_own() {
    if needs_root() {
        // Then the other tests are about just that.
        return;
    }
    let mut world = World::quiet();
    let (old, next) = (world.path("outlast-old"), world.path("outlast-next"));
    for copy in [&old, &next] {
        fs::copy(BINARY, copy).expect("copied");
    }
    for path in [&world.path("."), &world.path("services"), &old, &next] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("his");
    }
    let mut command = Command::new(&old);
    command.uid(NOBODY).gid(NOBODY);
    world.supervise_as(command, &[]);
    world.run("web", "id -u >uid; exec sleep 1000");
    let pid = world.until_up("web");
    let upgraded = Command::new(&next)
        .arg("upgrade")
        .uid(NOBODY)
        .gid(NOBODY)
        .env("OUTLAST_SOCKET", world.socket())
        .output()
        .expect("outlast");
    assert!(upgraded.status.success(), "{upgraded:?}\n{}", world.said());
    assert_eq!(
        program(world.keeper_pid()),
        next.canonicalize().expect("a path")
    );
    assert_eq!(world.until_state("web", State::Up).pid, Some(pid));
}

#[test]
fn the_first_process_of_a_container_is_upgraded_as_any_other() {
    if needs_root() || lacks("unshare") {
        return;
    }
    let mut world = World::quiet();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", BINARY]);
    world.supervise_as(command, &[]);
    world.run("web", "echo $$ >>pids; exec sleep 1000");
    let pid = world.until_up("web");
    let keeper = children(world.keeper_pid())[0];
    let next = copied(&world);
    for binary in [next.as_path(), Path::new(BINARY)] {
        let (code, _, err) = upgrade(&world, binary);
        assert_eq!(code, Some(0), "{err}\n{}", world.said());
        assert_eq!(program(keeper), binary);
        assert_eq!(world.until_state("web", State::Up).pid, Some(pid));
    }
    world.must(Verb::Shutdown, &[]);
    assert_eq!(world.until_ended(), Some(0), "{}", world.said());
    let pids = fs::read_to_string(world.path("services/web/pids")).expect("pids");
    assert_eq!(pids, format!("{pid}\n"));
}

#[test]
fn what_was_taken_over_stays_in_hand_through_an_upgrade() {
    let mut world = World::new();
    world.run("web", "exec sleep 1000");
    world.run("ending", ENDING);
    let names = ["web", "ending"];
    let pids = names.map(|name| world.until_up_on_disk(name));
    world.kill_keeper();
    world.supervise(&[]);
    let until_both_up = |world: &World| {
        for (name, pid) in names.iter().zip(pids) {
            assert_eq!(world.until_up(name), pid, "{name} {}", world.said());
        }
    };
    until_both_up(&world);
    // Twice: the second time from a book that was taken over itself.
    for _ in 0..2 {
        let upgraded = world.outlast(&["upgrade", "--binary", BINARY]);
        assert!(upgraded.status.success(), "{upgraded:?}");
        until_both_up(&world);
    }
    fs::write(world.path("services/ending/go"), "").expect("go");
    world.must(Verb::Stop, &["web"]);
    assert!(!lives(pids[0]));
    world.until("ending", "started again", |it| {
        it.state == State::Up && it.restarts == 1
    });
    for (name, pid) in names.iter().zip(pids) {
        let exit = world.show(name).last_exit.expect("an exit");
        assert_eq!((exit.pid, exit.code, exit.signal), (pid, None, None));
    }
    assert_eq!(world.end(), Some(0), "{}", world.said());
}
