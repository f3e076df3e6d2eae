//! Another binary in our place: the process, its children and their descriptors stay.
//!
//! The book goes through a memfd, and its descriptors stay open under their numbers. The new binary
//! is on trial until its supervisor has answered; if that does not happen, the old one, whose file
//! is kept open, is executed again in the same way. A binary that can't read the book gives it back
//! untouched.

use super::{Keeper, say};
use crate::ipc::wire::ledger::{self, Ledger, Outcome};
use crate::os::{fds, kill_point};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd::fexecve;
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The first argument of a keeper that takes over, before the numbers of the book's descriptor and
/// of the old binary's; and of an old one that gets its book back unread.
const RESUME: &str = "resume";
const RETURN: &str = "return";
/// How long the new supervisor may take to answer before the old binary comes back.
const TRIAL_NS: u64 = 5_000_000_000;

/// A new binary that has not proved itself.
pub struct Trial {
    old: OwnedFd,
    pub until_ns: u64,
}

/// What is to be executed as soon as the supervisor has ended.
pub struct Next {
    pub binary: OwnedFd,
    pub outcome: Outcome,
}

/// What a predecessor has left.
pub struct Left {
    pub ledger: Ledger,
    book: OwnedFd,
    old: OwnedFd,
}

/// The predecessor's book, if there is one, and the arguments that remain. An error when there is
/// one and nothing can be done with it.
pub fn left(args: &[OsString]) -> io::Result<(Option<Left>, &[OsString])> {
    let [word, book, old, rest @ ..] = args else {
        return Ok((None, args));
    };
    let returned = word == RETURN;
    if !returned && word != RESUME {
        return Ok((None, args));
    }
    let fd = |number: &OsStr| {
        let number = number.to_str().and_then(|number| number.parse().ok());
        number.and_then(fds::inherited)
    };
    let (Some(book), Some(old)) = (fd(book), fd(old)) else {
        return Err(io::Error::other("the book was not handed over"));
    };
    match (read(&book), returned) {
        (Some(mut ledger), _) => {
            if returned {
                ledger.keeper.outcome = Outcome::Unread;
            }
            Ok((Some(Left { ledger, book, old }), rest))
        }
        (None, false) => {
            let Err(error) = give_back(&book, &old, rest);
            Err(error)
        }
        (None, true) => Err(io::Error::other("nobody can read the book any more")),
    }
}

fn read(book: &OwnedFd) -> Option<Ledger> {
    let mut file = File::from(book.try_clone().ok()?);
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    file.read_to_end(&mut bytes).ok()?;
    Ledger::decode(&bytes)
}

/// To the binary that has written it; nothing of it has been touched.
fn give_back(book: &OwnedFd, old: &OwnedFd, args: &[OsString]) -> io::Result<Infallible> {
    say("the book can't be read by this binary; the old one goes on");
    keep_open(&[book.as_fd()], true);
    // The old one has no use for its own file, but counts its arguments.
    keep_open(&[old.as_fd()], true);
    let words = [RETURN.to_owned(), number(book), number(old)];
    Err(execute(old, &words, args).into())
}

impl Left {
    pub fn give_back(&self, args: &[OsString]) -> io::Error {
        let Err(error) = give_back(&self.book, &self.old, args);
        error
    }
}

impl Keeper {
    /// Everything that a predecessor has left becomes ours.
    pub fn take_over(&mut self, left: Left, now_ns: u64) {
        let Left { ledger, old, .. } = left;
        let keeper = ledger.keeper;
        self.untold_signals |= keeper.untold_signals;
        self.ending = keeper.ending;
        self.outcome = keeper.outcome;
        self.workshop.resume(keeper.nofile, keeper.oom.clone());
        self.deputy.resume(keeper);
        if let Some(door) = ledger.door
            && let Some(socket) = fds::inherited(door.fd)
        {
            self.deputy.listen(socket, door.dev, door.ino, &self.epoll);
        }
        self.book.take_over(ledger.entries, &self.epoll);
        kill_point("book-taken-over");
        // Whoever ended while nobody listened for signals.
        self.sweep_due = true;
        self.trial = (self.outcome == Outcome::Done).then(|| Trial {
            old,
            until_ns: now_ns.saturating_add(TRIAL_NS),
        });
    }

