//! For tests: one service in a fleet, a hand on its clock, and words for what happens to it.

use super::fleet::{Fleet, Out};
use super::spec::{Restart, Rule, Scope, Spec, Stop};
use super::view::{Phase, View};
use super::vocab::{
    Action, Command, Event, Exit, Failure, FailureClass, Leftover, Outcome, Pid, Program, Role,
    ServiceId, Signal, Tick, Token,
};
use std::time::Duration;

pub(super) struct Rig {
    pub(super) fleet: Fleet,
    pub(super) id: ServiceId,
    pub(super) now: Tick,
    next: u64,
}

/// As under `outlast supervise`, but with scope `process`: sweeps have tests of their own.
pub(super) fn plain() -> Spec {
    let stop = Stop {
        scope: Scope::Process,
        ..Stop::default()
    };
    Spec {
        stop,
        ..Spec::default()
    }
}

/// As under runsv.
pub(super) fn runit() -> Spec {
    let stop = Stop {
        timeout: None,
        finish_timeout: None,
        ..plain().stop
    };
    Spec {
        stop,
        restart: Restart {
            rule: Rule::Runit,
            ..Restart::default()
        },
        ..Spec::default()
    }
}

pub(super) const TERM: Action = Action::Signal {
    role: Role::Run,
    signal: Signal::TERM,
};
pub(super) const CONT: Action = Action::Signal {
    role: Role::Run,
    signal: Signal::CONT,
};
pub(super) const KILL: Action = Action::Signal {
    role: Role::Run,
    signal: Signal::KILL,
};
pub(super) const RUN: Action = Action::Spawn(Program::Run);

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) fn failure(class: FailureClass) -> Failure {
    Failure {
        step: 6,
        errno: 2,
        detail: String::new(),
        class,
    }
}

pub(super) fn leftover(pid: i32) -> Leftover {
    Leftover {
        pid: Pid(pid),
        name: "worker".to_owned(),
    }
}

pub(super) fn reached(token: Token) -> Action {
    Action::Reply {
        token,
        outcome: Outcome::Reached {
            leftovers: Vec::new(),
        },
    }
}

impl Rig {
    /// Added, and not yet read.
    pub(super) fn unread() -> Rig {
        let mut fleet = Fleet::new(1);
        let now = Tick(1_000_000_000);
        let id = fleet.add(now, "web", None);
        Rig {
            fleet,
            id,
            now,
            next: 0,
        }
    }

    /// Read; its start is under way unless the definition says `down`.
    pub(super) fn new(spec: Spec) -> Rig {
        let mut rig = Rig::unread();
        rig.tell(Event::Defined(Box::new(spec)));
        rig
    }

    pub(super) fn up(spec: Spec) -> Rig {
        let mut rig = Rig::new(spec);
        rig.spawned(Role::Run);
        assert_eq!(rig.phase(), Phase::Up);
        rig
    }

    /// What an event causes, without publications and notices.
    pub(super) fn tell(&mut self, event: Event) -> Vec<Action> {
        let outs = self.fleet.handle(self.now, self.id, event);
        self.effects(outs)
    }

    pub(super) fn effects(&self, outs: Vec<Out>) -> Vec<Action> {
        let plain = |action: &Action| !matches!(action, Action::Publish | Action::Note(_));
        let mine = outs.into_iter().filter(|out| out.service == self.id);
        mine.map(|out| out.action).filter(plain).collect()
    }

    pub(super) fn say(&mut self, command: Command) -> Vec<Action> {
        self.tell(Event::Command {
            command,
            token: None,
            deadline: None,
        })
    }

    /// A command with a waiting client; what it caused at once, and the client's token.
    pub(super) fn ask(&mut self, command: Command) -> (Token, Vec<Action>) {
        self.next += 1;
        let token = Token(self.next);
        (
            token,
            self.tell(Event::Command {
                command,
                token: Some(token),
                deadline: None,
            }),
        )
    }

    pub(super) fn spawned(&mut self, role: Role) -> Vec<Action> {
        self.next += 1;
        let pid = Pid(1000 + i32::try_from(self.next).unwrap_or(0));
        self.tell(Event::Spawned { role, pid })
    }

    pub(super) fn failed(&mut self, role: Role, class: FailureClass) -> Vec<Action> {
        self.tell(Event::SpawnFailed {
            role,
            failure: failure(class),
        })
    }

    pub(super) fn exits(&mut self, role: Role, code: u8) -> Vec<Action> {
        self.tell(Event::Exited {
            role,
            exit: Exit::Code(code),
        })
    }

    pub(super) fn left(&mut self, pids: &[i32]) -> Vec<Action> {
        let leftovers = pids.iter().map(|pid| leftover(*pid)).collect();
        self.tell(Event::Leftovers(leftovers))
    }

    /// Time passes and every clock that rings in it is heard.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now.after(time);
        let mut effects = Vec::new();
        while let Some(next) = self.fleet.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            let outs = self.fleet.due(self.now);
            effects.extend(self.effects(outs));
        }
        self.now = end;
        effects
    }

    pub(super) fn view(&self) -> View {
        match self.fleet.view(self.id) {
            Some(view) => view,
            None => panic!("the service was forgotten"),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.view().phase
    }
}
