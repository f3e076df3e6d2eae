//! A writer: the thread that reads the pipes and writes the logs of one file system.
//!
//! Synchronous; it may wait for its disk as long as it takes, since nobody waits for it.

use super::echo::Echo;
use super::journal::{Journal, STAGING_BYTES};
use super::link::Report;
use super::mail::{Inbox, Post, mailbox};
use super::slot::{PROCESSOR, Slot};
use crate::ipc::scribe::{Asked, FromScribe};
use crate::log::engine::Desk;
pub use crate::log::engine::End;
use crate::log::settings::Settings;
use crate::os::fds::SharedBytes;
use crate::os::{clock, give_back_memory, let_go_of_program};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Read from a pipe at once; a pipe's usual size.
const READ_BYTES: usize = STAGING_BYTES;
/// ... while the disk is full, so that ten thousand waiting logs hold little.
const CAUTIOUS_BYTES: usize = 4096;
/// Logs looked at between two looks at the messages.
const EVENTS_MAX: usize = 64;
/// After the last log was opened, in ns: what that took is given back then, once.
const CALM_NS: u64 = 1_000_000_000;
/// The bell, among the ids of logs.
const BELL: u64 = u64::MAX;

/// What a lane is told.
#[derive(Debug)]
pub enum Job {
    Attach {
        id: u32,
        name: Box<str>,
        dir: Box<Path>,
        settings: Settings,
        pipe: OwnedFd,
    },
    Detach {
        id: u32,
    },
    RunStarts {
        id: u32,
    },
    RunEnded {
        id: u32,
    },
    Tail {
        token: u64,
        id: u32,
        asked: Asked,
    },
    /// Read the `config` of each log again.
    Reload,
    /// The answer to `Report::Ask`.
    Asked {
        id: u32,
    },
    Finish {
        end: End,
        within: Duration,
    },
}

/// What the logs of a lane share.
pub struct Tools {
    pub number: usize,
    pub epoll: Epoll,
    pub reports: Post<Report>,
    pub desk: Desk,
    pub buffer: Buffer,
    pub journal: Option<Arc<Journal>>,
    /// When a log wants to be resumed. Times that a log has given up since are passed over.
    pub timers: BinaryHeap<Reverse<(u64, u32)>>,
    /// The disk was full when it was last written.
    pub full: bool,
    /// There is a supervisor that can be asked.
    pub linked: bool,
    pub echo: Option<Arc<Echo>>,
}

/// Where a lane reads to: its part of the journal, or memory of its own.
pub enum Buffer {
    Shared(SharedBytes),
    Own(Vec<u8>),
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Buffer::Shared(bytes) => bytes,
            Buffer::Own(bytes) => bytes,
        }
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Buffer::Shared(bytes) => bytes,
            Buffer::Own(bytes) => bytes,
        }
    }
}

struct Lane {
    tools: Tools,
    inbox: Inbox<Job>,
    slots: HashMap<u32, Box<Slot>>,
    /// Attached and not opened: done when there is nothing else to do.
    unopened: VecDeque<u32>,
    /// When the last was opened, until memory is given back.
    opened_at: Option<u64>,
    leaving: Option<(End, u64)>,
}

