//! The book as another keeper gets it, and how it is taken over.

use super::{Book, Entry, Process, Stage};
use crate::ipc::wire::ledger;
use crate::keeper::Source;
use crate::os::fds;
use crate::sys;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

impl Book {
    pub fn entries(&self) -> Vec<ledger::Entry> {
        let entry = |(id, entry): (&u32, &Entry)| ledger::Entry {
            id: *id,
            slots: entry
                .slots
                .each_ref()
                .map(|slot| slot.as_ref().map(AsRawFd::as_raw_fd)),
            processes: (0u8..)
                .zip(&entry.processes)
                .filter_map(|(role, process)| Some(written(role, process.as_deref()?)))
                .collect(),
            blob: entry.blob.clone(),
        };
        self.entries.iter().map(entry).collect()
    }

    /// What must stay open over an exec. Of pidfds only those of processes that another keeper has
    /// started: our children keep their numbers until they are reaped, so theirs are opened again.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.entries.values().flat_map(|entry| {
            let slots = entry.slots.iter().flatten().map(AsFd::as_fd);
            let processes = entry.processes.iter().flatten();
            let reports = processes
                .clone()
                .filter_map(|process| match &process.stage {
                    Stage::Starting { report } => Some(report.as_fd()),
                    Stage::Alive | Stage::Failing(_) | Stage::Failed(_) | Stage::Ended { .. } => {
                        None
                    }
                });
            let adopted = processes.filter_map(|process| held_for_another(process));
            slots.chain(reports).chain(adopted)
        })
    }

    /// To be called once, with the book that our predecessor under this process id has left: the
    /// descriptors named there become ours.
    pub fn take_over(&mut self, entries: Vec<ledger::Entry>, epoll: &Epoll) {
        for left in entries {
            let entry = self.entries.entry(left.id).or_default();
            entry.blob = left.blob;
            for (slot, fd) in entry.slots.iter_mut().zip(left.slots) {
                *slot = fd.and_then(fds::inherited);
            }
            for process in left.processes {
                let key = process.key(left.id);
                let process = taken(process, key, epoll);
                match process.stage {
                    Stage::Starting { .. } | Stage::Alive | Stage::Failing(_) => {
                        self.hold(key, process);
                    }
                    // Reaped: its number may be another's by now.
                    Stage::Failed(_) | Stage::Ended { .. } => self.place(key, process),
                }
            }
        }
    }
}

/// By which a process is known that is not our child.
fn held_for_another(process: &Process) -> Option<BorrowedFd<'_>> {
    let pidfd = process.pidfd.as_ref().filter(|_| process.adopted);
    pidfd.map(AsFd::as_fd)
}

fn written(role: u8, process: &Process) -> ledger::Process {
    ledger::Process {
        role,
        pid: process.pid.as_raw(),
        forked_ns: process.forked_ns,
        adopted: held_for_another(process).map(|pidfd| pidfd.as_raw_fd()),
        stage: match &process.stage {
            Stage::Starting { report } => ledger::Stage::Starting(report.as_raw_fd()),
            Stage::Alive => ledger::Stage::Alive,
            Stage::Failing(fault) => ledger::Stage::Failing(fault.clone()),
            Stage::Failed(fault) => ledger::Stage::Failed(fault.clone()),
            Stage::Ended {
                status,
                ended_ns,
                usage,
            } => ledger::Stage::Ended {
                status: *status,
                ended_ns: *ended_ns,
                usage: *usage,
            },
        },
    }
}

fn taken(left: ledger::Process, key: crate::ipc::wire::Key, epoll: &Epoll) -> Process {
    let pid = Pid::from_raw(left.pid);
    let watched = |fd: &std::os::fd::OwnedFd, source: Source| {
        let interest = EpollEvent::new(EpollFlags::EPOLLIN, source.pack());
        epoll.add(fd, interest).is_ok()
    };
    let (stage, lives) = match left.stage {
        ledger::Stage::Starting(report) => match fds::inherited(report) {
            Some(report) => {
                watched(&report, Source::Report(key));
                (Stage::Starting { report }, true)
            }
            None => (Stage::Alive, true),
        },
        ledger::Stage::Alive => (Stage::Alive, true),
        ledger::Stage::Failing(fault) => (Stage::Failing(fault), true),
        ledger::Stage::Failed(fault) => (Stage::Failed(fault), false),
        ledger::Stage::Ended {
            status,
            ended_ns,
            usage,
        } => (
            Stage::Ended {
                status,
                ended_ns,
                usage,
            },
            false,
        ),
    };
    let pidfd = match left.adopted {
        // Its number may be another's by now.
        Some(held) => fds::inherited(held),
        None if lives => sys::pidfd_open(pid).ok(),
        None => None,
    };
    let adopted = left.adopted.is_some();
    Process {
        pid,
        // One that can't be opened again is kept in any case; the sweep looks at it.
        pidfd: pidfd.filter(|pidfd| watched(pidfd, Source::Process(key)) || adopted),
        forked_ns: left.forked_ns,
        stage,
        adopted,
    }
}
