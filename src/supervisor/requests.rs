//! What clients ask for, and that each gets exactly one answer.

use super::closing::Waiting;
use super::door::{Ask, refusal};
use super::untold::Untold;
use super::vocab::{Command, Event, FailedBecause, Outcome, ServiceId, Tick, Token};
use super::{Job, Supervisor, show, words};
use crate::ipc::control::{self, NAMES_MAX, Response, Service, Trouble, VERSION, Verb};
use crate::ipc::scribe::ToScribe;
use crate::machine::view::Phase;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

mod why;

pub use why::Tail;

/// What a command may take beyond the service's own time-outs, unless the client says otherwise.
const MARGIN: Duration = Duration::from_secs(10);
/// Stands in for a time-out that is set to never.
const ENDLESS: Duration = Duration::from_secs(10);
/// How long a stalled disk can hold up a request.
const LOOK_PATIENCE: Duration = Duration::from_millis(200);

/// Requests under way.
#[derive(Default)]
pub struct Desk {
    last: u64,
    pending: BTreeMap<u64, Pending>,
    tokens: BTreeMap<Token, (u64, ServiceId)>,
    pub shutdowns: Vec<Waiting>,
    /// Answers on their way out.
    pub untold: Untold,
    arrived: VecDeque<Arrived>,
    /// Entries of the scan directory that were complained about.
    pub odd: BTreeSet<String>,
    /// Services that the disk thread has still to let go of, and whether their directories are to be
    /// looked for then.
    pub parting: BTreeMap<ServiceId, bool>,
    /// What is wrong with a definition, in full.
    pub findings: BTreeMap<ServiceId, String>,
}

struct Pending {
    ask: Ask,
    services: Vec<(ServiceId, Option<Answered>)>,
    /// Log lines by service, for `why`.
    tails: BTreeMap<u64, Option<Tail>>,
    deadline: Option<Tick>,
}

/// A service's part of an answer.
struct Answered {
    shown: Option<Service>,
    /// What is advised if the run wrote nothing.
    if_silent: Option<String>,
}

impl Desk {
    pub fn next(&mut self) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    pub fn deadline(&self) -> Option<Tick> {
        let arrived = self.arrived.front().map(|arrived| arrived.deadline);
        self.pending
            .values()
            .filter_map(|pending| pending.deadline)
            .chain(arrived)
            .chain(self.shutdowns.iter().filter_map(|it| it.until))
            .chain(self.untold.deadline())
            .min()
    }

    /// Gives up waiting for log lines.
    pub fn overdue(&mut self, now: Tick) {
        for pending in self.pending.values_mut() {
            if pending.deadline.is_some_and(|deadline| deadline <= now) {
                pending.deadline = None;
                for tail in pending.tails.values_mut() {
                    tail.get_or_insert_with(Tail::late);
                }
            }
        }
        let ready: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.is_why() && pending.tails_are_in())
            .map(|(number, _)| *number)
            .collect();
        for number in ready {
            self.finish_why(number);
        }
    }
}

impl Pending {
    fn is_why(&self) -> bool {
        self.ask.request.verb == Verb::Why
    }

    fn tails_are_in(&self) -> bool {
        self.tails.values().all(Option::is_some)
    }
}

pub fn respond(ask: &Ask, ok: bool, services: Vec<Service>) {
    let id = ask.request.id;
    // A client that has gone needs no answer.
    let _ = ask.answer.send(Response {
        v: VERSION,
        id,
        ok,
        error: None,
        notice: None,
        services,
    });
}

pub fn refuse(ask: &Ask, code: &str, message: String) {
    let _ = ask.answer.send(refusal(ask.request.id, code, message));
}

/// What a verb asks of a single service; None for those that are about more.
fn command(verb: Verb) -> Option<Command> {
    Some(match verb {
        Verb::Start => Command::Up,
        Verb::Stop => Command::Down,
        Verb::Restart => Command::Restart,
        Verb::Once => Command::Once,
        Verb::Pause => Command::Pause,
        Verb::Cont => Command::Cont,
        Verb::Hup | Verb::Reload => Command::Hup,
        Verb::Alarm => Command::Alarm,
        Verb::Interrupt => Command::Interrupt,
        Verb::Quit => Command::Quit,
        Verb::Usr1 => Command::Usr1,
        Verb::Usr2 => Command::Usr2,
        Verb::Term => Command::Term,
        Verb::Kill => Command::Kill,
        Verb::Check => Command::Check,
        Verb::Status | Verb::List | Verb::Why | Verb::Shutdown | Verb::Upgrade | Verb::StepDown => {
            return None;
        }
    })
}

/// A request that waits until what happened in the directories before it is known here too.
struct Arrived {
    ticket: u64,
    deadline: Tick,
    /// [`Disk::reads_given`](super::Disk::reads_given) when the ticket was given.
    reads: u64,
    ask: Ask,
}