/// Starts a lane.
pub fn start(
    number: usize,
    reports: Post<Report>,
    echo: Option<Arc<Echo>>,
    journal: Option<Arc<Journal>>,
) -> io::Result<Post<Job>> {
    let (post, inbox) = mailbox()?;
    let staging = journal.as_ref().map(|journal| journal.staging(number));
    let (journal, buffer) = match staging {
        Some(Ok(staging)) => (journal, Buffer::Shared(staging)),
        Some(Err(_)) | None => (None, Buffer::Own(vec![0; READ_BYTES])),
    };
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(inbox.bell(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
    let tools = Tools {
        number,
        epoll,
        reports,
        desk: Desk::default(),
        buffer,
        journal,
        timers: BinaryHeap::new(),
        full: false,
        linked: true,
        echo,
    };
    let mut lane = Lane {
        tools,
        inbox,
        slots: HashMap::new(),
        unopened: VecDeque::new(),
        opened_at: None,
        leaving: None,
    };
    std::thread::Builder::new()
        .name(format!("outlast-lane-{number}"))
        .spawn(move || lane.run())?;
    Ok(post)
}

impl Lane {
    fn run(&mut self) {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        loop {
            let count = match self.tools.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                // Only a programming error can cause it; without epoll there is no lane.
                Err(errno) => panic!("epoll_wait: {errno}"),
            };
            let happened = events.iter().take(count).map(EpollEvent::data);
            // Messages first: a start that was told counts for the output that came after it.
            if happened.clone().any(|data| data == BELL) {
                for job in self.inbox.take() {
                    self.heed(job);
                }
            }
            for data in happened.filter(|data| *data != BELL) {
                self.happened(data);
            }
            self.fire();
            if count == 0
                && let Some(id) = self.unopened.pop_front()
            {
                self.with(id, Slot::open);
                self.opened_at = Some(clock::monotonic_ns());
            }
            self.give_back();
            if self.leave() {
                return;
            }
        }
    }

    /// Memory, when the last of new logs has been open for a while.
    fn give_back(&mut self) {
        if self
            .calm_due()
            .is_some_and(|at| at <= clock::monotonic_ns())
        {
            self.opened_at = None;
            give_back_memory();
            let_go_of_program();
        }
    }

    fn calm_due(&self) -> Option<u64> {
        self.opened_at.map(|at| at.saturating_add(CALM_NS))
    }

    /// Waits for ever when nothing is under way.
    fn timeout(&self) -> EpollTimeout {
        if !self.unopened.is_empty() {
            return EpollTimeout::ZERO;
        }
        let timer = self.tools.timers.peek().map(|Reverse((at, _))| *at);
        let leave = self.leaving.map(|(_, until)| until);
        let Some(at) = [timer, leave, self.calm_due()].into_iter().flatten().min() else {
            return EpollTimeout::NONE;
        };
        let ns = at.saturating_sub(clock::monotonic_ns());
        let ms = i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX);
        EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::ZERO)
    }

    /// Does something with a log, if it is still there, and sets its timer and its listening anew.
    fn with(&mut self, id: u32, action: impl FnOnce(&mut Slot, &mut Tools)) {
        if let Some(slot) = self.slots.get_mut(&id) {
            action(slot, &mut self.tools);
            slot.settle(&mut self.tools);
        }
    }

    fn heed(&mut self, job: Job) {
        match job {
            Job::Attach {
                id,
                name,
                dir,
                settings,
                pipe,
            } => self.attach(id, name, &dir, settings, pipe),
            Job::Detach { id } => {
                let mut gone = false;
                self.with(id, |slot, tools| gone = slot.detach(tools));
                if gone {
                    self.remove(id);
                }
            }
            Job::RunStarts { id } => self.with(id, Slot::run_starts),
            Job::RunEnded { id } => {
                self.with(id, Slot::run_ended);
                let ended = FromScribe::Ended { id };
                self.tools.reports.send(Report::Tell(ended));
            }
            Job::Tail { token, id, asked } => {
                self.with(id, |slot, tools| slot.tail(token, asked, tools));
            }
            Job::Reload => {
                let all: Vec<u32> = self.slots.keys().copied().collect();
                for id in all {
                    self.with(id, |slot, _| slot.reload());
                }
            }
            Job::Asked { id } => self.with(id, Slot::asked),
            Job::Finish { end, within } => self.finish(end, within),
        }
    }

    fn attach(&mut self, id: u32, name: Box<str>, dir: &Path, settings: Settings, pipe: OwnedFd) {
        if let Some(slot) = self.slots.get_mut(&id) {
            if slot.dir() == dir {
                return self.with(id, |slot, _| slot.set(settings, pipe));
            }
            // What was read so far belongs to the old directory.
            slot.empty(End::Line, &mut self.tools);
        }
        if let Some(old) = self.slots.remove(&id) {
            let (name, bytes) = old.close(false);
            if bytes > 0 {
                eprintln!("outlast-scribe: {name}: {bytes} bytes lost with its old log directory");
            }
        }
        let slot = Box::new(Slot::new(id, name, dir, settings, pipe, &self.tools));
        let unfinished = slot.is_unfinished();
        self.slots.insert(id, slot);
        if unfinished {
            return self.with(id, Slot::open);
        }
        self.unopened.push_back(id);
        self.with(id, |_, _| {});
    }

    fn happened(&mut self, data: u64) {
        let Ok(id) = u32::try_from(data & !PROCESSOR) else {
            return;
        };
        if data & PROCESSOR == 0 {
            self.with(id, Slot::readable);
        } else {
            self.resume(id);
        }
    }

    fn fire(&mut self) {
        while let Some(Reverse((at, id))) = self.tools.timers.peek().copied() {
            if at > clock::monotonic_ns() {
                return;
            }
            self.tools.timers.pop();
            if self
                .slots
                .get(&id)
                .is_some_and(|slot| slot.wakes_at() == Some(at))
            {
                self.resume(id);
            }
        }
    }

    fn resume(&mut self, id: u32) {
        let mut gone = false;
        self.with(id, |slot, tools| {
            slot.resume(tools);
            gone = slot.owes_detach() && slot.detach(tools);
        });
        if gone {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u32) {
        if let Some(slot) = self.slots.remove(&id) {
            slot.close(false);
        }
        let gone = FromScribe::Detached { id };
        self.tools.reports.send(Report::Tell(gone));
        // If the disk is still full, the next who is told so says it again.
        self.tools.full = false;
    }

    fn finish(&mut self, end: End, within: Duration) {
        let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        self.leaving = Some((end, clock::monotonic_ns().saturating_add(within)));
        self.tools.linked = false;
        self.unopened.clear();
    }

    /// When it is to end: lets go of what is written out. True when nothing is left to do.
    fn leave(&mut self) -> bool {
        let Some((end, until)) = self.leaving else {
            return false;
        };
        let tools = &mut self.tools;
        // Who reads the pipes after us goes on with the journal, too.
        let journal = tools.journal.as_ref();
        let successor = end == End::Open && journal.is_some_and(|journal| journal.has_heirs());
        let done: Vec<u32> = self
            .slots
            .iter_mut()
            .filter_map(|(id, slot)| {
                let stays = !match end {
                    End::Line => slot.detach(tools),
                    End::Open => slot.empty(end, tools),
                };
                if stays {
                    slot.settle(tools);
                }
                (!stays).then_some(*id)
            })
            .collect();
        for slot in done.iter().filter_map(|id| self.slots.remove(id)) {
            slot.close(successor);
        }
        if !self.slots.is_empty() && clock::monotonic_ns() < until {
            return false;
        }
        let closed = self.slots.drain().map(|(_, slot)| {
            let unread = slot.unread_bytes(end);
            let (name, bytes) = slot.close(successor);
            (name, bytes.saturating_add(unread))
        });
        let lost = closed.filter(|(_, bytes)| *bytes > 0).collect();
        self.tools.reports.send(Report::Done { lost });
        true
    }
}

impl Tools {
    /// How much to read at once.
    pub fn read_bytes(&self) -> usize {
        if self.full {
            CAUTIOUS_BYTES
        } else {
            self.buffer.len()
        }
    }
}
