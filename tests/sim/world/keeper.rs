//! The keeper and the processes it holds: spawns, signals, sweeps, and ends of all kinds.

use super::{FOREVER, KILLED, MS, Message, SECOND, World};
use outlast::machine::spec::Scope;
use outlast::machine::vocab::{
    Event, Exit, Failure, FailureClass, Leftover, Pid, Program, Role, ServiceId, Signal,
};

pub struct Process {
    pub pid: Pid,
    pub(super) ends: u64,
    pub(super) exit: Exit,
    pub(super) heeds: bool,
    pub(super) paused: bool,
    /// In an uninterruptible wait until then: no signal ends it.
    pub deep_until: u64,
    pub(super) leaves: u64,
}

#[derive(Clone)]
pub(super) struct Left {
    pub(super) pid: Pid,
    pub(super) ends: u64,
    pub(super) deep_until: u64,
    pub(super) heeds: bool,
}

/// An exit in the keeper's book, there until it is acknowledged.
#[derive(Clone)]
pub(super) struct Booked {
    pub(super) id: ServiceId,
    pub(super) role: Role,
    pub(super) pid: Pid,
    pub(super) exit: Exit,
    pub(super) told: bool,
}

impl World {
    pub(super) fn next_death(&self) -> u64 {
        let processes = self.live.values().filter(|p| !p.paused || p.exit == KILLED);
        let processes = processes.map(|p| p.ends.max(p.deep_until)).min();
        let left = self
            .leftovers
            .values()
            .flatten()
            .map(|l| l.ends.max(l.deep_until))
            .min();
        processes.unwrap_or(u64::MAX).min(left.unwrap_or(u64::MAX))
    }

    /// Nobody looks meanwhile; what ends is in the book.
    pub(super) fn let_time_pass(&mut self, until: u64) {
        loop {
            let next = self.next_death();
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            self.let_die();
        }
        self.now = self.now.max(until);
    }

    pub(super) fn let_die(&mut self) {
        let now = self.now;
        let ended = self
            .live
            .iter()
            .find(|(_, p)| (!p.paused || p.exit == KILLED) && p.ends.max(p.deep_until) <= now);
        if let Some((key, _)) = ended {
            let key = *key;
            self.end_process(key);
            return;
        }
        let ids: Vec<ServiceId> = self.leftovers.keys().copied().collect();
        for id in ids {
            let Some(all) = self.leftovers.get_mut(&id) else {
                continue;
            };
            all.retain(|left| left.ends.max(left.deep_until) > now);
            let gone = all.is_empty();
            if gone {
                self.leftovers.remove(&id);
            }
            if gone && self.watched.remove(&id).is_some() {
                self.note(|| format!("{id:?} the last leftover is gone"));
                self.send(id, Event::Leftovers(Vec::new()), 0);
            }
        }
    }

    pub(super) fn end_process(&mut self, (id, role): (ServiceId, Role)) {
        let Some(process) = self.live.remove(&(id, role)) else {
            return;
        };
        self.note(|| format!("{id:?} {role:?} {:?} ends: {}", process.pid, process.exit));
        self.oracle
            .process_ended(id, role, process.pid, process.exit, self.now);
        for _ in 0..process.leaves {
            let pid = self.pid();
            let left = Left {
                pid,
                ends: if self.dice.once_in(2) {
                    self.now + self.dice.lifetime()
                } else {
                    FOREVER
                },
                deep_until: if self.dice.once_in(60) {
                    self.now + 25 * SECOND
                } else {
                    0
                },
                heeds: !self.dice.once_in(3),
            };
            self.leftovers.entry(id).or_default().push(left);
        }
        let booked = Booked {
            id,
            role,
            pid: process.pid,
            exit: process.exit,
            told: true,
        };
        self.book.push(booked);
        let delay = self.delay();
        self.send(
            id,
            Event::Exited {
                role,
                exit: process.exit,
            },
            delay,
        );
    }

    pub(super) fn pid(&mut self) -> Pid {
        self.next_pid += 1;
        Pid(self.next_pid)
    }

    pub(super) fn delay(&mut self) -> u64 {
        match self.dice.below(20) {
            0 => self.dice.below(3 * SECOND),
            1..=5 => self.dice.below(20 * MS),
            _ => self.dice.below(MS / 10),
        }
    }

