//! What runsv and runsvdir do and `outlast supervise` does not: their signals, their words, services
//! told to exit that come back, and services taken over from a keeper that was killed.

use super::disk::{Job, Record, Write};
use super::hear::key;
use super::manner::Manner;
use super::place::Place;
use super::vocab::{Command, Event, Pid, Role, ServiceId, Signal, Tick};
use super::{End, Supervisor};
use crate::ipc::wire::{Ending, SLOT_LOCK, SLOT_PIPE, ToKeeper};
use crate::machine::snapshot::Snapshot;
use crate::os::identity::Identity;
use crate::os::step::Step;
use crate::os::{clock, wording};
use crate::svdir::left::{Left, Living};
use crate::svdir::status::{State, Status, Want};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// runsvdir starts a runsv that has ended at most this often.
const REST: Duration = Duration::from_secs(1);
/// What the disk thread gets to write what a successor needs, when the keeper has gone.
const LAST_WORDS: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Runit {
    /// Services that were told to exit, and when runsvdir starts them again.
    resting: BTreeMap<String, Tick>,
    /// Forgotten by the machine; held until their last status is written, since a client takes the
    /// closed `ok` for the sign that it may read it.
    parting: BTreeMap<ServiceId, Box<Place>>,
    /// No service is started that is not known by now.
    leaving: bool,
    /// There has been a service, so none is left when there is none.
    had_any: bool,
}

impl Runit {
    pub fn deadline(&self) -> Option<Tick> {
        self.resting.values().min().copied()
    }

    /// Not yet to be started again.
    pub fn rests(&self, name: &str) -> bool {
        self.resting.contains_key(name)
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    pub fn has_one(&mut self) {
        self.had_any = true;
    }
}

impl Supervisor {
    /// A line in runsv's words, about a service or its log service.
    pub fn complain(&self, id: ServiceId, text: &str) {
        let line = format!("runsv {}: {text}\n", self.title(id));
        self.disk.give(Job::Say { line, script: None });
    }

    /// What the user calls it, or the service whose log it is.
    fn title(&self, id: ServiceId) -> &str {
        let place = |id| self.places.get(&id).or_else(|| self.runit.parting.get(&id));
        let main = place(id).and_then(|place| place.main).unwrap_or(id);
        let title = match self.settings.manner {
            Manner::Runsv { .. } => Some(self.settings.title.as_str()),
            Manner::Own | Manner::Runsvdir { .. } => place(main).map(|place| &*place.title),
        };
        title.unwrap_or_default()
    }

    /// What the child of runsv would have said itself.
    pub fn cannot_start(&self, id: ServiceId, role: Role, step: u8, errno: i32) {
        let errno = Errno::from_raw(errno);
        let cause = wording::cause(errno);
        let log = if self.fleet.main_of(id).is_some() {
            "log/"
        } else {
            ""
        };
        if Step::from_number(step) == Some(Step::Fork) {
            return self.complain(id, &format!("warning: unable to fork, sleeping: {cause}"));
        }
        let text = match role {
            Role::Run => format!("fatal: unable to start {log}./run: {cause}"),
            Role::Finish => format!("fatal: unable to start {log}./finish: {cause}"),
            Role::Control => return self.cannot_ask(id, cause),
            Role::Check => return,
        };
        self.complain(id, &text);
    }

    /// A control script that is not there, or not meant to be run, is no reason to say anything. That
    /// its letter is not told is a slip of runsv's.
    fn cannot_ask(&self, id: ServiceId, cause: &str) {
        let (Some(place), Some(letter)) = (self.places.get(&id), self.fleet.asks_about(id)) else {
            return;
        };
        let script = place.dir.join(format!("control/{}", char::from(letter)));
        self.disk.give(Job::Say {
            line: format!(
                "runsv {}: fatal: unable to run control/?: {cause}\n",
                self.title(id)
            ),
            script: Some(script),
        });
    }

    pub fn caught_as_runit(&mut self, signal: Signal) {
        match (self.settings.manner, signal) {
            (Manner::Runsv { .. }, Signal::TERM) => self.exit_all(),
            (Manner::Runsvdir { .. }, Signal::TERM | Signal::INT | Signal::HUP) => {
                self.tell_keeper(&ToKeeper::Ending(Ending::default()));
                self.rest();
                self.exit_all();
            }
            (Manner::Runsvdir { .. }, Signal::ALRM) => self.disk.give(Job::Scan),
            // runsvdir is no more; each runsv goes on.
            (Manner::Runsvdir { .. }, Signal::USR1) => self.rest(),
            (Manner::Own | Manner::Runsv { .. } | Manner::Runsvdir { .. }, _) => {}
        }
        self.settle();
    }

    fn rest(&mut self) {
        self.runit.leaving = true;
        self.runit.resting.clear();
        self.disk.give(Job::Rest);
    }

    /// As if each had its own runsv and that were sent TERM.
    fn exit_all(&mut self) {
        let mains = self.places.iter().filter(|(_, place)| place.main.is_none());
        let exit = |id: &ServiceId| {
            let command = Command::Exit;
            let event = Event::Command {
                command,
                token: None,
                deadline: None,
            };
            (*id, event)
        };
        self.queue.extend(mains.map(|(id, _)| exit(id)));
    }

    /// Nothing is left to be looked after.
    pub fn is_over_as_runit(&self) -> bool {
        let over = match self.settings.manner {
            Manner::Own => false,
            Manner::Runsv { .. } => self.runit.had_any,
            Manner::Runsvdir { .. } => self.runit.leaving,
        };
        over && self.booked
            && self.fleet.is_empty()
            && self.queue.is_empty()
            && self.runit.parting.is_empty()
    }

