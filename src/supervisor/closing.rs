//! Clients that ask for the end of everything, and those that ask for something else while it comes.

use super::door::Ask;
use super::farewell::Stage;
use super::place::Hindrance;
use super::requests::{refuse, respond};
use super::vocab::{Command, Leftover, ServiceId, Tick};
use super::{Supervisor, stuck};
use std::time::Duration;

/// Somebody who waits for the end.
pub struct Waiting {
    ask: Ask,
    /// Not longer, as he has said.
    pub until: Option<Tick>,
}

impl Supervisor {
    pub fn ask_shutdown(&mut self, ask: Ask) {
        self.shut_down("told to shut down by a client");
        if !ask.request.wait {
            return respond(&ask, true, Vec::new());
        }
        let limit = ask.request.timeout_ms.map(Duration::from_millis);
        let until = limit.map(|limit| self.now().after(limit));
        self.desk.shutdowns.push(Waiting { ask, until });
    }

    /// Everything has ended, as far as it could be ended.
    pub fn answer_shutdowns(&mut self) {
        let stuck = stuck::all(&self.left_behind);
        for waiting in std::mem::take(&mut self.desk.shutdowns) {
            match self.left_behind.is_empty() {
                true => respond(&waiting.ask, true, Vec::new()),
                false => {
                    let message = format!("all has ended, but {}", stuck.words());
                    refuse(&waiting.ask, "left-behind", message);
                }
            }
        }
    }

    /// Tells those who do not want to wait any longer.
    pub fn shutdowns_overdue(&mut self) {
        let now = self.now();
        let late = |it: &mut Waiting| it.until.is_some_and(|until| until <= now);
        let late: Vec<Waiting> = self.desk.shutdowns.extract_if(.., late).collect();
        if late.is_empty() {
            return;
        }
        let message = format!(
            "the end was not reached in time; it goes on, waiting for {}",
            self.still_there()
        );
        for waiting in late {
            refuse(&waiting.ask, "timed-out", message.clone());
        }
    }

    /// Nothing is started or signalled any more; how it stands can still be asked.
    pub fn is_too_late_for(&self, command: Command) -> bool {
        command != Command::Check && !matches!(self.stage, Stage::Serving)
    }

    pub fn refuse_at_the_end(&self, ask: &Ask) {
        let message = "outlast is ending: all services are being stopped, and nothing else is done";
        refuse(ask, "leaving", message.into());
    }

    /// Another supervisor looks after it.
    pub fn is_held_by_another(&self, id: ServiceId) -> bool {
        let place = self.places.get(&id);
        place.is_some_and(|place| place.hindrance == Some(Hindrance::Held))
    }

    /// Of a service that is forgotten at the end although something of it lives.
    pub fn note_left_behind(&mut self, id: ServiceId) {
        let Some(place) = self.places.get(&id) else {
            return;
        };
        if matches!(self.stage, Stage::Serving) || self.bereft.is_some() {
            return;
        }
        let alive = place.alive.iter().flatten().map(|pid| Leftover {
            pid: super::vocab::Pid(*pid),
            name: place.name.to_string(),
        });
        let pinned = place.pinned.iter().filter(|pin| pin.lives());
        let left: Vec<Leftover> = alive
            .chain(pinned.map(|pin| pin.leftover.clone()))
            .collect();
        self.are_left_behind(left);
    }

    /// The exit code tells of them as well.
    pub fn are_left_behind(&mut self, left: Vec<Leftover>) {
        if !left.is_empty() {
            self.ending.code = self.ending.code.max(1);
            self.left_behind.extend(left);
        }
    }
}
