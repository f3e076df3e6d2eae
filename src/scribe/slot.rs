//! One attached log within its lane: its pipe, its runs, what it still owes.
//!
//! A *run* is a life of the service's process. Output belongs to the run that is under way when it
//! is read. The supervisor tells a start before the process exists, but by another way than the
//! output comes; so what is read of a service that is not known to run is held until the link has
//! answered that everything told before has been passed on.

use super::echo::{Echo, Named};
use super::lane::Tools;
use super::link::Report;
use super::recent::Recent;
use crate::ipc::scribe::FromScribe;
use crate::log::dir::Halt;
use crate::log::engine::{End, Flow, Log, Now};
use crate::log::settings::{SCRIBE, Settings};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::cmp::Reverse;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Bytes of one log that are read before the others have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// What a pipe holds when it can't be asked.
const PIPE_BYTES: usize = 64 * 1024;
/// Bounds of an answer to `Tail`.
const TAIL_LINES_MAX: usize = 1000;
const TAIL_LINE_BYTES_MAX: usize = 4096;
/// Marks the processor's descriptor among the events of a log.
pub const PROCESSOR: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// Attached, and nothing was said yet: the service may well be running.
    Unknown,
    UnderWay,
    /// The last one has ended; what comes is its finish script's, a leftover's, or a new run's.
    Between,
}

/// What could not be done while the log was stuck.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    ended: bool,
    started: bool,
    detached: bool,
}

#[derive(Debug)]
pub struct Slot {
    id: u32,
    name: Box<str>,
    log: Log,
    pipe: Option<OwnedFd>,
    /// The pipe is in the lane's epoll set.
    listens: bool,
    /// The link was asked about a start, on account of this output.
    asks: Option<Box<[u8]>>,
    run: Run,
    /// Positions: where the run that is under way began, and the last one that has ended.
    starts: u64,
    last: Range<u64>,
    owed: Owed,
    /// Lines of a log without a file.
    recent: Recent,
    /// The trouble that the supervisor knows of.
    told: Option<Box<str>>,
    wakes_at: Option<u64>,
}

impl Slot {
    pub fn new(id: u32, name: Box<str>, dir: &Path, settings: Settings, pipe: OwnedFd) -> Slot {
        let log = Log::new(dir, settings, &SCRIBE);
        let position = log.position();
        Slot {
            id,
            name,
            log,
            pipe: Some(pipe),
            listens: false,
            asks: None,
            run: Run::Unknown,
            starts: position,
            last: position..position,
            owed: Owed::default(),
            recent: Recent::default(),
            told: None,
            wakes_at: None,
        }
    }

    pub fn dir(&self) -> &Path {
        self.log.path()
    }

    pub fn wakes_at(&self) -> Option<u64> {
        self.wakes_at
    }

    pub fn open(&mut self, tools: &mut Tools) {
        if self.log.trouble().is_none() {
            self.log.open(&mut tools.desk, Now::read());
        }
    }

    /// Other settings; the duplicate of the pipe counts only if ours has come to its end.
    pub fn set(&mut self, settings: Settings, pipe: OwnedFd) {
        self.log.set(settings);
        self.pipe.get_or_insert(pipe);
    }

    /// The pipe has something.
    pub fn readable(&mut self, tools: &mut Tools) {
        if self.run == Run::UnderWay || !tools.linked {
            return self.read(tools, TURN_BYTES);
        }
        if let Some(bytes) = self.read_once(tools, TURN_BYTES) {
            self.asks = Some(tools.buffer[..bytes].into());
            let (lane, id) = (tools.number, self.id);
            tools.reports.send(Report::Ask { lane, id });
        }
    }

    /// Everything that the supervisor said before the output came has been heard.
    pub fn asked(&mut self, tools: &mut Tools) {
        if self.run == Run::Unknown {
            self.run = Run::UnderWay;
        }
        self.take_held(tools);
    }

    pub fn run_starts(&mut self, tools: &mut Tools) {
        if self.is_stuck() {
            self.owed.started = true;
            return;
        }
        if self.log.is_within_a_line() {
            // Torn by a crash, or left by a leftover: not this run's line.
            self.end_line(End::Line, tools);
        }
        self.starts = self.log.position();
        self.run = Run::UnderWay;
        self.recent.clear();
    }

