//! The supervisor dies, at random moments and at each of its kill points, while services start, stop,
//! crash and write, commands are on their way and directories come and go. Whatever comes: never two
//! copies, no process of an undisturbed service is replaced, what was wanted stays wanted, and no
//! line is lost.
//!
//! `OUTLAST_CHAOS_KILLS=1000 cargo test --release live::chaos` takes longer, `OUTLAST_CHAOS_SEED=7`
//! throws the same dice again (the moments still depend on the machine).

use super::world::{BINARY, World, children, comm_of, eventually, kill, lives};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb, Want};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Kills of an ordinary test run, and those that one world takes: the keeper waits longer after
/// each one.
const KILLS: u64 = 100;
const KILLS_PER_WORLD: usize = 5;
/// Worlds at once.
const WORLDS: usize = 5;
const STEADY: usize = 5;
const COMMANDED: usize = 3;

/// Says so when an earlier copy of itself lives.
const ALONE: &str = "if [ -e running ] && kill -0 $(cat running) 2>/dev/null; then echo $$ >>doubled; fi\necho $$ >running\n";

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    pub fn pause(&mut self, ms_max: u64) {
        std::thread::park_timeout(Duration::from_millis(self.below(ms_max)));
    }
}

pub fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What dice are thrown with; another one each time, unless somebody wants the same again.
pub fn seed() -> u64 {
    number_from("OUTLAST_CHAOS_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::from(now.expect("a clock").subsec_nanos())
    })
}

/// Tests of one kind, so many of them beside each other.
pub fn in_turn<T: Sync>(beside: usize, all: &[T], one: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..beside {
            scope.spawn(|| {
                while let Some(each) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(each);
                }
            });
        }
    });
}

fn inhabited() -> (World, BTreeMap<String, i32>) {
    let world = super::points::with_points();
    for number in 0..STEADY {
        let body = format!("{ALONE}echo $$ >>starts; exec sleep 1000");
        world.run(&format!("steady{number}"), &body);
    }
    let talk = format!(
        "{ALONE}n=0; while :; do n=$((n+1)); echo line $n; [ $((n % 50)) != 0 ] || sleep 0.01; done"
    );
    world.run("talker", &talk);
    for number in 0..2 {
        let name = format!("crashing{number}");
        let run = format!("#!/bin/sh\n{ALONE}exit 3\n");
        let often = "restart = { delay = 0.1, max = 0.1 }\n";
        world.service(&name, &[("run", &run), ("service.toml", often)]);
    }
    for number in 0..COMMANDED {
        world.run(
            &format!("commanded{number}"),
            &format!("{ALONE}exec sleep 1000"),
        );
    }
    let steady = (0..STEADY).map(|number| format!("steady{number}"));
    let steady = steady.chain(["talker".to_owned()]);
    let pids = steady.map(|name| {
        let pid = world.until_up(&name);
        (name, pid)
    });
    let pids = pids.collect();
    world.until_line("talker", "line 10");
    world.until_trusted();
    (world, pids)
}

/// Processes below the keeper by the service directory that they are in.
fn more_than_one(world: &World) -> Vec<String> {
    let services = world.path("services");
    let mut found: BTreeMap<PathBuf, Vec<i32>> = BTreeMap::new();
    for pid in children(world.keeper_pid()) {
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        if cwd.starts_with(&services) && lives(pid) {
            found.entry(cwd).or_default().push(pid);
        }
    }
    let double = found.into_iter().filter(|(_, pids)| pids.len() > 1);
    // One of them may have ended between two looks.
    let double = double.filter(|(_, pids)| pids.iter().filter(|pid| lives(**pid)).count() > 1);
    double
        .map(|(dir, pids)| format!("{}: {pids:?}", dir.display()))
        .collect()
}

/// Gives one command after the other; returns what is wanted in the end, if that is known.
fn command(world: &World, name: &str, mut dice: Dice, over: &AtomicBool) -> Option<Want> {
    let mut want = Some(Want::Up);
    while !over.load(Ordering::Relaxed) {
        let (verb, wanted) = match dice.below(3) {
            0 => ("stop", Want::Down),
            1 => ("start", Want::Up),
            _ => ("restart", Want::Up),
        };
        let output = Command::new(BINARY)
            .args([verb, name])
            .env("OUTLAST_SOCKET", world.socket())
            .stdin(Stdio::null())
            .output()
            .expect("outlast");
        let said = String::from_utf8_lossy(&output.stderr);
        want = match output.status.code() {
            Some(0) => Some(wanted),
            // Only what may not be given twice, and then in words.
            Some(5) if verb == "restart" && said.contains("is unknown") => None,
            code => panic!("{verb} {name}: {code:?} {said}\n{}", world.said()),
        };
        dice.pause(30);
    }
    want
}

/// What a supervisor dies of.
#[derive(Clone, Copy)]
enum Death {
    /// A signal at any moment.
    Chance,
    /// It comes to a place in the program where a test waits for it; see `os::kill_point`.
    Point(&'static str),
}

/// One directory comes and one goes, again and again.
fn edit(world: &World, mut dice: Dice, over: &AtomicBool) {
    let run = format!("{ALONE}exec sleep 1000");
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let place = world.run(&format!("passing{number}"), &run);
        dice.pause(300);
        fs::rename(&place, world.path("draft").join(format!("gone{number}"))).expect("moved away");
    }
}

