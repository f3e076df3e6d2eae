//! The measurements, in the order in which they are taken: a large world from start to stop, then
//! a small one that is left alone.

use crate::Options;
use crate::peers::{Peer, Stop};
use crate::processes::{self, Memory};
use crate::world::{self, Mark, World, service_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Past runit's and s6's one-second rule, so that no delay is due; and loggers have started.
const SETTLED: Duration = Duration::from_millis(2500);

/// One peer's column. None is what it can't do or what failed; `troubles` tells which.
#[derive(Default)]
pub struct Figures {
    pub memory_many: Option<Memory>,
    pub memory_few: Option<Memory>,
    pub up_wall: Option<Duration>,
    pub up_processor: Option<Duration>,
    pub stopped: Option<Duration>,
    pub successor: Option<Duration>,
    pub in_hand: Option<Duration>,
    pub restart: Option<Duration>,
    pub status: Option<Duration>,
    pub sv_status: Option<Duration>,
    pub sv_restart: Option<Duration>,
    pub noticed: Option<Duration>,
    pub wake_ups_a_minute: Option<f64>,
    pub troubles: Vec<String>,
}

pub fn measure(peer: &Peer, options: &Options, yard: &Path) -> Figures {
    let mut figures = Figures::default();
    if let Err(trouble) = many(peer, options, yard, &mut figures) {
        figures
            .troubles
            .push(format!("{} services: {trouble}", options.many));
    }
    if let Err(trouble) = few(peer, options, yard, &mut figures) {
        figures
            .troubles
            .push(format!("{} services: {trouble}", options.few));
    }
    figures
}

impl Figures {
    /// What failed is told below the table; the other figures are still wanted.
    fn keep<T>(&mut self, what: &str, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|trouble| self.troubles.push(format!("{what}: {trouble}")))
            .ok()
    }
}

fn many(peer: &Peer, options: &Options, yard: &Path, figures: &mut Figures) -> Result<(), String> {
    let mut world = World::new(peer, options.many, yard)?;
    let begun = world::now_ns();
    world.start(peer)?;
    let marks = world.marks(options.many)?;
    let last = marks.iter().map(|mark| mark.at_ns).max().unwrap_or(begun);
    figures.up_wall = Some(Duration::from_nanos(last.saturating_sub(begun)));
    thread::sleep(SETTLED);
    figures.up_processor = Some(processes::processor_time());
    figures.memory_many = Some(processes::memory(&processes::supervising()));
    figures.status = figures.keep("status", status(peer, &world, options));
    figures.successor = figures.keep("successor", successor(&mut world, &marks, options));
    figures.restart = figures.keep("restart", restart(peer, &mut world, options));
    if peer.has_sv() {
        figures.sv_status = figures.keep("sv status", sv_status(peer, &world));
        figures.sv_restart = figures.keep("sv restart", sv_restart(peer, &mut world, options));
    }
    if peer.survives_its_supervisor() {
        figures.in_hand = figures.keep("kill -9 of the supervisor", in_hand(peer, &world, options));
    }
    figures.stopped = figures.keep("stop", stopped(peer, &mut world));
    Ok(())
}

fn few(peer: &Peer, options: &Options, yard: &Path, figures: &mut Figures) -> Result<(), String> {
    let mut world = World::new(peer, options.few, yard)?;
    world.start(peer)?;
    world.marks(options.few)?;
    thread::sleep(SETTLED);
    let pids = processes::supervising();
    figures.memory_few = Some(processes::memory(&pids));
    let before = processes::wake_ups(&pids);
    let window = Instant::now();
    while window.elapsed().as_secs() < options.idle_seconds && !world::interrupted() {
        thread::sleep(Duration::from_millis(500));
    }
    let woken = processes::wake_ups(&pids).saturating_sub(before);
    figures.wake_ups_a_minute = Some(woken as f64 * 60.0 / window.elapsed().as_secs_f64());
    if peer.notices_directories() {
        figures.noticed = figures.keep("new directory", noticed(peer, &mut world, options));
    }
    stopped(peer, &mut world).map(|_| ())
}

fn status(peer: &Peer, world: &World, options: &Options) -> Result<Duration, String> {
    let mut taken = Vec::new();
    for _ in 0..options.repeats {
        let begun = Instant::now();
        for mut command in peer.status(world, options.many) {
            succeed(&mut command)?;
        }
        taken.push(begun.elapsed());
    }
    Ok(median(taken))
}

