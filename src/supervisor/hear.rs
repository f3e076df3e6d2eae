//! What comes in from the keeper and from control FIFOs, turned into events.

use super::disk::Job;
use super::place::{Place, role_number, role_of};
use super::standing::{Blob, print_of};
use super::vocab::{
    Action, Command, Event, Exit, Failure, FailureClass, Pid, Role, ServiceId, Signal,
};
use super::watched::Woken;
use super::{Supervisor, cgroups, quarantine};
use crate::ipc::wire::{
    FromKeeper, Held, Key, ROLES, SCRIBE, SCRIBE_SLOTS, SLOT_LOCK, SLOT_PIPE, STATUS_UNSEEN,
    Standing, ToKeeper,
};
use crate::launch::report;
use crate::machine::spec::Scope;
use crate::os::step::Step;
use crate::os::{clock, kill_point};
use std::os::fd::OwnedFd;

/// What a child of runsv's exits with when its exec fails.
const EXEC_FAILED: u8 = 111;

impl Supervisor {
    pub fn hear(&mut self, record: FromKeeper, mut attached: Vec<OwnedFd>) {
        match record {
            FromKeeper::Welcome(welcome) => {
                self.keeper_pid = welcome.keeper;
                self.last_upgrade = welcome.upgrade;
                // runsv knows no service.toml, and nobody could release anything from there.
                if !self.settings.manner.is_runit() {
                    let (crashes, calm) = (welcome.crashes, welcome.calm_until_ns);
                    let (crashed, now) = (welcome.crashed, self.now());
                    self.caution = quarantine::Caution::after(crashes, calm, crashed, now);
                }
                self.cgroups = cgroups::Cgroups::find(welcome.keeper);
                if welcome.starts > 1 {
                    tracing::warn!("the supervisor was started again; services went on meanwhile");
                }
            }
            FromKeeper::Entry {
                id,
                slots,
                held,
                blob,
            } => self.restore(id, slots, held, &blob),
            FromKeeper::EndOfBook => {
                self.booked = true;
                self.weigh_suspicions();
                self.read_all();
                let outs = self.fleet.restored(self.now());
                self.perform_all(outs);
            }
            FromKeeper::Spawned { key, pid, .. } => self.spawned(key, pid),
            FromKeeper::SpawnFailed {
                key,
                pid,
                step,
                errno,
                detail,
            } => {
                let detail = String::from_utf8_lossy(&detail).into_owned();
                self.spawn_failed(key, pid, step, errno, detail);
            }
            FromKeeper::Exited {
                key,
                pid,
                status,
                usage,
                ..
            } => {
                if let (Some(role), Some(place)) =
                    (role_of(key.role), self.places.get_mut(&ServiceId(key.id)))
                    && role == Role::Run
                {
                    place.usage = Some(Box::new(usage));
                }
                if status == STATUS_UNSEEN {
                    self.vanished(key, pid);
                } else {
                    self.exited(key, pid, Exit::from_wait_status(status));
                }
            }
            FromKeeper::Fetched { id, slot, .. } => self.fetched(id, slot, attached.pop()),
            FromKeeper::Caught { signal } => self.caught(signal),
            FromKeeper::StillThere => self.tell_keeper(&ToKeeper::Here),
            FromKeeper::Stopped { key } if key.id == SCRIBE => self.pen.is_stopped(self.now()),
            // Nobody else is looked after in this way.
            FromKeeper::Stopped { .. } => {}
            FromKeeper::Book => self.book_copied(attached.pop()),
            FromKeeper::Ending(ending) => self.go_on_ending(ending),
        }
    }

    pub fn acknowledge(&mut self, key: Key, pid: i32) {
        if pid != 0 {
            self.tell_keeper(&ToKeeper::Acknowledge { key, pid });
            kill_point("end-acknowledged");
        }
    }

