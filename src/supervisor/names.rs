//! Names in the scan directory: two that mean one directory, one that means another directory than
//! before, and one that was told to leave.

use super::Supervisor;
use super::vocab::{ServiceId, Tick};
use crate::svdir::scan::Scan;
use std::collections::BTreeMap;
use std::time::Duration;

/// A service that sv has told to exit is taken up again after this, as by runsvdir, which looks every
/// five seconds. Not at once: sv waits for the moment in which nobody looks after it.
const EXITED_FOR: Duration = Duration::from_secs(3);

/// Device and inode.
pub type Inode = (u64, u64);

/// Whose a directory is.
pub enum Holder {
    /// It is supervised under this name.
    Name(String),
    /// A service that is on its way out still has its lock.
    Leaving,
}

/// What is known of names beside the services themselves.
#[derive(Default)]
pub struct Names {
    /// Services that were told to leave and whose directory is still there, and when they are taken
    /// up again.
    let_go: BTreeMap<String, Tick>,
    /// Entries whose directory is supervised under the other name.
    twins: BTreeMap<String, String>,
    /// Directories of services whose lock the keeper has still to let go of.
    parting: BTreeMap<ServiceId, Inode>,
}

impl Names {
    pub fn let_go(&mut self, name: &str, now: Tick) {
        self.let_go.insert(name.to_owned(), now.after(EXITED_FOR));
    }

    pub fn parts(&mut self, id: ServiceId, inode: Option<Inode>) {
        self.parting.extend(inode.map(|inode| (id, inode)));
    }

    /// Every name is as good as any other again.
    pub fn clear(&mut self) {
        self.let_go.clear();
    }

    pub fn is_let_go(&self, name: &str) -> bool {
        self.let_go.contains_key(name)
    }

    pub fn twin_of(&self, name: &str) -> Option<&str> {
        self.twins.get(name).map(String::as_str)
    }
}

impl Supervisor {
    /// Nothing of that service is left, its lock included: another directory may have come in its place,
    /// or its own under another name.
    pub fn has_parted(&mut self, id: ServiceId) {
        self.names.parting.remove(&id);
        self.make_room();
        if matches!(self.stage, super::Stage::Serving) {
            self.disk.give(super::Job::Scan);
        }
    }

    pub fn names_due(&self) -> Option<Tick> {
        self.names.let_go.values().min().copied()
    }

    /// Takes up again what was told to leave long enough ago.
    pub fn take_up_again(&mut self) {
        let now = self.now();
        let before = self.names.let_go.len();
        let ours = &mut self.names.let_go;
        ours.retain(|_, due| *due > now);
        if ours.len() < before {
            self.disk.give(super::Job::Scan);
        }
    }

    /// Names that a scan has not found any more mean nothing; a link that leads to another directory
    /// than before means another service from now on, as under runsvdir. A directory that was
    /// put in the place of another does not: so packages are reinstalled.
    pub fn sort_out(&mut self, scan: &Scan) -> Vec<ServiceId> {
        let found: BTreeMap<&str, _> = scan.found.iter().map(|it| (it.name.as_str(), it)).collect();
        self.names.twins.clear();
        // What comes back under such a name later is another one.
        let still = |name: &String| found.contains_key(name.as_str());
        self.names.let_go.retain(|name, _| still(name));
        let mut gone = Vec::new();
        for (id, place) in &mut self.places {
            if place.main.is_some() {
                continue;
            }
            let Some(found) = found.get(&*place.name) else {
                place.removed = true;
                gone.push(*id);
                continue;
            };
            let moved = place.inode.is_some_and(|it| it != (found.dev, found.ino));
            if moved && place.link.is_some_and(|link| found.link != Some(link)) {
                place.removed = true;
                place.exchanged = true;
                gone.push(*id);
            } else if !place.exchanged {
                place.link = found.link;
            }
        }
        gone
    }

    /// Who has which directory, as far as names that were known before the scan tell.
    pub fn holders(&self, scan: &Scan) -> BTreeMap<Inode, Holder> {
        let leaving = self.places.values().filter(|place| place.removed);
        let leaving = leaving.filter_map(|place| place.inode);
        let parting = self.names.parting.values().copied();
        let mut holders: BTreeMap<Inode, Holder> = leaving
            .chain(parting)
            .map(|inode| (inode, Holder::Leaving))
            .collect();
        for found in &scan.found {
            let place = self.fleet.by_name(&found.name);
            let place = place.and_then(|id| self.places.get(&id));
            if place.is_some_and(|place| !place.removed) {
                let name = Holder::Name(found.name.clone());
                holders.insert((found.dev, found.ino), name);
            }
        }
        holders
    }

    /// A new name for a directory that has one. With two links to one directory that is so with
    /// every scan, and it is said once.
    pub fn is_twin(&mut self, name: &str, of: &str) {
        if self.desk.odd.insert(name.to_owned()) {
            tracing::warn!(
                service = name,
                "left out: it is the same directory as {of}, which is supervised under that name"
            );
        }
        self.names.twins.insert(name.to_owned(), of.to_owned());
    }

    /// Another directory has come in place of that service's, or of that of the service whose log it
    /// is, so news of what stands there are not about it.
    pub fn is_exchanged(&self, id: ServiceId) -> bool {
        let main = self.fleet.main_of(id).unwrap_or(id);
        self.places.get(&main).is_some_and(|place| place.exchanged)
    }
}
