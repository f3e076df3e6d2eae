//! All services: their clocks, their names, who reads whose output, and the order of the end.
//!
//! The supervisor's only way into the machine. It carries every action out, except timers: those
//! are kept here, so that the machine alone knows what time-outs mean. Nothing is shared between
//! services but this table, and no service can make another wait.

use super::restart::Jitter;
use super::service::{Leaving, Service, Turn};
use super::snapshot::Snapshot;
use super::spec::Spec;
use super::view::View;
use super::vocab::{Action, Event, FailedBecause, Outcome, Pid, Role, ServiceId, Tick, Timer};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// One thing to be done for one service. The order of several is the order of their effects;
/// `Publish` comes before everything that it announces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Out {
    pub service: ServiceId,
    pub action: Action,
}

/// Cloned by the simulation only.
#[derive(Clone)]
pub struct Fleet {
    /// Boxed, because the nodes of a map that grows at its end are half empty.
    services: BTreeMap<ServiceId, Box<Member>>,
    /// The definition that came last.
    common: Option<Rc<Spec>>,
    names: BTreeMap<Rc<str>, ServiceId>,
    /// Which service reads a main's output. A table of its own, as a restore may bring the reader
    /// before its main.
    readers: BTreeMap<ServiceId, ServiceId>,
    timers: Timers,
    jitter: Jitter,
    next_id: u32,
    shutting_down: bool,
    /// An essential service has ended for good, and with which code.
    verdict: Option<(ServiceId, u8)>,
}

#[derive(Clone)]
struct Member {
    service: Service,
    /// The service whose output this one reads.
    main: Option<ServiceId>,
}

/// At most one of each kind per service, found by time and by owner.
#[derive(Clone, Default)]
struct Timers {
    by_time: BTreeSet<(Tick, ServiceId, Timer)>,
    by_owner: BTreeMap<(ServiceId, Timer), Tick>,
}

impl Timers {
    fn set(&mut self, id: ServiceId, timer: Timer, at: Tick) {
        self.cancel(id, timer);
        self.by_time.insert((at, id, timer));
        self.by_owner.insert((id, timer), at);
    }

    fn cancel(&mut self, id: ServiceId, timer: Timer) -> bool {
        match self.by_owner.remove(&(id, timer)) {
            Some(at) => self.by_time.remove(&(at, id, timer)),
            None => false,
        }
    }

    fn forget(&mut self, id: ServiceId) {
        let all = (id, Timer::Restart)..=(id, Timer::Answer);
        let held: Vec<Timer> = self
            .by_owner
            .range(all)
            .map(|((_, timer), _)| *timer)
            .collect();
        for timer in held {
            self.cancel(id, timer);
        }
    }

    fn due(&self, now: Tick) -> Vec<(Tick, ServiceId, Timer)> {
        self.by_time
            .iter()
            .take_while(|(at, _, _)| *at <= now)
            .copied()
            .collect()
    }
}

impl Fleet {
    /// `seed` is the jitter's; two fleets with one seed and one history do the same.
    pub fn new(seed: u64) -> Fleet {
        Fleet {
            services: BTreeMap::new(),
            common: None,
            names: BTreeMap::new(),
            readers: BTreeMap::new(),
            timers: Timers::default(),
            jitter: Jitter::new(seed),
            next_id: 1,
            shutting_down: false,
            verdict: None,
        }
    }

    /// A service that the scan found, or the log service of one: `of` is its main. Nothing is known
    /// of it until `Defined` or `Invalid`. A name already there keeps its id.
    pub fn add(&mut self, now: Tick, name: &str, of: Option<ServiceId>) -> ServiceId {
        if let Some(id) = self.by_name(name) {
            return id;
        }
        let id = ServiceId(self.next_id);
        let mut service = Service::new(now, name);
        if self.shutting_down {
            service.leaving = Leaving::ShutDown;
        }
        self.insert(id, service, of);
        id
    }

    /// A service as a predecessor left it. `alive` are the processes the keeper holds under it, those
    /// included whose exit nobody has heard of yet: such exits then follow as plain `Exited`.
    pub fn restore(
        &mut self,
        now: Tick,
        id: ServiceId,
        of: Option<ServiceId>,
        snapshot: &Snapshot,
        alive: &[(Role, Pid)],
    ) -> Vec<Out> {
        self.insert(id, Service::restored(now, snapshot, alive), of);
        let mut outs = Vec::new();
        self.turn(now, id, &mut outs, |service, turn| {
            service.resume_life(turn, snapshot)
        });
        outs
    }

