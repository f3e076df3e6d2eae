//! Programs that put themselves into the background: their run ends with success at once, and what they
//! have forked lives on in a session of its own, where the default scope does not reach.
//!
//! The kernel keeps no record of who a process came from. What it does tell is that a process hangs
//! below the keeper, belongs to no service's session and was born while a run lived, and no more than
//! that is ever said. Such a look is taken only after a run that looks like it, when there is nothing
//! else to do; what it finds is remembered by session, as a daemon may fork once more. It must never
//! signal anybody. Called by `afterwards`, and by whatever answers a question.

use super::Supervisor;
use super::leftovers::{self, Stray};
use super::place::Place;
use super::vocab::{Exit, Leftover, Pid, ServiceId};
use crate::machine::spec::Scope;
use crate::machine::view::View;
use crate::os::identity::Identity;
use crate::os::pidfd::is_number_in_use;
use std::collections::HashSet;
use std::time::Duration;

/// A program that forks and ends does so within this time; one that has worked for longer had
/// something to do.
const FORK_TIME: Duration = Duration::from_secs(5);
/// Sessions remembered of one service: each try to start it may leave one.
const SESSIONS_MAX: usize = 8;
/// Processes named in an answer.
const NAMED_MAX: usize = 32;

/// When a run lived, in clock ticks from boot.
#[derive(Clone, Copy)]
pub struct Lived {
    pub from: u64,
    pub to: u64,
}

/// The last run ended by itself, with success, right after its start.
pub fn ended_well_at_once(view: &View) -> bool {
    view.last_exit
        .is_some_and(|last| last.exit == Some(Exit::Code(0)) && !last.asked && last.ran < FORK_TIME)
}

impl Supervisor {
    /// A run has ended. The scope `tree` takes everything along, and runsv asks nobody.
    pub fn may_have_escaped(&mut self, id: ServiceId) {
        let view = self.fleet.view(id);
        let may = view.is_some_and(|it| ended_well_at_once(&it) && it.scope != Scope::Tree);
        if let Some(place) = self.places.get(&id).filter(|_| may)
            && !self.settings.manner.is_runit()
            && let Some(from) = place.run_began()
        {
            let to = place.ended;
            self.afterwards.ended_well(id, Lived { from, to });
        }
    }

    /// Looks for what runs that have just ended put into the background.
    pub fn look_for_escaped(&mut self) {
        let suspects = self.afterwards.take_ended_well();
        if suspects.is_empty() || self.bereft.is_some() {
            return;
        }
        let strays = leftovers::strays(self.keeper_pid, &self.booked_pids());
        for (id, lived) in suspects {
            let taken = self.sessions_but(id);
            let scope = self.fleet.view(id).map_or(Scope::Process, |it| it.scope);
            if let Some(place) = self.places.get_mut(&id) {
                place.note_escaped(&strays, lived, scope, &taken);
                self.entrust(id);
            }
        }
    }

    /// All sessions that belong to another service.
    fn sessions_but(&self, id: ServiceId) -> HashSet<i32> {
        let others = self.places.iter().filter(|(other, _)| **other != id);
        others
            .flat_map(|(_, place)| {
                let escaped = place.escaped.iter().map(|(session, _)| *session);
                place.sessions.iter().copied().chain(escaped)
            })
            .collect()
    }

    /// What was started while a run of this service lived and lives on outside its scope, as far as
    /// that is known.
    pub fn living_on(&self, id: ServiceId) -> Vec<Leftover> {
        let Some(place) = self.places.get(&id) else {
            return Vec::new();
        };
        let mut found = place.spared_and_alive();
        let mut escaped = place.escaped.iter();
        if escaped.any(|(session, _)| is_number_in_use(*session)) {
            let strays = leftovers::strays(self.keeper_pid, &self.booked_pids());
            let strays = strays.iter().filter(|stray| place.has_escaped(stray));
            found.extend(strays.map(Stray::leftover));
        }
        found.sort_by_key(|it| it.pid);
        found.dedup_by_key(|it| it.pid);
        found.truncate(NAMED_MAX);
        found
    }
}

