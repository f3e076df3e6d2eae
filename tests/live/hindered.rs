//! What keeps a service from being started or ended although its definition is fine, told as what it is.

use super::world::{BINARY, World, eventually, kill, lacks, lives, needs_root, pid_in};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::process::{Command, Output};

fn text(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|it| String::from_utf8_lossy(it).into_owned())
        .concat()
}

#[test]
fn of_a_directory_that_another_supervisor_holds_nobody_is_told_to_mend_its_definition() {
    let mut world = World::quiet();
    let dir = world.run("web", "exec sleep 1000");
    fs::create_dir(dir.join("supervise")).expect("supervise");
    let lock = fs::File::create(dir.join("supervise/lock")).expect("a lock");
    lock.lock().expect("locked");
    world.supervise(&[]);
    let shown = world.until_state("web", State::Broken);
    assert_eq!(shown.problem.expect("a problem").code, "held-by-another");
    let why = text(&world.outlast(&["why", "web"]));
    assert!(why.contains("another supervisor"), "{why}");
    assert!(
        !why.contains("definition") && !why.contains("service.toml"),
        "{why}"
    );
    // It may well run there.
    let stop = world.outlast(&["stop", "web"]);
    assert_eq!(stop.status.code(), Some(1), "{stop:?}");
    assert!(text(&stop).contains("another supervisor"), "{stop:?}");
    world.outlast(&["start", "--no-wait", "web"]);
    drop(lock);
    world.until_up("web");
}

#[test]
fn a_process_that_may_not_be_signalled_is_named_with_its_owner_also_at_the_end() {
    if !needs_root() || lacks("setpriv") {
        return;
    }
    let mut world = World::quiet();
    // Root without the right to signal others' processes.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-kill", "--inh-caps", "-kill", BINARY]);
    world.supervise_as(command, &[]);
    let other = "#!/bin/sh
exec setpriv --reuid 65534 --regid 65534 --clear-groups sleep 1000
";
    let soon = "[stop]\ntimeout = \"100ms\"\n";
    world.service("su", &[("run", other), ("service.toml", soon)]);
    let pid = world.until_up("su");
    eventually("it is another user's", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let sleeps = super::world::comm_of(pid) == "sleep";
        (sleeps && status.contains("Uid:\t65534")).then_some(())
    });
    world.outlast(&["stop", "--no-wait", "su"]);
    let said = world.until("su", "is told to be out of reach", |it| {
        it.problem
            .as_ref()
            .is_some_and(|it| it.code == "unkillable")
    });
    let message = said.problem.expect("a problem").message;
    let wanted = format!("sleep (pid {pid}) belongs to user number 65534");
    assert!(message.starts_with(&wanted), "{message}");
    let why = text(&world.outlast(&["why", "su"]));
    assert!(
        why.contains(&wanted) && why.contains(&format!("kill {pid}")),
        "{why}"
    );
    let shutdown = world.outlast(&["shutdown"]);
    assert_eq!(shutdown.status.code(), Some(1), "{shutdown:?}");
    assert!(text(&shutdown).contains(&wanted), "{shutdown:?}");
    assert_eq!(world.until_ended(), Some(1), "{}", world.said());
    assert!(lives(pid));
    kill(pid, Signal::SIGKILL);
}

#[test]
fn whoever_waits_for_the_end_is_answered_in_his_time_and_others_hear_that_it_ends() {
    let mut world = World::new();
    let slow = "[stop]\ntimeout = \"never\"\n";
    let deaf = "#!/bin/sh\ntrap '' TERM\n: >ready\nwhile :; do sleep 0.05; done\n";
    let dir = world.service("slow", &[("run", deaf), ("service.toml", slow)]);
    world.until_up("slow");
    eventually("its trap is set", || {
        dir.join("ready").exists().then_some(())
    });
    let shutdown = world.outlast(&["shutdown", "--timeout", "200ms"]);
    assert_eq!(shutdown.status.code(), Some(1), "{shutdown:?}");
    assert!(
        text(&shutdown).contains("not reached in time"),
        "{shutdown:?}"
    );
    for order in ["start", "stop", "restart", "hup"] {
        let refused = world.outlast(&[order, "slow"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(text(&refused).contains("outlast is ending"), "{refused:?}");
    }
    assert_eq!(world.show("slow").state, State::Stopping);
    kill(world.keeper_pid(), Signal::SIGTERM);
    assert_eq!(world.until_ended(), Some(0), "{}", world.said());
}

#[test]
fn a_signal_that_hits_nobody_is_not_said_to_be_sent() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    world.must(Verb::Stop, &["web"]);
    let term = world.outlast(&["term", "--no-wait", "web"]);
    assert_eq!(term.status.code(), Some(1), "{term:?}");
    assert!(text(&term).contains("not running"), "{term:?}");
}

#[test]
fn a_check_that_hangs_is_said_to_be_what_is_waited_for() {
    let world = World::new();
    let dir = world.service(
        "web",
        &[
            ("run", "#!/bin/sh\nexec sleep 1000\n"),
            ("check", "#!/bin/sh\n[ ! -e hang ] || exec sleep 1000\n"),
        ],
    );
    world.must(Verb::Start, &["web"]);
    fs::write(dir.join("hang"), "").expect("written");
    let check = world.outlast(&["check", "--timeout", "1s", "web"]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    assert!(
        text(&check).contains("./check has not answered for"),
        "{check:?}"
    );
    let why = text(&world.outlast(&["why", "web"]));
    assert!(why.contains("./check has not answered for"), "{why}");
}

#[test]
fn a_second_stop_does_not_claim_what_the_first_has_ended() {
    let world = World::new();
    let dir = world.run("web", "sleep 1000 & : >child; exec sleep 1000");
    world.until_up("web");
    eventually("it has a child", || {
        dir.join("child").exists().then_some(())
    });
    let first = text(&world.outlast(&["stop", "web"]));
    assert!(first.contains("ended leftovers"), "{first}");
    let second = text(&world.outlast(&["stop", "web"]));
    assert!(!second.contains("leftovers"), "{second}");
}

#[test]
fn a_stop_names_what_its_scope_has_spared() {
    let world = World::new();
    let narrow = "[stop]\nscope = \"process\"\n";
    let run = "#!/bin/sh\nsleep 1000 & echo $! >child.new; mv child.new child\nexec sleep 1000\n";
    let dir = world.service("web", &[("run", run), ("service.toml", narrow)]);
    world.until_up("web");
    let child = pid_in(&dir.join("child"));
    let stop = text(&world.outlast(&["stop", "web"]));
    assert!(lives(child));
    assert!(stop.contains(&format!("sleep (pid {child})")), "{stop}");
    let why = text(&world.outlast(&["why", "web"]));
    assert!(why.contains(&format!("kill {child}")), "{why}");
    // Of the next run it is nothing.
    world.must(Verb::Start, &["web"]);
    assert!(world.show("web").living_on.is_empty());
}

#[test]
fn a_run_that_its_user_may_not_execute_is_told_with_the_user() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let definition = "user = \"nobody\"\n";
    let files = [
        ("run", "#!/bin/sh\nexec sleep 1000\n"),
        ("service.toml", definition),
    ];
    world.service("web", &files);
    let shown = world.until("web", "can't be started", |it| it.problem.is_some());
    let message = shown.problem.expect("a problem").message;
    // The directory of a test is open to its owner only.
    assert!(
        message.contains("user nobody may not execute ./run"),
        "{message}"
    );
    let why = text(&world.outlast(&["why", "web"]));
    assert!(why.contains("let user nobody"), "{why}");
}
