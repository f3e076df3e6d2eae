//! What can wait until a start that was asked for is under way: lines for people, `supervise/`, and the
//! questions whether memory had run out and whether a run has put itself into the background.
//!
//! Whoever waits for a service that has died waits for the exec of its successor. None of this is needed
//! for that, and all of it takes time of processors that keeper and child need. What a successor of
//! ours has to know does not wait: that goes to the keeper before the start is asked for. A start that
//! takes long holds nothing up: then this waits for [`PATIENCE`].

use super::background::Lived;
use super::farewell::Stage;
use super::vocab::{Notice, ServiceId, Tick};
use super::{Supervisor, cgroups};
use crate::ipc::wire::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Several times what a start takes.
const PATIENCE: Duration = Duration::from_millis(5);

#[derive(Default)]
pub struct Afterwards {
    /// Starts that the keeper was asked for and has not answered.
    starting: BTreeSet<Key>,
    /// Until when they are waited for.
    due: Option<Tick>,
    notices: Vec<(ServiceId, Notice)>,
    /// Services of which a run was ended by KILL.
    killed: BTreeSet<ServiceId>,
    /// Services of which a run ended with success at once, and when it had lived.
    ended_well: BTreeMap<ServiceId, Lived>,
}

impl Afterwards {
    pub fn asked_for(&mut self, key: Key, now: Tick) {
        self.starting.insert(key);
        self.due.get_or_insert(now.after(PATIENCE));
    }

    /// It runs, or could not be started.
    pub fn answered(&mut self, key: Key) {
        self.starting.remove(&key);
    }

    /// None will be answered any more.
    pub fn expect_nothing(&mut self) {
        self.starting.clear();
    }

    pub fn forget(&mut self, id: ServiceId) {
        self.starting.retain(|key| key.id != id.0);
        self.killed.remove(&id);
        self.ended_well.remove(&id);
    }

    pub fn deadline(&self) -> Option<Tick> {
        self.due
    }

    fn waits(&mut self, now: Tick) -> bool {
        let waits = !self.starting.is_empty() && self.due.is_some_and(|due| due > now);
        if !waits {
            self.due = None;
        }
        waits
    }

    /// Whether memory had run out for the last run of this service is to be found out, or not any more.
    pub fn was_killed(&mut self, id: ServiceId, unknown: bool) {
        match unknown {
            true => self.killed.insert(id),
            false => self.killed.remove(&id),
        };
    }

    /// Whether the run has left something in the background is to be found out.
    pub fn ended_well(&mut self, id: ServiceId, lived: Lived) {
        self.ended_well.insert(id, lived);
    }

    pub fn take_ended_well(&mut self) -> BTreeMap<ServiceId, Lived> {
        std::mem::take(&mut self.ended_well)
    }
}

impl Supervisor {
    /// Does what has been put off, if there is nothing to wait for.
    pub fn catch_up(&mut self) {
        let now = self.now();
        if !self.afterwards.waits(now) {
            self.catch_up_now();
        }
    }

    pub fn catch_up_now(&mut self) {
        self.say_notices();
        self.look_back();
        self.publish();
    }

    /// What only a closer look can tell of the runs that have ended.
    pub fn look_back(&mut self) {
        self.look_for_oom();
        self.look_for_escaped();
    }

    /// In the order in which they came. At the end of everything other lines tell what follows from them.
    pub fn put_off(&mut self, id: ServiceId, notice: Notice) {
        self.afterwards.notices.push((id, notice));
        if !matches!(self.stage, Stage::Serving) {
            self.say_notices();
        }
    }

    pub fn say_notices(&mut self) {
        for (id, notice) in std::mem::take(&mut self.afterwards.notices) {
            self.note(id, &notice);
        }
    }

    /// Whether the kernel has ended somebody for want of memory; whom, the whole machine's count can't
    /// say. Reading that costs as much as all else that an end brings with it.
    fn look_for_oom(&mut self) {
        let killed = std::mem::take(&mut self.afterwards.killed);
        if killed.is_empty() {
            return;
        }
        let kills = cgroups::oom_kills_anywhere();
        let nobody = kills.is_some() && kills == self.oom_anywhere;
        self.oom_anywhere = kills.or(self.oom_anywhere);
        for id in killed {
            if let Some(place) = self.places.get_mut(&id) {
                place.oom = nobody.then_some(false);
                place.oom_near = !nobody;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn key(id: u32) -> Key {
        Key { id, role: 0 }
    }

    #[test]
    fn what_can_wait_waits_for_all_starts_but_not_for_long() {
        let mut afterwards = Afterwards::default();
        assert!(!afterwards.waits(Tick(0)));
        afterwards.asked_for(key(1), Tick(0));
        afterwards.asked_for(key(2), Tick(MS));
        afterwards.answered(key(1));
        assert!(afterwards.waits(Tick(2 * MS)));
        let mut answered = Afterwards::default();
        answered.asked_for(key(1), Tick(0));
        answered.answered(key(1));
        assert!(!answered.waits(Tick(1)));
        assert_eq!(answered.deadline(), None);
        // One that hangs is not waited for again and again.
        let late = afterwards.deadline().expect("a time");
        assert!(!afterwards.waits(late));
        assert_eq!(afterwards.deadline(), None);
        assert!(!afterwards.waits(Tick(0)));
    }

    #[test]
    fn nothing_waits_for_a_service_that_has_gone() {
        let mut afterwards = Afterwards::default();
        afterwards.asked_for(key(1), Tick(0));
        afterwards.was_killed(ServiceId(1), true);
        afterwards.forget(ServiceId(1));
        assert!(!afterwards.waits(Tick(0)));
        assert!(afterwards.killed.is_empty());
    }
}