    pub fn run_ended(&mut self, tools: &mut Tools) {
        self.read(tools, self.pipe_bytes());
        if self.is_stuck() || self.end_line(End::Line, tools) == Flow::Stuck {
            self.owed.ended = true;
            self.owed.started = false;
            return;
        }
        let position = self.log.position();
        if self.run != Run::Between {
            self.last = self.starts..position;
        }
        self.starts = position;
        self.run = Run::Between;
    }

    pub fn rotate(&mut self, tools: &mut Tools) {
        self.log.rotate(&mut tools.desk, Now::read());
    }

    /// The last lines of a run.
    pub fn tail(&mut self, token: u64, lines: u32, current: bool, tools: &mut Tools) {
        let under_way = self.run != Run::Between || self.owed.started;
        if current && under_way {
            self.read(tools, TURN_BYTES);
        }
        let span = match (current && under_way) || self.owed.ended {
            true => self.starts..self.log.position(),
            false => self.last.clone(),
        };
        let lines = usize::try_from(lines)
            .unwrap_or(usize::MAX)
            .min(TAIL_LINES_MAX);
        let without = self.log.without().is_some();
        let found = match without {
            true => self.recent.last(lines),
            // Not there to be read is not there.
            false => self
                .log
                .lines_between(span.start, span.end, lines, TAIL_LINE_BYTES_MAX)
                .unwrap_or_default(),
        };
        let text = |line: Vec<u8>| String::from_utf8_lossy(&line).into_owned();
        let file = self.log.path().join("current").display().to_string();
        tools.reports.send(Report::Tell(FromScribe::Tail {
            token,
            lines: found.into_iter().map(text).collect(),
            file: (!without).then_some(file),
        }));
    }

    /// Writes out what is in the pipe. False when that can't be done yet; it is then tried on, and
    /// asked again by [`Slot::is_detached`].
    pub fn detach(&mut self, tools: &mut Tools) -> bool {
        self.owed.detached = !self.empty(End::Line, tools);
        !self.owed.detached
    }

    /// As `detach`, for the end of this process.
    pub fn empty(&mut self, end: End, tools: &mut Tools) -> bool {
        self.read(tools, self.pipe_bytes());
        if self.log.unwritten_bytes() == 0 && !self.log.is_within_a_line() {
            // Also when the log is in trouble: nobody has to wait for nothing.
            return true;
        }
        !self.is_stuck() && self.end_line(end, tools) == Flow::Going
    }

    /// The timer is due, or the processor has ended.
    pub fn resume(&mut self, tools: &mut Tools) {
        let was_full = self.log.trouble() == Some(&Halt::Full);
        let without = self.log.without().is_some();
        let mut witness = seen(&tools.echo, &self.name, without.then_some(&mut self.recent));
        let flow = self.log.resume(&mut tools.desk, Now::read(), &mut witness);
        if flow == Flow::Stuck {
            return;
        }
        if was_full {
            tools.full = false;
        }
        let owed = std::mem::take(&mut self.owed);
        if owed.ended {
            self.run_ended(tools);
        }
        if owed.started {
            self.run_starts(tools);
        }
        self.owed.detached = owed.detached;
    }

    /// It is to be detached and was not yet.
    pub fn owes_detach(&self) -> bool {
        self.owed.detached
    }

    pub fn is_stuck(&self) -> bool {
        self.log.trouble().is_some()
    }

    /// Lets go of everything; how many bytes are lost, and whose.
    pub fn close(self) -> (Box<str>, usize) {
        (self.name, self.log.close())
    }