impl Place {
    /// The run is being stopped, and these hang below it: what its scope does not reach goes on.
    pub fn spares(&mut self, below: &[Stray], scope: Scope) {
        let spared = below.iter().filter(|it| !self.left_behind(it, scope));
        let spared = spared.take(NAMED_MAX).map(|it| {
            let (pid, started) = (it.pid, it.started);
            (Identity { pid, started }, it.name.clone())
        });
        self.spared = spared.collect();
    }

    fn spared_and_alive(&self) -> Vec<Leftover> {
        let spared = self.spared.iter();
        let alive =
            spared.filter(|(it, _)| Identity::of(it.pid) == Some(*it) && leftovers::lives(it.pid));
        alive
            .map(|(it, name)| Leftover {
                pid: Pid(it.pid),
                name: name.clone(),
            })
            .collect()
    }

    fn note_escaped(&mut self, strays: &[Stray], lived: Lived, scope: Scope, taken: &HashSet<i32>) {
        self.escaped
            .retain(|(session, _)| is_number_in_use(*session));
        for stray in strays {
            let session = stray.session;
            let born_then = (lived.from..=lived.to).contains(&stray.started);
            let known = self.escaped.iter().any(|(other, _)| *other == session);
            if born_then && !known && !taken.contains(&session) && !self.left_behind(stray, scope) {
                self.escaped.push((session, lived.to));
            }
        }
        let too_many = self.escaped.len().saturating_sub(SESSIONS_MAX);
        self.escaped.drain(..too_many);
    }

    /// A session's number stays in use as long as it has a member. One whose leader was born after the
    /// run is another session under the same number.
    fn has_escaped(&self, stray: &Stray) -> bool {
        self.escaped.iter().any(|(session, to)| {
            *session == stray.session
                && Identity::of(*session).is_none_or(|leader| leader.started <= *to)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn stray(pid: i32, session: i32, started: u64) -> Stray {
        Stray {
            pid,
            parent: 1,
            session,
            group: session,
            started,
            name: "daemon".into(),
        }
    }

    fn noted(strays: &[Stray], scope: Scope, taken: &[i32]) -> Vec<i32> {
        let mut place = Place::new("web", None, Path::new("/nowhere"));
        place.began(100);
        let lived = Lived { from: 50, to: 60 };
        let taken = taken.iter().copied().collect();
        place.note_escaped(strays, lived, scope, &taken);
        place.escaped.iter().map(|(session, _)| *session).collect()
    }

    #[test]
    fn only_what_was_born_during_the_run_and_is_nobody_elses_has_escaped() {
        let strays = [
            stray(200, 200, 49),
            stray(201, 201, 50),
            stray(202, 201, 61),
            stray(203, 203, 60),
            stray(204, 204, 61),
            stray(205, 100, 55),
        ];
        assert_eq!(noted(&strays, Scope::Session, &[]), [201, 203]);
        assert_eq!(noted(&strays, Scope::Session, &[201]), [203]);
        // The scope says whether its own session is ended.
        assert_eq!(noted(&strays, Scope::Process, &[]), [201, 203, 100]);
    }

    #[test]
    fn sessions_are_remembered_up_to_a_limit_and_not_under_a_new_leader() {
        let many: Vec<Stray> = (300..400).map(|pid| stray(pid, pid, 55)).collect();
        let kept = noted(&many, Scope::Session, &[]);
        assert_eq!(kept, (392..400).collect::<Vec<i32>>());
        let own = nix::unistd::getpid().as_raw();
        let born = Identity::of(own).expect("we live").started;
        let of = |to| {
            let mut place = Place::new("web", None, Path::new("/nowhere"));
            place.escaped.push((own, to));
            place
        };
        let member = stray(4_000_000, own, born);
        assert!(of(born).has_escaped(&member));
        assert!(!of(born - 1).has_escaped(&member));
    }
}
