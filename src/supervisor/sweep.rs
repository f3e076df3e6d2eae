//! Ending what runs leave behind, by scope.

use super::leftovers::{self, Pinned, Stray};
use super::place::Place;
use super::vocab::{Event, Exit, Leftover, Role, ServiceId, Signal};
use super::watched::Woken;
use super::{Supervisor, abroad, cgroups, words};
use crate::machine::spec::Scope;
use crate::machine::view::Phase;
use crate::os::identity::Identity;
use crate::os::pidfd::is_number_in_use;
use std::collections::HashSet;

/// Looks for what a killed script leaves.
const SCRIPT_ROUNDS: u32 = 3;

impl Supervisor {
    /// Does all sweeps that are due with one look at the processes.
    pub fn sweep(&mut self) {
        let sweeps = std::mem::take(&mut self.sweeps);
        let strays = match sweeps.iter().any(|(id, _)| self.may_have_left(*id)) {
            true => self.strays(&sweeps),
            false => Vec::new(),
        };
        for (id, signal) in sweeps {
            let leftovers = self.sweep_one(id, signal, &strays);
            self.queue.push_back((id, Event::Leftovers(leftovers)));
        }
    }

    fn strays(&self, sweeps: &[(ServiceId, Signal)]) -> Vec<Stray> {
        let booked = self.booked_pids();
        let mut strays = leftovers::strays(self.keeper_pid, &booked);
        let mut foreign = sweeps
            .iter()
            .filter_map(|(id, _)| Some((self.places.get(id)?, self.fleet.view(*id)?.scope)))
            .filter(|(place, _)| place.foreign)
            .peekable();
        if foreign.peek().is_some() {
            let known: HashSet<i32> = strays.iter().map(|stray| stray.pid).collect();
            let all = leftovers::anywhere(&booked);
            let others = abroad::of_places(&all, foreign);
            strays.extend(others.into_iter().filter(|it| !known.contains(&it.pid)));
        }
        strays
    }

    /// Nearly always nobody is left, and a look at all children of the keeper costs a third of a
    /// restart. Of a session or a group that has a member the kernel keeps the number in use, so when
    /// all numbers in question are free there is nobody to look for.
    fn may_have_left(&self, id: ServiceId) -> bool {
        let scope = self.fleet.view(id).map(|view| view.scope);
        match (scope, self.places.get(&id)) {
            (Some(Scope::Group | Scope::Session), Some(place)) => place
                .sessions
                .iter()
                .any(|number| is_number_in_use(*number)),
            (Some(Scope::Process), _) | (None, _) | (_, None) => false,
            (Some(Scope::Tree), Some(_)) => true,
        }
    }

    /// Every process that the keeper holds, and ourselves: none of these is anybody's leftover.
    pub fn booked_pids(&self) -> HashSet<i32> {
        let services = self.places.values().flat_map(|place| place.alive).flatten();
        let own = [Some(nix::unistd::getpid().as_raw()), self.pen.pid];
        services.chain(own.into_iter().flatten()).collect()
    }

    fn sweep_one(&mut self, id: ServiceId, signal: Signal, strays: &[Stray]) -> Vec<Leftover> {
        // The scope that its run was started with, whatever the definition says by now.
        let scope = self
            .fleet
            .view(id)
            .map_or(Scope::Process, |view| view.scope);
        let Some(place) = self.places.get_mut(&id) else {
            return Vec::new();
        };
        let members = match (&place.cgroup, scope) {
            (Some(group), Scope::Tree) => cgroups::members(group),
            _ => Vec::new(),
        };
        if scope == Scope::Tree && place.cgroup.is_none() {
            place.follow(strays);
        }
        let pinned: Vec<Pinned> = strays
            .iter()
            .filter(|stray| members.contains(&stray.pid) || place.left_behind(stray, scope))
            .filter_map(Pinned::pin)
            .collect();
        if let (Some(group), Scope::Tree, Signal::KILL) = (&place.cgroup, scope, signal) {
            cgroups::kill(group);
        }
        for pin in &pinned {
            pin.signal(i32::from(signal.0));
            if signal != Signal::KILL {
                pin.signal(i32::from(Signal::CONT.0));
            }
            // Without it we would never hear of its end; then the clear timer asks again.
            let _ = self.watched.add(pin.pidfd(), Woken::Leftover(id));
        }
        let named = pinned.iter().map(|pin| pin.leftover.clone()).collect();
        if pinned.is_empty() {
            // Nobody is left, so the numbers may come to mean others.
            let alive: Vec<i32> = place.alive.into_iter().flatten().collect();
            place.sessions.retain(|session| alive.contains(session));
            place.foreign &= !place.sessions.is_empty();
            place.tree.clear();
            place.tree_sessions.clear();
        }
        place.pinned = pinned;
        named
    }

