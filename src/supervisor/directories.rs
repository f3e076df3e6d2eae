//! News of the disk thread: what is in the service directories, turned into events.

use super::disk::{Aside, Job, News, Opened};
use super::hear::key;
use super::manner::Manner;
use super::names::Holder;
use super::place::{Hindrance, Place};
use super::vocab::{Event, Failure, Role, ServiceId};
use super::watched::Woken;
use super::{ADOPTIONS_MAX, Once, Supervisor, WAITING_MAX, disk};
use crate::ipc::wire::{SLOT_LOCK, ToKeeper};
use crate::launch::report::Words;
use crate::machine::spec::Spec;
use crate::os::{kill_point, wording};
use crate::svdir::load::{Definition, Findings};
use crate::svdir::scan::Scan;
use crate::svdir::supervise::OpenError;
use nix::errno::Errno;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::Arc;

impl Supervisor {
    pub fn news(&mut self, news: News) {
        match news {
            News::Opened { id, .. }
            | News::Unreadable { id, .. }
            | News::Loaded { id, .. }
            | News::Quarantined { id, .. }
                if self.is_exchanged(id) =>
            {
                self.is_read(id);
            }
            News::Scanned(Ok(scan)) => self.scanned(&scan),
            News::Scanned(Err(error)) => {
                let dir = self.settings.dir.display();
                tracing::warn!("cannot read {dir}: {error}; services go on as they are");
            }
            News::Opened { id, opened, aside } => self.opened(id, opened, aside),
            News::Vanished { id } => self.is_read(id),
            News::Forgotten { id } => self.forgotten(id),
            News::Unreadable { id, error } => {
                self.is_read(id);
                if self.settings.manner.is_runit() {
                    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                    let cause = wording::cause(errno);
                    self.complain(
                        id,
                        &format!("fatal: unable to change to directory: {cause}"),
                    );
                }
                let reason = format!("cannot open its directory: {error}");
                self.is_hindered(id, Hindrance::Closed, reason);
            }
            News::Loaded { id, loaded, print } => {
                self.lives_with(id, print);
                self.loaded(id, *loaded);
                self.settle();
                // With what people see of it.
                self.entrust(id);
            }
            News::Stirred { id } => self.queue.push_back((id, Event::Stirred)),
            News::Quarantined { id, print } => self.quarantined(id, print),
            News::Tried => self.caution.have_read(self.now()),
            News::Explained {
                id,
                pid,
                failure,
                words,
            } => self.explained(id, pid, failure, words),
            News::Examined(found) => self.examined(found),
            News::Settled { ticket } => self.settled(ticket),
            News::Shown { ticket } => self.shown(ticket),
            News::Writable { id } => {
                if let Some(place) = self.places.get_mut(&id) {
                    tracing::info!(
                        service = &*place.name,
                        "its supervise directory is written again"
                    );
                    place.supervise_trouble = None;
                }
            }
            News::Unwritable { id, error } => {
                if self.settings.manner.is_runit() {
                    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                    let cause = wording::cause(errno);
                    self.complain(id, &format!("warning: unable to write supervise: {cause}"));
                }
                if let Some(place) = self.places.get_mut(&id) {
                    let text = format!("cannot write its supervise directory: {error}");
                    tracing::warn!(service = &*place.name, "{text}; sv shows an old state");
                    place.supervise_trouble = Some(text.into());
                }
            }
        }
        self.settle();
    }

    fn scanned(&mut self, scan: &Scan) {
        if !matches!(self.stage, super::Stage::Serving) {
            return;
        }
        if self.runit.is_leaving() {
            return self.take_up_known(scan);
        }
        for (name, why) in &scan.odd {
            if self.desk.odd.insert(name.clone()) {
                tracing::warn!(service = name.as_str(), "left out: {why}");
            }
        }
        for id in self.sort_out(scan) {
            self.event(id, Event::Removed);
        }
        let mut holders = self.holders(scan);
        let wary = self.caution.begins();
        for found in &scan.found {
            let known = self.fleet.by_name(&found.name);
            let held_back = self.names.is_let_go(&found.name) || self.runit.rests(&found.name);
            if known.is_none() && held_back {
                continue;
            }
            let new = known.is_none();
            let inode = (found.dev, found.ino);
            if new {
                match holders.get(&inode) {
                    Some(Holder::Name(of)) => {
                        self.is_twin(&found.name, of);
                        continue;
                    }
                    // The directory is looked for again when that one has gone.
                    Some(Holder::Leaving) => continue,
                    None => drop(holders.insert(inode, Holder::Name(found.name.clone()))),
                }
            }
            let id = known.unwrap_or_else(|| self.add(&found.name, None));
            let Some(place) = self.places.get_mut(&id) else {
                continue;
            };
            if place.exchanged {
                continue;
            }
            place.link = found.link;
            let inode = Some(inode);
            if *place.title != *found.title {
                place.title = found.title.as_str().into();
            }
            let adopted = place.inode.is_some();
            // It was on its way out, or another directory stands under its name.
            let changed = place.removed || place.inode != inode;
            place.inode = inode;
            if new || !adopted {
                if wary {
                    self.caution.about.insert(id);
                }
                self.to_adopt.push_back(id);
                kill_point("scan-half-done");
            } else if changed {
                self.disk.give(Job::Read {
                    name: found.name.clone(),
                });
            }
        }
    }

