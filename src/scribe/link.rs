//! The link to the supervisor: the main thread's loop.

use super::echo::Echo;
use super::journal::Journal;
use super::lane::{End, Job};
use super::mail::{Inbox, mailbox};
use super::outbox::Outbox;
use super::router::Router;
use super::scout;
use crate::ipc::scribe::{DATAGRAM_BYTES_MAX, FromScribe, ToScribe};
use crate::os::fds;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a scribe that is to end tries to write out what it has.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_secs(10);
/// ... and how long after that it waits for a lane that hangs in a system call.
const HANG_MORE: Duration = Duration::from_secs(1);
/// How long a terminal that does not read is waited for at the end.
const ECHO_WITHIN: Duration = Duration::from_secs(1);

/// From lanes and scouts.
#[derive(Debug)]
pub enum Report {
    /// A scout knows the file system of a log.
    Found {
        id: u32,
        turn: u64,
        device: u64,
    },
    /// Something came from a service that is not known to run: has its start been told meanwhile?
    Ask {
        lane: usize,
        id: u32,
    },
    Tell(FromScribe),
    /// A lane has ended; what it could not write, by log.
    Done {
        lost: Vec<(Box<str>, usize)>,
    },
}

/// Why it is to end, once it is.
struct Leaving {
    end: End,
    until: Instant,
    /// Lanes that have still to end; none before they were told.
    lanes: Option<usize>,
}

struct Link {
    /// None when the supervisor is gone.
    socket: Option<OwnedFd>,
    inbox: Inbox<Report>,
    outbox: Outbox,
    /// The socket took the last datagram.
    open: bool,
    router: Router,
    leaving: Option<Leaving>,
    buffer: Vec<u8>,
}

/// Serves until told to finish, or until the supervisor is gone and the pipes are dry.
pub fn serve(
    socket: OwnedFd,
    signals: Option<SignalFd>,
    echo: Option<Arc<Echo>>,
) -> nix::Result<()> {
    let (reports, inbox) = mailbox()?;
    let mut link = Link {
        socket: Some(socket),
        inbox,
        outbox: Outbox::default(),
        open: true,
        router: Router::new(reports, echo.clone()),
        leaving: None,
        buffer: vec![0; DATAGRAM_BYTES_MAX],
    };
    while !link.is_over() {
        let woken = link.wait(signals.as_ref())?;
        if woken.term {
            link.leave(End::Open, LEAVE_WITHIN);
        }
        link.turn();
    }
    if let Some(echo) = echo {
        echo.finish(ECHO_WITHIN);
    }
    Ok(())
}

struct Woken {
    term: bool,
}