impl Supervisor {
    /// A client that has just changed a service directory may rely on the change.
    pub fn ask(&mut self, ask: Ask) {
        let Some(ask) = self.without_keeper(ask) else {
            return;
        };
        match ask.request.verb {
            // Whoever names a service means that one, as with runit's sv.
            Verb::Shutdown | Verb::Upgrade if !ask.request.names.is_empty() => {
                let message = "this is for all and takes no names; to end a service use stop";
                return refuse(&ask, "bad-request", message.into());
            }
            Verb::Shutdown => return self.ask_shutdown(ask),
            Verb::Upgrade => return self.ask_upgrade(ask),
            Verb::StepDown => return self.ask_step_down(&ask),
            _ => {}
        }
        let early = self.answers_early(ask.request.verb);
        let ticket = self.desk.next();
        let deadline = self.now().after(LOOK_PATIENCE);
        self.desk.arrived.push_back(Arrived {
            ticket,
            deadline,
            reads: self.disk.reads_given(),
            ask,
        });
        match early {
            true => self.disk.give_first(Job::Settle { ticket }),
            false => self.disk.give(Job::Settle { ticket }),
        }
    }

    /// A successor has been told by the keeper what a predecessor knew. It need not have read all
    /// directories again before it can say how the services stand.
    fn answers_early(&self, verb: Verb) -> bool {
        let reading = !self.to_adopt.is_empty() || !self.adopting.is_empty();
        matches!(verb, Verb::Status | Verb::List) && reading && self.only_rereads()
    }

    /// The disk thread has told everything until this ticket was given to it.
    pub fn settled(&mut self, ticket: u64) {
        self.settle();
        let Some(at) = self
            .desk
            .arrived
            .iter()
            .position(|arrived| arrived.ticket == ticket)
        else {
            return;
        };
        let Some(mut arrived) = self.desk.arrived.remove(at) else {
            return;
        };
        let reads = self.disk.reads_given();
        let more = std::mem::replace(&mut arrived.reads, reads) != reads;
        let early = self.answers_early(arrived.ask.request.verb);
        if !early && (more || !self.to_adopt.is_empty()) {
            // What was told has to be looked at more closely.
            self.desk.arrived.push_back(arrived);
            self.disk.give(Job::Settle { ticket });
        } else {
            self.serve(arrived.ask);
        }
    }

    /// Serves those that a slow disk must not keep waiting any longer.
    pub fn serve_overdue(&mut self) {
        let now = self.now();
        while let Some(arrived) = self.desk.arrived.pop_front_if(|next| next.deadline <= now) {
            self.serve(arrived.ask);
        }
    }

    fn serve(&mut self, ask: Ask) {
        self.look_back();
        let request = &ask.request;
        if request.names.len() > NAMES_MAX {
            let message = format!("at most {NAMES_MAX} names in one request");
            return refuse(&ask, "bad-request", message);
        }
        let optional = matches!(
            request.verb,
            Verb::Status | Verb::List | Verb::Check | Verb::Reload | Verb::Shutdown
        );
        if request.names.is_empty() && !optional {
            return refuse(&ask, "bad-request", "name a service, or '*' for all".into());
        }
        match request.verb {
            Verb::Reload if request.names.is_empty() => return self.ask_reload(&ask),
            _ => {}
        }
        let ids = match self.resolve(request) {
            Ok(ids) => ids,
            Err(trouble) => return refuse(&ask, &trouble.code, trouble.message),
        };
        match command(request.verb) {
            Some(command) if self.is_too_late_for(command) => self.refuse_at_the_end(&ask),
            Some(command) => self.ask_command(ask, command, ids),
            None if request.verb == Verb::Why => self.ask_why(ask, ids),
            None => {
                let services = ids.into_iter().filter_map(|id| self.show(id)).collect();
                respond(&ask, true, services);
            }
        }
    }

    fn ask_command(&mut self, ask: Ask, command: Command, ids: Vec<ServiceId>) {
        let request = &ask.request;
        let now = self.now();
        let verb = request.verb;
        if !request.wait {
            let idle: Vec<ServiceId> = ids
                .iter()
                .copied()
                .filter(|it| self.has_nobody_for(*it, command))
                .collect();
            for id in &ids {
                self.event(
                    *id,
                    Event::Command {
                        command,
                        token: None,
                        deadline: None,
                    },
                );
            }
            self.settle();
            let mut services: Vec<Service> = Vec::new();
            for id in ids {
                let mut shown = self.show(id);
                if let Some(shown) = shown.as_mut().filter(|_| idle.contains(&id)) {
                    let (code, message) = words::failed(FailedBecause::NotRunning, None);
                    let code = code.into();
                    let trouble = Some(Trouble { code, message });
                    shown.outcome = Some(control::Outcome { ok: false, trouble });
                }
                services.extend(shown);
            }
            return self.answer(ask, idle.is_empty(), services, Vec::new());
        }
        let limit = request.timeout_ms.map(Duration::from_millis);
        let number = self.desk.next();
        let services = ids.iter().map(|id| (*id, None)).collect();
        let pending = Pending {
            ask,
            services,
            tails: BTreeMap::new(),
            deadline: None,
        };
        self.desk.pending.insert(number, pending);
        if ids.is_empty() {
            return self.finish_command(number);
        }
        for id in ids {
            let token = Token(self.desk.next());
            self.desk.tokens.insert(token, (number, id));
            let deadline = Some(now.after(limit.unwrap_or_else(|| self.default_limit(id))));
            let command = Event::Command {
                command,
                token: Some(token),
                deadline,
            };
            self.event(id, command);
        }
        tracing::debug!("{verb:?} taken");
        self.settle();
    }