    /// A service as our predecessor left it.
    fn restore(&mut self, id: u32, slots: u8, held: [Held; ROLES], bytes: &[u8]) {
        if id == SCRIBE {
            // Linked to our predecessor; it writes out what it has and ends. Then comes ours.
            let predecessor = held.iter().find(|held| held.standing != Standing::None);
            let pid = predecessor.map(|held| held.pid);
            let has_estate = SCRIBE_SLOTS.iter().all(|slot| slots & (1 << slot) != 0);
            let now = self.now();
            return self.pen.predecessor(pid, has_estate, now);
        }
        let Ok(blob) = serde_json::from_slice::<Blob>(bytes) else {
            tracing::error!("the keeper's page of service number {id} can't be read; left alone");
            return;
        };
        let service = ServiceId(id);
        let main = blob.main.map(ServiceId);
        let mut place = Place::new(&blob.name, main, &self.settings.dir.join(&blob.name));
        place.sessions = blob.sessions;
        place.escaped = blob.escaped;
        place.definition = blob.definition;
        place.suspicion = blob.suspicion;
        place.since = blob.since;
        place.ended = blob.ended;
        place.piped = slots & (1 << SLOT_PIPE) != 0;
        place.locked = slots & (1 << SLOT_LOCK) != 0;
        place.pipe = blob.pipe;
        place.foreign = blob.foreign;
        place.is_in(blob.cgroup);
        place.restored = true;
        place.reread = true;
        place.broken = blob.broken;
        place.blob = print_of(bytes);
        place.face = (!blob.face.is_plain()).then(|| Box::new(blob.face));
        self.runit.has_one();
        let mut alive = Vec::new();
        for (number, held) in (0u8..).zip(held) {
            if let (Some(role), Standing::Starting | Standing::Alive | Standing::Ended) =
                (role_of(number), held.standing)
            {
                place.had(role, held.pid, &blob.starts);
                place.began(held.pid);
                alive.push((role, Pid(held.pid)));
            }
        }
        self.places.insert(service, Box::new(place));
        self.note_abroad(service);
        let now = self.now();
        let outs = self
            .fleet
            .restore(now, service, main, &blob.snapshot, &alive);
        self.perform_all(outs);
        kill_point("book-half-read");
    }

    pub fn spawned(&mut self, key: Key, pid: i32) {
        self.afterwards.answered(key);
        if key.id == SCRIBE {
            self.pen.took(Some(pid));
            self.pen.starting = false;
            return;
        }
        let id = ServiceId(key.id);
        let Some(role) = role_of(key.role) else {
            return;
        };
        if let Some(place) = self.places.get_mut(&id) {
            place.took(role, pid);
            if role == Role::Run {
                place.spared.clear();
            }
            if role == Role::Run || role == Role::Finish {
                place.began(pid);
            }
        }
        if matches!(role, Role::Check | Role::Control) {
            // Whoever comes after a killed keeper is to know of it.
            self.mark(id);
        }
        self.queue.push_back((
            id,
            Event::Spawned {
                role,
                pid: Pid(pid),
            },
        ));
        self.settle();
    }

    /// What the failure means, and in which words it is told, needs a look at the files; only then
    /// the machine hears of it and the keeper may forget it.
    pub fn spawn_failed(&mut self, key: Key, pid: i32, step: u8, errno: i32, detail: String) {
        self.afterwards.answered(key);
        if key.id == SCRIBE {
            self.acknowledge(key, pid);
            tracing::error!("the scribe could not be started (step {step}, error {errno})");
            self.scribe_gone();
            return;
        }
        let id = ServiceId(key.id);
        let Some(role) = role_of(key.role) else {
            return;
        };
        let Some(place) = self.places.get_mut(&id) else {
            return self.acknowledge(key, pid);
        };
        if place.is_alive(role, pid) {
            // Our predecessor asked for it, and the book could not tell yet that its exec would
            // fail. The machine took it for alive, so to the machine it ends, as under runsv.
            return self.exited(key, pid, Exit::Code(EXEC_FAILED));
        }
        place.set_alive(role, None);
        if self.settings.manner.is_runit() {
            self.cannot_start(id, role, step, errno);
            let class = FailureClass::Passing;
            let failure = Failure {
                step,
                errno,
                detail,
                class,
            };
            self.final_event(id, Event::SpawnFailed { role, failure }, key, pid);
            return self.settle();
        }
        let spec = self.fleet.spec(id).cloned().unwrap_or_default();
        let known = Step::from_number(step).unwrap_or(Step::Prepare);
        let class = report::classify(known, errno, &spec.start);
        let failure = Failure {
            step,
            errno,
            detail,
            class,
        };
        if role == Role::Run {
            let dir = place.dir.to_path_buf();
            let spec = Box::new(spec);
            return self.disk.give(Job::Explain {
                id,
                pid,
                failure,
                spec,
                dir,
            });
        }
        // A missing finish, check or control script is no failure of the service.
        self.final_event(id, Event::SpawnFailed { role, failure }, key, pid);
        self.settle();
    }

