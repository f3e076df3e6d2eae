//! The scribe as the supervisor sees it: a process of the keeper's, a link, and who is attached.
//!
//! It is started when the first service needs it, and again when it ends; then every pipe is
//! fetched from the keeper and handed over anew. Nothing here waits for it.

use super::link::Link;
use super::vocab::Tick;
use crate::ipc::scribe::{Attach, DATAGRAM_BYTES_MAX, FromScribe, ToScribe};
use crate::os::identity::Identity;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Messages waiting for the scribe above which pipes are left with the keeper for now.
const WAITING_MAX: usize = 128;
/// The first restart is at once; then the delay doubles between these.
const DELAY_FIRST: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// One that lived this long starts the delays anew.
const HEALTHY: Duration = Duration::from_secs(10);

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
    pub attached: BTreeMap<u32, Attach>,
    started: Tick,
    due: Option<Tick>,
    delay: Duration,
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
        self.starting = true;
        self.started = now;
        self.due = None;
        Ok(theirs)
    }

    /// Its process is known, or has gone.
    pub fn took(&mut self, pid: Option<i32>) {
        self.pid = pid;
        self.identity = pid.and_then(Identity::of);
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

    /// When one is to be started, if that is later.
    pub fn deadline(&self) -> Option<Tick> {
        self.due
            .filter(|_| self.pid.is_none() && !self.starting && self.is_needed())
            .filter(|_| self.elder.is_none() && !self.barred)
    }

    /// Its process has ended, or could not be started. The next one starts at once if this one
    /// lived for a while.
    pub fn gone(&mut self, now: Tick) {
        self.link = None;
        self.took(None);
        self.starting = false;
        if now.since(self.started) >= HEALTHY {
            self.delay = Duration::ZERO;
        }
        self.due = Some(now.after(self.delay));
        self.delay = (self.delay * 2).clamp(DELAY_FIRST, DELAY_MAX);
    }

    /// Without a scribe nothing is sent: a new one learns all that counts from `attached`.
    pub fn send(&mut self, message: &ToScribe, pipe: Option<&OwnedFd>) {
        let Some(link) = &mut self.link else {
            return;
        };
        let Ok(bytes) = serde_json::to_vec(message) else {
            return;
        };
        let pipe: Vec<_> = pipe.into_iter().map(AsFd::as_fd).collect();
        if link.send(bytes, &pipe).is_err() {
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
