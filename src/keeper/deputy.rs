//! The supervisor as the keeper sees it: a process to be kept alive, a link, and what it is owed.
//!
//! What is owed is kept as names of things in the book, not as copies, so the queue stays small
//! however long a supervisor does not read.

use super::book::Book;
use super::spawn::Workshop;
use super::{Source, WAITING_MAX, say};
use crate::ipc::wire::ledger::{self, Outcome};
use crate::ipc::wire::{FromKeeper, Key, VERSION, Welcome};
use crate::os::{fds, kill_point};
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const MS: u64 = 1_000_000;
/// The first restart of the supervisor is at once; the second waits this long, then it doubles.
const DELAY_FIRST_NS: u64 = 100 * MS;
const DELAY_MAX_NS: u64 = 5_000 * MS;
/// A supervisor that lived this long is healthy: the delay starts from zero again.
const HEALTHY_NS: u64 = 10_000 * MS;
/// A supervisor that lived this long has read every definition, and lived with it.
const CALM_NS: u64 = 5_000 * MS;
/// Crashes of supervisors that are counted: a successor may want to be careful.
const CRASHES_NS: u64 = 60_000 * MS;
/// Signals that it may have brought about itself, KILL among them: so it ends when memory has run out,
/// and when it has not answered us. Any other was sent by somebody and tells nothing of it.
const CRASHED_BY: [Signal; 10] = [
    Signal::SIGKILL,
    Signal::SIGABRT,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGSYS,
    Signal::SIGTRAP,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
];
/// Requests that are not understood, after which a supervisor is replaced.
const BABBLE_MAX: u32 = 64;

/// Something that the supervisor has to be told.
#[derive(Debug)]
pub enum Owed {
    Record(FromKeeper),
    /// With the listening socket.
    Welcome(Welcome),
    /// The page of the book about this service.
    Page(u32),
    Start(Key),
    End(Key),
    Fetched {
        id: u32,
        slot: u8,
    },
    /// A copy of the book.
    Copy(Option<OwnedFd>),
}

struct Alive {
    pid: Pid,
    /// Open only to be waited for.
    pidfd: Option<OwnedFd>,
    link: OwnedFd,
    started_ns: u64,
    /// It has said hello.
    greeted: bool,
    /// What epoll waits for on the link.
    interest: EpollFlags,
    /// Records of it that were none.
    babble: u32,
    /// When we last heard of it; its start at first.
    heard_ns: u64,
    /// It did not answer, or has not said hello: whether it has lived since then is not known. One that
    /// dies while it is being asked has.
    doubted: bool,
}

pub struct Deputy {
    argv: Vec<CString>,
    alive: Option<Alive>,
    /// When the next one is to be started.
    due_ns: Option<u64>,
    /// 0: the next restart is at once.
    delay_ns: u64,
    starts: u32,
    owed: VecDeque<Owed>,
    door: Option<Door>,
    /// When supervisors crashed.
    crashes: VecDeque<u64>,
    /// When the last one ended that had lived for a while.
    calm_until_ns: u64,
    /// So did the last one end.
    crashed: bool,
}

/// The control socket as the supervisor opened it: it stays open between two supervisors, so that
/// clients queue there instead of being refused.
struct Door {
    socket: OwnedFd,
    dev: u64,
    ino: u64,
}

impl Deputy {
    pub fn new(args: &[OsString]) -> Deputy {
        let mut argv = vec![CString::from(c"outlast-super")];
        // An argument of a process can't hold a NUL.
        argv.extend(
            args.iter()
                .filter_map(|arg| CString::new(arg.as_bytes()).ok()),
        );
        Deputy {
            argv,
            alive: None,
            due_ns: Some(0),
            delay_ns: 0,
            starts: 0,
            owed: VecDeque::new(),
            door: None,
            crashes: VecDeque::new(),
            calm_until_ns: 0,
            crashed: false,
        }
    }

    /// A link with nobody of ours at its other end.
    #[cfg(any(test, fuzzing))]
    pub fn pretend(&mut self, link: OwnedFd, epoll: &Epoll) -> io::Result<()> {
        epoll.add(
            &link,
            EpollEvent::new(EpollFlags::EPOLLIN, Source::Link.pack()),
        )?;
        self.alive = Some(Alive {
            // No process has this number.
            pid: Pid::from_raw(i32::MAX),
            pidfd: None,
            link,
            started_ns: 0,
            greeted: true,
            interest: EpollFlags::EPOLLIN,
            babble: 0,
            heard_ns: 0,
            doubted: false,
        });
        Ok(())
    }

    pub fn lives(&self) -> bool {
        self.alive.is_some()
    }