    fn exited(&mut self, key: Key, pid: i32, exit: Exit) {
        self.afterwards.answered(key);
        if key.id == SCRIBE {
            self.acknowledge(key, pid);
            self.scribe_ended(exit);
            return;
        }
        let id = ServiceId(key.id);
        let Some(role) = role_of(key.role) else {
            return;
        };
        self.output_ends(id, role);
        if role == Role::Run {
            let oom = self.oom_verdict(id, exit);
            self.afterwards.was_killed(id, oom.is_none());
            if let Some(place) = self.places.get_mut(&id) {
                place.oom = oom;
                place.oom_near = false;
                place.ended = clock::ticks_from_boot();
            }
        }
        if let Some(place) = self.places.get_mut(&id) {
            place.set_alive(role, None);
        }
        self.leave_session(id, role, pid);
        if matches!(role, Role::Check | Role::Control) {
            self.end_with_its_script(id, role, pid, exit);
        }
        self.final_event(id, Event::Exited { role, exit }, key, pid);
        if role == Role::Run {
            self.may_have_escaped(id);
        }
    }

    /// Another keeper's child has ended; how, nobody here could see.
    pub fn vanished(&mut self, key: Key, pid: i32) {
        let (id, Some(role)) = (ServiceId(key.id), role_of(key.role)) else {
            return;
        };
        self.afterwards.answered(key);
        self.afterwards.was_killed(id, false);
        if let Some(place) = self.places.get_mut(&id) {
            place.set_alive(role, None);
            (place.oom, place.oom_near) = (None, false);
            place.ended = clock::ticks_from_boot();
        }
        self.output_ends(id, role);
        self.leave_session(id, role, pid);
        self.final_event(id, Event::Vanished { role }, key, pid);
    }

    /// Nothing of a check or control script is looked for later, when its number may be another's;
    /// nor of anything else where only the process itself is ever ended.
    fn leave_session(&mut self, id: ServiceId, role: Role, pid: i32) {
        let script = matches!(role, Role::Check | Role::Control);
        let scope = self.fleet.view(id).map(|view| view.scope);
        if let Some(place) = self.places.get_mut(&id)
            && (script || scope == Some(Scope::Process))
        {
            place.sessions.retain(|session| *session != pid);
            place.foreign &= !place.sessions.is_empty();
        }
    }

    /// An event after which the keeper may forget a process. The order makes a death of ours
    /// harmless at any point: first the new state is with the keeper, then the old process is
    /// acknowledged, then what follows is asked for.
    pub fn final_event(&mut self, id: ServiceId, event: Event, key: Key, pid: i32) {
        let outs = self.fleet.handle(self.now(), id, event);
        // Of a service that is forgotten in this very turn there is no state to store: until the
        // keeper forgets it too, the end in its book is what a successor goes by.
        let stays = self.fleet.name(id).is_some();
        let mut owed = Some(pid);
        for out in outs {
            if stays
                && out.action != Action::Publish
                && let Some(pid) = owed.take()
            {
                self.acknowledge(key, pid);
            }
            self.perform(out.service, out.action);
        }
        if let Some(pid) = owed {
            self.acknowledge(key, pid);
        }
    }

    /// Whether the kernel ended it for want of memory, as far as that can be known now.
    fn oom_verdict(&mut self, id: ServiceId, exit: Exit) -> Option<bool> {
        let killed = matches!(
            exit,
            Exit::Signal {
                signal: Signal::KILL,
                ..
            }
        );
        let place = self.places.get_mut(&id)?;
        if let Some(kills) = place.cgroup.as_deref().and_then(cgroups::oom_kills) {
            let before = std::mem::replace(&mut place.oom_before, kills);
            return Some(killed && kills > before);
        }
        (!killed).then_some(false)
    }

