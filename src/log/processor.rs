//! svlogd's processor: a shell command through which each rotated file goes.
//!
//! The command reads `@TIME.u` and writes `@TIME.t`; descriptor 4 is the state that its
//! predecessor left, 5 the one that it leaves. Its end is seen on a pidfd, so that nobody waits
//! for it; only the next rotation of the same log does.

use super::rotate::{Kind, Old};
use crate::sys;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

/// Places descriptors 4 and 5 and becomes `sh -c COMMAND`: done by the shell, since doing it
/// between fork and exec would be unsafe code for the sake of a rare case.
const PLACE_STATES: &str = r#"exec 4<state 5>newstate && exec /bin/sh -c "$1""#;

/// A killed command is waited for no longer than that.
const END_PATIENCE_MS: u16 = 1000;

/// A command at work on one file.
#[derive(Debug)]
pub struct Processor {
    child: Child,
    pidfd: OwnedFd,
    old: Old,
    ends_with_us: bool,
}

impl Processor {
    /// Starts the command on an unprocessed file. One that `ends_with_us` is killed, with what it
    /// has started, when this is dropped.
    pub fn start(
        dir: &Path,
        command: &[u8],
        old: Old,
        ends_with_us: bool,
    ) -> io::Result<Processor> {
        let input = File::open(dir.join(old.with(Kind::Unprocessed).name()))?;
        // A command whose starter was killed may still be writing to files of these names.
        let unfinished = dir.join(old.with(Kind::Unfinished).name());
        let _ = fs::remove_file(&unfinished);
        let _ = fs::remove_file(dir.join("newstate"));
        let output = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        state_file(dir, "state", false)?;
        state_file(dir, "newstate", true)?;
        let mut shell = Command::new("/bin/sh");
        if ends_with_us {
            shell.process_group(0);
        }
        let child = shell
            .args(["-c", PLACE_STATES, "sh"])
            .arg(std::ffi::OsStr::from_bytes(command))
            .current_dir(dir)
            .stdin(input)
            .stdout(output)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        // Not reaped yet, so the number is still its own.
        let pidfd = sys::pidfd_open(Pid::from_raw(pid))?;
        Ok(Processor {
            child,
            pidfd,
            old,
            ends_with_us,
        })
    }

    pub fn old(&self) -> Old {
        self.old
    }

    /// Readable when the command has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended; None while it works.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Takes what the command made as the rotated file, then lets its input go.
    pub fn accept(&self, dir: &Path, mode: u32) -> io::Result<()> {
        let made = dir.join(self.old.with(Kind::Unfinished).name());
        fs::set_permissions(&made, Permissions::from_mode(mode))?;
        fs::rename(&made, dir.join(self.old.with(Kind::Saved).name()))?;
        fs::remove_file(dir.join(self.old.with(Kind::Unprocessed).name()))?;
        fs::rename(dir.join("newstate"), dir.join("state"))
    }

    /// Throws away what a failed command made.
    pub fn reject(&self, dir: &Path) {
        // Left over, it is deleted at the next rotation.
        let _ = fs::remove_file(dir.join(self.old.with(Kind::Unfinished).name()));
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        if !self.ends_with_us || !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Not reaped yet, so the number is still its own, and that of the group it leads.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // One that hangs in a system call is left to whoever reaps what we leave.
        let mut end = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut end, END_PATIENCE_MS);
        let _ = self.child.try_wait();
    }
}

fn state_file(dir: &Path, name: &str, empty: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options
        .append(!empty)
        .write(true)
        .create(true)
        .truncate(empty);
    options.mode(0o644).open(dir.join(name)).map(drop)
}
