//! What runs that another keeper had started leave behind: found and ended all the same.

use super::world::{BINARY, World, eventually, kill, lives, pid_in};
use nix::sys::signal::Signal;
use outlast::ipc::control::Verb;
use std::fs;
use std::process::{Command, Stdio};

const TREE: &str = "[stop]\nscope = \"tree\"\n";
/// Says which process is in a session of its own, and goes on.
const DAEMON: &str = "#!/bin/sh
setsid sh -c 'echo $$ >daemon.new; mv daemon.new daemon; exec sleep 1000' &
exec sleep 1000
";

fn daemon(world: &World, name: &str) -> i32 {
    pid_in(&world.path("services").join(name).join("daemon"))
}

/// Only root can hide the control groups; without them there is nothing to hide as a rule.
fn settings() -> Vec<bool> {
    match nix::unistd::geteuid().is_root() {
        true => vec![true, false],
        false => vec![true],
    }
}

/// `outlast` as it is, or where it finds no control groups.
fn outlast(grouped: bool) -> Command {
    if grouped {
        return Command::new(BINARY);
    }
    let mut without = Command::new("unshare");
    let script = "umount --lazy --all --types cgroup2; exec \"$0\" \"$@\"";
    without.args(["--mount", "/bin/sh", "-c", script, BINARY]);
    without
}

/// A service with such a daemon, after its keeper was killed and the next supervisor took it over.
fn taken_over(grouped: bool, files: &[(&str, &str)]) -> (World, i32, i32) {
    let mut world = World::quiet();
    world.supervise_as(outlast(grouped), &[]);
    world.service("web", files);
    let run = world.until_up_on_disk("web");
    let old = daemon(&world, "web");
    world.kill_keeper();
    world.supervise_as(outlast(grouped), &[]);
    assert_eq!(world.until_up("web"), run);
    fs::remove_file(world.path("services/web/daemon")).expect("removed");
    (world, run, old)
}

fn is_gone(world: &World, pid: i32) {
    assert!(!lives(pid), "{pid} is left behind\n{}", world.said());
}

#[test]
fn a_run_that_was_taken_over_is_stopped_with_its_whole_tree() {
    for grouped in settings() {
        let (world, _, old) = taken_over(grouped, &[("run", DAEMON), ("service.toml", TREE)]);
        world.must(Verb::Restart, &["web"]);
        is_gone(&world, old);
        let new = daemon(&world, "web");
        assert!(lives(new));
        world.must(Verb::Stop, &["web"]);
        is_gone(&world, new);
    }
}

#[test]
fn of_a_run_that_was_taken_over_and_has_ended_by_itself_the_tree_goes_too() {
    for grouped in settings() {
        let (world, run, old) = taken_over(grouped, &[("run", DAEMON), ("service.toml", TREE)]);
        // Another directory's service of the same name is nobody we know.
        let mut stranger = Command::new("setsid")
            .args(["sleep", "1000"])
            .env("OUTLAST_SERVICE", "web")
            .env("OUTLAST_DIRECTORY", "1:1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a stranger");
        kill(run, Signal::SIGKILL);
        let new = daemon(&world, "web");
        let spared = stranger.try_wait().expect("a status").is_none();
        stranger.kill().expect("killed");
        stranger.wait().expect("waited for");
        assert!(spared);
        is_gone(&world, old);
        assert_ne!(new, old);
    }
}

#[test]
fn at_the_end_of_everything_what_left_its_service_under_another_keeper_is_ended() {
    let (mut world, _, old) = taken_over(true, &[("run", DAEMON)]);
    world.must(Verb::Stop, &["web"]);
    assert!(lives(old), "outside the scope of a stop");
    assert_eq!(world.end(), Some(0));
    is_gone(&world, old);
}

#[test]
fn a_check_that_ran_when_its_keeper_was_killed_is_ended_by_the_next() {
    let mut world = World::new();
    let check = "#!/bin/sh\necho $$ >checks.new; mv checks.new checks; sleep 1000\n";
    let run = "#!/bin/sh\nexec sleep 1000\n";
    world.service("web", &[("run", run), ("check", check)]);
    let dir = world.path("services/web");
    let script = pid_in(&dir.join("checks"));
    let waits_for = eventually("what it waits for", || {
        super::world::children(script).first().copied()
    });
    eventually("it is written down", || {
        let record = fs::read_to_string(dir.join("supervise/outlast")).ok()?;
        record
            .contains(&format!("\"scripts\":[{{\"pid\":{script},"))
            .then_some(())
    });
    fs::write(dir.join("check"), "#!/bin/sh\nexit 0\n").expect("written");
    let supervisor = world.part("outlast-super");
    world.kill_keeper();
    kill(supervisor, Signal::SIGKILL);
    world.supervise(&[]);
    world.until("web", "is ready", |it| it.ready);
    assert!(!lives(script) && !lives(waits_for), "{}", world.said());
}
