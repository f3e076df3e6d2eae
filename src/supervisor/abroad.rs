//! What has come from runs that hang below another keeper, or below none any more.
//!
//! A run that was taken over goes on where it is, and what it leaves goes to whoever stands in for its
//! dead keeper, process 1 as a rule: among the keeper's descendants nothing of it is found. So it is
//! looked for among all processes, and only what can be told for sure is taken for the service's: what
//! hung below the run while that lived (by number and start time), sessions made there, and, for the
//! scope `tree`, who says in its environment that it came from this very directory. Called by `sweep`,
//! and by `farewell`, which ends whatever has left its service.

use super::leftovers::{self, Stray};
use super::place::Place;
use super::vocab::ServiceId;
use super::{Supervisor, cgroups};
use crate::machine::spec::Scope;
use crate::os::identity::Identity;
use std::collections::HashSet;

/// Processes remembered; far more than a service has.
const REMEMBERED_MAX: usize = 4_096;

/// What hung below such a run when it was looked at, until everything ends.
#[derive(Default)]
pub struct Abroad {
    seen: Vec<Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    process: Identity,
    session: i32,
}

impl Abroad {
    pub fn note(&mut self, below: &[Stray]) {
        let new: Vec<Seen> = below.iter().map(Seen::of).collect();
        self.seen
            .retain(|it| !new.contains(it) && it.may_be_there());
        self.seen.extend(new);
        let too_many = self.seen.len().saturating_sub(REMEMBERED_MAX);
        self.seen.drain(..too_many);
    }

    fn living(&self, all: &[Stray]) -> Vec<Stray> {
        let known: HashSet<(i32, u64)> = self.seen.iter().map(Seen::key).collect();
        let sessions: HashSet<i32> = self.seen.iter().map(|it| it.session).collect();
        let theirs = |stray: &Stray| {
            known.contains(&(stray.pid, stray.started))
                || sessions.contains(&stray.session) && is_theirs(stray.session, all, &known)
        };
        with_children(all, theirs)
    }
}

impl Seen {
    fn of(stray: &Stray) -> Seen {
        let (pid, started) = (stray.pid, stray.started);
        Seen {
            process: Identity { pid, started },
            session: stray.session,
        }
    }

    fn key(&self) -> (i32, u64) {
        (self.process.pid, self.process.started)
    }

    fn may_be_there(&self) -> bool {
        Identity::of(self.process.pid) == Some(self.process)
            || crate::os::pidfd::is_number_in_use(self.session)
    }
}

/// A session's number is in use as long as it has a member. One with a leader that we do not know has
/// been made anew, by a stranger.
fn is_theirs(session: i32, all: &[Stray], known: &HashSet<(i32, u64)>) -> bool {
    let leader = all.iter().find(|it| it.pid == session);
    match leader {
        Some(leader) => known.contains(&(leader.pid, leader.started)),
        None => !leftovers::lives(session),
    }
}

/// Those of `all` that are meant, and everything below them.
fn with_children(all: &[Stray], meant: impl Fn(&Stray) -> bool) -> Vec<Stray> {
    let mut pids: HashSet<i32> = all.iter().filter(|it| meant(it)).map(|it| it.pid).collect();
    loop {
        let before = pids.len();
        let children = all.iter().filter(|it| pids.contains(&it.parent));
        let children: Vec<i32> = children.map(|it| it.pid).collect();
        pids.extend(children);
        if pids.len() == before {
            return all
                .iter()
                .filter(|it| pids.contains(&it.pid))
                .cloned()
                .collect();
        }
    }
}

/// Those of `all` that runs of these places have left, as far as their scopes may reach.
pub fn of_places<'a>(
    all: &[Stray],
    places: impl Iterator<Item = (&'a Box<Place>, Scope)>,
) -> Vec<Stray> {
    let members = |place: &Place| place.cgroup.as_deref().map_or(Vec::new(), cgroups::members);
    let places = places.map(|(place, scope)| (place, scope, members(place)));
    let places: Vec<_> = places.collect();
    let meant = |stray: &Stray| {
        let mut places = places.iter();
        places.any(|(place, scope, members)| place.has_left(stray, *scope, members, all))
    };
    with_children(all, meant)
}

impl Place {
    fn has_left(&self, stray: &Stray, scope: Scope, members: &[i32], all: &[Stray]) -> bool {
        let known: HashSet<(i32, u64)> = self.tree.iter().copied().collect();
        let mut sessions = self.sessions.iter().chain(&self.tree_sessions);
        let of_session = sessions.any(|it| *it == stray.session);
        match scope {
            Scope::Process => false,
            Scope::Group | Scope::Session => {
                of_session && is_theirs(stray.session, all, &HashSet::new())
            }
            Scope::Tree => {
                members.contains(&stray.pid)
                    || known.contains(&(stray.pid, stray.started))
                    || of_session && is_theirs(stray.session, all, &known)
                    || self
                        .inode
                        .is_some_and(|it| stray.marked_from(&self.name, it))
            }
        }
    }
}

impl Supervisor {
    /// Of a run that has come to us from elsewhere.
    pub fn note_abroad(&mut self, id: ServiceId) {
        if let Some(place) = self.places.get(&id)
            && place.foreign
            && let [Some(pid), ..] = place.alive
        {
            self.abroad.note(&leftovers::below(pid));
        }
    }

    /// Of all such, and all that is still there of what they have left.
    pub fn still_abroad(&mut self) -> Vec<Stray> {
        let ids: Vec<ServiceId> = self.places.keys().copied().collect();
        for id in ids {
            self.note_abroad(id);
        }
        match self.abroad.seen.is_empty() {
            true => Vec::new(),
            false => self
                .abroad
                .living(&leftovers::anywhere(&self.booked_pids())),
        }
    }
}