    /// runsvdir is no more, so nothing new is begun. What a predecessor of ours had goes on, and sv is
    /// to reach it.
    fn take_up_known(&mut self, scan: &Scan) {
        for found in &scan.found {
            let Some(id) = self.fleet.by_name(&found.name) else {
                continue;
            };
            if let Some(place) = self.places.get_mut(&id).filter(|it| it.inode.is_none()) {
                place.link = found.link;
                place.inode = Some((found.dev, found.ino));
                place.title = found.title.as_str().into();
                self.to_adopt.push_back(id);
            }
        }
    }

    /// Has directories opened, a few at a time.
    pub fn adopt_some(&mut self) {
        while self.adopting.len() < ADOPTIONS_MAX && self.keeper.waiting() < WAITING_MAX {
            let Some(id) = self.to_adopt.pop_front() else {
                return;
            };
            match self.has_room(id) {
                Some(true) => {}
                Some(false) => {
                    self.is_short(id);
                    continue;
                }
                None => return self.to_adopt.push_front(id),
            }
            // It may have gone before its turn came.
            if let Some(place) = self.places.get(&id) {
                self.adopting.insert(id);
                let trust = self.caution.trust(id, place.definition, place.suspicion);
                self.disk.give(Job::Adopt {
                    id,
                    name: place.name.to_string(),
                    held: place.locked || matches!(self.settings.manner, Manner::Runsv { .. }),
                    booked: place.restored,
                    trust,
                });
            }
        }
    }

    pub fn add(&mut self, name: &str, main: Option<ServiceId>) -> ServiceId {
        let id = self.fleet.add(self.now(), name, main);
        let dir = self.settings.dir.join(name);
        let place = Box::new(Place::new(name, main, &dir));
        self.places.insert(id, place);
        self.runit.has_one();
        self.entrust(id);
        id
    }

    /// Its directory has been looked at, whatever came of it.
    fn is_read(&mut self, id: ServiceId) {
        self.adopting.remove(&id);
        if let Some(place) = self.places.get_mut(&id) {
            place.reread = false;
        }
    }

    /// All that is still to be read is what the keeper's book has told of, and there was nothing
    /// wrong with it: what is wrong, the book does not say.
    pub fn only_rereads(&self) -> bool {
        let mut open = self.to_adopt.iter().chain(&self.adopting);
        open.all(|id| {
            let place = self.places.get(id);
            place.is_none_or(|it| it.reread && !it.broken && it.suspicion.is_none())
        })
    }

    fn opened(
        &mut self,
        id: ServiceId,
        opened: Result<Opened, OpenError>,
        aside: Option<Box<Aside>>,
    ) {
        self.is_read(id);
        let now = self.now();
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        match opened {
            Ok(opened) => {
                self.opened_at = Some(now);
                place.directory = Some(opened.directory);
                place.dir = opened.dir;
                let control = opened.fifos.control;
                if let Err(error) = self.watched.add(&control, Woken::Fifo(id)) {
                    tracing::warn!(
                        service = &*place.name,
                        "cannot watch supervise/control: {error}"
                    );
                }
                place.control = Some(control);
                place.ok = Some(opened.fifos.ok);
                place.aside = false;
                if place.supervise_trouble.take().is_some() {
                    tracing::info!(service = &*place.name, "sv can see it now");
                }
                if let Some(lock) = opened.lock {
                    place.locked = true;
                    let store = ToKeeper::Store {
                        id: id.0,
                        slot: SLOT_LOCK,
                    };
                    let _ = self.keeper.send(&store, &[lock.as_fd()]);
                    kill_point("lock-stored");
                }
                match opened.left {
                    Some(left) => self.take_over(id, left),
                    None => place.restored = true,
                }
                self.take_pipe(id, opened.pipe);
                self.mark(id);
            }
            Err(error) if self.settings.manner.is_runit() => {
                let words = error.as_runsv(place.main.is_some());
                self.complain(id, &format!("fatal: {words}"));
                self.queue.push_back((id, Event::Invalid(words)));
                return;
            }
            Err(error @ OpenError::Locked(_)) => {
                let reason = error.to_string();
                return self.is_hindered(id, Hindrance::Held, reason);
            }
            Err(error @ (OpenError::NotAFifo(_) | OpenError::Io { .. })) => {
                // It runs all the same; only sv can't reach it.
                let text = error.to_string();
                let (new, about) = match is_forbidden(&error) {
                    true => (self.once.insert(Once::Unseen), "; so it may be with others"),
                    // It is tried again from time to time.
                    false => (place.supervise_trouble.as_deref() != Some(&text), ""),
                };
                if new {
                    tracing::warn!(
                        service = &*place.name,
                        "{text}; it runs, but sv can't see it{about}"
                    );
                }
                place.supervise_trouble = (!is_forbidden(&error)).then(|| text.into());
                place.directory = disk::open_directory(&place.dir).ok().map(Arc::new);
                self.goes_aside(id, aside);
            }
        }
        let place = self.places.get_mut(&id);
        if let Some(spec) = place.and_then(|place| place.waiting.take()) {
            self.queue.push_back((id, Event::Defined(spec)));
        }
    }

