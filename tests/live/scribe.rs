//! The scribe is killed at random moments, under full traffic and while files are rotated: every
//! line that was written is in the log, once, whole and in order. And one that hangs is replaced.
//!
//! `OUTLAST_SCRIBE_KILLS=1000 cargo test --release live::scribe` takes longer,
//! `OUTLAST_CHAOS_SEED=7` throws the same dice again (the moments still depend on the machine).

use super::chaos::{self, Dice, in_turn, number_from};
use super::world::{BINARY, World, eventually, kill, lives};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use outlast::ipc::control::Verb;
use outlast::log::rotate::Old;
use outlast::log::stamp;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Kills of an ordinary test run, and those that one world takes: the supervisor waits longer after
/// each one.
const KILLS: u64 = 60;
const KILLS_PER_WORLD: u64 = 6;
/// Worlds at once.
const WORLDS: usize = 3;

/// Each writes numbered lines until it is told to end, then leaves in `count` how many there were.
/// A script's own `echo` is one write(2) a line, `seq` writes blocks that end in the middle of one.
pub const WRITERS: [Writer; 4] = [
    Writer {
        name: "blocks",
        body: "seq -f 'line %.0f' $((n+1)) $((n+2000)); n=$((n+2000)); sleep 0.01",
        size: 65_536,
        line: |number| format!("line {number}"),
    },
    Writer {
        name: "lines",
        body: "n=$((n+1)); echo line $n; [ $((n % 40)) != 0 ] || sleep 0.003",
        size: 4_096,
        line: |number| format!("line {number}"),
    },
    Writer {
        name: "pieces",
        body: "n=$((n+1)); printf 'piece %d ' $n; sleep 0.002; printf 'and another '; sleep 0.002; echo end",
        size: 4_096,
        line: |number| format!("piece {number} and another end"),
    },
    Writer {
        name: "long",
        body: "n=$((n+1)); printf 'long %d ' $n; head -c 70000 /dev/zero | tr '\\0' x; echo; sleep 0.02",
        size: 40_000,
        line: |number| format!("long {number} {}", "x".repeat(70_000)),
    },
];

pub struct Writer {
    name: &'static str,
    body: &'static str,
    size: u64,
    line: fn(u64) -> String,
}

impl Writer {
    pub fn start(&self, world: &World) {
        let run = format!(
            "#!/bin/sh\nn=0\nover=\ntrap over=1 TERM\nwhile [ ! $over ]; do {}; done\n\
             echo $n >count\nprintf 'last words'\n",
            self.body
        );
        let log = format!("[log]\nsize = {}\nkeep = 100000\n", self.size);
        world.service(self.name, &[("run", &run), ("service.toml", &log)]);
    }

    pub fn until_heard(&self, world: &World) {
        let current = world.path("log").join(self.name).join("current");
        eventually("it is heard", || current.exists().then_some(()));
    }

    /// What its log has that it did not write, or lacks of what it did.
    pub fn complaint(&self, world: &World) -> Option<String> {
        let count = world.path("services").join(self.name).join("count");
        let count = fs::read_to_string(count).expect("a count");
        let count: u64 = count.trim().parse().expect("a number");
        assert!(count > 0, "{} wrote nothing", self.name);
        let text = whole_log(&world.path("log").join(self.name));
        let mut lines = text.split(|byte| *byte == b'\n');
        let expected = (1..=count).map(self.line);
        for expected in expected.chain(["last words".to_owned()]) {
            let line = lines.next().unwrap_or_default();
            let found = stamp::parse(line).map_or(line, |(_, text)| text);
            if found != expected.as_bytes() {
                let shown = |text: &[u8]| {
                    let part = &text[..text.len().min(200)];
                    format!("{} bytes: {}", text.len(), String::from_utf8_lossy(part))
                };
                return Some(format!(
                    "{}: {} instead of {}",
                    self.name,
                    shown(line),
                    shown(expected.as_bytes())
                ));
            }
        }
        let rest: Vec<&[u8]> = lines.collect();
        (rest != [b""]).then(|| format!("{}: {} lines too many", self.name, rest.len()))
    }
}

/// All files of a log, one behind the other.
pub fn whole_log(dir: &Path) -> Vec<u8> {
    let entries = fs::read_dir(dir).expect("a log").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut olds: Vec<Old> = names
        .filter_map(|name| Old::parse(name.as_bytes()))
        .collect();
    olds.sort_unstable();
    let names = olds.iter().map(Old::name).chain(["current".to_owned()]);
    names
        .flat_map(|name| fs::read(dir.join(name)).expect("a log file"))
        .collect()
}

/// Ends a world of all `WRITERS` and reads what they have written.
pub fn every_line_is_there(world: &mut World) {
    world.must(Verb::Stop, &["*"]);
    assert_eq!(world.end(), Some(0), "{}", world.said());
    let complaints: Vec<String> = WRITERS
        .iter()
        .filter_map(|writer| writer.complaint(world))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}\n{}", world.said());
}

fn kill_scribe(world: &World, dice: &mut Dice) {
    let scribe = world.part("outlast-scribe");
    dice.pause(250);
    kill(scribe, Signal::SIGKILL);
    eventually("it has ended", || (!lives(scribe)).then_some(()));
}

