//! Each way in which a supervisor can end by itself: its services go on, what was wanted stays so,
//! and what ended meanwhile is known with its status.

use super::world::{World, eventually, kill, lacks, lives, needs_root, write_script};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb, Want};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Services that are more than a starved supervisor can take.
const MANY: usize = 300;

/// Lets `crash` bring the supervisor of a small world to its end.
fn survives(crash: impl Fn(&World, i32)) {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.run("stopped", "exec sleep 1000");
    world.service(
        "ending",
        &[
            (
                "run",
                "#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.01; done\nexit 42\n",
            ),
            ("service.toml", "restart = { policy = \"never\" }\n"),
        ],
    );
    let web = world.until_up("web");
    let ending = world.until_up("ending");
    world.until_up("stopped");
    world.must(Verb::Stop, &["stopped"]);
    let supervisor = world.part("outlast-super");
    crash(&world, supervisor);
    fs::write(world.path("services/ending/go"), "").expect("go");
    eventually("it has ended", || (!lives(ending)).then_some(()));
    // A client that comes before the successor waits for it.
    let status = world.outlast(&["status", "web"]);
    assert!(status.status.success(), "{status:?}");
    eventually("the old one is gone", || (!lives(supervisor)).then_some(()));
    let shown = world.until_state("web", State::Up);
    assert_eq!((shown.pid, shown.restarts), (Some(web), 0));
    assert_eq!(world.until_state("stopped", State::Down).want, Want::Down);
    let ending = world.until("ending", "known to have ended", |service| {
        service.last_exit.is_some() && service.state == State::Down
    });
    assert_eq!(ending.last_exit.expect("an exit").code, Some(42));
    world.must(Verb::Restart, &["web"]);
    assert!(!lives(web));
}

#[test]
fn a_segmentation_fault() {
    survives(|_, supervisor| {
        eventually("it has ended", || {
            // The first one only ends the handler that tells stack overflows.
            kill(supervisor, Signal::SIGSEGV);
            (!lives(supervisor)).then_some(())
        });
    });
}

#[test]
fn an_abort() {
    survives(|_, supervisor| kill(supervisor, Signal::SIGABRT));
}

fn limit(supervisor: i32, resource: &str) {
    let done = Command::new("prlimit")
        .args(["--pid", &supervisor.to_string(), resource])
        .status()
        .expect("prlimit");
    assert!(done.success());
}

#[test]
fn descriptors_that_are_used_up() {
    if lacks("prlimit") {
        return;
    }
    survives(|_, supervisor| limit(supervisor, "--nofile=4:4"));
}

/// Asks for more than it can get.
fn overcharge(world: &World) {
    for number in 0..MANY {
        let draft = world.path(&format!("draft/many{number}"));
        write_script(&draft.join("run"), "#!/bin/sh\nexec sleep 1000\n");
        fs::write(draft.join("down"), "").expect("down");
    }
    for number in 0..MANY {
        let name = format!("many{number}");
        let place = world.path("services").join(&name);
        fs::rename(world.path("draft").join(&name), place).expect("moved in");
    }
}

#[test]
fn address_space_that_is_used_up() {
    if lacks("prlimit") {
        return;
    }
    survives(|world, supervisor| {
        limit(supervisor, "--as=4096:4096");
        overcharge(world);
    });
}

struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn the_out_of_memory_killer() {
    let memory = Path::new("/sys/fs/cgroup/memory");
    if needs_root() {
        return;
    }
    let group = Group(memory.join(format!("outlast-test-{}", std::process::id())));
    if fs::create_dir(&group.0).is_err() {
        println!("skipped: no memory cgroup (version 1) to be had");
        return;
    }
    survives(|world, supervisor| {
        fs::write(group.0.join("memory.limit_in_bytes"), "65536").expect("a limit");
        fs::write(group.0.join("cgroup.procs"), supervisor.to_string()).expect("moved");
        overcharge(world);
        eventually("it is killed", || (!lives(supervisor)).then_some(()));
    });
    let events = fs::read_to_string(group.0.join("memory.oom_control")).expect("events");
    assert!(!events.contains("oom_kill 0"), "{events}");
}
