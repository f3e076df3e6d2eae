//! What runsv and runsvdir do and `outlast supervise` does not: their signals, their words, and
//! services told to exit that come back.

use super::Supervisor;
use super::disk::{Job, Record, Write};
use super::manner::Manner;
use super::place::Place;
use super::vocab::{Command, Event, Role, ServiceId, Signal, Tick};
use crate::ipc::wire::{Ending, SLOT_LOCK, SLOT_PIPE, ToKeeper};
use crate::os::step::Step;
use crate::os::{clock, wording};
use crate::svdir::status::{State, Status, Want};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// runsvdir starts a runsv that has ended at most this often.
const REST: Duration = Duration::from_secs(1);

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
                aside: false,
            };
            self.disk.write(id, write);
        }
        let name = place.name.strip_suffix("/log").unwrap_or(&place.name);
        self.disk.give(Job::Forget {
            directory: None,
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
    pub fn parted(&mut self, id: ServiceId) {
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
}