    pub fn is(&self, pid: Pid) -> bool {
        self.alive.as_ref().is_some_and(|alive| alive.pid == pid)
    }

    pub fn is_listening(&self) -> bool {
        self.alive.as_ref().is_some_and(|alive| alive.greeted)
    }

    pub fn link(&self) -> Option<BorrowedFd<'_>> {
        self.alive.as_ref().map(|alive| alive.link.as_fd())
    }

    pub fn owes(&self) -> usize {
        self.owed.len()
    }

    pub fn owe(&mut self, what: Owed) {
        // A supervisor that has not said hello gets it all from the book.
        if self.is_listening() {
            self.owed.push_back(what);
        }
    }

    /// When the next one is to be started.
    pub fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// True when it was started just now.
    pub fn start_when_due(&mut self, now_ns: u64, workshop: &Workshop, epoll: &Epoll) -> bool {
        if self.alive.is_some() || self.due_ns.is_none_or(|due| due > now_ns) {
            return false;
        }
        self.due_ns = None;
        match self.start(now_ns, workshop, epoll) {
            Ok(alive) => {
                self.alive = Some(alive);
                self.starts = self.starts.saturating_add(1);
                true
            }
            Err(error) => {
                say(&format!(
                    "cannot start the supervisor: {error}; trying again"
                ));
                self.plan_next(now_ns, 0);
                false
            }
        }
    }

    fn start(&self, now_ns: u64, workshop: &Workshop, epoll: &Epoll) -> io::Result<Alive> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        epoll.add(
            &ours,
            EpollEvent::new(EpollFlags::EPOLLIN, Source::Link.pack()),
        )?;
        let pid = workshop.ourselves(&self.argv, theirs.as_fd())?;
        kill_point("supervisor-forked");
        // Without a pidfd the sweep finds its end.
        let pidfd = sys::pidfd_open(pid).ok().filter(|pidfd| {
            let interest = EpollEvent::new(EpollFlags::EPOLLIN, Source::Deputy.pack());
            epoll.add(pidfd, interest).is_ok()
        });
        Ok(Alive {
            pid,
            pidfd,
            link: ours,
            started_ns: now_ns,
            greeted: false,
            interest: EpollFlags::EPOLLIN,
            babble: 0,
            heard_ns: now_ns,
            doubted: true,
        })
    }

    /// Takes the status of an ended supervisor; plans the next one unless it was done.
    pub fn reap(&mut self, now_ns: u64, done: bool, epoll: &Epoll) {
        let Some(alive) = &self.alive else {
            return;
        };
        let Ok(Some((status, _))) = sys::reap(alive.pid) else {
            return;
        };
        // A child that has not exec'ed yet has copies, which would keep them in there.
        let _ = epoll.delete(&alive.link);
        if let Some(pidfd) = &alive.pidfd {
            let _ = epoll.delete(pidfd);
        }
        self.crashed = !done && is_crash(status);
        if !done {
            self.note_end(now_ns);
        }
        self.alive = None;
        self.owed.clear();
        if !done {
            let ms = self
                .due_ns
                .map_or(0, |due| due.saturating_sub(now_ns).div_ceil(MS));
            say(&format!(
                "the supervisor ended (wait status {status:#x}); services go on, \
                 the next supervisor starts in {ms} ms"
            ));
        }
    }

    /// It has ended and was not done.
    fn note_end(&mut self, now_ns: u64) {
        let Some(alive) = &self.alive else {
            return;
        };
        // One that hung has not lived on with what it hung of.
        let last_ns = if alive.doubted {
            alive.heard_ns
        } else {
            now_ns
        };
        let lived_ns = last_ns.saturating_sub(alive.started_ns);
        if lived_ns >= CALM_NS {
            self.calm_until_ns = last_ns;
        }
        if self.crashed {
            self.crashes.truncate(ledger::CRASHES_MAX.saturating_sub(1));
            self.crashes.push_front(last_ns);
        }
        self.plan_next(now_ns, lived_ns);
    }

    fn plan_next(&mut self, now_ns: u64, lived_ns: u64) {
        if lived_ns >= HEALTHY_NS {
            self.delay_ns = 0;
        }
        self.due_ns = Some(now_ns.saturating_add(self.delay_ns));
        self.delay_ns = self
            .delay_ns
            .saturating_mul(2)
            .clamp(DELAY_FIRST_NS, DELAY_MAX_NS);
    }

    /// It is on its way out; only its end is waited for.
    pub fn let_go(&mut self, epoll: &Epoll) {
        if let Some(alive) = &mut self.alive {
            alive.greeted = false;
            let _ = epoll.delete(&alive.link);
        }
    }

    /// Its link is of no use any more: whatever it still does can't reach us, so it is ended.
    pub fn hang_up(&mut self) {
        if let Some(alive) = &mut self.alive {
            alive.greeted = false;
            // Not reaped yet, so the number is its own.
            let _ = kill(alive.pid, Signal::SIGKILL);
        }
        self.owed.clear();
    }

    /// It has said something.
    pub fn heard(&mut self, now_ns: u64) {
        if let Some(alive) = &mut self.alive {
            alive.heard_ns = now_ns;
            alive.doubted = false;
        }
    }

    /// Whether it is still there.
    pub fn ask(&mut self) {
        self.owe(Owed::Record(FromKeeper::StillThere));
    }

    /// It does not answer.
    pub fn replace(&mut self) {
        say("the supervisor does not serve any more; it is killed and replaced");
        if let Some(alive) = &mut self.alive {
            alive.doubted = true;
        }
        self.hang_up();
    }

    /// It has said something that can't be understood. Now and then that is dropped; who says nothing
    /// else is of no use.
    pub fn babbled(&mut self) {
        let Some(alive) = &mut self.alive else {
            return;
        };
        alive.babble = alive.babble.saturating_add(1);
        if alive.babble == 1 {
            say("a request was not understood; it is dropped, as further ones are");
        } else if alive.babble == BABBLE_MAX {
            say("the supervisor babbles; it is killed and replaced");
            self.hang_up();
        }
    }

    /// Starts, delay and ends, for a keeper that comes after us.
    pub fn history(&self, keeper: &mut ledger::Keeper) {
        keeper.starts = self.starts;
        keeper.delay_ns = self.delay_ns;
        keeper.crashes = self.crashes.iter().copied().collect();
        keeper.calm_until_ns = self.calm_until_ns;
    }

    pub fn resume(&mut self, keeper: ledger::Keeper) {
        self.starts = keeper.starts;
        self.delay_ns = keeper.delay_ns;
        self.crashes = keeper.crashes.into();
        self.calm_until_ns = keeper.calm_until_ns;
    }

    pub fn door(&self) -> Option<(BorrowedFd<'_>, u64, u64)> {
        let door = self.door.as_ref()?;
        Some((door.socket.as_fd(), door.dev, door.ino))
    }

    /// None is to be started.
    pub fn rest(&mut self) {
        self.due_ns = None;
    }

    /// The next one is to be started now.
    pub fn hurry(&mut self) {
        self.due_ns = Some(0);
    }

    /// Keeps the control socket, and hears of each connection there.
    pub fn listen(&mut self, socket: OwnedFd, dev: u64, ino: u64, epoll: &Epoll) {
        if let Some(old) = self.door.take() {
            let _ = epoll.delete(&old.socket);
        }
        // Edge-triggered: what the supervisor does not accept must not wake us again and again.
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        let _ = epoll.add(&socket, EpollEvent::new(flags, Source::Door.pack()));
        self.door = Some(Door { socket, dev, ino });
    }

    /// Whether anything waits for it: a connection, a record, or it was stopped.
    pub fn is_waited_for(&self) -> bool {
        let Some(alive) = &self.alive else {
            return false;
        };
        let connection = self.door.as_ref().is_some_and(|door| {
            let mut ready = [PollFd::new(door.socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut ready, PollTimeout::ZERO) == Ok(1)
        });
        connection || sys::unread(alive.link.as_fd()) || self.is_stopped()
    }

    /// By a signal, until somebody continues it.
    pub fn is_stopped(&self) -> bool {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.alive.as_ref().is_some_and(|alive| {
            let found = waitid(Id::Pid(alive.pid), flags);
            matches!(found, Ok(WaitStatus::Stopped(..)))
        })
    }

    /// Owes it the whole book, then the ends that nobody has taken note of.
    pub fn greet(&mut self, now_ns: u64, upgrade: Outcome, book: &Book) {
        let starts = self.starts;
        self.crashes
            .retain(|at| now_ns.saturating_sub(*at) <= CRASHES_NS);
        let first = self.crashes.back().copied().unwrap_or(0);
        let Some(alive) = &mut self.alive else {
            return;
        };
        alive.greeted = true;
        self.owed.clear();
        self.owed.push_back(Owed::Welcome(Welcome {
            version: VERSION,
            keeper: nix::unistd::getpid().as_raw(),
            entries: u32::try_from(book.len()).unwrap_or(u32::MAX),
            starts,
            signals: 0,
            dev: self.door.as_ref().map_or(0, |door| door.dev),
            ino: self.door.as_ref().map_or(0, |door| door.ino),
            crashes: u32::try_from(self.crashes.len()).unwrap_or(u32::MAX),
            calm_until_ns: first.max(self.calm_until_ns),
            upgrade,
            crashed: self.crashed,
        }));
        self.owed.extend(book.ids().map(Owed::Page));
        self.owed.push_back(Owed::Record(FromKeeper::EndOfBook));
        self.owed
            .extend(book.unacknowledged().into_iter().map(Owed::End));
    }

    /// Sends until all is told or the supervisor does not read. True when something was to be sent.
    pub fn pay(&mut self, book: &Book, epoll: &Epoll) -> bool {
        let Some(alive) = &mut self.alive else {
            return false;
        };
        let owed_something = !self.owed.is_empty();
        let door = self.door.as_ref().map(|door| door.socket.as_fd());
        let mut broken = false;
        let mut blocked = false;
        while let Some(owed) = self.owed.front() {
            match send(alive.link.as_fd(), owed, book, door) {
                Ok(()) => drop(self.owed.pop_front()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => {
                    blocked = true;
                    break;
                }
                Err(Errno::EPIPE | Errno::ECONNRESET) => {
                    // It hears nothing any more. Its last words may wait on the link, where its
                    // end is found as well.
                    alive.greeted = false;
                    self.owed.clear();
                }
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        // While it owes us its attention, nothing more is taken from it: that bounds the queue.
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLOUT, blocked);
        interest.set(EpollFlags::EPOLLIN, self.owed.len() <= WAITING_MAX);
        if interest != alive.interest {
            let mut event = EpollEvent::new(interest, Source::Link.pack());
            if epoll.modify(&alive.link, &mut event).is_ok() {
                alive.interest = interest;
            }
        }
        if broken {
            self.hang_up();
        }
        owed_something
    }
}

/// `status` as wait(2) gives it.
fn is_crash(status: i32) -> bool {
    match status & 0x7f {
        0 => true,
        signal => Signal::try_from(signal).is_ok_and(|signal| CRASHED_BY.contains(&signal)),
    }
}

fn send(
    link: BorrowedFd<'_>,
    owed: &Owed,
    book: &Book,
    door: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let record = match owed {
        Owed::Welcome(welcome) => {
            let attached: Vec<BorrowedFd<'_>> = door.into_iter().collect();
            return fds::send(link, &FromKeeper::Welcome(*welcome).encode(), &attached);
        }
        Owed::Record(record) => return fds::send(link, &record.encode(), &[]),
        Owed::Copy(copy) => {
            let attached: Vec<BorrowedFd<'_>> = copy.iter().map(AsFd::as_fd).collect();
            return fds::send(link, &FromKeeper::Book.encode(), &attached);
        }
        Owed::Page(id) => book.page(*id),
        Owed::Start(key) => book.start_of(*key),
        Owed::End(key) => book.end_of(*key),
        Owed::Fetched { id, slot } => {
            let fd = book.slot(*id, *slot);
            let record = FromKeeper::Fetched {
                id: *id,
                slot: *slot,
                found: fd.is_some(),
            };
            let attached: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
            return fds::send(link, &record.encode(), &attached);
        }
    };
    match record {
        Some(record) => fds::send(link, &record.encode(), &[]),
        // Forgotten meanwhile: nothing to say.
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000 * MS;

    /// One that was started at 100 s and has said something 1 s later.
    fn deputy() -> (Deputy, OwnedFd) {
        let epoll = Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let mut deputy = Deputy::new(&[]);
        deputy.pretend(ours.into(), &epoll).expect("a link");
        if let Some(alive) = &mut deputy.alive {
            alive.started_ns = 100 * S;
        }
        deputy.heard(101 * S);
        (deputy, theirs.into())
    }

    fn crashes(deputy: &mut Deputy, now_ns: u64) {
        deputy.crashed = true;
        deputy.note_end(now_ns);
    }

    #[test]
    fn one_that_dies_has_lived_until_then() {
        let (mut deputy, _theirs) = deputy();
        deputy.ask();
        deputy.heard(106 * S);
        deputy.ask();
        crashes(&mut deputy, 120 * S);
        assert_eq!(deputy.calm_until_ns, 120 * S);
        assert_eq!(deputy.crashes, [120 * S]);
    }

    #[test]
    fn one_that_hangs_has_not_lived_with_what_it_hangs_of() {
        let (mut deputy, _theirs) = deputy();
        deputy.ask();
        deputy.heard(102 * S);
        deputy.replace();
        crashes(&mut deputy, 120 * S);
        assert_eq!(deputy.calm_until_ns, 0);
        assert_eq!(deputy.crashes, [102 * S]);
    }
}
