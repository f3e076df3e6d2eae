//! At each event: had the supervisor been replaced just before it, would anything be different? A
//! service is made anew from its snapshot and from what the keeper holds, is told of its definition,
//! and given the event too. What it shows and what it does must be the same.
//!
//! That is asked whenever the keeper and the machine know the same of the service, so nothing is
//! on its way between them, and no check or control script runs: these are ended by a successor.

use super::{ROLES, World};
use outlast::machine::fleet::{Fleet, Out};
use outlast::machine::view::{Phase, View};
use outlast::machine::vocab::{Action, Event, Pid, Role, ServiceId, Signal, Tick};

/// One that has taken over, and has not been given the event yet.
pub(super) struct Successor {
    fleet: Fleet,
    /// Something is under way that a successor does once more.
    redoes: bool,
}

impl World {
    pub(super) fn successor(
        &mut self,
        id: ServiceId,
        event: &Event,
    ) -> Result<Option<Successor>, String> {
        let (Some(snapshot), Some(before)) = (self.fleet.snapshot(id), self.fleet.view(id)) else {
            return Ok(None);
        };
        // That a directory is gone or can't be used is not stored; it is looked at again, and found
        // so by one that may rest already; and a broken one is tried again by whoever reads it.
        let unread = before.leaving || before.invalid.is_some() || before.phase == Phase::Broken;
        if unread || !self.is_agreed(id, event) {
            return Ok(None);
        }
        let alive = self.held(id);
        let mut fleet = self.fleet.clone();
        let now = Tick(self.now);
        let main = self.fleet.main_of(id);
        let mut outs = fleet.restore(now, id, main, &snapshot, &alive);
        if let Some(spec) = self.fleet.spec(id) {
            outs.extend(fleet.handle(now, id, Event::Defined(Box::new(spec.clone()))));
        }
        self.compared += 1;
        let redoes = match before.phase {
            Phase::Stopping | Phase::Clearing | Phase::Starting => true,
            // Whether KILL was sent is not known.
            Phase::Finish => before.finish_overdue,
            // It is asked at once.
            Phase::Up => !before.ready,
            Phase::Down | Phase::Backoff | Phase::Broken => false,
        };
        let after = fleet.view(id).ok_or("forgotten by its successor")?;
        let told = |what: &str| {
            format!(
                "{id:?} {what} by a successor:\n {before:?}\n {after:?}\n {outs:?}\n {snapshot:?}"
            )
        };
        let (mut seen, mut now_seen) = (plain(&before), plain(&after));
        if redoes {
            // A stop signal is sent again, and once to a log that only its input's end was to stop.
            (seen.got_term, now_seen.got_term) = (false, false);
        }
        if seen != now_seen {
            return Err(told("is seen otherwise"));
        }
        if !redoes && !effects(&outs).is_empty() {
            return Err(told("is meddled with"));
        }
        Ok(Some(Successor { fleet, redoes }))
    }

    /// ... and now it gets the event.
    pub(super) fn compare(
        &self,
        successor: Successor,
        id: ServiceId,
        event: &Event,
        outs: &[Out],
    ) -> Result<(), String> {
        let Successor { mut fleet, redoes } = successor;
        let theirs = fleet.handle(Tick(self.now), id, event.clone());
        let (ours, after) = (self.fleet.view(id), fleet.view(id));
        let same = ours.as_ref().map(plain) == after.as_ref().map(plain)
            && effects(outs) == effects(&theirs);
        // How long a stop and its scripts have taken is not stored: a successor gives them their time
        // anew, so an order to stop may be met in another way.
        let ordered = matches!(event, Event::Command { .. } | Event::Removed);
        if same || redoes || ordered {
            return Ok(());
        }
        Err(format!(
            "{id:?} a successor takes {event:?} otherwise:\n {ours:?}\n {after:?}\n {outs:?}\n {theirs:?}"
        ))
    }

    /// What the keeper holds.
    pub(super) fn held(&self, id: ServiceId) -> Vec<(Role, Pid)> {
        let of = |role: Role| {
            let living = self.live.get(&(id, role)).map(|process| process.pid);
            let mut booked = self.book.iter();
            let booked = booked.find(|booked| booked.id == id && booked.role == role);
            booked.map(|booked| booked.pid).or(living)
        };
        ROLES
            .into_iter()
            .filter_map(|role| Some((role, of(role)?)))
            .collect()
    }

    fn is_agreed(&self, id: ServiceId, event: &Event) -> bool {
        let in_flight = |event: &Event| {
            matches!(
                event,
                Event::Spawned { .. }
                    | Event::SpawnFailed { .. }
                    | Event::Exited { .. }
                    | Event::Leftovers(_)
            )
        };
        let settled = self.todo.is_empty() && self.wire.is_empty();
        let told = !matches!(event, Event::Spawned { .. } | Event::SpawnFailed { .. });
        let others = self.messages.iter().filter(|message| message.id == id);
        let scripts = [Role::Check, Role::Control]
            .iter()
            .any(|role| self.held(id).iter().any(|(held, _)| held == role));
        let believed = self.fleet.view(id).and_then(|view| view.pid);
        let held = self.held(id).first().map(|(_, pid)| *pid);
        settled
            && told
            && !scripts
            && believed == held
            && !others.into_iter().any(|other| in_flight(&other.event))
    }
}

/// Without what a snapshot does not hold: it is found out again, or only shown.
fn plain(view: &View) -> View {
    View {
        leftovers: Vec::new(),
        swept: Vec::new(),
        unkillable: false,
        control_overdue: false,
        ..view.clone()
    }
}

/// What reaches processes. How much of its time a stop has used up is not stored, so leftovers may
/// be given a little more of it.
fn effects(outs: &[Out]) -> Vec<Out> {
    let of = |out: &Out| match out.action {
        Action::Sweep { .. } => Out {
            service: out.service,
            action: Action::Sweep {
                signal: Signal::TERM,
            },
        },
        _ => out.clone(),
    };
    outs.iter()
        .filter(|out| match out.action {
            Action::Spawn(_)
            | Action::Signal { .. }
            | Action::Sweep { .. }
            | Action::EndInput
            | Action::EndAll { .. }
            | Action::Forget => true,
            Action::SetTimer { .. }
            | Action::CancelTimer(_)
            | Action::Publish
            | Action::Reply { .. }
            | Action::Note(_) => false,
        })
        .map(of)
        .collect()
}
