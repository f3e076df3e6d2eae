//! Status files: all that were handed over, by service, and first those that somebody waits for.

use super::hand::Hand;
use super::{News, Record, Write};
use crate::supervisor::vocab::ServiceId;
use crate::svdir::{left, supervise};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

impl Hand {
    pub(super) fn handed_over(&self) -> MutexGuard<'_, BTreeMap<ServiceId, Write>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_all(&mut self) {
        let taken = std::mem::take(&mut *self.handed_over());
        self.in_hand = taken;
        loop {
            // Somebody waits for what goes before the rest.
            while let Ok(job) = self.todo[0].try_recv() {
                self.job(job);
            }
            let Some((id, _)) = self.in_hand.first_key_value() else {
                return;
            };
            self.write_newest(*id);
        }
    }

    /// What is no longer true by the time it could be written is left out.
    fn write_newest(&mut self, id: ServiceId) {
        let older = self.in_hand.remove(&id);
        let newer = self.handed_over().remove(&id);
        if let Some(write) = newer.or(older) {
            self.write(id, write);
        }
    }

    pub(super) fn show(&mut self, ticket: u64, ids: &BTreeSet<ServiceId>) {
        for id in ids {
            self.write_newest(*id);
        }
        self.say(News::Shown { ticket });
    }

    pub(super) fn write(&mut self, id: ServiceId, write: Write) {
        if write.aside {
            // Where that can't be written either, nothing of us can be.
            let _ = self.put_aside(id, &write);
            return;
        }
        let lost = self.bereft && !self.kept.contains_key(&id);
        let lock = lost.then(|| supervise::lock_left(&write.dir));
        if matches!(lock, Some(Err(_))) {
            return;
        }
        // First, so that what a client sees running would be found by a successor.
        let recorded = match &write.record {
            Record::Nobody => {
                left::remove(&write.dir);
                Ok(())
            }
            Record::Living(living) => left::write(&write.dir, living),
        };
        let mut done = recorded.and_then(|()| supervise::write(&write.dir, &write.status));
        if let Some(down) = write.down {
            done = done.and_then(|()| supervise::mirror_down(&write.dir, down));
        }
        match done {
            Ok(()) => {
                self.clear_aside(id, &write.dir);
                if self.failed_writes.remove(&id).is_some() {
                    self.say(News::Writable { id });
                }
            }
            // The scan tells that it has gone.
            Err(_) if !write.dir.exists() => drop(self.failed_writes.remove(&id)),
            Err(error) => {
                if self.failed_writes.insert(id, write).is_none() {
                    self.say(News::Unwritable { id, error });
                }
            }
        }
    }

    /// A disk that was full may have room by now. runsv leaves that to the next change.
    pub(super) fn write_failed_again(&mut self) {
        if self.net.is_some() {
            return;
        }
        let ids: Vec<ServiceId> = self.failed_writes.keys().copied().collect();
        for id in ids {
            let newer = self.handed_over().remove(&id);
            // It stays among them until it is written, so that it is told of once.
            let again = self.failed_writes.get(&id).cloned();
            if let Some(write) = newer.or(again) {
                self.write(id, write);
            }
        }
    }
}