    /// One that was waited for has ended; with the last one the machine is told.
    pub fn leftover_ended(&mut self, id: ServiceId) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        if place.pinned.is_empty() {
            // Of an earlier sweep; the last one has replaced it.
            return;
        }
        let watched = &self.watched;
        place.pinned.retain(|pin| {
            let lives = pin.lives();
            if !lives {
                watched.remove(pin.pidfd());
            }
            lives
        });
        if place.pinned.is_empty() {
            // Whether they have left children of their own, the look at the end of this turn tells,
            // together with all others that are due.
            self.sweeps.push((id, Signal::TERM));
        }
    }

    /// A check or control script that had to be killed: whatever it was waiting for goes with it, or
    /// every check of a service that hangs would leave a process more.
    pub fn end_with_its_script(&self, id: ServiceId, role: Role, pid: i32, exit: Exit) {
        let killed = matches!(
            exit,
            Exit::Signal {
                signal: Signal::KILL,
                ..
            }
        );
        let own = self.settings.manner.new_session() && !self.settings.manner.is_runit();
        if !killed || !own || !is_number_in_use(pid) {
            return;
        }
        let ended = kill_session(pid, || {
            leftovers::strays(self.keeper_pid, &self.booked_pids())
        });
        if let (false, Some(place)) = (ended.is_empty(), self.places.get(&id)) {
            let script = match role {
                Role::Check => "check",
                Role::Run | Role::Finish | Role::Control => "control script",
            };
            let names = words::names(&ended);
            tracing::warn!(service = &*place.name, "killed with its {script}: {names}");
        }
    }

    /// Check and control scripts that another keeper had started, with what they wait for: their answer
    /// would reach nobody, and the next check is not to run beside the last.
    pub fn end_left_scripts(&self, id: ServiceId, scripts: &[Identity]) {
        for script in scripts {
            let own = self.settings.manner.new_session() && !self.settings.manner.is_runit();
            let lives = Identity::of(script.pid) == Some(*script);
            if !own || !lives {
                continue;
            }
            let ended = kill_session(script.pid, || leftovers::anywhere(&self.booked_pids()));
            if let (false, Some(place)) = (ended.is_empty(), self.places.get(&id)) {
                let names = words::names(&ended);
                tracing::warn!(
                    service = &*place.name,
                    "a check or control script was left by the killed keeper; it is ended: {names}"
                );
            }
        }
    }

    /// For the scope `tree` without a cgroup: who hangs below the process while it still lives.
    pub fn remember_tree(&mut self, id: ServiceId) {
        let Some((scope, phase)) = self.fleet.view(id).map(|view| (view.scope, view.phase)) else {
            return;
        };
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        let [Some(pid), ..] = place.alive else {
            return;
        };
        let tree = scope == Scope::Tree && place.cgroup.is_none();
        let spares = scope != Scope::Tree && phase == Phase::Stopping;
        if !tree && !spares && !place.foreign {
            return;
        }
        let below = leftovers::below(pid);
        if spares {
            place.spares(&below, scope);
        }
        if place.foreign {
            self.abroad.note(&below);
        }
        if tree {
            for stray in &below {
                place.take_in(stray);
            }
        }
    }
}

/// Ends a whole session; looks again for what was forked meanwhile.
fn kill_session(session: i32, look: impl Fn() -> Vec<Stray>) -> Vec<Leftover> {
    let mut ended = Vec::new();
    for _ in 0..SCRIPT_ROUNDS {
        let strays = look();
        let of_it = strays.iter().filter(|stray| stray.session == session);
        let pinned: Vec<Pinned> = of_it.filter_map(Pinned::pin).collect();
        if pinned.is_empty() {
            break;
        }
        for pin in &pinned {
            pin.signal(i32::from(Signal::KILL.0));
        }
        ended.extend(pinned.into_iter().map(|pin| pin.leftover));
    }
    ended
}

impl Place {
    /// For the scope `tree` without a cgroup: whoever hangs below one that is known to belong to the
    /// service belongs to it too. Now is the time to note it: when its parent has ended it hangs
    /// below the keeper, and nothing tells any more where it came from.
    fn follow(&mut self, strays: &[Stray]) {
        loop {
            let known = self.tree.len();
            for stray in strays {
                let child = strays.iter().any(|parent| {
                    parent.pid == stray.parent && self.tree.contains(&(parent.pid, parent.started))
                });
                if child || self.left_behind(stray, Scope::Tree) {
                    self.take_in(stray);
                }
            }
            if self.tree.len() == known {
                return;
            }
        }
    }

    /// With its session: the run began in a new one, so every session below it was made there, and
    /// what is forked in it while we look belongs to the service as well.
    fn take_in(&mut self, stray: &Stray) {
        if !self.tree.contains(&(stray.pid, stray.started)) {
            self.tree.push((stray.pid, stray.started));
        }
        if !self.tree_sessions.contains(&stray.session) {
            self.tree_sessions.push(stray.session);
        }
    }

    pub fn left_behind(&self, stray: &Stray, scope: Scope) -> bool {
        match scope {
            Scope::Process => false,
            Scope::Group => self.sessions.contains(&stray.group),
            Scope::Session => self.sessions.contains(&stray.session),
            Scope::Tree => {
                self.sessions.contains(&stray.session)
                    || self.tree_sessions.contains(&stray.session)
                    || self.tree.contains(&(stray.pid, stray.started))
                    || stray.marked(&self.name)
            }
        }
    }
}
