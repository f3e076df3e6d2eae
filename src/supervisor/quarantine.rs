//! After crashes in a row: which definitions are left unread, and how they come back.
//!
//! What is left unread is tried again by a supervisor that has been well for a while. That it is tried
//! is with the keeper before it is read, so a supervisor that dies of it tells its successor whom to
//! suspect: of many only half are tried then, and one that was tried alone waits twice as long as
//! before. [`Caution`] decides and knows no clock; what it says is carried out below.

use super::disk::{Job, Trust};
use super::vocab::{Event, ServiceId, Tick};
use super::{Stage, Supervisor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// So many supervisors that crashed within a minute make the next one careful.
const CRASHES: u32 = 3;
/// A definition that a supervisor has lived with for so long before all was calm for the last time is
/// none of the causes.
const LIVED_NS: u64 = 2_000_000_000;
/// A supervisor that has lived for so long tries what it has left unread.
const WELL_NS: u64 = 10_000_000_000;
/// Doublings of that wait, for what a supervisor has died of alone: 43 minutes.
const DOUBLINGS_MAX: u8 = 8;

/// Why a definition is left unread, for a successor too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Suspicion {
    /// Fingerprint of the definition.
    #[serde(rename = "p")]
    pub print: u64,
    /// So many supervisors died when they read it and no other.
    #[serde(rename = "a", default)]
    pub alone: u8,
    /// It is being read now, or has been just now.
    #[serde(rename = "t", default)]
    pub tried: bool,
}

/// What is tried.
#[derive(Debug, Default)]
enum Trial {
    #[default]
    None,
    /// To be read as soon as the keeper knows.
    Marked(Vec<ServiceId>),
    /// Given to be read.
    Given(Vec<ServiceId>),
    /// Read, and lived with until then.
    Read(Vec<ServiceId>, u64),
}

/// What is to be done about what was left unread.
#[derive(PartialEq, Eq, Debug)]
enum Step {
    /// Tell the keeper that these are tried.
    Mark(Vec<ServiceId>),
    Read(Vec<ServiceId>),
    /// Nobody died of these.
    Clear(Vec<ServiceId>),
}

#[derive(Debug)]
pub struct Caution {
    /// When we were started.
    since_ns: u64,
    /// Until when all was calm; None when there is no reason to be careful.
    calm_until_ns: Option<u64>,
    /// Our predecessor has crashed.
    crashed: bool,
    begun: bool,
    /// Services that the first scan found, to be adopted with care. What comes later, comes to a
    /// supervisor that lives.
    pub about: BTreeSet<ServiceId>,
    /// What is left unread, and when it may be tried.
    waiting: BTreeMap<ServiceId, u64>,
    /// So many are tried at once.
    together: usize,
    trial: Trial,
}

impl Default for Caution {
    fn default() -> Caution {
        Caution::after(0, 0, false, Tick(0))
    }
}

impl Caution {
    pub fn after(crashes: u32, calm_until_ns: u64, crashed: bool, now: Tick) -> Caution {
        Caution {
            since_ns: now.0,
            calm_until_ns: (crashes >= CRASHES).then_some(calm_until_ns),
            crashed,
            begun: false,
            about: BTreeSet::new(),
            waiting: BTreeMap::new(),
            together: usize::MAX,
            trial: Trial::None,
        }
    }

