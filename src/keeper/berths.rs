//! Numbers for the descriptors of a child that is about to exec.
//!
//! A fork copies the table of open files and the exec closes the copy: with three descriptors a
//! service, of thousands of services, that was two thirds of what a start costs. So a child shares our
//! table for its first instant (CLONE_FILES) and then takes a copy of the lowest numbers only
//! (CLOSE_RANGE_UNSHARE). What it needs stands there, and stays as it is until the child has its copy:
//! that is a *berth*. An eventfd tells which children have theirs: each adds the bit of its berth, once.
//!
//! Without a free berth the child gets a plain fork. Called by `spawn` and the loop.

use super::Source;
use super::spawn::open_null;
use crate::ipc::wire::Key;
use crate::sys::Shares;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{dup3, read};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Descriptors of one child: its directory, the three standard ones, an extra one, its report.
pub const WANTED: usize = 6;
/// Below this number the descriptors of a child are placed.
pub const PLACED_BELOW: i32 = 5;
/// The numbers to be kept free, and so the number of berths: with what is below them they stay below
/// 64, for which the kernel needs no table of its own.
pub const NUMBERS_BELOW: i32 = 60;
/// How long a start waits for a berth. All that a child does before it leaves its berth is one system
/// call that can't wait, so this is a wait for a processor, without which a start could not go on
/// anyway.
const PATIENCE_MS: u8 = 2;

struct Berth {
    bit: u64,
    numbers: [OwnedFd; WANTED],
    child: Option<Key>,
}

/// Without berths when they can't be had.
#[derive(Default)]
pub struct Berths {
    all: Vec<Berth>,
    settled: Option<OwnedFd>,
    null: Option<OwnedFd>,
    /// The first number that no child needs.
    below: u32,
}

impl Berths {
    /// Made of descriptors that only keep their numbers.
    pub fn new(numbers: Vec<OwnedFd>, epoll: &Epoll) -> Berths {
        Berths::made(numbers, epoll).unwrap_or_default()
    }

    fn made(numbers: Vec<OwnedFd>, epoll: &Epoll) -> Option<Berths> {
        let highest = numbers.iter().map(AsRawFd::as_raw_fd).max()?;
        let below = u32::try_from(highest).ok()?.checked_add(1)?;
        let mut numbers = numbers.into_iter();
        let mut settled = numbers.next()?;
        let null = numbers.next()?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        dup3(
            EventFd::from_flags(flags).ok()?,
            &mut settled,
            OFlag::O_CLOEXEC,
        )
        .ok()?;
        let interest = EpollEvent::new(EpollFlags::EPOLLIN, Source::Berths.pack());
        epoll.add(&settled, interest).ok()?;
        let mut all = Vec::new();
        let mut bit = Some(1u64);
        while let (Some(one), Some(numbers)) = (bit, next_numbers(&mut numbers)) {
            let child = None;
            all.push(Berth {
                bit: one,
                numbers,
                child,
            });
            bit = one.checked_shl(1).filter(|bit| *bit != 0);
        }
        Some(Berths {
            all,
            settled: Some(settled),
            null: Some(null),
            below,
        })
    }