    fn caught(&mut self, signal: u8) {
        if self.settings.manner.is_runit() {
            return self.caught_as_runit(Signal(signal));
        }
        match Signal(signal) {
            Signal::TERM | Signal::INT | Signal::QUIT | Signal::PWR | Signal::HALT => {
                self.told_to_end(Signal(signal));
            }
            Signal::HUP | Signal::ALRM => {
                tracing::info!(
                    "caught {}: reading all service directories again",
                    Signal(signal)
                );
                self.read_all();
            }
            other => tracing::info!("caught {other}: it means nothing to the supervisor"),
        }
    }

    pub fn woken(&mut self, woken: Woken) {
        match woken {
            Woken::Fifo(id) => self.fifo(id),
            Woken::Leftover(id) => self.leftover_ended(id),
            Woken::Last => self.stray_ended(),
            Woken::Held(key) => self.held_ended(key),
            Woken::Elder => self.elder_ended(),
        }
    }

    /// runit's one-byte commands.
    fn fifo(&mut self, id: ServiceId) {
        let bytes = self
            .places
            .get(&id)
            .map(|place| place.read_control())
            .unwrap_or_default();
        for byte in bytes {
            let command = match byte {
                b'u' => Command::Up,
                b'o' => Command::Once,
                b'd' => Command::Down,
                b'x' => Command::Exit,
                b't' => Command::Term,
                b'h' => Command::Hup,
                b'a' => Command::Alarm,
                b'i' => Command::Interrupt,
                b'q' => Command::Quit,
                b'1' => Command::Usr1,
                b'2' => Command::Usr2,
                b'k' => Command::Kill,
                b'p' => Command::Pause,
                b'c' => Command::Cont,
                _ => continue,
            };
            self.queue.push_back((
                id,
                Event::Command {
                    command,
                    token: None,
                    deadline: None,
                },
            ));
        }
        self.settle();
    }
}

