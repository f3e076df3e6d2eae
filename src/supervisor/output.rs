//! Where output goes: a pipe with the keeper, and the scribe or a log service at its other end.

use super::link::KeeperLink;
use super::pen::Log;
use super::place::Place;
use super::requests::Tail;
use super::vocab::{Role, ServiceId, Signal};
use super::{FETCHES_MAX, Once, Supervisor};
use crate::ipc::scribe::{self, FromScribe, ToScribe};
use crate::ipc::wire::{Key, SCRIBE, SLOT_LOCK, SLOT_PIPE, ToKeeper};
use crate::machine::spec::{Kind, Spec, Stamp};
use crate::os::{fds, kill_point};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a log file before it is rotated, and how many rotated ones stay, unless set otherwise.
const LOG_BYTES: u64 = 1_000_000;
const LOG_KEEP: u32 = 10;

impl Supervisor {
    /// A pipe for its output, and a reader at its end.
    pub fn prepare_output(&mut self, id: ServiceId, spec: &Spec) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        if spec.kind == Kind::Log {
            return;
        }
        let runit = self.settings.manner.is_runit();
        if runit && !spec.has_log_service {
            return;
        }
        let mut fresh = place.fresh_pipe.take();
        if !place.piped {
            match fds::pipe_held() {
                Ok(pipe) => {
                    place.piped = true;
                    place.pipe = nix::sys::stat::fstat(&pipe).ok().map(|it| it.st_ino);
                    store_pipe(&mut self.keeper, id, &pipe);
                    fresh = Some(pipe);
                }
                Err(error) => {
                    let text = format!("no pipe for its output: {error}; it is not logged");
                    tracing::error!(service = &*place.name, "{text}");
                    place.log_trouble = Some(text.into());
                    return;
                }
            }
        }
        if spec.has_log_service {
            if std::mem::take(&mut place.scribed) {
                self.pen.attached.remove(&id.0);
                self.pen.send(&ToScribe::Detach { id: id.0 }, None);
            }
            return;
        }
        let log = log(place, spec, &self.settings.log_root);
        if self.pen.attached.get(&id.0).is_none_or(|it| **it != log) {
            place.scribed = true;
            let attach = log.attach(id.0);
            self.pen.attached.insert(id.0, Box::new(log));
            if self.pen.is_due(self.now()) {
                self.start_scribe();
            }
            match fresh {
                // The scribe knows of the pipe before the first run writes into it.
                Some(pipe) if self.pen.takes_more() => {
                    self.pen.send(&attach, Some(&pipe));
                    kill_point("pipe-handed-on");
                }
                Some(_) | None => self.to_attach.push_back(id),
            }
        }
    }

    /// Asks the keeper for pipes that the scribe has not got, a few at a time.
    pub fn attach_some(&mut self) {
        if self.pen.is_due(self.now()) {
            self.start_scribe();
        }
        if !self.pen.is_connected() {
            return;
        }
        while self.fetching.len() < FETCHES_MAX {
            let Some(id) = self.to_attach.pop_front() else {
                return;
            };
            if self.pen.attached.contains_key(&id.0) && self.fetching.insert(id) {
                self.tell_keeper(&ToKeeper::Fetch {
                    id: id.0,
                    slot: SLOT_PIPE,
                });
            }
        }
    }

    pub fn fetched(&mut self, id: u32, slot: u8, fd: Option<OwnedFd>) {
        if id == SCRIBE {
            self.pen.inherit(slot, fd);
            return self.attach_some();
        }
        if slot == SLOT_LOCK {
            return self.has_parted(ServiceId(id));
        }
        if slot != SLOT_PIPE {
            return;
        }
        self.fetching.remove(&ServiceId(id));
        if let (Some(log), Some(fd)) = (self.pen.attached.get(&id), fd) {
            let attach = log.attach(id);
            self.pen.send(&attach, Some(&fd));
            // A run may have come and gone before there was anybody to read what it wrote.
            // One that is asked for may have written already: the end of a line is not to be put
            // into one of its.
            let ended = self
                .places
                .get(&ServiceId(id))
                .is_some_and(|place| !place.runs() && !place.is_asked_for(Role::Run));
            if ended {
                self.pen.send(&ToScribe::RunEnded { id }, None);
            }
            if self.pen.leaving.contains(&id) {
                self.pen.send(&ToScribe::Detach { id }, None);
            }
        }
        self.attach_some();
    }

    pub fn scribe_says(&mut self, message: FromScribe) {
        match message {
            FromScribe::Tail {
                token,
                lines,
                file,
                unfinished,
            } => self.tail_came(
                token,
                Tail {
                    lines,
                    file,
                    unfinished,
                },
            ),
            FromScribe::Trouble {
                id,
                message,
                echoed,
                had_file,
            } => {
                let Some(place) = self.places.get_mut(&ServiceId(id)) else {
                    return;
                };
                // Where nothing can be written at all, that is no news of each service.
                let common = echoed && !had_file;
                if !common {
                    tracing::warn!(service = &*place.name, "log: {message}");
                } else if self.once.insert(Once::Echoed) {
                    tracing::warn!(
                        service = &*place.name,
                        "log: {message}; so it may be with others"
                    );
                }
                place.log_trouble = (!common).then(|| message.clone().into());
                place.log_echoed = common.then(|| message.into());
            }
            FromScribe::Detached { id } => {
                if self.pen.leaving.remove(&id) {
                    self.pen.attached.remove(&id);
                    // Else that follows when its directory is let go of.
                    if !self.desk.parting.contains_key(&ServiceId(id)) {
                        self.forget_page(id);
                    }
                }
            }
            FromScribe::Here => self.pen.answered(self.now()),
            FromScribe::Ended { id } => self.output_has_ended(ServiceId(id)),
            FromScribe::Mended { id } => {
                if let Some(place) = self.places.get_mut(&ServiceId(id)) {
                    tracing::info!(service = &*place.name, "log: no trouble any more");
                    place.log_trouble = None;
                    place.log_echoed = None;
                }
            }
        }
    }

    /// Whether the last of a service's output is still to be written: then its pipe has to stay with
    /// the keeper, since the scribe may be killed.
    pub fn writes_out(&mut self, id: u32) {
        if self.pen.attached.contains_key(&id) {
            self.pen.leaving.insert(id);
            self.pen.send(&ToScribe::Detach { id }, None);
        }
    }

    /// Nothing is known of that service any more, nor is any output of it left.
    pub fn forget_page(&mut self, id: u32) {
        let slot = SLOT_PIPE;
        self.tell_keeper(&ToKeeper::Drop { id, slot });
        self.tell_keeper(&ToKeeper::Forget { id });
        kill_point("service-forgotten");
    }

    /// Replaces a scribe that does not read what it is told, or that somebody has stopped.
    pub fn judge_scribe(&mut self) {
        // Without a keeper there is no other one to be had.
        if !self.pen.barred && self.pen.judge(self.now()) {
            tracing::error!("the scribe does not answer any more; it is killed and replaced");
            let key = Key {
                id: SCRIBE,
                role: 0,
            };
            let signal = Signal::KILL.0;
            self.tell_keeper(&ToKeeper::Signal { key, signal });
        }
    }

    pub fn scribe_gone(&mut self) {
        self.pen.gone(self.now());
        self.fetching.clear();
        self.to_attach = self.pen.attached.keys().map(|id| ServiceId(*id)).collect();
        self.start_all_parked();
    }
}

/// The keeper holds it from now on.
pub fn store_pipe(keeper: &mut KeeperLink, id: ServiceId, pipe: &OwnedFd) {
    let store = ToKeeper::Store {
        id: id.0,
        slot: SLOT_PIPE,
    };
    // A keeper that is gone is noticed where we listen to it.
    let _ = keeper.send(&store, &[pipe.as_fd()]);
    kill_point("pipe-stored");
}

fn log(place: &Place, spec: &Spec, log_root: &Path) -> Log {
    let dir = match &spec.log.dir {
        Some(dir) => place.dir.join(dir),
        None => log_root.join(&*place.name),
    };
    Log {
        name: Arc::clone(&place.name),
        dir: dir.to_string_lossy().into(),
        stamp: match spec.log.stamp {
            Stamp::Iso => scribe::Stamp::Iso,
            Stamp::Human => scribe::Stamp::Human,
            Stamp::Tai64n => scribe::Stamp::Tai64n,
            Stamp::None => scribe::Stamp::None,
        },
        size: spec.log.size.unwrap_or(LOG_BYTES),
        keep: spec.log.keep.unwrap_or(LOG_KEEP),
    }
}
