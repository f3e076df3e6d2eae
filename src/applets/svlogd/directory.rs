//! One log directory: its log while it can be written, and what is said when it can't.

use super::asked::Asked;
use super::told::Told;
use crate::log::dir::Halt;
use crate::log::engine::{Desk, End, Flow, Log, Nobody, Now, Standing};
use crate::log::settings::{KEEP_DEFAULT, SVLOGD, Settings};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub struct Directory {
    name: Box<OsStr>,
    /// Where relative names start.
    home: Rc<OwnedFd>,
    /// It is the only one: then we live in it.
    alone: bool,
    settings: Settings,
    told: Told,
    /// Held open: a directory that is renamed is still ours.
    held: Option<OwnedFd>,
    log: Option<Log>,
}

fn look() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC
}

/// The working directory that we were started in.
pub fn home() -> Result<Rc<OwnedFd>, Errno> {
    open(".", look(), Mode::empty()).map(Rc::new)
}

impl Directory {
    pub fn new(name: &OsStr, home: &Rc<OwnedFd>, alone: bool, asked: &Asked) -> Directory {
        Directory {
            name: name.into(),
            home: Rc::clone(home),
            alone,
            settings: Settings {
                stamp: asked.stamp,
                min: Some(KEEP_DEFAULT),
                line_bytes_max: asked.line_bytes_max,
                ..Settings::default()
            },
            told: Told {
                name: name.as_bytes().into(),
                verbose: asked.verbose,
            },
            held: None,
            log: None,
        }
    }

    /// Opens it, or lets go of it and opens what has its name now. A directory that can't be used
    /// is left out until the next time, when it goes on where the others are in a line.
    pub fn open(&mut self, desk: &mut Desk, now: Now, others: Option<&Standing>) {
        if let Some(log) = &mut self.log {
            log.let_go();
        }
        let Some(path) = self.reach() else {
            self.log = None;
            self.held = None;
            return;
        };
        let mut log = self.log.take().unwrap_or_else(|| {
            let log = Log::new(&path, self.settings.clone(), &SVLOGD);
            log.told_to(Box::new(self.told.clone()))
        });
        if let Some(others) = others {
            log.stand(others);
        }
        if log.open_at(&path, desk, now) == Flow::Stuck {
            let refusal = match log.trouble() {
                Some(Halt::Locked { .. }) => Some(Errno::EAGAIN),
                Some(Halt::Failed {
                    name: "lock",
                    errno,
                    ..
                }) => Some(*errno),
                _ => None,
            };
            if let Some(errno) = refusal {
                self.told.nothing_closed();
                self.told.warning("lock directory", errno);
                self.held = None;
                return;
            }
        }
        self.log = Some(log);
        self.tell_trouble();
    }

    /// A path that stands for the directory even when it is renamed.
    fn reach(&mut self) -> Option<PathBuf> {
        let held = openat(&*self.home, &*self.name, look(), Mode::empty());
        let held = held
            .inspect_err(|errno| self.told.warning("open log directory", *errno))
            .ok()?;
        fchdir(&held)
            .inspect_err(|errno| {
                self.told.nothing_closed();
                self.told.warning("change directory", *errno);
            })
            .ok()?;
        let number = held.as_raw_fd();
        self.held = Some(held);
        if self.alone {
            return Some(PathBuf::from("."));
        }
        // Back to where the next name starts. We were there before.
        let _ = fchdir(&*self.home);
        let reached = PathBuf::from(format!("/proc/self/fd/{number}"));
        // In a bare chroot there is no /proc.
        match reached.exists() {
            true => Some(reached),
            false => std::path::absolute(Path::new(&*self.name)).ok(),
        }
    }

    pub fn take(&mut self, desk: &mut Desk, bytes: &[u8], now: Now) {
        self.each(|log| log.take(desk, bytes, now, &mut Nobody));
    }

    pub fn end_line(&mut self, desk: &mut Desk, now: Now) {
        self.each(|log| log.end_line(End::Line, desk, now, &mut Nobody));
    }

    pub fn turn(&mut self, desk: &mut Desk, now: Now) {
        self.each(|log| log.turn(desk, now));
    }

    /// What is due.
    pub fn resume(&mut self, desk: &mut Desk, now: Now, processor_ended: bool) {
        let due = self.wakes_at().is_some_and(|due| due <= now.mono_ns);
        if due || (processor_ended && self.processor().is_some()) {
            self.each(|log| log.resume(desk, now, &mut Nobody));
        }
    }

    fn each(&mut self, done: impl FnOnce(&mut Log) -> Flow) {
        if let Some(log) = &mut self.log
            && done(log) == Flow::Stuck
        {
            self.tell_trouble();
        }
    }

    fn tell_trouble(&self) {
        if let Some(halt) = self.log.as_ref().and_then(Log::trouble) {
            self.told.pausing(halt);
        }
    }

    pub fn is_open(&self) -> bool {
        self.log.is_some()
    }

    pub fn is_stuck(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.trouble().is_some())
    }

    pub fn is_processing(&self) -> bool {
        self.log.as_ref().is_some_and(Log::is_processing)
    }

    pub fn standing(&self) -> Option<Standing> {
        self.log.as_ref().map(Log::standing)
    }

    pub fn wakes_at(&self) -> Option<u64> {
        self.log.as_ref().and_then(Log::wakes_at)
    }

    pub fn processor(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref().and_then(Log::processor)
    }

    pub fn close(self) {
        if let Some(log) = self.log {
            log.close();
        }
    }
}