impl Link {
    fn wait(&self, signals: Option<&SignalFd>) -> nix::Result<Woken> {
        let mut fds = vec![PollFd::new(self.inbox.bell(), PollFlags::POLLIN)];
        if let Some(signals) = signals {
            fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        }
        if let Some(socket) = &self.socket {
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, !self.open);
            fds.push(PollFd::new(socket.as_fd(), events));
        }
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let term = signals.is_some_and(|signals| matches!(signals.read_signal(), Ok(Some(_))));
        Ok(Woken { term })
    }

    /// None unless something is under way that may not come back.
    fn timeout(&self) -> PollTimeout {
        let end = self.leaving.as_ref().map(|leaving| {
            let left = leaving.until.saturating_duration_since(Instant::now());
            left + Duration::from_millis(1)
        });
        let scouts = self.router.scouts.waiting().then_some(scout::PATIENCE);
        match [end, scouts].into_iter().flatten().min() {
            Some(time) => PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        }
    }

    fn turn(&mut self) {
        // The questions first, then all that the supervisor has said, then the answers: what it
        // said before a service could write is heard before that output is read.
        let mut asked = Vec::new();
        for report in self.inbox.take() {
            match report {
                Report::Found { id, turn, device } => self.router.found(id, turn, device),
                Report::Ask { lane, id } => asked.push((lane, id)),
                Report::Tell(message) => self.outbox.put(message),
                Report::Done { lost } => self.done(&lost),
            }
        }
        self.receive();
        for (lane, id) in asked {
            self.router.answer(lane, Job::Asked { id });
        }
        self.router.scouts.hurry();
        self.send();
        if let Some(leaving) = &mut self.leaving
            && leaving.lanes.is_none()
            && !self.router.is_busy()
        {
            let within = leaving.until.saturating_duration_since(Instant::now());
            leaving.lanes = Some(self.router.finish(leaving.end, within));
            leaving.until += HANG_MORE;
        }
    }

    fn receive(&mut self) {
        while let Some(socket) = &self.socket {
            let received = match fds::receive(socket.as_fd(), &mut self.buffer) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => continue,
                Err(_) => return self.gone(),
            };
            // Without a pipe that it was to read, a successor with fresh descriptors may do better.
            if received.bytes == 0 || received.short {
                return self.gone();
            }
            if received.cut {
                eprintln!("outlast-scribe: a message of the supervisor is too long: not heard");
                continue;
            }
            match serde_json::from_slice(&self.buffer[..received.bytes]) {
                Ok(message) => self.heed(message, received.fds),
                Err(error) => {
                    eprintln!("outlast-scribe: a message of the supervisor can't be read: {error}");
                }
            }
        }
    }

    fn heed(&mut self, message: ToScribe, mut fds: Vec<OwnedFd>) {
        let (id, job) = match message {
            ToScribe::Attach(attach) => {
                let id = attach.id;
                // A description of its own, so that O_NONBLOCK is ours alone.
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
                let pipe = fds.pop().ok_or(Errno::EBADF);
                match pipe.and_then(|pipe| fds::reopen(pipe, flags)) {
                    Ok(pipe) => self.router.attach(attach, pipe),
                    Err(errno) => self.outbox.put(FromScribe::Trouble {
                        id,
                        message: format!(
                            "cannot open its output pipe: {} ({errno:?})",
                            errno.desc()
                        ),
                        echoed: false,
                        had_file: false,
                    }),
                }
                return;
            }
            ToScribe::Journal => return self.take_journal(fds),
            ToScribe::StillThere => return self.outbox.put(FromScribe::Here),
            ToScribe::Reload => return self.router.reload(),
            ToScribe::Detach { id } => (id, Job::Detach { id }),
            ToScribe::RunStarts { id } => (id, Job::RunStarts { id }),
            ToScribe::RunEnded { id } => (id, Job::RunEnded { id }),
            ToScribe::Tail { token, id, asked } => {
                let job = Job::Tail { token, id, asked };
                if !self.router.pass(id, job) {
                    self.outbox.put(FromScribe::Tail {
                        token,
                        lines: Vec::new(),
                        file: None,
                        unfinished: false,
                    });
                }
                return;
            }
            ToScribe::Finish { within_ms: 0 } => return self.leave(End::Line, LEAVE_WITHIN),
            ToScribe::Finish { within_ms } => {
                return self.leave(End::Line, Duration::from_millis(within_ms));
            }
        };
        self.router.pass(id, job);
    }

    /// Before any log: each finds in it what a killed predecessor had under way.
    fn take_journal(&mut self, mut fds: Vec<OwnedFd>) {
        let (transit, file) = (fds.pop(), fds.pop());
        let opened = match (file, transit) {
            (Some(file), Some(transit)) => Journal::open(file, transit),
            _ => Err(Errno::EBADF.into()),
        };
        match opened {
            Ok(journal) => self.router.journal = Some(journal),
            Err(error) => eprintln!(
                "outlast-scribe: cannot use the journal: {error}; logs are written without it, and \
                 lines may be lost if the scribe is killed"
            ),
        }
    }

    fn send(&mut self) {
        self.open = true;
        while let (Some(socket), Some(message)) = (&self.socket, self.outbox.next()) {
            match fds::send(socket.as_fd(), &message, &[]) {
                Err(Errno::EAGAIN) => {
                    self.open = false;
                    return;
                }
                Err(Errno::EINTR) => {}
                // Gone: its end is read from the socket. Anything else won't get better.
                Ok(()) | Err(_) => self.outbox.sent(),
            }
        }
    }

    fn gone(&mut self) {
        self.socket = None;
        self.leave(End::Open, LEAVE_WITHIN);
    }

    fn leave(&mut self, end: End, within: Duration) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving {
                end,
                until: Instant::now() + within,
                lanes: None,
            });
        }
    }

    fn done(&mut self, lost: &[(Box<str>, usize)]) {
        for (name, bytes) in lost {
            eprintln!("outlast-scribe: {name}: {bytes} bytes of its output could not be written");
        }
        if let Some(Leaving {
            lanes: Some(lanes), ..
        }) = &mut self.leaving
        {
            *lanes = lanes.saturating_sub(1);
        }
    }

    fn is_over(&self) -> bool {
        let Some(leaving) = &self.leaving else {
            return false;
        };
        if leaving.lanes == Some(0) {
            // What is left to be told is told, if it is heard.
            return true;
        }
        let late = Instant::now() >= leaving.until;
        if late {
            eprintln!("outlast-scribe: a disk does not answer: ending without it");
        }
        late
    }
}
