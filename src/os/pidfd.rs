//! A process held fast: its number can't come to mean another one unnoticed.

use crate::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// ESRCH when there is no such process (pidfd_open(2)).
    pub fn open(pid: i32) -> io::Result<PidFd> {
        sys::pidfd_open(Pid::from_raw(pid)).map(PidFd)
    }

    /// To that process or to nobody.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        sys::pidfd_signal(self.0.as_fd(), signal)
    }

    /// A pidfd can be read once the process has ended.
    pub fn lives(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    /// Waits for its end, not longer than this.
    pub fn ends_within(&self, patience: Duration) -> bool {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut ask = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut ask, patience) == Ok(1)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> OwnedFd {
        pidfd.0
    }
}
