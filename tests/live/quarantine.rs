//! Definitions that the supervisor crashes of, or may have crashed of.

use super::world::{BINARY, World, eventually, kill, lives};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::process::Command;

/// Three services: one that was lived with, one that has changed since and one that is new, each
/// with its process, and three crashes.
fn after_three_crashes() -> (World, [i32; 3]) {
    let world = World::new();
    world.run("old", "exec sleep 1000");
    let changed = world.run("changed", "exec sleep 1000");
    let (old, pid) = (world.until_up("old"), world.until_up("changed"));
    world.until_trusted();
    // From outside, this is what a definition looks like that the supervisor dies of.
    world.run("new", "exec sleep 1000");
    fs::write(changed.join("service.toml"), "description = \"x\"\n").expect("changed");
    let new = world.until_up("new");
    world.until("changed", "read again", |changed| {
        changed.description.is_some()
    });
    for _ in 0..2 {
        replaced(&world, "new");
        assert_eq!(world.show("new").problem, None);
    }
    world.replace_supervisor();
    (world, [old, pid, new])
}

/// ... and the definitions have been read, or not: what is to change something waits for that.
fn replaced(world: &World, name: &str) {
    world.replace_supervisor();
    world.must(Verb::Cont, &[name]);
}

/// It was left unread; its process. On a busy machine it may be in force again by now.
fn quarantined(world: &World, name: &str) -> Option<i32> {
    eventually("it is told", || {
        let said = world.said();
        let mut lines = said.lines();
        let words = "quarantined: the supervisor crashed 3 times";
        let told = lines.any(|line| line.starts_with(name) && line.contains(words));
        told.then_some(())
    });
    let shown = world.show(name);
    if let Some(problem) = shown.problem {
        assert_eq!(problem.code, "quarantined", "{problem:?}");
        assert!(problem.message.contains("crashed 3 times"), "{problem:?}");
    }
    shown.pid
}

#[test]
fn a_definition_that_crashes_the_supervisor_is_quarantined_and_the_others_go_on() {
    let (world, [old, changed, new]) = after_three_crashes();
    assert_eq!(quarantined(&world, "new"), Some(new));
    assert_eq!(quarantined(&world, "changed"), Some(changed));
    let shown = world.show("old");
    assert_eq!((shown.pid, shown.problem), (Some(old), None));
    world.must(Verb::Restart, &["old"]);
    // What comes later comes to a supervisor that lives.
    world.run("later", "exec sleep 1000");
    world.until_up("later");
    let definition = world.path("services/changed/service.toml");
    fs::write(definition, "description = \"y\"\n").expect("mended");
    let mended = world.until("changed", "taken again", |service| {
        service.description.as_deref() == Some("y")
    });
    assert_eq!((mended.pid, mended.problem), (Some(changed), None));
    world.must(Verb::Reload, &[]);
    let released = world.until("new", "taken again", |service| service.problem.is_none());
    assert_eq!(released.pid, Some(new));
}

#[test]
fn what_was_quarantined_is_read_again_by_a_supervisor_that_is_well_and_starts_again() {
    let (world, [_, changed, new]) = after_three_crashes();
    assert_eq!(quarantined(&world, "changed"), Some(changed));
    kill(new, Signal::SIGKILL);
    eventually("it has ended", || (!lives(new)).then_some(()));
    let why = world.must(Verb::Why, &["new"]).services.remove(0);
    if why.state == State::Broken {
        let advice = why.why.and_then(|why| why.advice).expect("advice");
        assert!(advice.contains("read by itself"), "{advice}");
    }
    let again = world.until("new", "up again", |service| {
        service.state == State::Up && service.problem.is_none()
    });
    assert_ne!(again.pid, Some(new));
    let read = world.until("changed", "read again", |service| service.problem.is_none());
    assert_eq!(read.pid, Some(changed), "it went on meanwhile");
    eventually("they have proved to be harmless", || {
        world.said().contains("in force again: ").then_some(())
    });
    for _ in 0..3 {
        replaced(&world, "new");
        assert_eq!(world.show("new").problem, None);
    }
}

/// Two crashes just after it was read say nothing any more when a supervisor has lived with it since.
#[test]
fn a_definition_that_a_supervisor_has_lived_with_is_trusted_however_often_others_crash() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    for _ in 0..2 {
        world.replace_supervisor();
    }
    let then = world.show("web").seconds;
    world.until("web", "up for a while", |web| web.seconds > then + 6.0);
    for _ in 0..4 {
        replaced(&world, "web");
        let web = world.show("web");
        assert_eq!((web.pid, web.problem), (Some(pid), None));
    }
}

#[test]
fn a_supervisor_that_somebody_ends_has_not_crashed() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    for signal in [
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGUSR1,
    ] {
        let old = world.part("outlast-super");
        kill(old, signal);
        world.until_replaced(old);
    }
    let shown = world.must(Verb::Why, &["web"]).services.remove(0);
    assert_eq!((shown.pid, shown.problem), (Some(pid), None));
    assert!(!world.said().contains("quarantined"), "{}", world.said());
}

/// The supervisor dies whenever it reads this definition.
#[test]
fn the_definition_that_is_to_blame_is_found_and_only_that_one_stays_unread() {
    let mut world = World::quiet();
    fs::create_dir(world.path("points")).expect("a directory");
    let mut command = Command::new(BINARY);
    command.env("OUTLAST_KILL_POINTS", world.path("points"));
    world.supervise_as(command, &[]);
    let point = world.path("points/read-poison");
    // A point is used up by a death.
    let again = || {
        if !point.exists() {
            fs::write(&point, "").expect("a kill point");
        }
    };
    again();
    for name in ["apples", "bread", "poison", "water"] {
        world.run(name, "exec sleep 1000");
    }
    let told = |words: &str, times: usize| {
        eventually(words, || {
            again();
            let said = world.said();
            let mut lines = said.lines().filter(|line| line.contains(words));
            lines.nth(times - 1).map(str::to_owned)
        })
    };
    for times in 1..=3 {
        told("reading again what was left unread", times);
    }
    let blamed = told("crashed when it read this definition", 1);
    assert!(blamed.contains("poison"), "{blamed}");
    for name in ["apples", "bread", "water"] {
        let service = world.until(name, "up", |service| {
            again();
            service.state == State::Up && service.problem.is_none()
        });
        assert!(service.pid.is_some());
    }
    assert!(told("(1x)", 1).starts_with("poison"));
    let _ = fs::remove_file(&point);
    let definition = world.path("services/poison/service.toml");
    fs::write(definition, "description = \"mended\"\n").expect("mended");
    world.until_up("poison");
}