    /// The keeper's words about one service come in the order in which they were said.
    pub(super) fn send(&mut self, id: ServiceId, event: Event, delay: u64) {
        let last = self
            .messages
            .iter()
            .filter(|m| m.id == id)
            .map(|m| m.at)
            .max()
            .unwrap_or(0);
        self.messages.push(Message {
            at: (self.now + delay).max(last),
            id,
            event,
        });
    }

    pub(super) fn spawn(&mut self, id: ServiceId, program: Program) -> Result<(), String> {
        let role = program.role();
        let swept = self.scope_of(id) != Scope::Process;
        let leftovers = self.leftovers.get(&id).map_or(0, Vec::len);
        self.oracle
            .asked_to_spawn(self, id, program, if swept { leftovers } else { 0 })?;
        let delay = self.delay();
        let directory = self.directory_of(id);
        let bad = directory
            .and_then(|n| self.directories[n].bad)
            .filter(|_| role == Role::Run);
        let missing = role == Role::Control && self.dice.once_in(2);
        if bad.is_some() || missing || self.dice.once_in(25) {
            let class = bad.unwrap_or(FailureClass::Passing);
            let failure = Failure {
                step: 6,
                errno: 2,
                detail: String::new(),
                class,
            };
            self.oracle.start_failed(id, role, self.now);
            self.send(id, Event::SpawnFailed { role, failure }, delay);
            return Ok(());
        }
        let pid = self.pid();
        let ends = self.now
            + match role {
                Role::Run => self.dice.lifetime(),
                Role::Finish | Role::Check | Role::Control if self.dice.once_in(12) => FOREVER,
                Role::Finish | Role::Check | Role::Control => self.dice.below(800 * MS),
            };
        let exit = match self.dice.below(4) {
            0 => Exit::Code(1),
            1 => Exit::Signal {
                signal: Signal(11),
                core: true,
            },
            _ => Exit::Code(0),
        };
        let leaves = match role {
            Role::Run | Role::Finish if self.dice.once_in(4) => self.dice.below(3),
            Role::Run | Role::Finish | Role::Check | Role::Control => 0,
        };
        let deep = self.dice.once_in(300);
        let deep_until = if deep {
            self.now + self.dice.below(40 * SECOND)
        } else {
            0
        };
        let heeds = !self.dice.once_in(5);
        let process = Process {
            pid,
            ends,
            exit,
            heeds,
            paused: false,
            deep_until,
            leaves,
        };
        self.live.insert((id, role), process);
        self.oracle.spawned(id, role, pid, self.now);
        self.send(id, Event::Spawned { role, pid }, delay);
        Ok(())
    }

    pub(super) fn signal(&mut self, id: ServiceId, role: Role, signal: Signal) {
        let now = self.now;
        let pause = self.dice.below(4 * SECOND);
        let Some(process) = self.live.get_mut(&(id, role)) else {
            return;
        };
        match signal {
            Signal::KILL => {
                process.exit = KILLED;
                process.ends = process.ends.min(now + pause / 4000);
            }
            Signal::STOP => process.paused = true,
            Signal::CONT => process.paused = false,
            Signal::TERM | Signal::INT | Signal::QUIT if process.heeds => {
                process.exit = Exit::Signal {
                    signal,
                    core: false,
                };
                process.ends = process.ends.min(now + pause);
            }
            _ => {}
        }
    }

    pub(super) fn sweep(&mut self, id: ServiceId, signal: Signal) {
        let now = self.now;
        // The supervisor looks for itself; its new look replaces the old one.
        self.messages
            .retain(|m| m.id != id || !matches!(m.event, Event::Leftovers(_)));
        let mut list = Vec::new();
        for left in self.leftovers.entry(id).or_default() {
            let pause = self.dice.below(4 * SECOND);
            if signal == Signal::KILL {
                left.ends = left.ends.min(now + pause / 4000);
            } else if left.heeds {
                left.ends = left.ends.min(now + pause);
            }
            list.push(Leftover {
                pid: left.pid,
                name: "child".to_owned(),
            });
        }
        self.watched.remove(&id);
        if list.is_empty() {
            self.leftovers.remove(&id);
        } else {
            self.watched
                .insert(id, list.iter().map(|left| left.pid).collect());
        }
        self.send(id, Event::Leftovers(list), 0);
    }
}
