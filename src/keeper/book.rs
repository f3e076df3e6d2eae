//! The book: what the keeper holds for each service.
//!
//! At most one process under a key, from its fork until the supervisor has taken note of its end:
//! that is why two instances of a service cannot exist, whatever the supervisor asks for.

mod carried;

use super::say;
use crate::ipc::wire::ledger::Fault;
use crate::ipc::wire::{
    BLOB_BYTES_MAX, FromKeeper, Held, Key, ROLES, SLOTS, STATUS_UNSEEN, Standing, Usage,
};
use crate::os::step::{DETAIL_BYTES_MAX, REPORT_HEAD_BYTES, Step};
use crate::os::{clock, kill_point};
use crate::sys;
use nix::errno::Errno;
use nix::sys::epoll::Epoll;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How far a held process has come.
#[derive(Debug)]
pub enum Stage {
    /// Forked; the pipe tells how its exec goes.
    Starting {
        report: OwnedFd,
    },
    Alive,
    /// Its start failed; it is about to end.
    Failing(Fault),
    /// Its start failed and nothing of it is left.
    Failed(Fault),
    Ended {
        status: i32,
        ended_ns: u64,
        usage: Usage,
    },
}

#[derive(Debug)]
pub struct Process {
    pub pid: Pid,
    /// None when there was no descriptor to be had; the sweep finds its end then.
    pub pidfd: Option<OwnedFd>,
    pub forked_ns: u64,
    pub stage: Stage,
    /// Started by another keeper: not our child, so wait(2) tells nothing of its end.
    pub adopted: bool,
}

/// What has become known of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Its exec worked.
    pub worked: bool,
    /// It has ended, or its start has failed and nothing of it is left.
    pub ended: bool,
}

#[derive(Debug, Default)]
struct Entry {
    slots: [Option<OwnedFd>; SLOTS],
    processes: [Option<Box<Process>>; ROLES],
    blob: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<u32, Entry>,
    by_pid: BTreeMap<i32, Key>,
}