    /// The machine has forgotten it: its last status, then all that is held of it.
    pub fn part(&mut self, id: ServiceId, place: Box<Place>) {
        if place.ok.is_some() {
            let status = Status {
                since: clock::wall(),
                pid: None,
                paused: place.paused,
                want: Want::Exit,
                got_term: false,
                state: State::Down,
            };
            let write = Write {
                dir: Arc::clone(&place.dir),
                status,
                down: None,
                record: Record::Nobody,
            };
            self.disk.write(id, write);
        }
        let name = place.name.strip_suffix("/log").unwrap_or(&place.name);
        self.disk.give(Job::Forget {
            name: name.to_owned(),
            id,
        });
        if let (Manner::Runsv { log_held }, Some(_)) = (&mut self.settings.manner, place.main) {
            *log_held = false;
        }
        let runsvdir = matches!(self.settings.manner, Manner::Runsvdir { .. });
        if place.main.is_none() && runsvdir && !self.runit.leaving {
            let until = self.now().after(REST);
            self.runit.resting.insert(place.name.to_string(), until);
        }
        self.runit.parting.insert(id, place);
    }

    /// Its last status is on disk.
    pub fn forgotten(&mut self, id: ServiceId) {
        if self.runit.parting.remove(&id).is_none() {
            return;
        }
        for slot in [SLOT_PIPE, SLOT_LOCK] {
            self.tell_keeper(&ToKeeper::Drop { id: id.0, slot });
        }
        self.tell_keeper(&ToKeeper::Forget { id: id.0 });
    }

    /// Services that have had their rest are looked for again, if their directory is still there.
    pub fn look_for_rested(&mut self) {
        let now = self.now();
        let before = self.runit.resting.len();
        self.runit.resting.retain(|_, until| *until > now);
        if self.runit.resting.len() < before {
            self.disk.give(Job::Scan);
        }
    }

    /// A service that a supervisor under another keeper has left alive: its processes are held as if
    /// we had started them, and it stands as it stood.
    pub fn take_over(&mut self, id: ServiceId, left: Left) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        // The keeper's book knows better.
        if std::mem::replace(&mut place.restored, true) {
            return;
        }
        let Ok(mut snapshot) = serde_json::from_str::<Snapshot>(&left.state) else {
            return;
        };
        snapshot.name = place.name.to_string();
        snapshot.stay();
        let main = place.main;
        let mut alive = Vec::new();
        let found = [
            (Role::Run, "run", left.run),
            (Role::Finish, "finish", left.finish),
        ];
        let mut lines = Vec::new();
        for (role, script, process) in found {
            let Some((pid, pidfd)) = process else {
                continue;
            };
            place.took(role, pid);
            let adopt = ToKeeper::Adopt {
                key: key(id, role),
                pid,
            };
            let _ = self.keeper.send(&adopt, &[pidfd.as_fd()]);
            alive.push((role, Pid(pid)));
            let log = if main.is_some() { "log/" } else { "" };
            lines.push(format!(
                "warning: {log}./{script} (pid {pid}) was left alive; it goes on"
            ));
        }
        if let Some(pipe) = left.pipe {
            place.pipe = nix::sys::stat::fstat(&pipe).ok().map(|found| found.st_ino);
            place.piped = true;
            let store = ToKeeper::Store {
                id: id.0,
                slot: SLOT_PIPE,
            };
            let _ = self.keeper.send(&store, &[pipe.as_fd()]);
        }
        for line in lines {
            self.complain(id, &line);
        }
        let outs = self.fleet.restore(self.now(), id, main, &snapshot, &alive);
        self.entrust(id);
        self.perform_all(outs);
    }

    /// What a successor under another keeper would need.
    pub fn record(&self, id: ServiceId) -> Record {
        if !self.settings.manner.is_runit() {
            return Record::None;
        }
        let state = self.fleet.snapshot(id);
        let state = state.and_then(|state| serde_json::to_string(&state).ok());
        let (Some(place), Some(state)) = (self.places.get(&id), state) else {
            return Record::Nobody;
        };
        let [run, finish] = place.living();
        if run.is_none() && finish.is_none() {
            return Record::Nobody;
        }
        Record::Living(Box::new(Living {
            run,
            finish,
            pipe: place.pipe,
            state,
        }))
    }

    /// The keeper has gone, and with it all that we could do. A successor finds what we know on disk.
    pub(super) fn bereft(&mut self, error: io::Error) -> io::Result<End> {
        if self.settings.manner.is_runit() {
            self.publish();
            self.disk.give(Job::Bereft);
            self.disk.end(LAST_WORDS);
        }
        Err(error)
    }
}

impl Place {
    /// A process of it lives under this number.
    pub fn took(&mut self, role: Role, pid: i32) {
        self.set_alive(role, Some(pid));
        let at = match role {
            Role::Run => 0,
            Role::Finish => 1,
            Role::Check | Role::Control => return,
        };
        if let Some(identity) = self.identities.get_mut(at) {
            *identity = Identity::of(pid);
        }
    }

    /// run and finish, as far as they live.
    fn living(&self) -> [Option<Identity>; 2] {
        let [run, finish] = self.identities;
        [
            run.filter(|it| self.is_alive(Role::Run, it.pid)),
            finish.filter(|it| self.is_alive(Role::Finish, it.pid)),
        ]
    }
}
