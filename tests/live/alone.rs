//! Told to end while no supervisor can be started.

use super::world::{World, eventually, kill, lacks, lives, pid_in};
use nix::sys::signal::Signal;
use std::fs;
use std::process::Command;

/// Descriptors that the keeper may open from now on; with three it can't make a link for a supervisor.
fn allow(world: &World, descriptors: u32) {
    let limit = format!("--nofile={descriptors}:");
    let keeper = world.keeper_pid().to_string();
    let done = Command::new("prlimit")
        .args(["--pid", &keeper, &limit])
        .status()
        .expect("prlimit");
    assert!(done.success());
}

/// Its supervisor is killed, and no other can be started.
fn bereave(world: &World) {
    allow(world, 3);
    kill(world.part("outlast-super"), Signal::SIGKILL);
    eventually("the keeper says so", || {
        world
            .said()
            .contains("cannot start the supervisor")
            .then_some(())
    });
}

/// Signals until the keeper has said that.
fn insist(world: &World, line: &str) {
    eventually(line, || {
        if world.said().contains(line) {
            return Some(());
        }
        kill(world.keeper_pid(), Signal::SIGTERM);
        None
    });
}

#[test]
fn without_a_supervisor_a_second_signal_ends_all_services_by_term() {
    if lacks("prlimit") {
        return;
    }
    let mut world = World::new();
    let polite = "trap 'echo $? >told; exit' TERM; : >ready; while :; do sleep 0.05; done";
    let dir = world.run("web", polite);
    world.run("db", "exec sleep 1000");
    let web = world.until_up("web");
    let db = world.until_up("db");
    eventually("its trap is set", || {
        dir.join("ready").exists().then_some(())
    });
    bereave(&world);
    kill(world.keeper_pid(), Signal::SIGINT);
    eventually("it says what it waits for", || {
        world.said().contains("waiting 10 s for one").then_some(())
    });
    assert!(lives(web) && lives(db));
    insist(&world, "all ends without one");
    assert_eq!(world.until_ended(), Some(1), "{}", world.said());
    assert!(!lives(web) && !lives(db));
    assert!(
        fs::exists(dir.join("told")).expect("looked"),
        "TERM came first"
    );
}

#[test]
fn without_a_supervisor_what_ignores_term_is_killed_with_its_group() {
    if lacks("prlimit") {
        return;
    }
    let mut world = World::new();
    let deaf = "trap '' TERM; sleep 1000 & echo $! >child.new; mv child.new child
while :; do sleep 0.05; done";
    let dir = world.run("deaf", deaf);
    let pid = world.until_up("deaf");
    let child = pid_in(&dir.join("child"));
    bereave(&world);
    insist(&world, "KILL to 1 processes");
    assert_eq!(world.until_ended(), Some(1), "{}", world.said());
    assert!(!lives(pid) && !lives(child));
}

#[test]
fn a_supervisor_that_comes_after_all_ends_everything_in_order() {
    if lacks("prlimit") {
        return;
    }
    let mut world = World::new();
    world.run("web", "exec sleep 1000");
    let web = world.until_up("web");
    bereave(&world);
    kill(world.keeper_pid(), Signal::SIGTERM);
    eventually("it says what it waits for", || {
        world.said().contains("waiting 10 s for one").then_some(())
    });
    allow(&world, 1_000);
    assert_eq!(world.until_ended(), Some(0), "{}", world.said());
    assert!(!lives(web));
    assert!(world.said().contains("all services are down"));
}