impl Book {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.keys().copied()
    }

    pub fn key_of(&self, pid: Pid) -> Option<Key> {
        self.by_pid.get(&pid.as_raw()).copied()
    }

    pub fn process(&self, key: Key) -> Option<&Process> {
        let entry = self.entries.get(&key.id)?;
        entry.processes.get(usize::from(key.role))?.as_deref()
    }

    fn process_mut(&mut self, key: Key) -> Option<&mut Process> {
        let entry = self.entries.get_mut(&key.id)?;
        entry
            .processes
            .get_mut(usize::from(key.role))?
            .as_deref_mut()
    }

    /// By a signal, until somebody continues it.
    pub fn is_stopped(&self, key: Key) -> bool {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.process(key).is_some_and(|process| {
            let alive = matches!(process.stage, Stage::Starting { .. } | Stage::Alive);
            alive
                && matches!(
                    waitid(Id::Pid(process.pid), flags),
                    Ok(WaitStatus::Stopped(..))
                )
        })
    }

    /// All that may live.
    pub fn living(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for (id, entry) in &self.entries {
            for (role, process) in (0u8..).zip(&entry.processes) {
                if let Some(process) = process
                    && standing(process) != Standing::Ended
                {
                    keys.push(Key { id: *id, role });
                }
            }
        }
        keys
    }

    pub fn slot(&self, id: u32, slot: u8) -> Option<BorrowedFd<'_>> {
        let slot = self.entries.get(&id)?.slots.get(usize::from(slot))?;
        slot.as_ref().map(AsFd::as_fd)
    }

    /// Books a process just forked. The caller has made sure that the key is free.
    pub fn hold(&mut self, key: Key, process: Process) {
        self.by_pid.insert(process.pid.as_raw(), key);
        self.place(key, process);
    }

    fn place(&mut self, key: Key, process: Process) {
        let entry = self.entries.entry(key.id).or_default();
        if let Some(place) = entry.processes.get_mut(usize::from(key.role)) {
            *place = Some(Box::new(process));
        }
    }

    /// Reads how an exec went. True when it worked.
    ///
    /// What is not waited for any more leaves `epoll` by name: closing it is not enough as long as
    /// a child between its fork and its exec has a copy, and its event would come again and again.
    pub fn read_report(&mut self, key: Key, epoll: &Epoll) -> bool {
        let Some(process) = self.process_mut(key) else {
            return false;
        };
        let Stage::Starting { report } = &process.stage else {
            return false;
        };
        let mut buffer = [0u8; REPORT_HEAD_BYTES.saturating_add(DETAIL_BYTES_MAX)];
        let next = match nix::unistd::read(report, &mut buffer) {
            Err(Errno::EAGAIN | Errno::EINTR) => return false,
            Ok(0) | Err(_) => Stage::Alive,
            Ok(count) => Stage::Failing(fault(buffer.get(..count).unwrap_or_default())),
        };
        let _ = epoll.delete(report);
        process.stage = next;
        matches!(process.stage, Stage::Alive)
    }

    /// Takes the status of a process that has ended; tells what the supervisor has not been told.
    pub fn reap(&mut self, key: Key, epoll: &Epoll) -> News {
        // What it had to say about its exec comes first.
        let mut worked = self.read_report(key, epoll);
        let Some(process) = self.process_mut(key) else {
            return News::default();
        };
        if matches!(process.stage, Stage::Failed(_) | Stage::Ended { .. }) {
            return News::default();
        }
        let ended = match process.adopted {
            true if process.pidfd.as_ref().is_some_and(lives) => Ok(None),
            true => Ok(Some((STATUS_UNSEEN, sys::Usage::default()))),
            false => sys::reap(process.pid),
        };
        let (status, used) = match ended {
            Ok(Some(end)) => end,
            Ok(None) => {
                return News {
                    worked,
                    ended: false,
                };
            }
            Err(_) => {
                say("a child was reaped by somebody else; its exit code is not known");
                (255 << 8, sys::Usage::default())
            }
        };
        let ended_ns = clock::monotonic_ns();
        let usage = Usage {
            user_us: used.user_us,
            system_us: used.system_us,
            peak_kib: used.peak_kib,
        };
        let pid = process.pid.as_raw();
        if let Some(pidfd) = process.pidfd.take() {
            let _ = epoll.delete(&pidfd);
        }
        if let Stage::Starting { report } = &process.stage {
            let _ = epoll.delete(report);
        }
        process.stage = match std::mem::replace(&mut process.stage, Stage::Alive) {
            Stage::Failing(fault) => Stage::Failed(fault),
            Stage::Starting { .. } => {
                // Somebody it forked still holds the pipe; it was past its exec.
                worked = true;
                Stage::Ended {
                    status,
                    ended_ns,
                    usage,
                }
            }
            Stage::Alive => Stage::Ended {
                status,
                ended_ns,
                usage,
            },
            over @ (Stage::Failed(_) | Stage::Ended { .. }) => over,
        };
        self.by_pid.remove(&pid);
        News {
            worked,
            ended: true,
        }
    }

    /// To the process itself; nothing happens when it has ended.
    pub fn signal(&mut self, key: Key, signal: u8) {
        let Some(process) = self.process(key) else {
            return;
        };
        match process.stage {
            Stage::Starting { .. } | Stage::Alive | Stage::Failing(_) => {}
            Stage::Failed(_) | Stage::Ended { .. } => return,
        }
        let signal = i32::from(signal);
        // Not reaped, so the number is still its own; not so one that is another's to reap.
        let sent = match &process.pidfd {
            Some(pidfd) => {
                sys::pidfd_signal(pidfd.as_fd(), signal).map_err(|error| error.to_string())
            }
            None if process.adopted => Err("no descriptor of it is left".to_owned()),
            None => nix::sys::signal::Signal::try_from(signal)
                .and_then(|signal| nix::sys::signal::kill(process.pid, signal))
                .map_err(|error| error.to_string()),
        };
        if let Err(error) = sent {
            let pid = process.pid;
            say(&format!(
                "signal {signal} could not be sent to process {pid}: {error}"
            ));
        }
        kill_point("signal-passed-on");
    }

    pub fn store(&mut self, id: u32, slot: u8, fd: OwnedFd) {
        let entry = self.entries.entry(id).or_default();
        if let Some(place) = entry.slots.get_mut(usize::from(slot)) {
            *place = Some(fd);
        }
    }

    pub fn discard(&mut self, id: u32, slot: u8) {
        let entry = self.entries.get_mut(&id);
        if let Some(place) = entry.and_then(|entry| entry.slots.get_mut(usize::from(slot))) {
            *place = None;
        }
    }

    pub fn note(&mut self, id: u32, bytes: Vec<u8>) {
        if bytes.len() <= BLOB_BYTES_MAX {
            self.entries.entry(id).or_default().blob = bytes;
            kill_point("blob-noted");
        }
    }

    /// The supervisor knows of this end: the key is free again.
    pub fn acknowledge(&mut self, key: Key, pid: i32) {
        let Some(process) = self.process(key) else {
            return;
        };
        let over = match process.stage {
            Stage::Failed(_) | Stage::Ended { .. } => true,
            Stage::Starting { .. } | Stage::Alive | Stage::Failing(_) => false,
        };
        if !over || process.pid.as_raw() != pid {
            return;
        }
        let entry = self.entries.get_mut(&key.id);
        if let Some(place) = entry.and_then(|entry| entry.processes.get_mut(usize::from(key.role)))
        {
            *place = None;
            kill_point("place-freed");
        }
    }

    /// False when a process of it still lives; then everything stays.
    pub fn forget(&mut self, id: u32) -> bool {
        let alive = self.entries.get(&id).is_some_and(|entry| {
            entry
                .processes
                .iter()
                .flatten()
                .any(|process| match process.stage {
                    Stage::Starting { .. } | Stage::Alive | Stage::Failing(_) => true,
                    Stage::Failed(_) | Stage::Ended { .. } => false,
                })
        });
        if !alive {
            self.entries.remove(&id);
        }
        !alive
    }

    /// Ends and failed starts that a new supervisor has to be told of.
    pub fn unacknowledged(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for (id, entry) in &self.entries {
            for (role, process) in (0u8..).zip(&entry.processes) {
                if let Some(process) = process
                    && standing(process) == Standing::Ended
                {
                    keys.push(Key { id: *id, role });
                }
            }
        }
        keys
    }

    /// The record that shows one service to a new supervisor.
    pub fn page(&self, id: u32) -> Option<FromKeeper> {
        let entry = self.entries.get(&id)?;
        let mut held = [Held::NONE; ROLES];
        for (place, process) in held.iter_mut().zip(&entry.processes) {
            if let Some(process) = process {
                *place = Held {
                    standing: standing(process),
                    pid: process.pid.as_raw(),
                    forked_ns: process.forked_ns,
                };
            }
        }
        let slots = (0u8..).zip(&entry.slots).fold(0, |mask, (at, slot)| {
            let bit = 1u8.checked_shl(u32::from(at)).unwrap_or(0);
            if slot.is_some() { mask | bit } else { mask }
        });
        Some(FromKeeper::Entry {
            id,
            slots,
            held,
            blob: entry.blob.clone(),
        })
    }

    /// That a process started, whatever became of it since.
    pub fn start_of(&self, key: Key) -> Option<FromKeeper> {
        let process = self.process(key)?;
        let pid = process.pid.as_raw();
        Some(FromKeeper::Spawned {
            key,
            pid,
            forked_ns: process.forked_ns,
        })
    }

    /// How it ended, or that it never started.
    pub fn end_of(&self, key: Key) -> Option<FromKeeper> {
        let process = self.process(key)?;
        let pid = process.pid.as_raw();
        match &process.stage {
            Stage::Starting { .. } | Stage::Alive | Stage::Failing(_) => None,
            Stage::Failed(fault) => Some(FromKeeper::SpawnFailed {
                key,
                pid,
                step: fault.step,
                errno: fault.errno,
                detail: fault.detail.clone(),
            }),
            Stage::Ended {
                status,
                ended_ns,
                usage,
            } => Some(FromKeeper::Exited {
                key,
                pid,
                status: *status,
                ended_ns: *ended_ns,
                usage: *usage,
            }),
        }
    }
}

/// What a child said of the step that failed.
fn fault(bytes: &[u8]) -> Fault {
    let mut rest = bytes.iter().copied();
    let step = rest.next().unwrap_or(Step::Exec.number());
    let mut errno = [0u8; 4];
    for place in &mut errno {
        *place = rest.next().unwrap_or(0);
    }
    Fault {
        step,
        errno: i32::from_ne_bytes(errno),
        detail: rest.collect(),
    }
}

/// A pidfd can be read once its process has ended.
fn lives(pidfd: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut ask = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ask, PollTimeout::ZERO) == Ok(0)
}

fn standing(process: &Process) -> Standing {
    match process.stage {
        Stage::Starting { .. } | Stage::Failing(_) => Standing::Starting,
        Stage::Alive => Standing::Alive,
        Stage::Failed(_) | Stage::Ended { .. } => Standing::Ended,
    }
}
