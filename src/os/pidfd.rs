//! A process held fast: its number can't come to mean another one unnoticed.

use crate::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

/// Whether anything has this number: a process, a group, or a session that has a member left. When
/// it can't be known it counts as had.
pub fn is_number_in_use(number: i32) -> bool {
    static FILE: OnceLock<File> = OnceLock::new();
    let file = FILE.get().map_or_else(
        || File::open("/dev/null").map(|file| FILE.get_or_init(|| file)),
        Ok,
    );
    file.map_or(true, |file| {
        sys::is_number_in_use(file.as_fd(), Pid::from_raw(number))
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_number_stays_in_use_as_long_as_its_session_has_a_member() {
        // The child of a leader of a session, in a group of its own, outlives it.
        let script = "set -m; sleep 1000 <&- >&- 2>&- & echo $$ $!; kill -9 $$";
        let mut leader = Command::new("setsid");
        let said = leader.args(["--wait", "sh", "-c", script]).output();
        let said = String::from_utf8(said.expect("setsid").stdout).expect("numbers");
        let numbers: Vec<i32> = said.split_whitespace().flat_map(str::parse).collect();
        let [session, member] = numbers[..] else {
            panic!("not two numbers: {said}");
        };
        let member = PidFd::open(member).expect("it outlives the leader");
        assert!(PidFd::open(session).is_err(), "the leader has gone");
        assert!(is_number_in_use(session));
        member.signal(9).expect("it lives");
    }

    #[test]
    fn the_number_of_a_process_that_has_gone_is_free() {
        let mut child = Command::new("true")
            .stdin(Stdio::null())
            .spawn()
            .expect("true");
        let number = i32::try_from(child.id()).expect("a number");
        assert!(is_number_in_use(number));
        child.wait().expect("it ends");
        assert!(!is_number_in_use(number));
    }
}
