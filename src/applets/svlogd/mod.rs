//! svlogd: reads standard input, and has the log engine write it to one or more directories.
//!
//! One thread, and nothing that wakes it up but input, signals, a processor's end and times that
//! are due. Input is read in large pieces: each is stamped by one reading of the clock and written
//! at once, while the engine holds back the line that is not whole yet.

mod asked;
mod directory;
pub mod input;
mod told;

use super::words;
use crate::log::engine::{Desk, Now};
use asked::Asked;
use directory::Directory;
use input::{Input, Read, Signals};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsString;
use std::os::fd::AsFd;

/// Exit code of usage and of everything fatal.
const FATAL: u8 = 111;
/// A monotonic wait is rounded up to whole milliseconds; poll(2) knows no finer ones.
const NS_PER_MS: u64 = 1_000_000;

pub fn main(args: &[OsString]) -> u8 {
    let asked = match asked::read(args) {
        Ok(asked) => asked,
        Err(text) => {
            words::complain(&[&text]);
            return FATAL;
        }
    };
    match Svlogd::start(&asked) {
        Ok(mut svlogd) => svlogd.run(),
        Err((doing, errno)) => {
            let cause = words::cause(errno).as_bytes();
            words::complain(&[b"svlogd: fatal: unable to ", doing, b": ", cause]);
            FATAL
        }
    }
}

struct Svlogd {
    directories: Vec<Directory>,
    desk: Desk,
    input: Input,
    signals: Signals,
    verbose: bool,
    rotate_wanted: bool,
    reopen_wanted: bool,
}

impl Svlogd {
    fn start(asked: &Asked) -> Result<Svlogd, (&'static [u8], Errno)> {
        let signals = Signals::new().map_err(|errno| (&b"catch signals"[..], errno))?;
        let home = directory::home().map_err(|errno| {
            let doing: &[u8] = b"open current working directory";
            (doing, errno)
        })?;
        let alone = asked.directories.len() == 1;
        let directories = asked.directories.iter();
        Ok(Svlogd {
            directories: directories
                .map(|name| Directory::new(name, &home, alone, asked))
                .collect(),
            desk: Desk::default(),
            input: Input::new(asked),
            signals,
            verbose: asked.verbose,
            rotate_wanted: false,
            reopen_wanted: false,
        })
    }

    fn run(&mut self) -> u8 {
        if !self.open() {
            return FATAL;
        }
        loop {
            if !self.is_stuck() && !self.obey() {
                return FATAL;
            }
            if !self.is_stuck() && self.input.is_finished() {
                break;
            }
            self.wait();
            if !self.is_stuck() && self.input.is_ready() {
                self.read();
            }
        }
        let now = Now::read();
        for directory in &mut self.directories {
            directory.end_line(&mut self.desk, now);
        }
        self.leave();
        0
    }

    /// Opens or reopens all; whether any can be written.
    fn open(&mut self) -> bool {
        let now = Now::read();
        let standing = self.directories.iter().find_map(Directory::standing);
        for directory in &mut self.directories {
            directory.open(&mut self.desk, now, standing.as_ref());
        }
        let any = self.directories.iter().any(Directory::is_open);
        if !any {
            words::complain(&[b"svlogd: fatal: no functional log directories."]);
        }
        any
    }

    /// What signals asked for. False when there is nothing left to write to.
    fn obey(&mut self) -> bool {
        if std::mem::take(&mut self.rotate_wanted) {
            let now = Now::read();
            for directory in &mut self.directories {
                directory.turn(&mut self.desk, now);
            }
        }
        if !self.is_stuck() && std::mem::take(&mut self.reopen_wanted) {
            return self.open();
        }
        true
    }

    fn is_stuck(&self) -> bool {
        self.directories.iter().any(Directory::is_stuck)
    }

    /// Until there is input, a signal, a processor's end, or a time that is due; and sees to all
    /// but the input.
    fn wait(&mut self) {
        let reads = !self.is_stuck() && !self.input.is_finished();
        let due = self
            .directories
            .iter()
            .filter_map(Directory::wakes_at)
            .min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_sub(Now::read().mono_ns);
            i32::try_from(left.div_ceil(NS_PER_MS))
                .ok()
                .and_then(|ms| PollTimeout::try_from(ms).ok())
                .unwrap_or(PollTimeout::MAX)
        });
        let stdin = std::io::stdin();
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if reads {
            polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        let processors = self.directories.iter().filter_map(Directory::processor);
        polled.extend(processors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // An interruption is a round of its own.
        let _ = poll(&mut polled, timeout);
        let happened: Vec<bool> = polled
            .iter()
            .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()))
            .collect();
        drop(polled);
        let behind = 1 + usize::from(reads);
        self.input
            .set_ready(reads && happened.get(1) == Some(&true));
        if happened.first() == Some(&true) {
            self.hear();
        }
        let ended = happened.get(behind..).unwrap_or_default().contains(&true);
        if ended && self.verbose {
            words::complain(&[b"svlogd: info: sigchild received."]);
        }
        if ended || due.is_some() {
            let now = Now::read();
            for directory in &mut self.directories {
                directory.resume(&mut self.desk, now, ended);
            }
        }
    }

    fn hear(&mut self) {
        for signal in self.signals.heard() {
            use nix::sys::signal::Signal;
            let name: &[u8] = match signal {
                Signal::SIGTERM => {
                    self.input.finish();
                    b"sigterm"
                }
                Signal::SIGALRM => {
                    self.rotate_wanted = true;
                    b"sigalarm"
                }
                _ => {
                    self.reopen_wanted = true;
                    b"sighangup"
                }
            };
            if self.verbose {
                words::complain(&[b"svlogd: info: ", name, b" received."]);
            }
        }
    }

    fn read(&mut self) {
        let bytes = match self.input.read() {
            Read::Bytes(bytes) => bytes,
            Read::Nothing => return,
            Read::Failed(errno) => {
                let cause = words::cause(errno).as_bytes();
                words::complain(&[b"svlogd: warning: unable to read standard input: ", cause]);
                return;
            }
        };
        let now = Now::read();
        for directory in &mut self.directories {
            directory.take(&mut self.desk, bytes, now);
        }
    }

    /// All that was taken is written and processed before we go.
    fn leave(&mut self) {
        let busy = |it: &Directory| it.is_stuck() || it.is_processing();
        while self.directories.iter().any(busy) {
            self.wait();
        }
        for directory in self.directories.drain(..) {
            directory.close();
        }
        self.desk.settle();
    }
}
