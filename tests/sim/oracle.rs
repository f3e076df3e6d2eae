//! Watches a world and knows what must never happen and what must happen in time: the invariants
//! of the design, numbered as there. It keeps its own books; of what the machine says of itself it
//! believes only what was published, and checks that against what the processes did.

mod ends;
mod timely;

use super::world::{ROLES, SECOND, World};
use ends::Ends;
use outlast::machine::view::{Phase, View, Want};
use outlast::machine::vocab::{
    Command, Event, Exit, Outcome, Pid, Program, Role, ServiceId, Tick, Token,
};
use std::collections::{BTreeMap, BTreeSet};

/// Messages take up to 3 s, and some wait behind others.
const SLACK: u64 = 12 * SECOND;
/// The slowest retry, and what may come before it.
const UP_BOUND: u64 = 60 * SECOND + SLACK;
/// Control scripts 3 x 2 s, stop 2 x 3 s, clearing 2 x 8 s, finish 2 s.
const DOWN_BOUND: u64 = 30 * SECOND + 3 * SLACK;
/// The stop signal and three times KILL, 2 s each.
const CLEAR_BOUND: u64 = 8 * SECOND + SLACK;
/// Starts at 0, 0, 1, 3, 7, 15, 31 s: no more than these within the window.
const WINDOW: u64 = 28 * SECOND;
const STARTS_IN_WINDOW: usize = 7;

#[derive(Default)]
pub struct Oracle {
    names: BTreeMap<ServiceId, String>,
    live_runs: BTreeMap<String, Pid>,
    /// Which run a check was started for; runs whose check has passed, or that need none.
    checks: BTreeMap<Pid, Pid>,
    passed: BTreeSet<(ServiceId, Pid)>,
    tokens: BTreeMap<Token, Asked>,
    answered: BTreeSet<Token>,
    published: BTreeMap<ServiceId, View>,
    /// What is wanted by the last command that was answered, unless somebody wants more since.
    promised: BTreeMap<ServiceId, Want>,
    /// The last command that wants something, not answered yet.
    wishes: BTreeMap<ServiceId, (Token, Want)>,
    accounts: BTreeMap<ServiceId, Account>,
    /// The run and its readiness as last reported, by the keeper's own count.
    run_pid: BTreeMap<ServiceId, Pid>,
    down_since: BTreeMap<ServiceId, u64>,
    idle_since: BTreeMap<ServiceId, u64>,
    left_since: BTreeMap<ServiceId, u64>,
    /// When it was last in an uninterruptible wait.
    deep_at: BTreeMap<ServiceId, u64>,
    ends: Ends,
}

struct Asked {
    id: ServiceId,
    command: Command,
    deadline: Option<Tick>,
    at: u64,
    /// The run that the machine knew of when it was told.
    run: Option<Pid>,
}

/// Starts nobody asked for.
#[derive(Default)]
struct Account {
    starts: Vec<u64>,
    disturbed: u64,
    run_began: u64,
    /// How the last run ended, when nothing has disturbed the service since that run began.
    final_exit: Option<Exit>,
}

impl Oracle {
    pub fn seen(&mut self, id: ServiceId, name: &str) {
        self.names.insert(id, name.to_owned());
    }

    /// Somebody has interfered: what follows is not the machine's own idea.
    pub fn disturbed(&mut self, id: ServiceId, now: u64) {
        let account = self.accounts.entry(id).or_default();
        account.disturbed = now;
        account.starts.clear();
        account.final_exit = None;
    }