    /// True for the first scan, when there is a reason.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true) && self.calm_until_ns.is_some()
    }

    /// `definition`: fingerprint, and since when it has been in force.
    pub fn trust(
        &mut self,
        id: ServiceId,
        definition: Option<(u64, u64)>,
        suspicion: Option<Suspicion>,
    ) -> Trust {
        let wary = self.about.remove(&id);
        let calm_until_ns = self.calm_until_ns.filter(|_| wary);
        match (suspicion, calm_until_ns, definition) {
            (None, None, _) => Trust::Full,
            (Some(suspicion), None, _) => Trust::Quarantined(suspicion.print),
            (None, Some(calm_until_ns), Some((print, since)))
                if since.saturating_add(LIVED_NS) <= calm_until_ns =>
            {
                Trust::Only(print)
            }
            // What was left unread may have become something else that nobody has lived with.
            (_, Some(_), _) => Trust::None,
        }
    }

    /// Our predecessor died while it tried so many: nobody else is to be suspected.
    fn died_of(&mut self, count: usize) {
        self.calm_until_ns = None;
        self.together = (count / 2).max(1);
    }

    fn waits(&mut self, id: ServiceId, suspicion: Suspicion) {
        let wait_ns = WELL_NS << suspicion.alone.min(DOUBLINGS_MAX);
        self.waiting
            .insert(id, self.since_ns.saturating_add(wait_ns));
    }

    fn is_read(&mut self, id: ServiceId) {
        self.waiting.remove(&id);
    }

    /// There is no such service any more.
    pub fn forget(&mut self, id: ServiceId) {
        self.about.remove(&id);
        self.waiting.remove(&id);
        if let Trial::Marked(ids) | Trial::Given(ids) | Trial::Read(ids, _) = &mut self.trial {
            ids.retain(|tried| *tried != id);
        }
    }

    /// All that was given has been read, and whatever it says has been heard.
    pub fn have_read(&mut self, now: Tick) {
        self.trial = match std::mem::take(&mut self.trial) {
            Trial::Given(ids) => Trial::Read(ids, now.0.saturating_add(LIVED_NS)),
            other @ (Trial::None | Trial::Marked(_) | Trial::Read(..)) => other,
        };
    }

    fn due_ns(&self) -> Option<u64> {
        match &self.trial {
            Trial::None => self.waiting.values().min().copied(),
            // The keeper's link wakes us, or the disk thread.
            Trial::Marked(_) | Trial::Given(_) => None,
            Trial::Read(_, until_ns) => Some(*until_ns),
        }
    }

    /// `told`: the keeper has all that it was sent.
    fn step(&mut self, now_ns: u64, told: bool) -> Option<Step> {
        match std::mem::take(&mut self.trial) {
            Trial::None => {
                let due = self.waiting.iter().filter(|(_, at)| **at <= now_ns);
                let ids: Vec<ServiceId> = due.map(|(id, _)| *id).take(self.together).collect();
                if ids.is_empty() {
                    return None;
                }
                self.waiting.retain(|id, _| !ids.contains(id));
                self.trial = Trial::Marked(ids.clone());
                Some(Step::Mark(ids))
            }
            Trial::Marked(ids) if told => {
                self.trial = Trial::Given(ids.clone());
                Some(Step::Read(ids))
            }
            Trial::Read(ids, until_ns) if until_ns <= now_ns => {
                if !ids.is_empty() {
                    self.together = self.together.saturating_mul(2);
                }
                Some(Step::Clear(ids))
            }
            not_yet @ (Trial::Marked(_) | Trial::Given(_) | Trial::Read(..)) => {
                self.trial = not_yet;
                None
            }
        }
    }

    /// We end, and not because of it.
    fn call_off(&mut self) -> Vec<ServiceId> {
        match std::mem::take(&mut self.trial) {
            Trial::None => Vec::new(),
            Trial::Marked(ids) | Trial::Given(ids) | Trial::Read(ids, _) => ids,
        }
    }
}

impl Supervisor {
    /// With which definition, for a successor; before anything follows from it.
    pub fn lives_with(&mut self, id: ServiceId, print: u64) {
        let now = self.now();
        self.caution.is_read(id);
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.quarantined = false;
        let tried = |it: &Suspicion| it.tried && it.print == print;
        let suspicion = place.suspicion.filter(tried);
        let new = place.definition.is_none_or(|(before, _)| before != print);
        if new {
            place.definition = Some((print, now.0));
        }
        #[cfg(debug_assertions)]
        let point = format!("lives-with-{}", place.name);
        if std::mem::replace(&mut place.suspicion, suspicion) != suspicion || new {
            self.entrust(id);
        }
        #[cfg(debug_assertions)]
        crate::os::kill_point(&point);
    }

