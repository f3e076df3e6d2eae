//! Services whose directory takes no `supervise/`: what a successor under another keeper needs to know
//! of them stands beside the control socket, since whoever answers there next would start them anew.

use super::hand::Hand;
use super::{Aside, Record, Write};
use crate::supervisor::vocab::ServiceId;
use crate::svdir::left::Spot;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) struct Shelf {
    place: PathBuf,
    /// Of whom there is a record.
    ids: BTreeSet<ServiceId>,
}

impl Shelf {
    /// Beside the socket; nothing is made before there is something to be put on it.
    pub(super) fn at(socket: &Path) -> Shelf {
        let mut place = socket.as_os_str().to_owned();
        place.push(".left");
        Shelf {
            place: place.into(),
            ids: BTreeSet::new(),
        }
    }
}

impl Hand {
    /// What has been left of a service that has no `supervise/`; nothing when the keeper's book tells
    /// of it.
    pub(super) fn aside(&mut self, dir: &Path, log: bool, booked: bool) -> Option<Box<Aside>> {
        if booked {
            return None;
        }
        let place = self.shelf.place.clone();
        let (left, pipe) = self.left(dir, log, Spot::Shelf(&place));
        Some(Box::new(Aside { left, pipe }))
    }

    /// Its `supervise/` could not be had; it may be possible by now.
    pub(super) fn open_again(&mut self, name: &str, log: bool) {
        let main = self.dir(name);
        let dir = match log {
            true => Arc::new(main.join("log")),
            false => main,
        };
        if dir.is_dir() {
            self.reopen(name, &dir, log);
        }
    }

    pub(super) fn put_aside(&mut self, id: ServiceId, write: &Write) -> io::Result<()> {
        match &write.record {
            Record::Nobody => self.clear_aside(id, &write.dir),
            Record::Living(living) => {
                self.shelf.ids.insert(id);
                Spot::Shelf(&self.shelf.place).write(&write.dir, living)?;
            }
        }
        Ok(())
    }

    /// It stands in its `supervise/` now, or nowhere.
    pub(super) fn clear_aside(&mut self, id: ServiceId, dir: &Path) {
        if self.shelf.ids.remove(&id) {
            Spot::Shelf(&self.shelf.place).remove(dir);
        }
    }
}
