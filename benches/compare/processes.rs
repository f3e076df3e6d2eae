//! What /proc tells about our descendants: memory, time, wake-ups. Only processes that descend from
//! this one are ever looked at or ended.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Two kinds of memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Shared pages counted in parts.
    pub pss: u64,
    pub anonymous: u64,
}

/// All living descendants, ourselves not included.
fn descendants() -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut waiting) = (Vec::new(), vec![std::process::id() as i32]);
    while let Some(pid) = waiting.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend_from_slice(&below);
        waiting.extend(below);
    }
    found
}

/// The fourth field of stat; the second, a name in brackets, may hold anything (proc(5)).
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Everything that supervises or logs: all descendants that are not a probe.
pub fn supervising() -> Vec<i32> {
    let probe = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "run")
    };
    descendants()
        .into_iter()
        .filter(|pid| !probe(pid))
        .collect()
}

pub fn memory(pids: &[i32]) -> Memory {
    let mut sum = Memory::default();
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        sum.pss += kib(&text, "Pss:") * 1024;
        sum.anonymous += kib(&text, "Anonymous:") * 1024;
    }
    sum
}

fn kib(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    value
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Processor time of all living descendants, services included: the first word of schedstat, in
/// nanoseconds, where stat counts in ticks that most of these never fill.
pub fn processor_time() -> Duration {
    let mut sum = 0;
    for pid in descendants() {
        sum += threads(pid, "schedstat")
            .iter()
            .map(|text| first_number(text))
            .sum::<u64>();
    }
    Duration::from_nanos(sum)
}

/// Times that one of these gave up the processor to wait, so times that it was woken.
pub fn wake_ups(pids: &[i32]) -> u64 {
    let key = "voluntary_ctxt_switches:";
    let of_thread = |text: &String| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .map_or(0, first_number)
    };
    pids.iter()
        .flat_map(|&pid| threads(pid, "status"))
        .map(|text| of_thread(&text))
        .sum()
}

fn threads(pid: i32, file: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join(file)).ok())
        .collect()
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// Kills and reaps until we have no descendants.
pub fn end_all_of_ours() {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        for pid in descendants() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // The orphans of those just killed come to us one generation at a time.
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return,
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("compare: {} processes can't be ended", descendants().len());
}
