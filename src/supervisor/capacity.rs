//! How many services there are descriptors for.
//!
//! Each takes three, here and in the keeper, and a keeper without any left could not even start the next
//! supervisor. So services beyond that are not opened: they are told to be broken for that reason, and
//! are looked at again when another one has gone.

use super::Supervisor;
use super::place::{Hindrance, Place};
use super::vocab::ServiceId;
use crate::os::fds;
use std::collections::BTreeSet;

/// Descriptors of a service in one process: its directory and two FIFOs here, its pidfd, its pipe and
/// its lock in the keeper.
const EACH: usize = 3;
/// For everything else: clients, the scribe, processes that are starting or left over. Of a small limit
/// half.
const OTHERS: usize = 128;
/// ... but never less than what the parts need for themselves.
const OTHERS_LEAST: usize = 32;

pub struct Capacity {
    /// Open files allowed to us, and so to the keeper.
    limit: usize,
    /// Services that are not opened for want of descriptors.
    short: BTreeSet<ServiceId>,
}

impl Capacity {
    pub fn new() -> Capacity {
        Capacity {
            limit: usize::try_from(fds::most()).unwrap_or(usize::MAX),
            short: BTreeSet::new(),
        }
    }

    fn services(&self) -> usize {
        let others = (self.limit / 2).clamp(OTHERS_LEAST, OTHERS);
        self.limit.saturating_sub(others) / EACH
    }

    pub fn forget(&mut self, id: ServiceId) {
        self.short.remove(&id);
    }
}

/// A predecessor has opened it, and the keeper holds descriptors of it already.
fn is_held(place: &Place) -> bool {
    place.locked || place.piped || place.alive.iter().any(Option::is_some)
}

impl Supervisor {
    /// Whether there is room for one more; None while it is not known how much those take that are being
    /// opened, each of which may have a log service.
    pub fn has_room(&self, id: ServiceId) -> Option<bool> {
        let services = self.capacity.services();
        if self.places.len().saturating_add(self.adopting.len()) <= services {
            return Some(true);
        }
        let place = |id: &ServiceId| self.places.get(id).map(Box::as_ref);
        if place(&id).is_some_and(is_held) {
            return Some(true);
        }
        let waiting = self.to_adopt.iter().filter_map(place);
        let waiting = waiting.filter(|place| !is_held(place)).count();
        let unopened = waiting.saturating_add(self.capacity.short.len());
        let held = self.places.len().saturating_sub(unopened);
        if held.saturating_add(self.adopting.len()) <= services {
            return Some(true);
        }
        self.adopting.is_empty().then_some(false)
    }

    pub fn is_short(&mut self, id: ServiceId) {
        self.capacity.short.insert(id);
        let needed = self.places.len().saturating_mul(EACH);
        let needed = needed.saturating_add(OTHERS).next_multiple_of(1024);
        let reason = format!(
            "no open files are left for it: at most {} are allowed, which is enough for {} services and \
             log services; allow outlast {needed} (ulimit -n, a container's --ulimit nofile)",
            self.capacity.limit,
            self.capacity.services()
        );
        self.is_hindered(id, Hindrance::Short, reason);
    }

    /// Something has gone, or somebody asks for another look.
    pub fn make_room(&mut self) {
        let short = std::mem::take(&mut self.capacity.short);
        self.to_adopt.extend(short);
    }
}