    /// Left unread as it is now.
    pub fn quarantined(&mut self, id: ServiceId, print: u64) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.quarantined = true;
        // Whoever reads it next has not lived with it before.
        place.definition = None;
        let suspicion = place.suspicion.filter(|it| it.print == print);
        let suspicion = suspicion.unwrap_or(Suspicion {
            print,
            alone: 0,
            tried: false,
        });
        place.suspicion = Some(suspicion);
        self.caution.waits(id, suspicion);
        self.entrust(id);
        let reason = match suspicion.alone {
            0 => format!(
                "quarantined: the supervisor crashed {CRASHES} times within a minute, and this \
                 definition was new or changed then; what runs goes on; it is read again soon, \
                 or by: outlast reload"
            ),
            alone => format!(
                "quarantined: the supervisor crashes when it reads this definition ({alone}x); \
                 what runs goes on; change it, or try again by: outlast reload"
            ),
        };
        self.queue.push_back((id, Event::Invalid(reason)));
    }

    /// After the book: whom our predecessor may have died of, unless somebody has ended it. The keeper knows it before anything is
    /// read.
    pub fn weigh_suspicions(&mut self) {
        let tried: Vec<ServiceId> = self
            .places
            .iter()
            .filter(|(_, place)| place.suspicion.is_some_and(|it| it.tried))
            .map(|(id, _)| *id)
            .collect();
        if tried.is_empty() {
            return;
        }
        let died = self.caution.crashed;
        if died {
            self.caution.died_of(tried.len());
        }
        for id in &tried {
            let Some(place) = self.places.get_mut(id) else {
                continue;
            };
            if let Some(suspicion) = &mut place.suspicion {
                suspicion.tried = false;
                if died && let [_] = tried.as_slice() {
                    suspicion.alone = suspicion.alone.saturating_add(1);
                    tracing::error!(
                        service = &*place.name,
                        "the supervisor crashed when it read this definition; it is left unread"
                    );
                }
            }
            self.entrust(*id);
        }
    }

    pub fn trial_due(&self) -> Option<Tick> {
        self.may_try().then(|| self.caution.due_ns().map(Tick))?
    }

    fn may_try(&self) -> bool {
        let serves = matches!(self.stage, Stage::Serving) && self.bereft.is_none();
        serves && self.booked && self.upgrade.is_none()
    }

    /// Reads what was left unread, if it is time.
    pub fn try_unread(&mut self) {
        while self.may_try()
            && let Some(step) = self.caution.step(self.now().0, self.keeper.waiting() == 0)
        {
            match step {
                Step::Mark(ids) => self.set_tried(&ids, true),
                Step::Clear(ids) => {
                    self.tell_names("in force again", &ids);
                    for id in ids {
                        if let Some(place) = self.places.get_mut(&id) {
                            place.suspicion = None;
                        }
                        self.entrust(id);
                    }
                }
                Step::Read(ids) => {
                    self.tell_names("reading again what was left unread", &ids);
                    let names = self.names(&ids);
                    self.disk.give(Job::Try { names });
                }
            }
        }
    }

    fn tell_names(&self, what: &str, ids: &[ServiceId]) {
        let names = self.names(ids);
        if !names.is_empty() {
            tracing::info!("{what}: {}", names.join(", "));
        }
    }

    fn names(&self, ids: &[ServiceId]) -> Vec<String> {
        let places = ids.iter().filter_map(|id| self.places.get(id));
        places.map(|place| place.name.to_string()).collect()
    }

    /// Before an end that nobody is to be suspected for.
    pub fn call_off_trial(&mut self) {
        let ids = self.caution.call_off();
        self.set_tried(&ids, false);
    }

    fn set_tried(&mut self, ids: &[ServiceId], tried: bool) {
        for id in ids {
            let place = self.places.get_mut(id);
            if let Some(suspicion) = place.and_then(|place| place.suspicion.as_mut()) {
                suspicion.tried = tried;
                self.entrust(*id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hear::tests::successor;
    use super::*;
    use crate::ipc::wire::Standing;

    const ID: ServiceId = ServiceId(1);
    const NEW: Suspicion = Suspicion {
        print: 7,
        alone: 0,
        tried: false,
    };

    const WEB: &str = r#"{"n":"web"}"#;

    fn trust(crashes: u32, definition: Option<(u64, u64)>) -> Trust {
        let mut caution = Caution::after(crashes, 2 * LIVED_NS, true, Tick(0));
        if caution.begins() {
            caution.about.insert(ID);
        }
        assert!(!caution.begins(), "once only");
        caution.trust(ID, definition, None)
    }

    #[test]
    fn after_three_crashes_only_what_was_lived_with_is_trusted() {
        assert_eq!(trust(2, None), Trust::Full);
        assert_eq!(trust(3, None), Trust::None);
        assert_eq!(trust(3, Some((7, LIVED_NS))), Trust::Only(7));
        assert_eq!(trust(3, Some((7, LIVED_NS + 1))), Trust::None);
    }

    #[test]
    fn what_comes_after_the_first_scan_is_trusted() {
        let mut caution = Caution::after(9, 0, true, Tick(0));
        assert!(caution.begins());
        assert_eq!(caution.trust(ID, None, None), Trust::Full);
    }

    #[test]
    fn what_a_predecessor_left_unread_stays_unread_without_further_crashes() {
        let mut caution = Caution::after(0, 0, false, Tick(0));
        let trust = caution.trust(ID, Some((7, 0)), Some(NEW));
        assert_eq!(trust, Trust::Quarantined(7));
    }

    #[test]
    fn what_was_left_unread_stays_so_after_crashes_whatever_it_has_become() {
        let mut caution = Caution::after(3, u64::MAX, true, Tick(0));
        assert!(caution.begins());
        caution.about.insert(ID);
        let mut trust = caution.trust(ID, Some((8, 0)), Some(NEW));
        assert!(trust.shuns(8));
        assert!(!trust.shuns(9), "it changes under a supervisor that lives");
    }

    /// A supervisor that was started just now, and what it leaves unread.
    fn careful(services: &[(u32, u8)]) -> Caution {
        let mut caution = Caution::after(3, 0, true, Tick(0));
        for (id, alone) in services {
            let suspicion = Suspicion {
                alone: *alone,
                ..NEW
            };
            caution.waits(ServiceId(*id), suspicion);
        }
        caution
    }

    fn ids(numbers: &[u32]) -> Vec<ServiceId> {
        numbers.iter().map(|number| ServiceId(*number)).collect()
    }

    #[test]
    fn a_supervisor_that_is_well_reads_what_was_left_once_the_keeper_knows() {
        let mut caution = careful(&[(1, 0), (2, 0)]);
        assert_eq!(caution.due_ns(), Some(WELL_NS));
        assert_eq!(caution.step(WELL_NS - 1, true), None);
        let both = ids(&[1, 2]);
        let now = WELL_NS;
        assert_eq!(caution.step(now, false), Some(Step::Mark(both.clone())));
        assert_eq!(caution.step(now, false), None);
        assert_eq!(caution.due_ns(), None, "the keeper's link wakes");
        assert_eq!(caution.step(now, true), Some(Step::Read(both.clone())));
        // A slow disk.
        assert_eq!(
            (caution.step(u64::MAX, true), caution.due_ns()),
            (None, None)
        );
        let now = now + 9 * LIVED_NS;
        caution.have_read(Tick(now));
        let lived = now + LIVED_NS;
        assert_eq!(caution.due_ns(), Some(lived));
        assert_eq!(caution.step(lived - 1, true), None);
        assert_eq!(caution.step(lived, true), Some(Step::Clear(both)));
        assert_eq!((caution.step(lived, true), caution.due_ns()), (None, None));
    }

    /// Tries at `now` what it may; what it tried.
    fn tries(caution: &mut Caution, now: u64) -> Vec<ServiceId> {
        let Some(Step::Mark(marked)) = caution.step(now, true) else {
            return Vec::new();
        };
        assert_eq!(caution.step(now, true), Some(Step::Read(marked.clone())));
        caution.have_read(Tick(now));
        marked
    }

    #[test]
    fn of_those_that_a_supervisor_died_of_half_are_tried_and_twice_as_many_after_a_success() {
        let all: Vec<(u32, u8)> = (0..9).map(|id| (id, 0)).collect();
        let mut caution = careful(&all);
        caution.died_of(4);
        let mut now = WELL_NS;
        let mut tried = Vec::new();
        for wanted in [2, 4, 3] {
            let ids = tries(&mut caution, now);
            assert_eq!(ids.len(), wanted);
            tried.extend(ids.clone());
            now += LIVED_NS;
            assert_eq!(caution.step(now, true), Some(Step::Clear(ids)));
        }
        assert_eq!(tried, ids(&[0, 1, 2, 3, 4, 5, 6, 7, 8]));
    }

    #[test]
    fn whoever_kills_alone_waits_longer_each_time_and_holds_up_nobody() {
        let mut caution = careful(&[(1, 1), (2, 0), (3, u8::MAX)]);
        caution.died_of(1);
        assert_eq!(tries(&mut caution, WELL_NS), ids(&[2]));
        let lived = WELL_NS + LIVED_NS;
        assert_eq!(caution.step(lived, true), Some(Step::Clear(ids(&[2]))));
        assert_eq!(caution.due_ns(), Some(2 * WELL_NS));
        assert_eq!(tries(&mut caution, 2 * WELL_NS), ids(&[1]));
        caution.call_off();
        assert_eq!(caution.due_ns(), Some(WELL_NS << DOUBLINGS_MAX));
    }

    #[test]
    fn what_is_mended_meanwhile_is_not_tried() {
        let mut caution = careful(&[(1, 0)]);
        caution.is_read(ID);
        assert_eq!(
            (caution.due_ns(), caution.step(u64::MAX, true)),
            (None, None)
        );
    }

    #[test]
    fn what_is_gone_is_not_tried_and_takes_nobodys_place() {
        let mut caution = careful(&[(1, 0), (2, 0), (3, 0)]);
        caution.died_of(2);
        caution.forget(ID);
        assert_eq!(tries(&mut caution, WELL_NS), ids(&[2]));
        caution.forget(ServiceId(2));
        let lived = WELL_NS + LIVED_NS;
        assert_eq!(caution.step(lived, true), Some(Step::Clear(Vec::new())));
        assert_eq!(tries(&mut caution, lived), ids(&[3]));
    }

    /// Whoever reads it next may have been told to by somebody, and dies of it all the same.
    #[tokio::test]
    async fn a_definition_that_was_left_unread_has_not_been_lived_with() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut supervisor, _keeper) = successor(dir.path(), Standing::Alive, WEB);
        let lived = |of: &Supervisor| of.places.get(&ID).and_then(|place| place.definition);
        supervisor.lives_with(ID, 7);
        let before = lived(&supervisor).expect("in force");
        supervisor.quarantined(ID, 7);
        supervisor.lives_with(ID, 7);
        let after = lived(&supervisor).expect("in force");
        assert_eq!(after.0, 7);
        assert!(after.1 > before.1, "{after:?} {before:?}");
    }

    #[tokio::test]
    async fn a_supervisor_that_somebody_ends_has_not_died_of_what_it_tried() {
        for crashed in [false, true] {
            let dir = tempfile::tempdir().expect("dir");
            let (mut supervisor, _keeper) = successor(dir.path(), Standing::Alive, WEB);
            supervisor.caution = Caution::after(1, 0, crashed, Tick(0));
            let suspicion = Suspicion { tried: true, ..NEW };
            let place = supervisor.places.get_mut(&ID).expect("a place");
            place.suspicion = Some(suspicion);
            supervisor.weigh_suspicions();
            let place = supervisor.places.get(&ID).expect("a place");
            let alone = u8::from(crashed);
            assert_eq!(place.suspicion, Some(Suspicion { alone, ..NEW }));
        }
    }

    /// One bad definition among many is found, and all others are read, within a few crashes.
    #[test]
    fn the_one_that_kills_is_found_among_many() {
        const MANY: u32 = 300;
        for bad in [0, 1, 150, 298, 299] {
            let mut suspicions: BTreeMap<u32, u8> = (0..MANY).map(|id| (id, 0)).collect();
            let mut crashes = 0;
            let mut died_of = None;
            while suspicions.values().all(|alone| *alone == 0) {
                let left: Vec<(u32, u8)> = suspicions.iter().map(|(id, n)| (*id, *n)).collect();
                let mut caution = careful(&left);
                if let Some(count) = died_of.take() {
                    caution.died_of(count);
                }
                let mut now = WELL_NS;
                while died_of.is_none() {
                    let tried = tries(&mut caution, now);
                    if tried.contains(&ServiceId(bad)) {
                        died_of = Some(tried.len());
                        crashes += 1;
                        if let [alone] = tried.as_slice() {
                            suspicions.insert(alone.0, 1);
                        }
                        continue;
                    }
                    now += LIVED_NS;
                    assert_eq!(caution.step(now, true), Some(Step::Clear(tried.clone())));
                    for id in tried {
                        suspicions.remove(&id.0);
                    }
                }
            }
            assert_eq!(suspicions.get(&bad), Some(&1));
            assert!(crashes <= 12, "{crashes} crashes for number {bad}");
        }
    }
}