/// The keeper's key for a role.
pub fn key(id: ServiceId, role: Role) -> Key {
    Key {
        id: id.0,
        role: role_number(role),
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::door::Ask;
    use super::super::link::KeeperLink;
    use super::super::standing::Face;
    use super::super::{Settings, Supervisor};
    use super::*;
    use crate::ipc::control::{Request, VERSION, Verb};
    use crate::machine::snapshot::Snapshot;
    use crate::machine::view::Phase;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    const RUN: Key = Key { id: 1, role: 0 };

    /// A supervisor whose predecessor left one service, its run as the book says.
    pub fn successor(
        dir: &std::path::Path,
        standing: Standing,
        snapshot: &str,
    ) -> (Supervisor, OwnedFd) {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )
        .expect("sockets");
        let settings = Settings {
            socket: dir.join("socket"),
            log_root: dir.join("log"),
            quiet: true,
            machine: false,
            format: crate::ipc::wire::Format::Text,
            stop_timeout: None,
            dir: dir.to_path_buf(),
            manner: crate::supervisor::manner::Manner::Own,
            title: String::new(),
        };
        let keeper = KeeperLink::new(ours).expect("a link");
        let (_, asks) = tokio::sync::mpsc::unbounded_channel();
        let mut supervisor = Supervisor::new(settings, keeper, asks).expect("a supervisor");
        let blob = Blob {
            name: "web".into(),
            main: None,
            pipe: None,
            sessions: Vec::new(),
            escaped: Vec::new(),
            foreign: false,
            starts: Vec::new(),
            cgroup: None,
            face: Face {
                description: Some("a shop".into()),
                ..Face::default()
            },
            definition: None,
            suspicion: None,
            broken: false,
            since: None,
            ended: 77,
            snapshot: serde_json::from_str::<Snapshot>(snapshot).expect("a snapshot"),
        };
        let nobody = Held {
            standing: Standing::None,
            pid: 0,
            forked_ns: 0,
        };
        let run = Held {
            standing,
            pid: 4_711,
            forked_ns: 1,
        };
        let held = [run, nobody, nobody, nobody];
        let blob = serde_json::to_vec(&blob).expect("a blob");
        supervisor.restore(1, 0, held, &blob);
        (supervisor, theirs)
    }

    #[tokio::test]
    async fn an_exec_that_fails_after_its_supervisor_has_died_leaves_nobody_up() {
        for standing in [Standing::Starting, Standing::Ended] {
            let dir = tempfile::tempdir().expect("dir");
            let (mut supervisor, _keeper) = successor(dir.path(), standing, r#"{"n":"web"}"#);
            let phase = |of: &Supervisor| of.fleet.view(ServiceId(1)).map(|view| view.phase);
            assert_eq!(phase(&supervisor), Some(Phase::Up), "{standing:?}");
            let step = Step::Exec.number();
            supervisor.spawn_failed(RUN, 4_711, step, nix::libc::ENOENT, String::new());
            assert_ne!(phase(&supervisor), Some(Phase::Up), "{standing:?}");
        }
    }

    #[tokio::test]
    async fn sessions_are_forgotten_where_only_the_process_itself_is_ended() {
        let dir = tempfile::tempdir().expect("dir");
        let snapshot = r#"{"n":"web","g":[15,null,null,"p"]}"#;
        let (mut supervisor, _keeper) = successor(dir.path(), Standing::Alive, snapshot);
        let mut pid = 4_711;
        for _ in 0..100 {
            supervisor.exited(RUN, pid, Exit::Code(0));
            pid += 1;
            supervisor.spawned(RUN, pid);
        }
        supervisor.vanished(RUN, pid);
        supervisor.spawned(RUN, pid + 1);
        let place = supervisor.places.get(&ServiceId(1)).expect("a place");
        assert_eq!(place.sessions, [pid + 1]);
    }

    #[tokio::test]
    async fn when_the_last_run_ended_is_known_to_a_successor() {
        let dir = tempfile::tempdir().expect("dir");
        let (supervisor, _keeper) = successor(dir.path(), Standing::Alive, r#"{"n":"web"}"#);
        let place = supervisor.places.get(&ServiceId(1)).expect("a place");
        assert_eq!(place.ended, 77);
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_definition_is_told_once_it_has_been_looked_at_again() {
        let suspicion = quarantine::Suspicion {
            print: 7,
            alone: 0,
            tried: false,
        };
        for (broken, suspicion) in [(true, None), (false, Some(suspicion)), (false, None)] {
            let dir = tempfile::tempdir().expect("dir");
            let (mut supervisor, _keeper) =
                successor(dir.path(), Standing::Alive, r#"{"n":"web"}"#);
            let place = supervisor.places.get_mut(&ServiceId(1)).expect("a place");
            (place.broken, place.suspicion) = (broken, suspicion);
            supervisor.to_adopt.push_back(ServiceId(1));
            let fine = !broken && suspicion.is_none();
            assert_eq!(supervisor.only_rereads(), fine);
        }
    }

    #[tokio::test]
    async fn a_successor_tells_how_services_stand_before_it_has_read_them_again() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut supervisor, _keeper) = successor(dir.path(), Standing::Alive, r#"{"n":"web"}"#);
        supervisor.to_adopt.push_back(ServiceId(1));
        let (answer, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let ask = |verb| Ask {
            request: Request {
                v: VERSION,
                id: 1,
                verb,
                names: vec!["web".into()],
                wait: true,
                timeout_ms: None,
                lines: None,
                binary: None,
            },
            answer: answer.clone(),
        };
        supervisor.ask(ask(Verb::Status));
        supervisor.settled(1);
        let told = answers.try_recv().expect("an answer");
        assert_eq!(told.services[0].pid, Some(4_711));
        assert_eq!(told.services[0].description.as_deref(), Some("a shop"));
        // What changes something waits until it is known what is there.
        supervisor.ask(ask(Verb::Stop));
        supervisor.settled(2);
        assert!(answers.try_recv().is_err());
        // So does everything once there is something new among it.
        let new = supervisor.add("new", None);
        supervisor.to_adopt.push_back(new);
        supervisor.ask(ask(Verb::Status));
        supervisor.settled(3);
        assert!(answers.try_recv().is_err());
    }
}
