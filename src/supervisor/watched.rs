//! Many descriptors behind one in the event loop: the control FIFOs and the pidfds of leftovers.
//!
//! A task or a registration in tokio for each would cost ten times the memory.

use super::vocab::ServiceId;
use crate::ipc::wire::Key;
use crate::os::fds;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Events taken in one turn.
const EVENTS_PER_TURN: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// `supervise/control` of this service has bytes.
    Fifo(ServiceId),
    /// A leftover process of this service has ended.
    Leftover(ServiceId),
    /// A process has ended that the last sweep of all waits for.
    Last,
    /// A process that we hold ourselves, the keeper being gone, has ended.
    Held(Key),
    /// The scribe of a killed keeper has ended.
    Elder,
}

impl Woken {
    fn pack(self) -> u64 {
        match self {
            Woken::Fifo(id) => u64::from(id.0),
            Woken::Leftover(id) => (1 << 32) | u64::from(id.0),
            Woken::Last => 2 << 32,
            Woken::Held(key) => (3 << 32) | (u64::from(key.role) << 40) | u64::from(key.id),
            Woken::Elder => 4 << 32,
        }
    }

    fn unpack(number: u64) -> Option<Woken> {
        let id = ServiceId(u32::try_from(number & u64::from(u32::MAX)).ok()?);
        let role = u8::try_from(number >> 40).ok()?;
        match (number >> 32) & 0xff {
            0 => Some(Woken::Fifo(id)),
            1 => Some(Woken::Leftover(id)),
            2 => Some(Woken::Last),
            3 => Some(Woken::Held(Key { id: id.0, role })),
            4 => Some(Woken::Elder),
            _ => None,
        }
    }
}

pub struct Watched {
    epoll: Epoll,
    /// The same epoll instance, as tokio sees it.
    gate: AsyncFd<OwnedFd>,
}

impl Watched {
    pub fn new() -> io::Result<Watched> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let gate = fds::in_event_loop(epoll.0.try_clone()?)?;
        Ok(Watched { epoll, gate })
    }

    /// A closed descriptor leaves by itself.
    pub fn add(&self, fd: impl AsFd, what: Woken) -> io::Result<()> {
        match self
            .epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, what.pack()))
        {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub fn remove(&self, fd: impl AsFd) {
        let _ = self.epoll.delete(fd);
    }

    pub async fn ready(&self) {
        if let Ok(mut guard) = self.gate.readable().await {
            guard.retain_ready();
        }
    }

    pub fn take(&self) -> Vec<Woken> {
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        let count = self.gate.try_io(Interest::READABLE, |_| {
            match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Ok(0) | Err(Errno::EINTR) => Err(io::ErrorKind::WouldBlock.into()),
                other => other.map_err(io::Error::from),
            }
        });
        let count = count.unwrap_or(0);
        events
            .iter()
            .take(count)
            .filter_map(|event| Woken::unpack(event.data()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_woke_us_survives_being_packed_into_a_number() {
        let id = ServiceId(u32::MAX);
        let held = Woken::Held(Key { id: id.0, role: 3 });
        let all = [
            Woken::Fifo(id),
            Woken::Leftover(id),
            Woken::Last,
            held,
            Woken::Elder,
        ];
        for woken in all {
            assert_eq!(Woken::unpack(woken.pack()), Some(woken));
        }
    }
}