    /// After each change: tells of trouble, sets the timer, listens or stops listening.
    pub fn settle(&mut self, tools: &mut Tools) {
        if tools.echo.is_some() && self.log.go_without(Now::read()) {
            self.resume(tools);
        }
        if self.log.without().is_none() {
            self.recent.clear();
        }
        let trouble = self.log.trouble();
        tools.full |= trouble == Some(&Halt::Full);
        let path = self.log.path();
        let words = trouble.map(|halt| halt.words(path));
        let aside = self.log.without().map(|halt| halt.words_without(path));
        let echoed = words.is_none() && aside.is_some();
        let words = words.or(aside).map(String::into_boxed_str);
        if words != self.told {
            let id = self.id;
            tools.reports.send(Report::Tell(match &words {
                Some(words) => FromScribe::Trouble {
                    id,
                    message: words.to_string(),
                    echoed,
                },
                None => FromScribe::Mended { id },
            }));
            self.told = words;
        }
        let wakes_at = self.log.wakes_at();
        if wakes_at != self.wakes_at {
            self.wakes_at = wakes_at;
            tools
                .timers
                .extend(wakes_at.map(|at| Reverse((at, self.id))));
        }
        let data = u64::from(self.id);
        if let Some(fd) = self.log.processor() {
            // Refused when it is there already; gone by itself when it is closed.
            let _ = tools
                .epoll
                .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, data | PROCESSOR));
        }
        let listens = self.pipe.is_some() && self.asks.is_none() && !self.is_stuck();
        self.listen(listens, tools);
    }

    fn listen(&mut self, listens: bool, tools: &mut Tools) {
        let Some(pipe) = &self.pipe else {
            self.listens = false;
            return;
        };
        if listens == self.listens {
            return;
        }
        // Taken out rather than masked: a hang-up is always told, and would be told without end.
        let result = match listens {
            true => {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(self.id));
                tools.epoll.add(pipe, event)
            }
            false => tools.epoll.delete(pipe),
        };
        match result {
            Ok(()) => self.listens = listens,
            Err(errno) => {
                // Not a pipe: nothing that could be waited for.
                tools.reports.send(Report::Tell(FromScribe::Trouble {
                    id: self.id,
                    message: format!("cannot wait for its output: {} ({errno:?})", errno.desc()),
                    echoed: false,
                }));
                self.pipe = None;
            }
        }
    }

    fn end_line(&mut self, end: End, tools: &mut Tools) -> Flow {
        let without = self.log.without().is_some();
        let mut witness = seen(&tools.echo, &self.name, without.then_some(&mut self.recent));
        self.log
            .end_line(end, &mut tools.desk, Now::read(), &mut witness)
    }

    /// Reads until the pipe is dry or so many bytes were read, and writes them.
    fn read(&mut self, tools: &mut Tools, bytes_max: usize) {
        self.take_held(tools);
        let mut left = bytes_max;
        while left > 0 && !self.is_stuck() {
            let Some(bytes) = self.read_once(tools, left) else {
                return;
            };
            let without = self.log.without().is_some();
            let mut witness = seen(&tools.echo, &self.name, without.then_some(&mut self.recent));
            let input = &tools.buffer[..bytes];
            self.log
                .take(&mut tools.desk, input, Now::read(), &mut witness);
            if bytes < tools.read_bytes().min(left) {
                return;
            }
            left -= bytes;
        }
    }

    /// One read into the lane's buffer; None when there is nothing.
    fn read_once(&mut self, tools: &mut Tools, bytes_max: usize) -> Option<usize> {
        let most = tools.read_bytes().min(bytes_max);
        loop {
            match nix::unistd::read(self.pipe.as_ref()?, &mut tools.buffer[..most]) {
                Ok(0) => break,
                Ok(bytes) => return Some(bytes),
                Err(Errno::EAGAIN) => return None,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        self.hang_up(tools);
        None
    }

    fn take_held(&mut self, tools: &mut Tools) {
        if let Some(held) = self.asks.take() {
            let without = self.log.without().is_some();
            let mut witness = seen(&tools.echo, &self.name, without.then_some(&mut self.recent));
            self.log
                .take(&mut tools.desk, &held, Now::read(), &mut witness);
        }
    }

    /// No writer is left, nor can one come: a pipe that the keeper holds never ends so.
    fn hang_up(&mut self, tools: &mut Tools) {
        self.listen(false, tools);
        self.pipe = None;
        self.end_line(End::Line, tools);
    }

    fn pipe_bytes(&self) -> usize {
        let pipe = self.pipe.as_ref().map(AsFd::as_fd);
        let size = pipe.and_then(|pipe| fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok());
        size.and_then(|size| usize::try_from(size).ok())
            .unwrap_or(PIPE_BYTES)
    }
}

fn seen<'a>(
    echo: &'a Option<Arc<Echo>>,
    name: &'a str,
    recent: Option<&'a mut Recent>,
) -> Named<'a> {
    Named {
        echo: echo.as_deref(),
        name,
        recent,
    }
}