/// kill -9 of a service to the first instruction of the next one.
fn successor(world: &mut World, marks: &[Mark], options: &Options) -> Result<Duration, String> {
    let mut taken = Vec::new();
    for number in 0..options.repeats {
        let name = service_name(number);
        let victim = marks
            .iter()
            .find(|mark| mark.name == name)
            .ok_or("a service is missing")?;
        let begun = world::now_ns();
        kill(Pid::from_raw(victim.pid), Signal::SIGKILL).map_err(|error| format!("{error}"))?;
        let next = world.marks(1)?;
        taken.push(Duration::from_nanos(next[0].at_ns.saturating_sub(begun)));
    }
    Ok(median(taken))
}

/// kill -9 of the supervisor until its successor has told the state of every service. Once: the
/// next one would not be started at once.
fn in_hand(peer: &Peer, world: &World, options: &Options) -> Result<Duration, String> {
    let supervisors = processes::supervising().into_iter();
    let victim = supervisors
        .filter(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim_end() == "outlast-super"
        })
        .min()
        .ok_or("no supervisor")?;
    let begun = Instant::now();
    kill(Pid::from_raw(victim), Signal::SIGKILL).map_err(|error| format!("{error}"))?;
    for mut command in peer.status(world, options.many) {
        succeed(&mut command)?;
    }
    Ok(begun.elapsed())
}

/// The whole command, and until the service runs, whichever is later.
fn restart(peer: &Peer, world: &mut World, options: &Options) -> Result<Duration, String> {
    let mut taken = Vec::new();
    for number in options.repeats..2 * options.repeats {
        let begun = world::now_ns();
        succeed(&mut peer.restart(world, &service_name(number)))?;
        let returned = world::now_ns();
        let runs = world.marks(1)?[0].at_ns;
        taken.push(Duration::from_nanos(
            returned.max(runs).saturating_sub(begun),
        ));
    }
    Ok(median(taken))
}

/// So short that many are taken.
const SV_STATUS_REPEATS: usize = 500;

fn sv_status(peer: &Peer, world: &World) -> Result<Duration, String> {
    let mut taken = Vec::new();
    for _ in 0..SV_STATUS_REPEATS {
        let mut command = peer.sv(world, "status", &service_name(0));
        let begun = Instant::now();
        succeed(&mut command)?;
        taken.push(begun.elapsed());
    }
    Ok(median(taken))
}

/// The whole command, and until the service runs, whichever is later.
fn sv_restart(peer: &Peer, world: &mut World, options: &Options) -> Result<Duration, String> {
    let mut taken = Vec::new();
    for number in 2 * options.repeats..3 * options.repeats {
        let mut command = peer.sv(world, "restart", &service_name(number));
        let begun = world::now_ns();
        succeed(&mut command)?;
        let returned = world::now_ns();
        let runs = world.marks(1)?[0].at_ns;
        let end = returned.max(runs);
        taken.push(Duration::from_nanos(end.saturating_sub(begun)));
    }
    Ok(median(taken))
}

/// A directory moved in whole, to the first instruction of its `run`.
fn noticed(peer: &Peer, world: &mut World, options: &Options) -> Result<Duration, String> {
    let mut taken = Vec::new();
    for number in 0..options.repeats {
        let name = format!("new{number}");
        let made = world.path().join("new").join(&name);
        peer.lay(world, &made, &name)
            .map_err(|error| format!("{name}: {error}"))?;
        let begun = world::now_ns();
        fs::rename(&made, world.scan().join(&name)).map_err(|error| format!("{name}: {error}"))?;
        taken.push(Duration::from_nanos(
            world.marks(1)?[0].at_ns.saturating_sub(begun),
        ));
    }
    Ok(median(taken))
}

/// From the request until the last service has gone; loggers may still be writing.
fn stopped(peer: &Peer, world: &mut World) -> Result<Duration, String> {
    let begun = Instant::now();
    match peer.stop(world) {
        Stop::Signal(signal) => {
            let supervisor = world.supervisor().ok_or("no supervisor")?;
            let pid = Pid::from_raw(supervisor.id() as i32);
            kill(pid, signal).map_err(|error| format!("stop: {error}"))?;
        }
        Stop::Command(mut command) => succeed(&mut command)?,
    }
    world.silence()?;
    Ok(begun.elapsed())
}

fn succeed(command: &mut Command) -> Result<(), String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let words = format!("{:?}", command.get_program());
    let output = command
        .output()
        .map_err(|error| format!("{words}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{words}: {}; it said: {said:?}", output.status))
        }
    }
}

fn median(mut taken: Vec<Duration>) -> Duration {
    taken.sort();
    taken.get(taken.len() / 2).copied().unwrap_or_default()
}