    pub fn disturbed_name(&mut self, name: &str, now: u64) {
        let log = format!("{name}/log");
        let ids: Vec<ServiceId> = self
            .names
            .iter()
            .filter(|(_, other)| *other == name || **other == log)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.disturbed(id, now);
        }
    }

    pub fn supervisor_died(&mut self, now: u64) {
        // Its clients were cut off.
        self.tokens.clear();
        self.down_since.clear();
        self.idle_since.clear();
        self.left_since.clear();
        let ids: Vec<ServiceId> = self.names.keys().copied().collect();
        for id in ids {
            self.disturbed(id, now);
        }
    }

    pub fn commanded(
        &mut self,
        id: ServiceId,
        token: Token,
        command: Command,
        deadline: Option<Tick>,
        at: u64,
    ) {
        self.tokens.insert(
            token,
            Asked {
                id,
                command,
                deadline,
                at,
                run: None,
            },
        );
    }

    // ---- processes

    /// 1: one run, ever. 9: nor where one is not known to be gone. And nothing beside leftovers.
    pub fn asked_to_spawn(
        &self,
        world: &World,
        id: ServiceId,
        program: Program,
        leftovers: usize,
    ) -> Result<(), String> {
        let role = program.role();
        if world.live.contains_key(&(id, role)) {
            return Err(format!("1: {id:?} a second {role:?} is started"));
        }
        if !self.published.contains_key(&id) {
            return Err(format!(
                "6: {id:?} starts {program:?} before anything was published"
            ));
        }
        match role {
            Role::Run => {
                if world.live.contains_key(&(id, Role::Finish)) {
                    return Err(format!("1: {id:?} run is started beside finish"));
                }
                if leftovers > 0 {
                    return Err(format!(
                        "1: {id:?} run is started beside {leftovers} leftovers"
                    ));
                }
                self.policy_allows(world, id)?;
                let main = world.fleet.main_of(id);
                let has_main = main.is_some_and(|main| world.fleet.view(main).is_some());
                self.ends.allow_a_run(id, has_main)?;
            }
            Role::Finish => {
                if world.live.contains_key(&(id, Role::Run)) {
                    return Err(format!("1: {id:?} finish is started beside run"));
                }
            }
            Role::Check | Role::Control => {}
        }
        Ok(())
    }

    pub fn start_failed(&mut self, id: ServiceId, role: Role, now: u64) {
        if role == Role::Run {
            self.accounts.entry(id).or_default().starts.push(now);
            self.ends.never_started(id);
            // It was tried; from now on its next wait counts.
            self.idle_since.insert(id, now);
        }
    }

    pub fn spawned(&mut self, id: ServiceId, role: Role, pid: Pid, now: u64) {
        if role == Role::Check
            && let Some(run) = self.run_pid.get(&id)
        {
            self.checks.insert(pid, *run);
        }
        if role == Role::Run {
            if let Some(name) = self.names.get(&id) {
                self.live_runs.insert(name.clone(), pid);
            }
            self.run_pid.insert(id, pid);
            self.idle_since.remove(&id);
            self.left_since.remove(&id);
            let account = self.accounts.entry(id).or_default();
            account.starts.push(now);
            account.run_began = now;
            account.final_exit = None;
        }
    }

    pub fn process_ended(&mut self, id: ServiceId, role: Role, pid: Pid, exit: Exit, _now: u64) {
        match role {
            Role::Run => {
                if let Some(name) = self.names.get(&id) {
                    self.live_runs.remove(name);
                }
                let account = self.accounts.entry(id).or_default();
                account.final_exit = (account.disturbed < account.run_began).then_some(exit);
                self.ends.ended(id, exit);
            }
            Role::Check if exit.success() => {
                if let Some(run) = self.checks.get(&pid) {
                    self.passed.insert((id, *run));
                }
            }
            Role::Finish | Role::Check | Role::Control => {}
        }
    }

    // ---- what the machine says

    pub fn published(&mut self, id: ServiceId, view: View) {
        self.published.insert(id, view);
    }

    /// Something else is wanted than was promised, by a later command or by the policy.
    pub fn wants(&mut self, id: ServiceId, want: Want) {
        if self
            .promised
            .get(&id)
            .is_some_and(|promised| *promised != want)
        {
            self.promised.remove(&id);
        }
    }

    /// What is wanted is what was asked for.
    pub fn handled(
        &mut self,
        now: u64,
        id: ServiceId,
        event: &Event,
        before: Option<&View>,
        after: Option<&View>,
        checks: bool,
    ) -> Result<(), String> {
        if let Some(pid) = after
            .filter(|view| view.phase == Phase::Up && !checks)
            .and_then(|v| v.pid)
        {
            self.passed.insert((id, pid));
        }
        match event {
            Event::Defined(_)
            | Event::Invalid(_)
            | Event::Removed
            | Event::Touched
            | Event::Stirred => {
                self.disturbed(id, now);
            }
            _ => {}
        }
        let (Some(before), Some(after)) = (before, after) else {
            return Ok(());
        };
        if let Event::Removed = event {
            self.ends.wanted(id, Want::Up);
        }
        let is_log = self
            .names
            .get(&id)
            .is_some_and(|name| name.ends_with("/log"));
        if let Event::Command { command, token, .. } = event {
            self.disturbed(id, now);
            if let Some(asked) = token.and_then(|token| self.tokens.get_mut(&token)) {
                let runs = matches!(before.phase, Phase::Up | Phase::Stopping);
                asked.run = before.pid.filter(|_| runs);
            }
            let wanted = match command {
                _ if before.leaving && before.want == Want::Exit && after.leaving => None,
                Command::Up => Some(Want::Up),
                Command::Once => Some(Want::Once),
                Command::Down => Some(Want::Down),
                Command::Exit if !is_log => Some(Want::Exit),
                Command::Restart if before.invalid.is_none() => Some(Want::Up),
                Command::Restart => None,
                Command::Exit
                | Command::Term
                | Command::Hup
                | Command::Alarm
                | Command::Interrupt
                | Command::Quit
                | Command::Usr1
                | Command::Usr2
                | Command::Kill
                | Command::Pause
                | Command::Cont
                | Command::Check => Some(before.want),
            };
            self.ends.wanted(id, after.want);
            if wanted != Some(before.want) {
                self.promised.remove(&id);
            }
            let simply = matches!(command, Command::Up | Command::Down | Command::Restart);
            match wanted.zip(*token).filter(|_| simply) {
                Some((wanted, token)) => drop(self.wishes.insert(id, (token, wanted))),
                None => drop(self.wishes.remove(&id)),
            }
            if let Some(wanted) = wanted
                && wanted != after.want
            {
                return Err(format!("{id:?} {command:?} leaves {:?} wanted", after.want));
            }
        }
        Ok(())
    }

    /// 7: one answer each. And a true one.
    pub fn replied(
        &mut self,
        world: &World,
        id: ServiceId,
        token: Token,
        outcome: &Outcome,
        leftovers: usize,
    ) -> Result<(), String> {
        if !self.answered.insert(token) {
            return Err(format!("7: {token:?} is answered twice"));
        }
        let Some(asked) = self.tokens.remove(&token) else {
            return Err(format!("7: {token:?} is answered and was never asked"));
        };
        let Outcome::Reached { .. } = outcome else {
            return Ok(());
        };
        let run = world.live.get(&(id, Role::Run)).map(|p| p.pid);
        let unheard = world.has_unheard(id, Role::Run);
        match asked.command {
            Command::Up | Command::Restart => {
                if run.is_none() && !unheard {
                    return Err(format!(
                        "7: {id:?} {:?} reached without a run",
                        asked.command
                    ));
                }
                let checks = world.fleet.spec(id).is_some_and(|spec| spec.has_check);
                let pid = run.or(self.run_pid.get(&id).copied());
                let ready = pid.is_some_and(|pid| self.passed.contains(&(id, pid)));
                if checks && !ready {
                    return Err(format!("7: {id:?} is up and was never ready"));
                }
                if asked.command == Command::Restart && pid.is_some() && pid == asked.run {
                    return Err(format!("7: {id:?} restarted, and it is the same run"));
                }
            }
            Command::Down | Command::Exit => {
                let any = ROLES
                    .iter()
                    .any(|role| world.live.contains_key(&(id, *role)));
                if any || leftovers > 0 {
                    return Err(format!("3: {id:?} told to be down, and something lives"));
                }
            }
            Command::Term | Command::Kill => {
                if run.is_some() && run == asked.run {
                    return Err(format!("7: {id:?} told to have ended, and it lives"));
                }
            }
            Command::Once
            | Command::Hup
            | Command::Alarm
            | Command::Interrupt
            | Command::Quit
            | Command::Usr1
            | Command::Usr2
            | Command::Pause
            | Command::Cont
            | Command::Check => {}
        }
        Ok(())
    }

    /// The answer has left: what was reached is not to be forgotten any more.
    pub fn told(&mut self, id: ServiceId, token: Token, outcome: &Outcome) {
        let wish = self.wishes.get(&id).filter(|(last, _)| *last == token);
        if let (Outcome::Reached { .. }, Some((_, want))) = (outcome, wish) {
            self.promised.insert(id, *want);
        }
    }

    /// 6: a new supervisor finds what was wanted, and every run.
    pub fn restored(&mut self, id: ServiceId, view: &View, run: Option<Pid>) -> Result<(), String> {
        let Some(published) = self.published.get(&id) else {
            return Err(format!(
                "6: {id:?} was stored without having been published"
            ));
        };
        // A directory that was gone is looked at again; everything else was somebody's wish.
        if !published.leaving && view.want != published.want {
            return Err(format!(
                "6: {id:?} wanted {:?}, now {:?}",
                published.want, view.want
            ));
        }
        let promised = self.promised.get(&id).filter(|_| !published.leaving);
        if promised.is_some_and(|want| *want != view.want) {
            return Err(format!(
                "6: {id:?} told somebody that {promised:?} is wanted, now {:?}",
                view.want
            ));
        }
        if let Some(pid) = run
            && view.pid != Some(pid)
        {
            return Err(format!(
                "6: {id:?} run {pid:?} is lost, seen is {:?}",
                view.pid
            ));
        }
        if published.pid == view.pid
            && published.phase == Phase::Up
            && view.phase == Phase::Up
            && (published.run, published.started) != (view.run, view.started)
        {
            return Err(format!("6: {id:?} the run's age is lost"));
        }
        // What is only shown and not stored is found out again.
        if let Some(published) = self.published.get_mut(&id) {
            published.swept.clone_from(&view.swept);
            published.leftovers.clone_from(&view.leftovers);
            published.unkillable = view.unkillable;
            published.control_overdue = view.control_overdue;
        }
        Ok(())
    }

    pub fn forgotten(
        &mut self,
        world: &World,
        id: ServiceId,
        leftovers: bool,
    ) -> Result<(), String> {
        // A supervisor that ends leaves to the keeper what it could not kill, or what was told to
        // have ended too late.
        let deep = self
            .deep_at
            .get(&id)
            .is_some_and(|at| world.now - at < 2 * SLACK);
        let alive = ROLES
            .iter()
            .any(|role| world.live.contains_key(&(id, *role)));
        if (alive || leftovers) && !deep {
            return Err(format!(
                "3: {id:?} is forgotten while something of it lives"
            ));
        }
        let owed = self
            .tokens
            .iter()
            .find(|(_, asked)| asked.id == id && asked.at < world.now);
        // Commands still on their way are answered by the fleet.
        if let Some((token, asked)) = owed
            && world.is_idle()
        {
            return Err(format!(
                "7: {id:?} is forgotten and owes {token:?} {:?}",
                asked.command
            ));
        }
        self.down_since.remove(&id);
        self.idle_since.remove(&id);
        // Its number may be another's one day.
        self.ends.wanted(id, Want::Up);
        Ok(())
    }

    /// The keeper knows nothing of it any more.
    pub fn unstored(&mut self, id: ServiceId) {
        self.published.remove(&id);
        self.promised.remove(&id);
        self.wishes.remove(&id);
    }
}