fn one_world(seed: u64) {
    let mut world = World::new();
    for writer in &WRITERS {
        writer.start(&world);
    }
    for writer in &WRITERS {
        writer.until_heard(&world);
    }
    let mut dice = Dice::new(seed);
    for _ in 0..KILLS_PER_WORLD {
        kill_scribe(&world, &mut dice);
    }
    every_line_is_there(&mut world);
    assert!(
        !world.said().contains("could not be written"),
        "{}",
        world.said()
    );
}

#[test]
fn the_scribe_may_be_killed_at_any_moment_and_every_line_is_there_once() {
    let kills = number_from("OUTLAST_SCRIBE_KILLS").unwrap_or(KILLS);
    let seed = chaos::seed();
    println!("{kills} kills; again: OUTLAST_CHAOS_SEED={seed}");
    let worlds = kills.div_ceil(KILLS_PER_WORLD);
    let numbers: Vec<u64> = (0..worlds).collect();
    in_turn(WORLDS, &numbers, |number| {
        one_world((seed + number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    });
}

#[test]
fn scribe_and_supervisor_may_be_killed_together() {
    let mut world = World::new();
    for writer in &WRITERS {
        writer.start(&world);
    }
    for writer in &WRITERS {
        world.until_up(writer.name);
    }
    world.until_trusted();
    for _ in 0..4 {
        let (scribe, supervisor) = (world.part("outlast-scribe"), world.part("outlast-super"));
        kill(scribe, Signal::SIGKILL);
        kill(supervisor, Signal::SIGKILL);
        world.until_replaced(supervisor);
        eventually("another scribe", || {
            (world.part("outlast-scribe") != scribe).then_some(())
        });
    }
    every_line_is_there(&mut world);
}

#[test]
fn who_follows_a_log_is_not_told_of_the_scribes_death_nor_of_rotations() {
    let world = World::new();
    let writer = &WRITERS[1];
    writer.start(&world);
    writer.until_heard(&world);
    let mut follower = Command::new(BINARY)
        .args([
            "logs",
            "--follow",
            "--raw",
            "--lines",
            "1000000",
            writer.name,
        ])
        .env("OUTLAST_SOCKET", world.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("outlast");
    let mut dice = Dice::new(7);
    let mut seen = 0;
    let mut lines = BufReader::new(follower.stdout.take().expect("output")).lines();
    let mut follow_for = |count: u64| {
        for _ in 0..count {
            let line = lines.next().expect("more").expect("a line");
            let (_, number) = line.rsplit_once(' ').expect("a number");
            let number: u64 = number.parse().expect("a number");
            assert!(seen == 0 || number == seen + 1, "{number} after {seen}");
            seen = number;
        }
    };
    for _ in 0..4 {
        follow_for(200);
        kill_scribe(&world, &mut dice);
    }
    follow_for(500);
    follower.kill().expect("killed");
    follower.wait().expect("ended");
    world.must(Verb::Stop, &["*"]);
}

fn until_another(world: &World, scribe: i32) {
    eventually("another scribe", || {
        (!lives(scribe) && world.part("outlast-scribe") != scribe).then_some(())
    });
    let said = world.said();
    assert!(
        said.contains("the scribe does not answer any more"),
        "{said}"
    );
}

#[test]
fn a_stopped_scribe_is_replaced_though_nobody_asks_for_anything() {
    let mut world = World::new();
    let writer = &WRITERS[1];
    writer.start(&world);
    writer.until_heard(&world);
    let scribe = world.part("outlast-scribe");
    kill(scribe, Signal::SIGSTOP);
    until_another(&world, scribe);
    world.must(Verb::Stop, &["*"]);
    assert_eq!(world.end(), Some(0), "{}", world.said());
    assert_eq!(writer.complaint(&world), None);
}

#[test]
fn a_scribe_that_is_stopped_for_a_moment_only_lives_on() {
    let world = World::new();
    world.run("web", "echo here; exec sleep 1000");
    world.until_line("web", "here");
    let scribe = world.part("outlast-scribe");
    for _ in 0..20 {
        kill(scribe, Signal::SIGSTOP);
        kill(scribe, Signal::SIGCONT);
        world.must(Verb::Restart, &["web"]);
    }
    assert_eq!(world.part("outlast-scribe"), scribe);
}

/// Only its main thread is held: the lanes write on, and nothing but its silence tells.
#[test]
fn a_scribe_whose_loop_hangs_is_replaced_when_it_is_told_something() {
    let world = World::new();
    world.run("web", "echo here; exec sleep 1000");
    world.until_line("web", "here");
    let scribe = Pid::from_raw(world.part("outlast-scribe"));
    ptrace::attach(scribe).expect("attached");
    let traced = |what: &str, wanted: fn(WaitStatus) -> bool| {
        eventually(what, || {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
            wanted(waitpid(scribe, Some(flags)).expect("a tracee")).then_some(())
        });
    };
    traced("it is held", |status| {
        matches!(status, WaitStatus::Stopped(..))
    });
    world.must(Verb::Restart, &["web"]);
    traced("it is killed", |status| {
        matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _))
    });
    until_another(&world, scribe.as_raw());
}
