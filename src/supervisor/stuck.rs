//! What KILL has not ended, and why: held by the kernel, or not ours to signal.
//!
//! A program that has put on another user's rights (sudo, a set-user-id daemon) is not to be signalled by
//! a supervisor that is not root (kill(2)). The keeper's rights are ours, so what we may not signal, it
//! may not either. Called wherever such a process is told of.

use super::vocab::Leftover;
use super::words;
use crate::machine::view::View;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub struct Stuck {
    /// Whom we may not signal, with the number of its user.
    refused: Vec<(Leftover, u32)>,
    held: Vec<Leftover>,
}

/// Of the service that looks so: what its ended runs have left, or the process that was to end.
pub fn of(view: &View) -> Stuck {
    let main = view.pid.map(|pid| Leftover {
        pid,
        name: String::new(),
    });
    match view.leftovers.is_empty() {
        true => all(main.as_slice()),
        false => all(&view.leftovers),
    }
}

pub fn all(leftovers: &[Leftover]) -> Stuck {
    let (mut refused, mut held) = (Vec::new(), Vec::new());
    for leftover in leftovers {
        let pid = leftover.pid;
        let name = fs::read_to_string(format!("/proc/{}/comm", pid.0));
        let name = name.map_or_else(|_| leftover.name.clone(), |name| name.trim_end().to_owned());
        let leftover = Leftover { pid, name };
        match kill(Pid::from_raw(pid.0), None) {
            Err(Errno::EPERM) => {
                let owner = fs::metadata(format!("/proc/{}", pid.0));
                refused.push((leftover, owner.map_or(0, |owner| owner.uid())));
            }
            _ => held.push(leftover),
        }
    }
    Stuck { refused, held }
}

impl Stuck {
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        if let Some((_, owner)) = self.refused.first() {
            let names: Vec<Leftover> = self.refused.iter().map(|(it, _)| it.clone()).collect();
            let (verb, owner) = match (names.len(), owner) {
                (1, 0) => ("belongs", "root".to_owned()),
                (1, owner) => ("belongs", format!("user number {owner}")),
                _ => ("belong", "other users".to_owned()),
            };
            parts.push(format!(
                "{} {verb} to {owner}, so outlast may not end it",
                words::names(&names)
            ));
        }
        if !self.held.is_empty() {
            parts.push(format!(
                "KILL does not end {}: held by the kernel, mostly by a disk or a file server",
                words::names(&self.held)
            ));
        }
        parts.join("; ")
    }

    pub fn advice(&self) -> String {
        let pids: Vec<String> = self
            .refused
            .iter()
            .map(|(it, _)| it.pid.0.to_string())
            .collect();
        match pids.is_empty() {
            false => format!(
                "end it as root: kill {}; or run outlast as root, with user = ... in service.toml",
                pids.join(" ")
            ),
            true => {
                "wait for the disk or file server, or thaw what is frozen; it ends as soon as the \
                     kernel lets it go"
                    .to_owned()
            }
        }
    }
}