    /// A signal that would hit nobody, as the machine sees it.
    fn has_nobody_for(&self, id: ServiceId, command: Command) -> bool {
        let phase = self.fleet.view(id).map(|view| view.phase);
        let alive = matches!(phase, Some(Phase::Up | Phase::Stopping));
        match command {
            Command::Kill => !alive && phase != Some(Phase::Clearing),
            Command::Term
            | Command::Hup
            | Command::Alarm
            | Command::Interrupt
            | Command::Quit
            | Command::Usr1
            | Command::Usr2
            | Command::Pause
            | Command::Cont => !alive,
            Command::Up
            | Command::Once
            | Command::Down
            | Command::Exit
            | Command::Restart
            | Command::Check => false,
        }
    }

    /// Long enough for a stop, a finish and a start that go as slowly as they may.
    fn default_limit(&self, id: ServiceId) -> Duration {
        let Some(spec) = self.fleet.spec(id) else {
            return MARGIN;
        };
        let stop = spec.stop.timeout.unwrap_or(ENDLESS);
        let finish = match spec.has_finish {
            true => spec.stop.finish_timeout.unwrap_or(ENDLESS),
            false => Duration::ZERO,
        };
        stop.saturating_add(finish).saturating_add(MARGIN)
    }

    /// The machine's answer for one service.
    pub fn reply(&mut self, token: Token, outcome: Outcome) {
        let Some((number, id)) = self.desk.tokens.remove(&token) else {
            return;
        };
        self.look_back();
        let mut shown = self.show(id);
        let (ok, trouble, leftovers) = match outcome {
            // It may well run, under the supervisor that has it.
            Outcome::Reached { .. } if self.is_held_by_another(id) => {
                let problem = shown.as_ref().and_then(|shown| shown.problem.clone());
                (false, problem, Vec::new())
            }
            Outcome::Reached { leftovers } => (true, None, leftovers),
            Outcome::Failed(because) => {
                let problem = shown.as_ref().and_then(|shown| shown.problem.as_ref());
                // For a time-out the state says more than an old problem.
                let (code, message) = match (because, self.fleet.view(id)) {
                    (FailedBecause::TimedOut, Some(view)) if problem.is_none() => {
                        let name = self.fleet.name(id).unwrap_or_default();
                        words::failed(because, Some(&words::not_there_yet(name, &view)))
                    }
                    (FailedBecause::Ended, Some(view)) if problem.is_none() => {
                        let exit = view.last_exit.and_then(|last| last.exit).map(words::exit);
                        words::failed(because, exit.as_deref())
                    }
                    _ => words::failed(because, problem.map(|problem| &*problem.message)),
                };
                (
                    false,
                    Some(Trouble {
                        code: code.into(),
                        message,
                    }),
                    Vec::new(),
                )
            }
        };
        if let Some(shown) = &mut shown {
            shown.outcome = Some(control::Outcome {
                ok,
                trouble: trouble.clone(),
            });
            if !leftovers.is_empty() {
                shown.leftovers = show::leftovers(&leftovers);
            }
            shown.living_on = show::leftovers(&self.living_on(id));
        }
        let Some(pending) = self.desk.pending.get_mut(&number) else {
            return;
        };
        if let Some((_, place)) = pending.services.iter_mut().find(|(other, _)| *other == id) {
            let if_silent = None;
            *place = Some(Answered { shown, if_silent });
        }
        if pending
            .services
            .iter()
            .all(|(_, answered)| answered.is_some())
        {
            self.finish_command(number);
        }
    }

    fn finish_command(&mut self, number: u64) {
        let Some(pending) = self.desk.pending.remove(&number) else {
            return;
        };
        let ids = pending.services.iter().map(|(id, _)| *id).collect();
        let services: Vec<Service> = pending
            .services
            .into_iter()
            .filter_map(|(_, answered)| answered?.shown)
            .collect();
        let ok = services
            .iter()
            .all(|shown| shown.outcome.as_ref().is_none_or(|out| out.ok));
        self.answer(pending.ask, ok, services, ids);
    }

    fn ask_reload(&mut self, ask: &Ask) {
        self.names.clear();
        self.make_room();
        self.disk.give(Job::Release);
        self.read_all();
        self.pen.send(&ToScribe::Reload, None);
        respond(ask, true, Vec::new());
    }
}