    /// Puts copies of these into a free berth, in place of the originals. None: there is none.
    pub fn take(
        &mut self,
        key: Key,
        wanted: [Option<BorrowedFd<'_>>; WANTED],
    ) -> Option<Taken<'_>> {
        self.settle();
        if self.all.iter().all(|berth| berth.child.is_some()) {
            let settled = self.settled.as_ref()?;
            let mut ready = [PollFd::new(settled.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::from(PATIENCE_MS));
            self.settle();
        }
        let berth = self.all.iter_mut().find(|berth| berth.child.is_none())?;
        berth.child = Some(key);
        let mut pairs = berth.numbers.iter_mut().zip(wanted);
        let copied = pairs.all(|(number, fd)| match fd {
            Some(fd) => dup3(fd, number, OFlag::O_CLOEXEC).is_ok(),
            None => true,
        });
        if !copied {
            self.leave(key);
            return None;
        }
        let berth = self.all.iter().find(|berth| berth.child == Some(key))?;
        let mut fds = [None; WANTED];
        for ((fd, number), wanted) in fds.iter_mut().zip(&berth.numbers).zip(wanted) {
            *fd = wanted.is_some().then(|| number.as_fd());
        }
        let shares = Shares {
            below: self.below,
            settled: self.settled.as_ref()?.as_fd(),
            bit: berth.bit,
        };
        Some(Taken { fds, shares })
    }

    /// Empties the berths of children that have said that they have their own table.
    pub fn settle(&mut self) {
        let mut sum = [0; 8];
        let told = self.settled.as_ref().map(|settled| read(settled, &mut sum));
        if let Some(Ok(_)) = told {
            let bits = u64::from_ne_bytes(sum);
            self.empty(|berth| berth.bit & bits != 0);
        }
    }

    /// ... and of one that has ended, or was never made: that says no more.
    pub fn leave(&mut self, key: Key) {
        // First what it has said, so that this is not taken for the next one's word.
        self.settle();
        self.empty(|berth| berth.child == Some(key));
    }

    /// Copies are not kept: the end of a report, of a pipe, is seen when the last one is closed.
    fn empty(&mut self, which: impl Fn(&Berth) -> bool) {
        let Some(null) = &self.null else { return };
        for berth in self.all.iter_mut().filter(|berth| which(berth)) {
            berth.child = None;
            for number in &mut berth.numbers {
                let _ = dup3(null, number, OFlag::O_CLOEXEC);
            }
        }
    }
}

/// A berth with a child's descriptors in it.
pub struct Taken<'a> {
    pub fds: [Option<BorrowedFd<'a>>; WANTED],
    pub shares: Shares<'a>,
}

/// Holds the free numbers below this one. Below [`PLACED_BELOW`] they must not be taken, or placing
/// descriptors in a child would overwrite the source of another one.
pub fn occupy(below: i32) -> io::Result<Vec<OwnedFd>> {
    let mut held: Vec<OwnedFd> = Vec::new();
    loop {
        // A copy never gets a number below 3.
        let next = match held.last() {
            Some(last) if last.as_raw_fd() >= PLACED_BELOW => last.try_clone()?,
            Some(_) | None => open_null()?,
        };
        if next.as_raw_fd() >= below {
            return Ok(held);
        }
        held.push(next);
    }
}

fn next_numbers(numbers: &mut impl Iterator<Item = OwnedFd>) -> Option<[OwnedFd; WANTED]> {
    let six: Vec<OwnedFd> = numbers.take(WANTED).collect();
    six.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::epoll::EpollCreateFlags;
    use nix::unistd::{pipe, write};
    use std::fs::File;

    const KEYS: [Key; 2] = [Key { id: 1, role: 0 }, Key { id: 2, role: 0 }];

    fn one_berth() -> Berths {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let null = || File::open("/dev/null").unwrap().into();
        let numbers = std::iter::repeat_with(null).take(2 + WANTED).collect();
        Berths::new(numbers, &epoll)
    }

    #[test]
    fn a_berth_is_free_again_when_its_child_has_its_own_table_or_has_ended() {
        let mut berths = one_berth();
        let (reader, writer) = pipe().unwrap();
        let wanted = [Some(writer.as_fd()), None, None, None, None, None];
        let taken = berths.take(KEYS[0], wanted).unwrap();
        assert!(taken.fds[0].is_some() && taken.fds[1].is_none());
        assert!(berths.take(KEYS[1], wanted).is_none(), "there is one");
        let taken = berths.settled.as_ref().unwrap();
        write(taken, &1u64.to_ne_bytes()).unwrap();
        assert!(berths.take(KEYS[1], wanted).is_some());
        berths.leave(KEYS[0]);
        assert!(berths.take(KEYS[0], wanted).is_none(), "it is another's");
        berths.leave(KEYS[1]);
        drop(writer);
        let end = read(&reader, &mut [0; 1]);
        assert_eq!(end, Ok(0), "no copy is left");
    }

    #[test]
    fn without_numbers_there_are_no_berths() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let mut berths = Berths::new(Vec::new(), &epoll);
        assert!(berths.take(KEYS[0], [None; WANTED]).is_none());
        berths.leave(KEYS[0]);
    }
}
