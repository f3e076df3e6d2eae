//! Definitions that the supervisor crashes of, or may have crashed of.

use super::world::{BINARY, World, eventually, kill, lives};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

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

/// It was left unread, and whoever asks first is told so; its process. On a busy machine it may be
/// read again by now, and then that was told.
fn quarantined(world: &World, name: &str) -> Option<i32> {
    let shown = world.show(name);
    match shown.problem {
        Some(problem) => {
            assert_eq!(problem.code, "quarantined", "{problem:?}");
            assert!(problem.message.contains("crashed 3 times"), "{problem:?}");
        }
        None => told(world, ["reading again what was left unread", name], 1),
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

/// A supervisor with a point at which all of them die, or hang, while the file is there.
fn with_lasting(point: &str, what: &str) -> (World, PathBuf) {
    let mut world = World::quiet();
    fs::create_dir(world.path("points")).expect("a directory");
    let mut command = Command::new(BINARY);
    command.env("OUTLAST_KILL_POINTS", world.path("points"));
    world.supervise_as(command, &[]);
    let point = world.path("points").join(point);
    fs::write(&point, what).expect("a kill point");
    (world, point)
}

/// So often it has been told by now.
fn times(world: &World, words: [&str; 2]) -> usize {
    let said = world.said();
    let lines = said.lines();
    lines
        .filter(|line| words.iter().all(|words| line.contains(words)))
        .count()
}

fn told(world: &World, words: [&str; 2], at_least: usize) {
    eventually(&format!("{words:?} is told"), || {
        (times(world, words) >= at_least).then_some(())
    });
}

/// The supervisor dies whenever it reads this definition, whatever it says.
#[test]
fn the_definition_that_is_to_blame_is_found_and_only_that_one_stays_unread() {
    let (world, point) = with_lasting("read-poison", "die");
    for name in ["apples", "bread", "poison", "water"] {
        world.run(name, "exec sleep 1000");
    }
    for times in 1..=3 {
        told(&world, ["reading again what was left unread", ""], times);
    }
    told(
        &world,
        ["poison", "crashed when it read this definition"],
        1,
    );
    told(&world, ["poison", "(1x)"], 1);
    // Somebody mends it, and it is no better.
    let quarantined = ["poison", "quarantined: the supervisor crashed 3 times"];
    let before = times(&world, quarantined);
    let definition = world.path("services/poison/service.toml");
    fs::write(definition, "description = \"mended\"\n").expect("mended");
    told(&world, quarantined, before + 1);
    fs::remove_file(point).expect("a kill point");
    for name in ["apples", "bread", "water", "poison"] {
        world.until(name, "up", |service| {
            service.state == State::Up && service.problem.is_none()
        });
    }
    let poison = world.show("poison");
    assert_eq!(poison.description.as_deref(), Some("mended"));
}

/// Somebody has to wait for a supervisor that hangs, or nobody notices.
fn knock(world: &World) {
    if let Ok(stream) = UnixStream::connect(world.socket()) {
        let patience = Some(Duration::from_secs(1));
        stream.set_read_timeout(patience).expect("timeout");
        let _ = (&stream).read(&mut [0]);
    }
}

/// It ends long after it has read the definition, and has not lived with it all the same.
#[test]
fn a_definition_that_the_supervisor_hangs_of_is_quarantined_as_well() {
    let (world, point) = with_lasting("lives-with-glue", "hang");
    world.run("web", "exec sleep 1000");
    let web = world.until_up("web");
    world.until_trusted();
    world.run("glue", "exec sleep 1000");
    for times in 1..=3 {
        eventually("it is replaced", || {
            knock(&world);
            let words = ["the supervisor does not serve any more", ""];
            (self::times(&world, words) >= times).then_some(())
        });
    }
    told(&world, ["glue", "quarantined: the supervisor crashed"], 1);
    fs::remove_file(point).expect("a kill point");
    world.until_up("glue");
    assert_eq!(world.until_up("web"), web);
}
