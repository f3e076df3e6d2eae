//! The scribe as the supervisor sees it: a process of the keeper's, a link, and who is attached.
//!
//! It is started when the first service needs it, and again when it ends; then every pipe is
//! fetched from the keeper and handed over anew, and before them what a scribe leaves to the next
//! one. Nothing here waits for it, but one that does not read what it is told is not kept.

use super::link::Link;
use super::vocab::Tick;
use crate::ipc::scribe::{Attach, DATAGRAM_BYTES_MAX, FromScribe, Stamp, ToScribe};
use crate::os::identity::Identity;
use crate::os::vigil::{Verdict, Vigil};
use crate::os::{clock, fds};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Messages waiting for the scribe above which pipes are left with the keeper for now.
const WAITING_MAX: usize = 128;
/// The first restart is at once; then the delay doubles between these.
const DELAY_FIRST: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// One that lived this long starts the delays anew.
const HEALTHY: Duration = Duration::from_secs(10);

/// What a scribe leaves to the next one: its journal, and the pipe that goes with it. The keeper
/// holds both.
#[derive(Default)]
pub enum Estate {
    /// There is none yet.
    #[default]
    None,
    /// The keeper has it.
    Kept,
    /// ... and was asked for it; what has come so far.
    Coming([Option<OwnedFd>; 2]),
    Here([OwnedFd; 2]),
    /// It can't be had: the scribe works without.
    Never,
}

/// What the scribe is told of a log, in little.
#[derive(PartialEq)]
pub struct Log {
    pub name: Arc<str>,
    /// Absolute.
    pub dir: Box<str>,
    pub stamp: Stamp,
    pub size: u64,
    pub keep: u32,
}

impl Log {
    pub fn attach(&self, id: u32) -> ToScribe {
        ToScribe::Attach(Attach {
            id,
            name: self.name.to_string(),
            dir: self.dir.to_string(),
            stamp: self.stamp,
            size: self.size,
            keep: self.keep,
        })
    }
}

#[derive(Default)]
pub struct Pen {
    link: Option<Link>,
    pub pid: Option<i32>,
    /// Which process that number means.
    pub identity: Option<Identity>,
    /// A killed keeper's scribe that still writes; ours waits for its end.
    pub elder: Option<OwnedFd>,
    /// There is no keeper that could start one.
    pub barred: bool,
    /// Asked for and not there yet.
    pub starting: bool,
    /// What each attached service's log is to be; sent again to a new scribe.
    pub attached: BTreeMap<u32, Box<Log>>,
    /// Of them, services that are gone: their logs are to be written to the end.
    pub leaving: BTreeSet<u32>,
    started: Tick,
    due: Option<Tick>,
    delay: Duration,
    pub estate: Estate,
    vigil: Vigil,
    /// To be sent when the keeper has been asked for what this turn asks for.
    held_back: Vec<ToScribe>,
    /// Somebody has stopped it.
    stopped: bool,
}

