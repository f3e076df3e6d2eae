//! Who is left of an ended run: looked for among the keeper's descendants, and among strangers only
//! where a run has come from another keeper (`abroad`).
//!
//! A process whose parent dies becomes the keeper's child (it is the subreaper) before the
//! parent's end is reported, so everything that a run leaves behind hangs below the keeper, beside
//! the processes that are in its book. Each one found is pinned by a pidfd before it is looked at
//! again and signalled, so that no signal can hit a successor of its number.

use super::vocab::{Leftover, Pid};
use crate::os::pidfd::PidFd;
use procfs::process::{Process, Stat};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Room for /proc/vmstat, and for the numbers of two thousand children.
const PROC_READ_BYTES: usize = 16 * 1024;
/// Far more than any file of /proc that is read here: four million processes.
const PROC_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A living process outside the book.
#[derive(Clone, Debug)]
pub struct Stray {
    pub pid: i32,
    pub parent: i32,
    pub session: i32,
    pub group: i32,
    pub started: u64,
    pub name: String,
}

/// Set in the environment of a run whose scope is `tree` when there is no cgroup to hold it.
pub const MARK: &str = "OUTLAST_SERVICE";
/// ... and beside it which directory that service has: there may be another one of that name elsewhere.
pub const HOME: &str = "OUTLAST_DIRECTORY";

/// A directory by device and inode, as [`HOME`] has it.
pub fn home((dev, ino): (u64, u64)) -> String {
    format!("{dev}:{ino}")
}

impl Stray {
    pub fn leftover(&self) -> Leftover {
        Leftover {
            pid: Pid(self.pid),
            name: self.name.clone(),
        }
    }

    /// Whether its environment says that it came from this service. A process may have changed
    /// that; it is the last resort.
    pub fn marked(&self, service: &str) -> bool {
        self.has_all(&[format!("{MARK}={service}")])
    }

    /// The same of one that hangs below nobody of ours.
    pub fn marked_from(&self, service: &str, directory: (u64, u64)) -> bool {
        let of = home(directory);
        self.has_all(&[format!("{MARK}={service}"), format!("{HOME}={of}")])
    }

    fn has_all(&self, wanted: &[String]) -> bool {
        let environment = std::fs::read(format!("/proc/{}/environ", self.pid));
        let environment = environment.unwrap_or_default();
        let mut wanted = wanted.iter();
        wanted.all(|one| {
            environment
                .split(|it| *it == 0)
                .any(|it| it == one.as_bytes())
        })
    }
}

/// All living descendants of the keeper that are neither in `booked` nor below one of those.
pub fn strays(keeper: i32, booked: &HashSet<i32>) -> Vec<Stray> {
    let mut found = Vec::new();
    let mut open = children(keeper);
    let mut seen = HashSet::new();
    while let Some(pid) = open.pop() {
        if booked.contains(&pid) || !seen.insert(pid) {
            continue;
        }
        open.extend(children(pid));
        if let Some(stray) = look_at(pid) {
            found.push(stray);
        }
    }
    found
}

/// All living processes of this machine but those in `booked`, those below or in the session of one of
/// these, and those that we hang below.
pub fn anywhere(booked: &HashSet<i32>) -> Vec<Stray> {
    let Ok(all) = procfs::process::all_processes() else {
        return Vec::new();
    };
    let mut all: Vec<Stray> = all.flatten().filter_map(|it| look_at(it.pid)).collect();
    let parents: HashMap<i32, i32> = all.iter().map(|it| (it.pid, it.parent)).collect();
    let mut above = HashSet::from([nix::unistd::getppid().as_raw()]);
    while let Some(parent) = above.iter().find_map(|it| {
        let parent = parents.get(it)?;
        (!above.contains(parent)).then_some(*parent)
    }) {
        above.insert(parent);
    }
    let is_booked = |stray: &Stray| {
        let mut at = stray.pid;
        // A number that was reused while we looked could make a ring.
        for _ in 0..parents.len() {
            if booked.contains(&at) {
                return true;
            }
            match parents.get(&at) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        true
    };
    all.retain(|it| !above.contains(&it.pid) && !above.contains(&it.session));
    all.retain(|it| !booked.contains(&it.session) && !is_booked(it));
    all
}

/// Everything below one process, itself not included.
pub fn below(pid: i32) -> Vec<Stray> {
    strays(pid, &HashSet::new())
}

/// Children by the kernel's own list; a kernel without it is asked for all processes.
fn children(parent: i32) -> Vec<i32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for task in tasks.flatten() {
        match read_proc(&task.path().join("children")) {
            Ok(list) => {
                all.extend(
                    list.split_whitespace()
                        .filter_map(|pid| pid.parse::<i32>().ok()),
                );
            }
            // The task has ended meanwhile, or the kernel has no such list.
            Err(_) if Path::new("/proc/thread-self/children").exists() => {}
            Err(_) => return children_by_search(parent),
        }
    }
    all
}

/// A whole file of /proc. Its size is not known before, and for each read(2) the kernel makes the
/// text anew or walks to the place where the last one ended: so in large pieces from the start.
pub fn read_proc(path: &Path) -> io::Result<String> {
    let mut text = String::with_capacity(PROC_READ_BYTES);
    std::fs::File::open(path)?
        .take(PROC_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn children_by_search(parent: i32) -> Vec<i32> {
    let Ok(all) = procfs::process::all_processes() else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|process| process.stat().ok())
        .filter(|stat| stat.ppid == parent)
        .map(|stat| stat.pid)
        .collect()
}

fn stat(pid: i32) -> Option<Stat> {
    Process::new(pid).ok()?.stat().ok()
}

/// And is no zombie.
pub fn lives(pid: i32) -> bool {
    look_at(pid).is_some()
}

/// None for a process that has ended or is a zombie: its parent has only to reap it.
fn look_at(pid: i32) -> Option<Stray> {
    let stat = stat(pid)?;
    if matches!(stat.state, 'Z' | 'X' | 'x') {
        return None;
    }
    Some(Stray {
        pid,
        parent: stat.ppid,
        session: stat.session,
        group: stat.pgrp,
        started: stat.starttime,
        name: stat.comm,
    })
}

/// A stray held fast.
pub struct Pinned {
    pub leftover: Leftover,
    process: PidFd,
}

impl Pinned {
    /// None when it has ended meanwhile.
    pub fn pin(stray: &Stray) -> Option<Pinned> {
        let process = PidFd::open(stray.pid).ok()?;
        let now = look_at(stray.pid)?;
        (now.started == stray.started).then(|| Pinned {
            leftover: stray.leftover(),
            process,
        })
    }

    pub fn signal(&self, signal: i32) {
        // An error means that it has ended, which is what the signal is for.
        let _ = self.process.signal(signal);
    }

    pub fn lives(&self) -> bool {
        self.process.lives()
    }

    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}
