//! The built-in stage 3: whoever still runs is ended, the seed is kept, what is mounted is taken
//! down. The machine itself ends after it.

use super::begin::{is_machine, program, run_local, save_seed};
use super::mounts::{make_read_only, take_down};
use super::say;
use super::skip::Skip;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// What those that no service answers for get between TERM and KILL.
const GRACE: Duration = Duration::from_secs(3);
/// ... and after KILL, before they are only named.
const LAST_GRACE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);
/// Names in one line.
const NAMED_MAX: usize = 8;
const LOCAL: &str = "/etc/outlast/shutdown";

pub fn run() -> u8 {
    let skip = Skip::read();
    let wanted = |name: &str| !skip.has(name);
    if wanted("local") {
        told("local", run_local(LOCAL));
    }
    if wanted("processes") {
        end_processes();
    }
    if !is_machine() {
        return 0;
    }
    if wanted("seed") {
        told("seed", save_seed());
    }
    if wanted("swap") && fs::read_to_string("/proc/swaps").is_ok_and(|it| it.lines().count() > 1) {
        told("swap", program("swapoff", &["-a"]).map(drop));
    }
    nix::unistd::sync();
    if wanted("unmount") {
        for trouble in take_down() {
            say(&format!("stage 3: unmount: {trouble}"));
        }
    }
    // The root of an initramfs can't become read-only, and need not.
    if wanted("root") && !is_in_memory() {
        told("root", make_read_only(Path::new("/")));
    }
    nix::unistd::sync();
    0
}

fn told(step: &str, done: Result<(), String>) {
    if let Err(trouble) = done {
        say(&format!("stage 3: {step}: {trouble}"));
    }
}

fn end_processes() {
    let all = Pid::from_raw(-1);
    let rounds = [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, LAST_GRACE)];
    for (signal, grace) in rounds {
        if others().is_empty() {
            return;
        }
        // To everybody but process 1 and us (kill(2)).
        let _ = kill(all, signal);
        let _ = kill(all, Signal::SIGCONT);
        wait(signal, grace);
    }
    let left = others();
    if !left.is_empty() {
        say(&format!("stage 3: KILL does not end {}", named(&left)));
    }
}

/// Until all have gone, naming them each second.
fn wait(signal: Signal, grace: Duration) {
    let since = Instant::now();
    let mut seconds = 1;
    loop {
        let left = others();
        let waited = since.elapsed();
        if left.is_empty() || waited >= grace {
            return;
        }
        if waited.as_secs() >= seconds {
            let names = named(&left);
            let (sent, most) = (signal.as_str(), grace.as_secs());
            say(&format!(
                "stage 3: {sent} sent, waiting for {names} ({seconds} s of {most} s)"
            ));
            seconds += 1;
        }
        thread::sleep(LOOK);
    }
}

fn named(left: &[(i32, String)]) -> String {
    let names: Vec<String> = left
        .iter()
        .take(NAMED_MAX)
        .map(|(pid, name)| format!("{name} ({pid})"))
        .collect();
    let more = left.len().saturating_sub(NAMED_MAX);
    match more {
        0 => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

/// Programs that run besides process 1 and us: the kernel's own threads and what is dead already
/// have no command line (proc(5)).
fn others() -> Vec<(i32, String)> {
    let own = getpid().as_raw();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let alive = pids
        .filter(|pid| *pid != 1 && *pid != own)
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (!line.is_empty()).then(|| (pid, name.trim().to_owned()))
        });
    alive.collect()
}

fn is_in_memory() -> bool {
    let list = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    list.lines().any(|line| {
        let root = line.split(' ').nth(4) == Some("/");
        let kind = line
            .split(" - ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        root && matches!(kind, Some("rootfs" | "tmpfs" | "ramfs"))
    })
}