fn reach(world: &World, point: &str) {
    let supervisor = world.part("outlast-super");
    let armed = world.path("points").join(point);
    fs::write(&armed, "").expect("armed");
    // Its own process number may not be the one that dies: a successor reads the book as well.
    if point == "book-half-read" {
        kill(supervisor, Signal::SIGKILL);
    }
    eventually(&format!("{point} is reached"), || {
        (!armed.exists()).then_some(())
    });
    eventually(&format!("it has died at {point}"), || {
        (!lives(supervisor)).then_some(())
    });
    assert_eq!(more_than_one(world), Vec::<String>::new());
}

fn one_kill(world: &World, dice: &mut Dice, death: Death) {
    let supervisor = world.part("outlast-super");
    if let Death::Point(point) = death {
        return reach(world, point);
    }
    dice.pause(match dice.0 % 3 {
        0 => 5,
        1 => 60,
        _ => 400,
    });
    let signal = match dice.below(6) {
        0 => Signal::SIGSEGV,
        1 => Signal::SIGABRT,
        _ => Signal::SIGKILL,
    };
    eventually("the supervisor has ended", || {
        // The first SIGSEGV only ends the handler that tells stack overflows.
        kill(supervisor, signal);
        (!lives(supervisor)).then_some(())
    });
    assert_eq!(more_than_one(world), Vec::<String>::new());
}

/// Ends the clients, also when a check has failed.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn one_world(seed: u64, deaths: &[Death]) {
    let (world, pids) = inhabited();
    let mut dice = Dice(seed | 1);
    let over = AtomicBool::new(false);
    let wants: Vec<Option<Want>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..COMMANDED)
            .map(|number| {
                let dice = Dice(seed.wrapping_mul(31 + number as u64) | 1);
                let (world, over) = (&world, &over);
                scope.spawn(move || command(world, &format!("commanded{number}"), dice, over))
            })
            .collect();
        let (world, over) = (&world, &over);
        scope.spawn(move || edit(world, Dice(seed | 3), over));
        let end = End(over);
        for death in deaths {
            one_kill(world, &mut dice, *death);
        }
        drop(end);
        clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .collect()
    });
    // Nobody commands any more; what was wanted outlives one more.
    world.replace_supervisor();
    for (name, pid) in &pids {
        let service = world.until_state(name, State::Up);
        assert_eq!(
            (service.pid, service.restarts),
            (Some(*pid), 0),
            "{name}\n{}",
            world.said()
        );
    }
    for number in 0..STEADY {
        let starts = fs::read_to_string(world.path(&format!("services/steady{number}/starts")));
        assert_eq!(starts.expect("starts").lines().count(), 1);
    }
    for (number, want) in wants.into_iter().enumerate() {
        let name = format!("commanded{number}");
        match want {
            Some(Want::Down) => assert_eq!(world.until_state(&name, State::Down).want, Want::Down),
            Some(_) => assert_eq!(world.until_state(&name, State::Up).want, Want::Up),
            None => {}
        }
    }
    for number in 0..2 {
        let name = format!("crashing{number}");
        let crashing = world.until(&name, "crashed", |service| service.last_exit.is_some());
        assert_eq!(crashing.last_exit.expect("an exit").code, Some(3));
        assert_eq!(crashing.want, Want::Up);
    }
    world.must(Verb::Stop, &["*"]);
    for entry in fs::read_dir(world.path("services"))
        .expect("services")
        .flatten()
    {
        let doubled = fs::read_to_string(entry.path().join("doubled")).unwrap_or_default();
        assert_eq!(
            doubled,
            "",
            "{:?} ran twice\n{}",
            entry.path(),
            world.said()
        );
    }
    assert_eq!(super::upgrade::gaps(&world, "talker"), Vec::<String>::new());
}

#[test]
fn the_supervisor_may_die_at_any_moment() {
    let kills = number_from("OUTLAST_CHAOS_KILLS").unwrap_or(KILLS);
    let seed = seed();
    println!("{kills} kills; again: OUTLAST_CHAOS_SEED={seed}");
    let worlds = kills.div_ceil(KILLS_PER_WORLD as u64);
    let numbers: Vec<u64> = (0..worlds).collect();
    in_turn(WORLDS, &numbers, |number| {
        let seed = (seed + number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        one_world(seed, &[Death::Chance; KILLS_PER_WORLD - 1]);
    });
}

/// Every kill point of a supervisor, in groups that one world takes.
pub const POINTS: &[&[&str]] = &[
    &["blob-unsent", "spawn-sent"],
    &["blob-sent", "lock-stored"],
    &["end-acknowledged", "pipe-stored"],
    &["spawn-unsent", "scan-half-done"],
    &["signal-sent", "pipe-handed-on"],
    &["service-forgotten", "answer-unwritten"],
    &["stat-written", "answer-written"],
    &["status-not-renamed", "book-half-read"],
];

#[test]
fn the_supervisor_may_die_at_each_of_its_kill_points() {
    if !super::points::has_points() {
        return;
    }
    in_turn(WORLDS, POINTS, |points| {
        let deaths: Vec<Death> = points.iter().map(|point| Death::Point(point)).collect();
        one_world(points.concat().len() as u64, &deaths);
    });
}

#[test]
fn parts_of_ours_are_told_apart_from_services() {
    let (world, pids) = inhabited();
    assert_eq!(more_than_one(&world), Vec::<String>::new());
    assert_eq!(comm_of(world.part("outlast-super")), "outlast-super");
    // A second copy would be seen.
    let dir = world.path("services/steady0");
    world.run("twice", &format!("cd {}; sleep 1000 & wait", dir.display()));
    world.until_up("twice");
    eventually("it is seen", || {
        (!more_than_one(&world).is_empty()).then_some(())
    });
    assert!(pids.contains_key("talker"));
}
