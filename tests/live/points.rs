//! Keeper and scribe die at each of their kill points (`os::kill_point`), where a death would be
//! worst; the supervisor does in `chaos`.

use super::chaos::{self, Dice, in_turn};
use super::keeperless::{doubled, part};
use super::scribe::{WRITERS, every_line_is_there};
use super::upgrade::gaps;
use super::world::{BINARY, World, eventually, kill, lives};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb, Want};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// What makes a keeper come to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Restart,
    Death,
    Upgrade,
}

const KEEPERS: &[(&str, Cause)] = &[
    ("forked-unbooked", Cause::Restart),
    ("forked-booked", Cause::Restart),
    ("start-untold", Cause::Restart),
    ("signal-passed-on", Cause::Restart),
    ("end-untold", Cause::Restart),
    ("blob-noted", Cause::Restart),
    ("place-freed", Cause::Restart),
    ("supervisor-forked", Cause::Death),
    ("supervisor-greeted", Cause::Death),
    ("book-written", Cause::Upgrade),
    ("book-taken-over", Cause::Upgrade),
];

/// In groups that one world takes.
const SCRIBES: &[&[&str]] = &[
    &["piece-noted", "mark-unset", "file-renamed"],
    &["piece-moved", "mark-set", "file-begun"],
    &["piece-counted", "growth-told", "half-written"],
    &["piece-brought-in", "file-written", "piece-written"],
    &["piece-timed", "file-opened", "piece-noted"],
];
/// Reached in `faults::disks`: its log must have no room.
pub const FULL: &str = "piece-aside";

/// Reached in `quarantine`, by the definition of a certain service.
const DEFINITION: &str = "read-{name}";

/// Of tests that run beside each other.
const WORLDS: usize = 4;

pub fn with_points() -> World {
    let mut world = World::quiet();
    fs::create_dir(world.path("points")).expect("a directory");
    let mut command = Command::new(BINARY);
    command.env("OUTLAST_KILL_POINTS", world.path("points"));
    world.supervise_as(command, &[]);
    world
}

/// Has whoever comes to this point first die there.
pub fn armed(world: &World, point: &str) -> PathBuf {
    let armed = world.path("points").join(point);
    fs::write(&armed, "").expect("armed");
    armed
}

pub fn until_reached(armed: &std::path::Path) {
    eventually(&format!("{} is reached", armed.display()), || {
        (!armed.exists()).then_some(())
    });
}

/// False, with a line to say so, in a release.
pub fn has_points() -> bool {
    if !cfg!(debug_assertions) {
        println!("skipped: needs a build with debug assertions, as no release has kill points");
    }
    cfg!(debug_assertions)
}