    /// It can't be used, and its definition is not to blame.
    pub fn is_hindered(&mut self, id: ServiceId, by: Hindrance, reason: String) {
        if let Some(place) = self.places.get_mut(&id) {
            place.hindrance = Some(by);
        }
        self.desk.findings.remove(&id);
        self.queue.push_back((id, Event::Invalid(reason)));
    }

    /// It has no `supervise/`; what a supervisor under another keeper has left of it stands elsewhere.
    fn goes_aside(&mut self, id: ServiceId, aside: Option<Box<Aside>>) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        (place.aside, place.ok, place.control) = (true, None, None);
        let aside = aside.unwrap_or_default();
        match aside.left {
            Some(left) => self.take_over(id, left),
            None => place.restored = true,
        }
        self.take_pipe(id, aside.pipe);
        self.mark(id);
    }

    fn loaded(&mut self, id: ServiceId, loaded: Result<Definition, Findings>) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.hindrance = None;
        let mut definition = match loaded {
            Ok(definition) => definition,
            Err(findings) => {
                self.desk.findings.insert(id, findings.text.clone());
                self.queue
                    .push_back((id, Event::Invalid(findings.headline)));
                return;
            }
        };
        self.desk.findings.remove(&id);
        // Only now it is back for the machine too; until then its end is still that of the old one.
        place.removed = false;
        for warning in &definition.warnings {
            if !place.warnings.contains(warning) {
                tracing::warn!(service = &*place.name, "{warning}");
            }
        }
        place.warnings = definition.warnings;
        // runsv reads the output until it ends, though its log/ may have gone.
        let kept = self.settings.manner.is_runit() && self.fleet.log_of(id).is_some();
        definition.spec.has_log_service |= kept;
        self.prepare_output(id, &definition.spec);
        self.queue
            .push_back((id, Event::Defined(Box::new(definition.spec))));
        self.queue.push_back((id, Event::Touched));
        if definition.log.is_some() || !kept {
            self.log_service(id, definition.log);
        }
        self.mark(id);
    }

    /// `log/` has come, changed or gone.
    fn log_service(&mut self, main: ServiceId, spec: Option<Spec>) {
        let existing = self.fleet.log_of(main);
        match (existing, spec) {
            (None, None) => {}
            (Some(id), None) => self.queue.push_back((id, Event::Removed)),
            (existing, Some(spec)) => {
                let Some(place) = self.places.get(&main) else {
                    return;
                };
                let name = place.name.clone();
                let id = existing.unwrap_or_else(|| self.add(&format!("{name}/log"), Some(main)));
                let Some(place) = self.places.get_mut(&id) else {
                    return;
                };
                if place.directory.is_none() {
                    // Its directory is opened first.
                    let held_for_us = Manner::Runsv { log_held: true };
                    let held = place.locked || self.settings.manner == held_for_us;
                    let booked = place.restored;
                    if place.waiting.replace(Box::new(spec)).is_some() {
                        return;
                    }
                    self.disk.give(Job::AdoptLog {
                        id,
                        main: name.to_string(),
                        held,
                        booked,
                    });
                    return;
                }
                self.queue.push_back((id, Event::Defined(Box::new(spec))));
                self.queue.push_back((id, Event::Touched));
            }
        }
    }

    fn explained(&mut self, id: ServiceId, pid: i32, mut failure: Failure, found: Words) {
        failure.class = found.class;
        if let Some(place) = self.places.get_mut(&id) {
            place.words = Some(Box::new(found));
        }
        let role = Role::Run;
        let event = Event::SpawnFailed { role, failure };
        self.final_event(id, event, key(id, role), pid);
    }
}

/// The file system or its permissions do not want a `supervise/` there: nothing is amiss, as in a
/// container whose image is read-only.
fn is_forbidden(error: &OpenError) -> bool {
    match error {
        OpenError::Io { error, .. } => matches!(
            error.kind(),
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
        ),
        OpenError::Locked(_) | OpenError::NotAFifo(_) => false,
    }
}