    /// The new binary has failed: the old one comes back when our supervisor has ended.
    pub fn fail_trial(&mut self, outcome: Outcome) {
        if let Some(Trial { old, .. }) = self.trial.take() {
            say("the new binary's supervisor does not come up; the old binary comes back");
            self.next = Some(Next {
                binary: old,
                outcome,
            });
            self.deputy.hang_up();
        }
    }

    pub fn ledger(&self, outcome: Outcome) -> Ledger {
        let (nofile, oom) = self.workshop.services();
        let mut keeper = ledger::Keeper {
            untold_signals: self.untold_signals,
            ending: self.ending,
            nofile,
            oom,
            outcome,
            ..ledger::Keeper::default()
        };
        self.deputy.history(&mut keeper);
        Ledger {
            keeper,
            door: self.deputy.door().map(|(fd, dev, ino)| ledger::Door {
                fd: fd.as_raw_fd(),
                dev,
                ino,
            }),
            entries: self.book.entries(),
        }
    }

    /// Becomes that binary; returns why not.
    pub fn become_next(&mut self, next: Next) -> Errno {
        let book = match write(&self.ledger(next.outcome)) {
            Ok(book) => book,
            Err(error) => return error,
        };
        let path = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let ours = match open(c"/proc/self/exe", path, Mode::empty()) {
            Ok(ours) => ours,
            Err(error) => return error,
        };
        let mut carried: Vec<BorrowedFd<'_>> = self.book.descriptors().collect();
        carried.extend(self.deputy.door().map(|(fd, _, _)| fd));
        carried.extend([book.as_fd(), ours.as_fd()]);
        keep_open(&carried, true);
        let words = [RESUME.to_owned(), number(&book), number(&ours)];
        kill_point("book-written");
        let error = execute(&next.binary, &words, &self.args);
        keep_open(&carried, false);
        error
    }
}

/// A copy of the book in memory, to be read from its start.
pub fn write(ledger: &Ledger) -> nix::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"outlast-book", MFdFlags::MFD_CLOEXEC)?);
    let written = file
        .write_all(&ledger.encode())
        .and_then(|()| file.rewind());
    let errno = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    written.map_err(errno)?;
    Ok(file.into())
}

fn number(fd: &OwnedFd) -> String {
    fd.as_raw_fd().to_string()
}

fn keep_open(fds: &[BorrowedFd<'_>], over_exec: bool) {
    let flag = match over_exec {
        true => FdFlag::empty(),
        false => FdFlag::FD_CLOEXEC,
    };
    for fd in fds {
        let _ = fcntl(fd, FcntlArg::F_SETFD(flag));
    }
}

/// Returns only when it did not work.
fn execute(binary: &OwnedFd, words: &[String], args: &[OsString]) -> Errno {
    let mut argv = vec![CString::from(c"outlast-keeper")];
    argv.extend(
        words
            .iter()
            .filter_map(|word| CString::new(word.as_str()).ok()),
    );
    argv.extend(
        args.iter()
            .filter_map(|arg| CString::new(arg.as_bytes()).ok()),
    );
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut text = name.into_vec();
            text.push(b'=');
            text.extend(value.into_vec());
            CString::new(text).ok()
        })
        .collect();
    // A signal that comes between the two binaries has to wait for the second one's handlers: its
    // default would be our end.
    let _ = SigSet::all().thread_set_mask();
    let Err(error) = fexecve(binary, &argv, &environment);
    let _ = SigSet::empty().thread_set_mask();
    error
}