fn client(world: &World, args: &[&str]) -> Child {
    Command::new(BINARY)
        .args(args)
        .env("OUTLAST_SOCKET", world.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("outlast")
}

fn the_keeper_dies_at(point: &str, cause: Cause) {
    let mut world = with_points();
    // A zombie, which nobody has reaped yet, is none that runs.
    let alone = "if [ -e pid ] && grep -qs '^State:.[^ZX]' /proc/$(cat pid)/status; then echo $$ >>doubled; fi
echo $$ >pid; echo $$ >>starts";
    let names = ["steady", "talker", "logged", "logged/log"];
    world.run("steady", &format!("{alone}; exec sleep 1000"));
    world.run(
        "talker",
        &format!("{alone}; n=0; while :; do n=$((n+1)); echo line $n; sleep 0.01; done"),
    );
    let logged = format!("#!/bin/sh\n{alone}; exec sleep 1000\n");
    let reader = "#!/bin/sh\nexec cat >>../lines\n";
    world.service("logged", &[("run", &logged), ("log/run", reader)]);
    world.run("target", &format!("{alone}; exec sleep 1000"));
    world.run("down", "exec sleep 1000");
    let pids = names.map(|name| world.until_up_on_disk(name));
    world.until_up_on_disk("target");
    world.until_up("down");
    world.must(Verb::Stop, &["down"]);
    world.until_line("talker", "line 10");
    let supervisor = part(&world, "outlast-super");
    let armed = armed(&world, point);
    let mut client = match cause {
        Cause::Restart => client(&world, &["restart", "target"]),
        Cause::Upgrade => client(&world, &["upgrade"]),
        Cause::Death => {
            kill(supervisor, Signal::SIGKILL);
            client(&world, &["status"])
        }
    };
    until_reached(&armed);
    world.kill_keeper();
    assert_eq!(doubled(&world), Vec::<String>::new(), "{point}");
    world.supervise(&[]);
    client.wait().expect("it ends, whatever it has to say");
    for (name, pid) in names.iter().zip(pids) {
        let shown = world.until_state(name, State::Up);
        let found = (shown.pid, shown.restarts);
        assert_eq!(found, (Some(pid), 0), "{point}: {name}\n{}", world.said());
    }
    let target = world.until_up("target");
    assert_eq!(doubled(&world), Vec::<String>::new(), "{point}");
    assert_eq!(world.until_state("down", State::Down).want, Want::Down);
    // It is in hand.
    world.must(Verb::Restart, &["target"]);
    assert!(!lives(target), "{point}");
    assert_eq!(world.end(), Some(0), "{point}: {}", world.said());
    eventually("nothing is left", || {
        world.all_processes().is_empty().then_some(())
    });
    for name in ["steady", "talker", "logged", "target"] {
        let file = |file: &str| world.path("services").join(name).join(file);
        let doubled = fs::read_to_string(file("doubled")).unwrap_or_default();
        assert_eq!(doubled, "", "{point}: {name}\n{}", world.said());
        let starts = fs::read_to_string(file("starts")).expect("starts");
        assert!(name == "target" || starts.lines().count() == 1, "{point}");
    }
    assert_eq!(gaps(&world, "talker"), Vec::<String>::new(), "{point}");
}

#[test]
fn the_keeper_may_die_at_each_of_its_kill_points() {
    if has_points() {
        in_turn(WORLDS, KEEPERS, |(point, cause)| {
            the_keeper_dies_at(point, *cause)
        });
    }
}

fn the_scribe_dies_at(points: &[&str]) {
    let mut world = with_points();
    for writer in &WRITERS {
        writer.start(&world);
    }
    for writer in &WRITERS {
        writer.until_heard(&world);
    }
    for point in points {
        let scribe = world.part("outlast-scribe");
        let armed = armed(&world, point);
        // Files are opened by one that is new.
        if *point == "file-opened" {
            kill(scribe, Signal::SIGKILL);
        }
        until_reached(&armed);
        eventually("another scribe", || {
            (world.part("outlast-scribe") != scribe).then_some(())
        });
        Dice::new(point.len() as u64).pause(50);
    }
    println!("{points:?}");
    every_line_is_there(&mut world);
}

#[test]
fn the_scribe_may_die_at_each_of_its_kill_points() {
    if has_points() {
        in_turn(WORLDS, SCRIBES, |points| the_scribe_dies_at(points));
    }
}

/// The names in the source, so that none is left out.
#[test]
fn each_kill_point_of_the_program_is_reached_by_a_test() {
    let mut named = std::collections::BTreeSet::new();
    let mut open = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory").flatten();
            open.extend(entries.map(|entry| entry.path()));
            continue;
        }
        let source = fs::read_to_string(&path).expect("source");
        for call in [
            "kill_point(\"",
            "kill_point(&format!(\"",
            "trip::at(\"",
            "trip::within(\"",
        ] {
            let calls = source.split(call).skip(1);
            let names = calls.map(|call| call.split('"').next().unwrap_or_default().to_owned());
            named.extend(names);
        }
    }
    let keepers = KEEPERS.iter().map(|(point, _)| *point);
    let groups = chaos::POINTS.iter().chain(SCRIBES).copied().flatten();
    let known = keepers.chain(groups.copied()).chain([FULL, DEFINITION]);
    let known = known.map(str::to_owned).collect();
    assert_eq!(named, known);
}
