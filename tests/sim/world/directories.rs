//! The scan directory, and what can be known of a service from outside.

use super::dice::Dice;
use super::{ROLES, World};
use outlast::machine::spec::{Kind, Policy, Restart, Rule, Scope, Spec, Stop};
use outlast::machine::vocab::{Event, FailureClass, Role, ServiceId, Signal, Tick};
use std::time::Duration;

pub(super) struct Directory {
    pub(super) name: String,
    pub(super) exists: bool,
    pub(super) valid: bool,
    pub(super) spec: Spec,
    pub(super) log: Option<Spec>,
    /// `run` itself is bad: each start fails so until somebody mends it.
    pub(super) bad: Option<FailureClass>,
}

impl World {
    pub(super) fn scan(&mut self) {
        for n in 0..self.directories.len() {
            self.rescan_one(n);
        }
    }

    pub(super) fn rescan(&mut self) {
        let now = self.now;
        if let Some(at) = self.rescans.iter().position(|(at, _)| *at <= now) {
            let (_, n) = self.rescans.remove(at);
            self.rescan_one(n);
        }
    }

    pub(super) fn rescan_one(&mut self, n: usize) {
        if self.shutting_down {
            return;
        }
        let name = self.directories[n].name.clone();
        let known = self.fleet.by_name(&name);
        if !self.directories[n].exists {
            if let Some(id) = known {
                self.send(id, Event::Removed, 0);
            }
            return;
        }
        let id = known.unwrap_or_else(|| self.fleet.add(Tick(self.now), &name, None));
        self.seen(id, &name);
        let event = if self.directories[n].valid {
            Event::Defined(Box::new(self.directories[n].spec.clone()))
        } else {
            Event::Invalid("line 3: what is this?".to_owned())
        };
        self.send(id, event, 0);
        let log_name = format!("{name}/log");
        let log = self.fleet.by_name(&log_name);
        match self.directories[n].log.clone() {
            Some(spec) => {
                let log =
                    log.unwrap_or_else(|| self.fleet.add(Tick(self.now), &log_name, Some(id)));
                self.seen(log, &log_name);
                self.send(log, Event::Defined(Box::new(spec)), 0);
            }
            None => {
                if let Some(log) = log {
                    self.send(log, Event::Removed, 0);
                }
            }
        }
    }

    /// Names stay known when their service is forgotten.
    fn seen(&mut self, id: ServiceId, name: &str) {
        self.names.insert(id, name.to_owned());
        self.oracle.seen(id, name);
    }

    pub(super) fn name_of(&self, id: ServiceId) -> Option<String> {
        self.names.get(&id).cloned()
    }

    pub(super) fn directory_named(&self, name: &str) -> Option<usize> {
        self.directories
            .iter()
            .position(|directory| directory.name == name)
    }

    pub(super) fn directory_of(&self, id: ServiceId) -> Option<usize> {
        self.directory_named(self.fleet.name(id)?)
    }

    pub(super) fn scope_of(&self, id: ServiceId) -> Scope {
        let Some(name) = self.name_of(id) else {
            return Scope::Process;
        };
        let main = name.strip_suffix("/log").unwrap_or(&name);
        let Some(n) = self.directory_named(main) else {
            return Scope::Process;
        };
        // Never changed in this world, so that it can be known from outside.
        match (&self.directories[n].log, name.ends_with("/log")) {
            (Some(spec), true) => spec.stop.scope,
            (None, true) => Scope::Process,
            (_, false) => self.directories[n].spec.stop.scope,
        }
    }

    pub fn spec_of(&self, id: ServiceId) -> Option<&Spec> {
        self.fleet.spec(id)
    }

    /// It can be started as far as its directory is concerned.
    pub fn is_startable(&self, id: ServiceId) -> bool {
        let Some(name) = self.name_of(id) else {
            return false;
        };
        let main = name.strip_suffix("/log");
        let Some(n) = self.directory_named(main.unwrap_or(&name)) else {
            return false;
        };
        let directory = &self.directories[n];
        let mended = main.is_some() || (directory.valid && directory.bad.is_none());
        directory.exists && mended
    }

    pub fn is_clean(&self, id: ServiceId) -> bool {
        let leftovers = self.scope_of(id) != Scope::Process && self.leftovers.contains_key(&id);
        let any = ROLES
            .iter()
            .any(|role| self.live.contains_key(&(id, *role)));
        !leftovers && !any
    }

    /// Something of it can't be killed for now.
    pub fn is_deep(&self, id: ServiceId) -> bool {
        let now = self.now;
        let deep = |role: &Role| {
            self.live
                .get(&(id, *role))
                .is_some_and(|p| p.deep_until > now)
        };
        let left = self.leftovers.get(&id);
        ROLES.iter().any(deep)
            || left.is_some_and(|all| all.iter().any(|left| left.deep_until > now))
    }

    pub fn is_idle(&self) -> bool {
        self.todo.is_empty() && self.messages.is_empty() && self.wire.is_empty()
    }

    pub fn is_ending(&self) -> bool {
        self.shutting_down
    }

    pub fn has_unheard(&self, id: ServiceId, role: Role) -> bool {
        self.book
            .iter()
            .any(|b| b.told && b.id == id && b.role == role)
    }
}

/// Its end may be everybody's.
pub(super) fn perhaps_essential(fate: &mut Dice, mut directory: Directory) -> Directory {
    let ends = directory.spec.restart.policy != Policy::Always;
    directory.spec.essential = ends && fate.once_in(2);
    directory
}

pub(super) fn directory(dice: &mut Dice, n: u64) -> Directory {
    let runit = dice.once_in(3);
    let stop = if runit {
        let signal = Signal::TERM;
        Stop {
            signal,
            timeout: None,
            scope: Scope::Process,
            finish_timeout: None,
        }
    } else {
        Stop {
            signal: Signal::TERM,
            timeout: Some(Duration::from_millis(dice.of(&[0, 500, 3000]))),
            scope: dice.of(&[Scope::Process, Scope::Session, Scope::Session, Scope::Tree]),
            finish_timeout: Some(Duration::from_millis(dice.of(&[300, 2000]))),
        }
    };
    let rule = match runit {
        true => Rule::Runit,
        false => Rule::BackOff {
            delay: Duration::from_secs(1),
            max: Duration::from_secs(60),
        },
    };
    let policy = match runit {
        true => Policy::Always,
        false => dice.of(&[
            Policy::Always,
            Policy::Always,
            Policy::OnFailure,
            Policy::Never,
        ]),
    };
    let restart = Restart { policy, rule };
    let log = dice.once_in(3).then(|| Spec {
        kind: Kind::Log,
        stop: stop.clone(),
        restart: Restart {
            policy: Policy::Always,
            rule: restart.rule,
        },
        ..Spec::default()
    });
    let spec = Spec {
        down: dice.once_in(5),
        has_finish: dice.once_in(2),
        has_check: dice.once_in(2),
        has_control: dice.once_in(2),
        has_log_service: log.is_some(),
        stop,
        restart,
        ..Spec::default()
    };
    let name = format!("s{n}");
    Directory {
        name,
        exists: true,
        valid: !dice.once_in(10),
        spec,
        log,
        bad: None,
    }
}