impl Pen {
    /// A fresh link; the returned end is the scribe's.
    pub fn connect(&mut self, now: Tick) -> io::Result<OwnedFd> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        self.link = Some(Link::new(ours, DATAGRAM_BYTES_MAX)?);
        self.held_back.clear();
        self.starting = true;
        self.started = now;
        self.due = None;
        if let Estate::Here([journal, transit]) = &self.estate {
            let both = [journal.as_fd(), transit.as_fd()].map(|fd| fd.try_clone_to_owned());
            if let [Ok(journal), Ok(transit)] = both {
                self.send_with(&ToScribe::Journal, &[&journal, &transit]);
            }
        }
        self.send(&ToScribe::StillThere, None);
        self.vigil.started(now.0);
        Ok(theirs)
    }

    /// Its process is known, or has gone.
    pub fn took(&mut self, pid: Option<i32>) {
        self.pid = pid;
        self.identity = pid.and_then(Identity::of);
    }

    /// Makes the estate of the first scribe.
    pub fn found(&mut self) -> nix::Result<[OwnedFd; 2]> {
        let journal = memfd_create(c"outlast-journal", MFdFlags::MFD_CLOEXEC)?;
        Ok([journal, fds::pipe_held()?])
    }

    /// Our predecessor's: it writes out what it has and ends. One that does not is not waited for
    /// long, since what it has is in its estate, unless it has none.
    pub fn predecessor(&mut self, pid: Option<i32>, has_estate: bool, now: Tick) {
        self.took(pid);
        if has_estate {
            self.estate = Estate::Kept;
        }
        match (pid, has_estate) {
            (Some(_), true) => self.vigil.leaving(now.0),
            (Some(_), false) => self.vigil.started(now.0),
            (None, _) => {}
        }
    }

    /// One of the things that the keeper was asked for.
    pub fn inherit(&mut self, slot: u8, fd: Option<OwnedFd>) {
        let Estate::Coming(parts) = &mut self.estate else {
            return;
        };
        let (Some(part), Some(fd)) = (parts.get_mut(usize::from(slot)), fd) else {
            // Lost, or never stored: begun anew.
            self.estate = Estate::None;
            return;
        };
        *part = Some(fd);
        if let [Some(_), Some(_)] = parts
            && let Estate::Coming([Some(journal), Some(transit)]) =
                std::mem::replace(&mut self.estate, Estate::Never)
        {
            self.estate = Estate::Here([journal, transit]);
        }
    }

    pub fn is_needed(&self) -> bool {
        !self.attached.is_empty()
    }

    /// Pipes can be handed over right away: there is a link, and not too many of our descriptors
    /// wait in front of it.
    pub fn takes_more(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.waiting() < WAITING_MAX)
    }

    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Whether one is to be started now.
    pub fn is_due(&self, now: Tick) -> bool {
        let none = self.link.is_none() && self.pid.is_none() && !self.starting;
        let none = none && self.elder.is_none() && !self.barred;
        none && self.is_needed() && self.due.is_none_or(|due| due <= now)
    }

    /// When one is to be started, if that is later, or the one that is there looked at.
    pub fn deadline(&self) -> Option<Tick> {
        let start = self
            .due
            .filter(|_| self.pid.is_none() && !self.starting && self.is_needed())
            .filter(|_| self.elder.is_none() && !self.barred);
        let look = self.vigil.due_ns().map(Tick);
        [start, look].into_iter().flatten().min()
    }

    /// It has said that it is there.
    pub fn answered(&mut self, now: Tick) {
        self.stopped = false;
        let waits = self.waits();
        self.vigil.answered(now.0, waits);
    }

    pub fn is_stopped(&mut self, now: Tick) {
        self.stopped = true;
        self.vigil.stopped(now.0);
    }

    /// Asks it, if there is reason to; whether it is to be replaced.
    pub fn judge(&mut self, now: Tick) -> bool {
        let waits = self.waits();
        match self.vigil.judge(now.0, || waits) {
            Verdict::Fine => false,
            Verdict::Ask => {
                self.send(&ToScribe::StillThere, None);
                false
            }
            Verdict::Replace => self.pid.is_some(),
        }
    }

    /// Something waits for it.
    fn waits(&self) -> bool {
        let unread = |link: &Link| link.waiting() > 0 || link.is_unread();
        self.stopped || self.link.as_ref().is_some_and(unread)
    }

    /// The next one is not waited for.
    pub fn hurry(&mut self) {
        self.due = None;
    }

    /// Its process has ended, or could not be started. The next one starts at once if this one
    /// lived for a while.
    pub fn gone(&mut self, now: Tick) {
        self.link = None;
        self.took(None);
        self.starting = false;
        self.stopped = false;
        self.vigil.ended();
        if now.since(self.started) >= HEALTHY {
            self.delay = Duration::ZERO;
        }
        self.due = Some(now.after(self.delay));
        self.delay = (self.delay * 2).clamp(DELAY_FIRST, DELAY_MAX);
    }

    /// As `send`, but not before the end of this turn, unless something else is sent: it would run
    /// while keeper and child need the processors.
    pub fn send_soon(&mut self, message: ToScribe) {
        self.held_back.push(message);
    }

    pub fn send_held_back(&mut self) {
        for message in std::mem::take(&mut self.held_back) {
            self.send_with(&message, &[]);
        }
    }

    /// Without a scribe nothing is sent: a new one learns all that counts from `attached`.
    pub fn send(&mut self, message: &ToScribe, pipe: Option<&OwnedFd>) {
        self.send_held_back();
        match pipe {
            Some(pipe) => self.send_with(message, &[pipe]),
            None => self.send_with(message, &[]),
        }
    }

    fn send_with(&mut self, message: &ToScribe, attached: &[&OwnedFd]) {
        self.vigil.stir(clock::monotonic_ns());
        let Some(link) = &mut self.link else {
            return;
        };
        let Ok(bytes) = serde_json::to_vec(message) else {
            return;
        };
        let attached: Vec<_> = attached.iter().map(AsFd::as_fd).collect();
        if link.send(bytes, &attached).is_err() {
            // Its end will be reported; until then it is not spoken to.
            self.link = None;
        }
    }

    pub async fn ready(&self) {
        match &self.link {
            Some(link) => link.ready().await,
            None => std::future::pending().await,
        }
    }

    pub fn receive(&mut self) -> Vec<FromScribe> {
        let mut messages = Vec::new();
        let Some(link) = &mut self.link else {
            return messages;
        };
        let mut broken = link.flush().is_err();
        while !broken {
            match link.receive() {
                Ok(Some((bytes, _))) => messages.extend(serde_json::from_slice(bytes).ok()),
                Ok(None) => return messages,
                Err(_) => broken = true,
            }
        }
        self.link = None;
        messages
    }
}
