//! After crashes in a row: which definitions are left unread, and how that is told.

use super::Supervisor;
use super::disk::Trust;
use super::vocab::{Event, ServiceId};
use std::collections::BTreeSet;

/// So many supervisors that crashed within a minute make the next one careful.
const CRASHES: u32 = 3;
/// A definition that a supervisor has lived with for so long before the first of these crashes is
/// none of their causes.
const LIVED_NS: u64 = 2_000_000_000;

/// Applies to what the first scan finds: what comes later, comes to a supervisor that lives.
#[derive(Debug, Default)]
pub struct Caution {
    /// When the crashes began; None when there is no reason to be careful.
    calm_until_ns: Option<u64>,
    begun: bool,
    /// Services to be adopted with care.
    pub about: BTreeSet<ServiceId>,
}

impl Caution {
    pub fn after(crashes: u32, calm_until_ns: u64) -> Caution {
        Caution {
            calm_until_ns: (crashes >= CRASHES).then_some(calm_until_ns),
            ..Caution::default()
        }
    }

    /// True for the first scan, when there is a reason.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true) && self.calm_until_ns.is_some()
    }

    /// `definition`: fingerprint, and since when it has been in force.
    pub fn trust(&mut self, id: ServiceId, definition: Option<(u64, u64)>) -> Trust {
        let (true, Some(calm_until_ns)) = (self.about.remove(&id), self.calm_until_ns) else {
            return Trust::Full;
        };
        match definition {
            Some((print, since)) if since.saturating_add(LIVED_NS) <= calm_until_ns => {
                Trust::Only(print)
            }
            Some(_) | None => Trust::None,
        }
    }
}

impl Supervisor {
    /// With which definition, for a successor; before anything follows from it.
    pub fn lives_with(&mut self, id: ServiceId, print: u64) {
        let now = self.now();
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.quarantined = false;
        if place.definition.is_none_or(|(before, _)| before != print) {
            place.definition = Some((print, now.0));
            self.entrust(id);
        }
    }

    pub fn quarantined(&mut self, id: ServiceId) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.quarantined = true;
        let reason = format!(
            "quarantined: the supervisor crashed {CRASHES} times within a minute, and this \
             definition was new or changed then; what runs goes on; change it, or run: \
             outlast reload"
        );
        self.queue.push_back((id, Event::Invalid(reason)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ServiceId = ServiceId(1);

    fn trust(crashes: u32, definition: Option<(u64, u64)>) -> Trust {
        let mut caution = Caution::after(crashes, 2 * LIVED_NS);
        if caution.begins() {
            caution.about.insert(ID);
        }
        assert!(!caution.begins(), "once only");
        caution.trust(ID, definition)
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
        let mut caution = Caution::after(9, 0);
        assert!(caution.begins());
        assert_eq!(caution.trust(ID, None), Trust::Full);
    }
}
