//! runsvdir [-P] DIR [LOG]: a front for one keeper and supervisor over a whole directory.
//!
//! The process that was called only passes signals on, starts the keeper again when that ends, and
//! shows what comes on stderr in its own command line, if asked to. When it ends the keeper is told
//! so by the kernel (PR_SET_PDEATHSIG) and lets every service go on, as each runsv would.

mod title;

use super::words::complain;
use crate::os::{clock, fds};
use crate::supervisor::manner;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use title::Title;

const USAGE: u8 = 1;
const FATAL: u8 = 100;
const HUNG_UP: u8 = 111;
const SECOND_NS: u64 = 1_000_000_000;
/// A shorter LOG has no room for what is to be shown.
const TITLE_BYTES_MIN: usize = 7;

pub fn main(args: &[OsString]) -> u8 {
    let Some(asked) = Asked::read(args) else {
        let program = args
            .first()
            .map_or(&b"runsvdir"[..], |name| name.as_bytes());
        complain(&[b"usage: ", program, b" [-P] dir\n"]);
        return USAGE;
    };
    match Front::new(args, &asked).and_then(|mut front| front.serve()) {
        Ok(code) => code,
        Err(error) => {
            let words = format!("cannot go on: {error}");
            say(&asked.dir, "fatal", &words);
            FATAL
        }
    }
}

struct Asked {
    sessions: bool,
    dir: OsString,
    /// Where LOG stands among the arguments.
    log: Option<usize>,
}

impl Asked {
    /// Only the first argument can be an option, and only by its second byte.
    fn read(args: &[OsString]) -> Option<Asked> {
        let first = args.get(1)?.as_bytes();
        let sessions = first.starts_with(b"-P");
        let at = if sessions || first.starts_with(b"--") {
            2
        } else {
            1
        };
        let dir = args.get(at)?.clone();
        let log = args.get(at + 1).map(|_| at + 1);
        Some(Asked { sessions, dir, log })
    }
}

struct Front {
    signals: SignalDelivery<UnixStream, SignalOnly>,
    arguments: Vec<OsString>,
    keeper: Option<Child>,
    /// The next start of a keeper is not before this.
    due_ns: u64,
    log: Option<Log>,
}

/// What comes on stderr, and where it is shown.
struct Log {
    title: Title,
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Front {
    fn new(args: &[OsString], asked: &Asked) -> io::Result<Front> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let wanted = [SIGTERM, SIGHUP, SIGALRM, SIGCHLD];
        let signals = SignalDelivery::with_pipe(read, write, SignalOnly, wanted)?;
        Ok(Front {
            signals,
            arguments: manner::runsvdir(asked.sessions, &asked.dir),
            keeper: None,
            due_ns: 0,
            log: Log::new(args, asked)?,
        })
    }

    fn serve(&mut self) -> io::Result<u8> {
        loop {
            self.start_when_due()?;
            self.wait();
            let caught: Vec<i32> = self.signals.pending().collect();
            for signal in caught {
                match signal {
                    SIGTERM => return Ok(0),
                    SIGHUP => {
                        self.pass_on(Signal::SIGTERM);
                        return Ok(HUNG_UP);
                    }
                    SIGALRM => self.pass_on(Signal::SIGALRM),
                    _ => {}
                }
            }
            if let Some(keeper) = &mut self.keeper
                && keeper.try_wait()?.is_some()
            {
                self.keeper = None;
            }
            if let Some(log) = &mut self.log {
                log.show();
            }
        }
    }

    fn start_when_due(&mut self) -> io::Result<()> {
        let now = clock::monotonic_ns();
        if self.keeper.is_some() || now < self.due_ns {
            return Ok(());
        }
        self.due_ns = now.saturating_add(SECOND_NS);
        let stderr = match &self.log {
            Some(log) => Stdio::from(log.writer.try_clone()?),
            None => Stdio::inherit(),
        };
        let keeper = Command::new("/proc/self/exe")
            .arg0("outlast-keeper")
            .args(&self.arguments)
            .stderr(stderr)
            .spawn();
        match keeper {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(error) => {
                let words = format!("unable to start the keeper: {error}");
                let dir = self.arguments.last().map(OsString::as_os_str);
                say(dir.unwrap_or_default(), "warning", &words);
            }
        }
        Ok(())
    }

    fn wait(&self) {
        let now = clock::monotonic_ns();
        let restart = self
            .keeper
            .is_none()
            .then(|| self.due_ns.saturating_sub(now));
        let dot = self.log.as_ref().map(|log| log.title.dot_due_in_ns(now));
        let patience = match restart.into_iter().chain(dot).min() {
            // Rounded up, so as not to wake before it is due.
            Some(ns) => i32::try_from(ns / 1_000_000 + 1)
                .ok()
                .and_then(|ms| PollTimeout::try_from(ms).ok())
                .unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut ready = vec![PollFd::new(
            self.signals.get_read().as_fd(),
            PollFlags::POLLIN,
        )];
        if let Some(log) = &self.log {
            ready.push(PollFd::new(log.reader.as_fd(), PollFlags::POLLIN));
        }
        // An interruption by a signal is what is waited for.
        let _ = poll(&mut ready, patience);
    }

    /// Not reaped before we know of it, so its number is its own.
    fn pass_on(&self, signal: Signal) {
        if let Some(pid) = self
            .keeper
            .as_ref()
            .and_then(|it| i32::try_from(it.id()).ok())
        {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Log {
    fn new(args: &[OsString], asked: &Asked) -> io::Result<Option<Log>> {
        let Some((at, text)) = asked.log.and_then(|at| Some((at, args.get(at)?))) else {
            return Ok(None);
        };
        if text.len() < TITLE_BYTES_MIN {
            let words = "log must have at least seven characters.";
            say(&asked.dir, "warning", words);
            say(&asked.dir, "warning", "log service disabled.");
            return Ok(None);
        }
        let title = Title::new(args, at)?;
        let pipe = fds::pipe_held()?;
        let reader = fds::reopen(
            &pipe,
            nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK,
        )?;
        let writer = fds::reopen(&pipe, nix::fcntl::OFlag::O_WRONLY)?;
        Ok(Some(Log {
            title,
            reader,
            writer,
        }))
    }

    fn show(&mut self) {
        let mut buffer = [0u8; 4096];
        while let Ok(count @ 1..) = nix::unistd::read(&self.reader, &mut buffer) {
            self.title.append(buffer.get(..count).unwrap_or_default());
        }
        self.title.dot_when_due(clock::monotonic_ns());
        self.title.show();
    }
}

fn say(dir: &OsStr, kind: &str, words: &str) {
    complain(&[
        b"runsvdir ",
        dir.as_bytes(),
        b": ",
        kind.as_bytes(),
        b": ",
        words.as_bytes(),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_argument_can_be_an_option() {
        let read = |args: &[&str]| {
            let args: Vec<OsString> = ["runsvdir"]
                .iter()
                .chain(args)
                .map(OsString::from)
                .collect();
            let asked = Asked::read(&args)?;
            Some((asked.sessions, asked.dir.into_string().ok()?, asked.log))
        };
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["-P"]), None);
        assert_eq!(read(&["--"]), None);
        assert_eq!(read(&["d"]), Some((false, "d".into(), None)));
        assert_eq!(
            read(&["-Px", "d", "log"]),
            Some((true, "d".into(), Some(3)))
        );
        assert_eq!(read(&["--", "-P"]), Some((false, "-P".into(), None)));
        assert_eq!(read(&["-x", "log"]), Some((false, "-x".into(), Some(2))));
    }
}