    fn insert(&mut self, id: ServiceId, mut service: Service, main: Option<ServiceId>) {
        service.reads = main.is_some();
        self.next_id = self.next_id.max(id.0.saturating_add(1));
        self.names.insert(Rc::clone(&service.name), id);
        if let Some(main) = main {
            self.readers.insert(main, id);
        }
        let member = Box::new(Member { service, main });
        self.services.insert(id, member);
    }

    /// Something has happened. `SetTimer` and `CancelTimer` are never returned. Of an unknown
    /// service nothing comes, except that a command with a token is answered.
    pub fn handle(&mut self, now: Tick, id: ServiceId, event: Event) -> Vec<Out> {
        let mut outs = Vec::new();
        if !self.services.contains_key(&id) {
            if let Event::Command {
                token: Some(token), ..
            } = event
            {
                let outcome = Outcome::Failed(FailedBecause::Leaving);
                outs.push(Out {
                    service: id,
                    action: Action::Reply { token, outcome },
                });
            }
            return outs;
        }
        let defined = matches!(event, Event::Defined(_));
        let deferred = match event {
            Event::Removed | Event::ShutDown => self.reads_from_leaving(id),
            Event::Defined(_)
            | Event::Invalid(_)
            | Event::Touched
            | Event::Stirred
            | Event::Command { .. }
            | Event::Press
            | Event::Hurry
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. }
            | Event::Exited { .. }
            | Event::Vanished { .. }
            | Event::Leftovers(_)
            | Event::Timer(_) => false,
        };
        // A log service whose main is on its way out ends after it, by the end of its input.
        if !deferred {
            self.turn(now, id, &mut outs, |service, turn| {
                service.handle(turn, event)
            });
        }
        if defined {
            self.share(id);
        }
        self.part(now, id, &mut outs);
        self.pronounce(now, &mut outs);
        outs
    }

    /// Most services differ in their scripts only: one definition in memory does for all of them.
    fn share(&mut self, id: ServiceId) {
        let member = self.services.get_mut(&id);
        let Some(spec) = member.and_then(|member| member.service.spec.as_mut()) else {
            return;
        };
        match &self.common {
            Some(common) if common == spec => *spec = Rc::clone(common),
            Some(_) | None => self.common = Some(Rc::clone(spec)),
        }
    }

    /// Everything ends with an essential service. Its own actions come first, so that a successor
    /// would know.
    fn pronounce(&mut self, now: Tick, outs: &mut Vec<Out>) {
        if let Some((service, code)) = self.verdict.take()
            && !self.shutting_down
        {
            let action = Action::EndAll { code };
            outs.push(Out { service, action });
            outs.extend(self.shut_down(now));
        }
    }

    /// All that a predecessor left has been restored: what was to end everything does so now.
    pub fn restored(&mut self, now: Tick) -> Vec<Out> {
        let mut outs = Vec::new();
        self.pronounce(now, &mut outs);
        outs
    }

    fn reads_from_leaving(&self, id: ServiceId) -> bool {
        self.main_of(id)
            .and_then(|main| self.services.get(&main))
            .is_some_and(|main| main.service.is_leaving())
    }

    /// Delivers the timers that are due.
    pub fn due(&mut self, now: Tick) -> Vec<Out> {
        let mut outs = Vec::new();
        for (at, id, timer) in self.timers.due(now) {
            // One before it may have put it off or cancelled it.
            if self.timers.by_owner.get(&(id, timer)) == Some(&at) {
                self.timers.cancel(id, timer);
                let event = Event::Timer(timer);
                self.turn(now, id, &mut outs, |service, turn| {
                    service.handle(turn, event)
                });
                self.part(now, id, &mut outs);
            }
        }
        self.pronounce(now, &mut outs);
        outs
    }

    /// When `due` is to be called next. None: there is nothing to wait for, not even seldom.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.timers.by_time.first().map(|(at, _, _)| *at)
    }

    /// The supervisor ends: all stop, each log service after its main.
    pub fn shut_down(&mut self, now: Tick) -> Vec<Out> {
        self.shutting_down = true;
        let mut outs = Vec::new();
        for id in self.without_logs() {
            outs.extend(self.handle(now, id, Event::ShutDown));
        }
        outs
    }

    /// Most of the time for the stop is over: whose run has not stopped is killed, finish still runs.
    pub fn press(&mut self, now: Tick) -> Vec<Out> {
        self.tell_all(now, &Event::Press)
    }

    /// Patience is over: what still runs is killed now.
    pub fn hurry(&mut self, now: Tick) -> Vec<Out> {
        self.tell_all(now, &Event::Hurry)
    }

    fn tell_all(&mut self, now: Tick, event: &Event) -> Vec<Out> {
        let ids: Vec<ServiceId> = self.ids().collect();
        let mut outs = Vec::new();
        for id in ids {
            if self.services.contains_key(&id) {
                outs.extend(self.handle(now, id, event.clone()));
            }
        }
        outs
    }

    /// Mains, and log services whose main is not there.
    fn without_logs(&self) -> Vec<ServiceId> {
        self.ids()
            .filter(|id| {
                self.main_of(*id)
                    .is_none_or(|main| !self.services.contains_key(&main))
            })
            .collect()
    }

    /// All services have been forgotten.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    pub fn by_name(&self, name: &str) -> Option<ServiceId> {
        self.names.get(name).copied()
    }

    pub fn name(&self, id: ServiceId) -> Option<&str> {
        self.services.get(&id).map(|member| &*member.service.name)
    }

    /// The newest definition; a live run may have been started by an older one.
    pub fn spec(&self, id: ServiceId) -> Option<&Spec> {
        self.services.get(&id)?.service.spec.as_deref()
    }

    /// The letter of the control script that is asked now.
    pub fn asks_about(&self, id: ServiceId) -> Option<u8> {
        let service = &self.services.get(&id)?.service;
        service.job.map(|job| job.letter())
    }

    /// Since when a `./check` has been running of the run that is up. It comes and goes too often to
    /// be published.
    pub fn checking(&self, id: ServiceId) -> Option<Tick> {
        self.services.get(&id)?.service.checking()
    }

    /// The service that reads this one's output.
    pub fn log_of(&self, id: ServiceId) -> Option<ServiceId> {
        self.readers.get(&id).copied()
    }

    /// The service whose output this one reads.
    pub fn main_of(&self, id: ServiceId) -> Option<ServiceId> {
        self.services.get(&id)?.main
    }

    /// Ordered by name.
    pub fn ids(&self) -> impl Iterator<Item = ServiceId> {
        self.names.values().copied()
    }

    pub fn view(&self, id: ServiceId) -> Option<View> {
        self.services.get(&id).map(|member| member.service.view())
    }

    /// What to store with the keeper when `Publish` comes.
    pub fn snapshot(&self, id: ServiceId) -> Option<Snapshot> {
        self.services
            .get(&id)
            .map(|member| member.service.snapshot())
    }

    fn turn(
        &mut self,
        now: Tick,
        id: ServiceId,
        outs: &mut Vec<Out>,
        act: impl FnOnce(&mut Service, &mut Turn),
    ) {
        let Some(member) = self.services.get_mut(&id) else {
            return;
        };
        let mut turn = Turn {
            now,
            out: Vec::new(),
            jitter: &mut self.jitter,
        };
        act(&mut member.service, &mut turn);
        for action in turn.out {
            match action {
                Action::SetTimer { timer, at } => self.timers.set(id, timer, at),
                Action::CancelTimer(timer) => {
                    self.timers.cancel(id, timer);
                }
                Action::EndAll { code } => {
                    self.verdict.get_or_insert((id, code));
                }
                Action::Spawn(_)
                | Action::Signal { .. }
                | Action::Sweep { .. }
                | Action::Publish
                | Action::Reply { .. }
                | Action::Note(_)
                | Action::EndInput
                | Action::Forget => outs.push(Out {
                    service: id,
                    action,
                }),
            }
        }
    }

    /// The end of a service and of the one that reads its output: when the main is down for good
    /// its log service's input ends; when that has ended too, both are forgotten, log first. So a
    /// directory that comes back in between finds both still there.
    fn part(&mut self, now: Tick, id: ServiceId, outs: &mut Vec<Out>) {
        let main = match self.main_of(id) {
            Some(main) if self.services.contains_key(&main) => main,
            Some(_) => return self.part_orphan(now, id, outs),
            None => id,
        };
        let Some(member) = self.services.get(&main) else {
            return;
        };
        let leaves = member.service.is_leaving();
        let hurried = member.service.hurried;
        let gone = leaves && (member.service.is_quiet() || member.service.given_up);
        let why = match member.service.leaving {
            Leaving::ShutDown => Leaving::ShutDown,
            Leaving::No | Leaving::Gone | Leaving::MainEnded => Leaving::MainEnded,
        };
        let log = self.log_of(main);
        if let Some(log) = log {
            let Some(reader) = self.services.get(&log) else {
                return;
            };
            if gone && reader.service.leaves_with_its_main() {
                self.turn(now, log, outs, |service, turn| {
                    service.main_ended(turn, why, hurried);
                });
            } else if !leaves && reader.service.leaving == Leaving::MainEnded {
                self.turn(now, log, outs, |service, turn| service.main_is_back(turn));
            }
            self.forget_if_gone(now, log, outs);
        }
        if gone && log.is_none_or(|log| !self.services.contains_key(&log)) {
            self.forget_if_gone(now, main, outs);
        }
    }

    /// A log service that was restored without its main: there is nothing left for it to read.
    fn part_orphan(&mut self, now: Tick, id: ServiceId, outs: &mut Vec<Out>) {
        let leaves = self
            .services
            .get(&id)
            .is_some_and(|m| m.service.leaves_with_its_main());
        if leaves {
            self.turn(now, id, outs, |service, turn| {
                service.main_ended(turn, Leaving::MainEnded, false);
            });
        }
        self.forget_if_gone(now, id, outs);
    }

    fn forget_if_gone(&mut self, now: Tick, id: ServiceId, outs: &mut Vec<Out>) {
        let gone = self.services.get(&id).is_some_and(|member| {
            let service = &member.service;
            service.is_leaving() && (service.is_quiet() || service.given_up)
        });
        if !gone {
            return;
        }
        self.turn(now, id, outs, |service, turn| {
            service.dismiss(turn);
            turn.act(Action::Forget);
        });
        self.timers.forget(id);
        if let Some(member) = self.services.remove(&id) {
            self.names.remove(&member.service.name);
            if let Some(main) = member.main {
                self.readers.remove(&main);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Rig, plain, seconds};
    use super::super::vocab::Command;
    use super::*;

    #[test]
    fn a_service_takes_at_most_a_kibibyte_with_its_definition() {
        let bytes = size_of::<Member>() + size_of::<Spec>();
        assert!(bytes <= 1024, "{bytes} bytes");
    }

    #[test]
    fn ids_are_listed_by_name_and_never_given_twice() {
        let mut fleet = Fleet::new(1);
        let now = Tick(1);
        let b = fleet.add(now, "b", None);
        let a = fleet.add(now, "a", None);
        assert_eq!(fleet.ids().collect::<Vec<_>>(), [a, b]);
        assert_eq!(fleet.add(now, "b", None), b);
        fleet.handle(now, b, Event::Removed);
        assert_eq!(fleet.by_name("b"), None);
        assert!(fleet.add(now, "b", None) > b);
    }

    #[test]
    fn a_log_service_and_its_main_know_each_other_whoever_is_restored_first() {
        let mut before = Fleet::new(1);
        let now = Tick(1);
        let main = before.add(now, "web", None);
        let log = before.add(now, "web/log", Some(main));
        let mut after = Fleet::new(1);
        for (id, of) in [(log, Some(main)), (main, None)] {
            if let Some(snapshot) = before.snapshot(id) {
                after.restore(now, id, of, &snapshot, &[]);
            }
        }
        assert_eq!(
            (after.log_of(main), after.main_of(log)),
            (Some(log), Some(main))
        );
    }

    #[test]
    fn nothing_to_wait_for_is_no_deadline() {
        let mut rig = Rig::up(plain());
        assert_eq!(rig.fleet.next_deadline(), None);
        rig.say(Command::Down);
        assert_eq!(rig.fleet.next_deadline(), Some(rig.now.after(seconds(10))));
        rig.exits(Role::Run, 0);
        assert_eq!(rig.fleet.next_deadline(), None);
    }

    #[test]
    fn what_is_shown_is_published_before_its_effects_and_only_when_it_changes() {
        let mut rig = Rig::up(plain());
        let up = Event::Command {
            command: Command::Up,
            token: None,
            deadline: None,
        };
        assert_eq!(rig.fleet.handle(rig.now, rig.id, up), []);
        let down = Event::Command {
            command: Command::Down,
            token: None,
            deadline: None,
        };
        let outs = rig.fleet.handle(rig.now, rig.id, down);
        let published = outs.iter().position(|out| out.action == Action::Publish);
        assert_eq!(published, Some(0));
    }

    #[test]
    fn a_service_found_while_the_supervisor_ends_is_not_started() {
        let mut rig = Rig::up(plain());
        rig.fleet.shut_down(rig.now);
        rig.id = rig.fleet.add(rig.now, "late", None);
        assert_eq!(
            rig.tell(Event::Defined(Box::new(plain()))),
            [Action::Forget]
        );
    }
}
