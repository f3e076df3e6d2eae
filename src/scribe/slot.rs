//! One attached log within its lane: its pipe, its runs, what it still owes.
//!
//! A *run* is a life of the service's process. Output belongs to the run that is under way when it
//! is read. The supervisor tells a start before the process exists, but by another way than the
//! output comes; so what is read of a service that is not known to run is held until the link has
//! answered that everything told before has been passed on. It is held in the pipe: its length is
//! enough to know it by.
//!
//! With a journal, each piece of output goes through it (see there), and what a killed predecessor
//! had in hand comes first.

use super::echo::{Echo, Named};
use super::journal::{Entry, Left};
use super::lane::Tools;
use super::link::Report;
use super::recent::Recent;
use crate::ipc::scribe::FromScribe;
use crate::log::dir::Halt;
use crate::log::engine::{End, Flow, Log, Now};
use crate::log::settings::{SCRIBE, Settings};
use crate::os::fds;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::stat::fstat;
use std::cmp::Reverse;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

mod leaving;
mod tail;

/// Bytes of one log that are read before the others have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// What a pipe holds when it can't be asked.
const PIPE_BYTES: usize = 64 * 1024;
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
}

#[derive(Debug)]
pub struct Slot {
    id: u32,
    name: Box<str>,
    log: Log,
    pipe: Option<OwnedFd>,
    /// The pipe is in the lane's epoll set.
    listens: bool,
    /// The link was asked about a start, on account of so many bytes of output.
    asks: Option<usize>,
    run: Run,
    /// Positions: where the run that is under way began, and the last one that has ended.
    starts: u64,
    last: Range<u64>,
    /// ... unless a predecessor was told of that.
    starts_known: bool,
    last_known: bool,
    owed: Owed,
    /// It is to be detached; a processor at work is waited for until then.
    leaves_by: Option<u64>,
    /// Lines of a log without a file.
    recent: Recent,
    /// The trouble that the supervisor knows of.
    told: Option<Box<str>>,
    wakes_at: Option<u64>,
    /// Where its progress is noted.
    entry: Option<Entry>,
    /// Input that a predecessor left, and when it came.
    left: Option<Box<Left>>,
}

impl Slot {
    pub fn new(
        id: u32,
        name: Box<str>,
        dir: &Path,
        settings: Settings,
        pipe: OwnedFd,
        tools: &Tools,
    ) -> Slot {
        let mut log = Log::new(dir, settings, &SCRIBE);
        let position = log.position();
        let (mut entry, mut left) = (None, None);
        if let Some(journal) = &tools.journal
            && let Ok(about) = fstat(&pipe)
            && let Some((claimed, mut found)) = journal.claim(id, about.st_ino)
        {
            let unfinished = found.is_unfinished();
            log = log.tracked_by(Box::new(claimed.clone()), found.saved.take());
            left = unfinished.then(|| Box::new(found));
            entry = Some(claimed);
        }
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
            starts_known: false,
            last_known: false,
            owed: Owed::default(),
            leaves_by: None,
            recent: Recent::default(),
            told: None,
            wakes_at: None,
            entry,
            left,
        }
    }

    pub fn dir(&self) -> &Path {
        self.log.path()
    }

    pub fn wakes_at(&self) -> Option<u64> {
        self.wakes_at
    }

    /// A predecessor was killed while it wrote this log.
    pub fn is_unfinished(&self) -> bool {
        self.left.is_some()
    }

    pub fn open(&mut self, tools: &mut Tools) {
        self.finish_left(tools);
        if self.log.trouble().is_none() {
            self.log.open(&mut tools.desk, Now::read());
        }
    }

    /// Other settings; the duplicate of the pipe counts only if ours has come to its end.
    pub fn set(&mut self, settings: Settings, pipe: OwnedFd) {
        self.log.set(settings);
        self.leaves_by = None;
        self.pipe.get_or_insert(pipe);
    }

    /// The pipe has something.
    pub fn readable(&mut self, tools: &mut Tools) {
        if self.run == Run::UnderWay || !tools.linked {
            return self.read(tools, TURN_BYTES);
        }
        let waiting = self.pipe.as_ref().map_or(0, fds::readable);
        if waiting == 0 {
            // The end of the pipe, or another reader was quicker.
            return self.read(tools, TURN_BYTES);
        }
        self.asks = Some(waiting);
        let (lane, id) = (tools.number, self.id);
        tools.reports.send(Report::Ask { lane, id });
    }

    /// Everything that the supervisor said before the output came has been heard.
    pub fn asked(&mut self, tools: &mut Tools) {
        if self.run == Run::Unknown {
            self.run = Run::UnderWay;
        }
        self.take_held(tools);
    }

    pub fn run_starts(&mut self, tools: &mut Tools) {
        self.log.reload();
        if self.is_stuck() {
            self.owed.started = true;
            return;
        }
        if self.log.is_within_a_line() {
            // Torn by a crash, or left by a leftover: not this run's line.
            self.end_line(End::Line, tools);
        }
        self.starts = self.log.position();
        self.starts_known = true;
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
            self.last_known = self.starts_known;
        }
        self.starts = position;
        self.starts_known = true;
        self.run = Run::Between;
    }

    pub fn reload(&mut self) {
        self.log.reload();
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
        if let Some(entry) = &self.entry {
            entry.clear_aside();
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
    }

    pub fn is_stuck(&self) -> bool {
        self.log.trouble().is_some()
    }

    /// After each change: tells of trouble, sets the timer, listens or stops listening.
    pub fn settle(&mut self, tools: &mut Tools) {
        self.keep_to_the_file(tools);
        if echoes(&tools.echo) && self.log.go_without(Now::read()) {
            self.resume(tools);
        }
        if self.log.without().is_none() {
            self.recent.clear();
        }
        let trouble = self.log.trouble();
        tools.full |= trouble == Some(&Halt::Full);
        let path = self.log.path();
        let aside = self.log.without().map(|halt| halt.words_without(path));
        // Of a log that has no file a processor's trouble is the lesser one.
        let of_processor = self.log.processor_words().filter(|_| aside.is_none());
        let words = match (trouble, of_processor) {
            (None | Some(Halt::Processing), Some(words)) => Some(words),
            (Some(Halt::Full), _) => Some(self.log.full_words()),
            (trouble, _) => trouble.map(|halt| halt.words(path)),
        };
        let echoed = words.is_none() && aside.is_some();
        let words = words.or(aside).map(String::into_boxed_str);
        if words != self.told {
            let id = self.id;
            tools.reports.send(Report::Tell(match &words {
                Some(words) => FromScribe::Trouble {
                    id,
                    message: words.to_string(),
                    echoed,
                    had_file: self.log.had_file(),
                },
                None => FromScribe::Mended { id },
            }));
            self.told = words;
        }
        let due = [self.log.wakes_at(), self.processor_due()];
        let wakes_at = due.into_iter().flatten().min();
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
                    had_file: false,
                }));
                self.pipe = None;
            }
        }
    }

    fn end_line(&mut self, end: End, tools: &mut Tools) -> Flow {
        self.finish_left(tools);
        let without = self.log.without().is_some();
        let mut witness = seen(&tools.echo, &self.name, without.then_some(&mut self.recent));
        self.log
            .end_line(end, &mut tools.desk, Now::read(), &mut witness)
    }

    /// Reads until the pipe is dry or so many bytes were read, and writes them.
    fn read(&mut self, tools: &mut Tools, bytes_max: usize) {
        self.take_held(tools);
        self.read_up_to(tools, bytes_max);
    }

    fn read_up_to(&mut self, tools: &mut Tools, bytes_max: usize) {
        self.finish_left(tools);
        self.keep_to_the_file(tools);
        let mut left = bytes_max;
        while left > 0 && !self.is_stuck() {
            let most = tools.read_bytes().min(left);
            let Some(bytes) = self.read_once(tools, most) else {
                return;
            };
            self.write(tools, bytes);
            if bytes < most {
                return;
            }
            left -= bytes;
        }
    }

    /// What nobody reads and no file takes waits in the pipe.
    fn keep_to_the_file(&mut self, tools: &mut Tools) {
        if self.log.without().is_some() && !echoes(&tools.echo) {
            self.log.go_with(&mut tools.desk, Now::read());
        }
    }

    /// One read into the lane's buffer; None when there is nothing.
    fn read_once(&mut self, tools: &mut Tools, most: usize) -> Option<usize> {
        let pipe = self.pipe.as_ref()?;
        loop {
            let buffer = &mut tools.buffer[..most];
            let read = match &self.entry {
                Some(entry) => entry.take_in(tools.number, pipe.as_fd(), buffer),
                None => nix::unistd::read(pipe, buffer),
            };
            match read {
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

    /// Has the log take what was read.
    fn write(&mut self, tools: &mut Tools, bytes: usize) {
        let now = Now::read();
        if let Some(entry) = &self.entry {
            entry.came(tools.number, now.wall);
        }
        let piece = &tools.buffer[..bytes];
        let without = self.log.without().is_some();
        let mut witness = seen(&tools.echo, &self.name, without.then_some(&mut self.recent));
        let flow = self.log.take(&mut tools.desk, piece, now, &mut witness);
        match (&self.entry, flow) {
            (Some(entry), Flow::Going) => entry.written(tools.number),
            (Some(entry), Flow::Stuck) => entry.keep_aside(tools.number, piece),
            (None, _) => {}
        }
    }

    /// What a killed predecessor had taken and not written.
    fn finish_left(&mut self, tools: &mut Tools) {
        let Some(left) = self.left.take() else {
            return;
        };
        let mut now = Now::read();
        if !left.wall.is_zero() {
            now.wall = left.wall;
        }
        let without = self.log.without().is_some();
        let mut witness = seen(&tools.echo, &self.name, without.then_some(&mut self.recent));
        let flow = self
            .log
            .take(&mut tools.desk, &left.input, now, &mut witness);
        if let (Some(entry), Flow::Going) = (&self.entry, flow) {
            entry.clear_aside();
        }
    }

    /// What was there before the link was asked.
    fn take_held(&mut self, tools: &mut Tools) {
        if let Some(held) = self.asks.take() {
            self.read_up_to(tools, held);
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

fn echoes(echo: &Option<Arc<Echo>>) -> bool {
    echo.as_ref().is_some_and(|echo| echo.is_open())
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

#[cfg(test)]
mod tests {
    use super::super::echo::Style;
    use super::super::lane::Buffer;
    use super::super::mail::mailbox;
    use super::*;
    use crate::ipc::wire::Format;
    use crate::log::desk::Desk;
    use nix::sys::epoll::{Epoll, EpollCreateFlags};
    use std::time::Duration;

    #[test]
    fn lines_wait_in_the_pipe_when_no_file_takes_them_and_nobody_reads_the_echo() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let style = Style {
            format: Format::Text,
            terminal: false,
            colour: false,
        };
        let (reports, _inbox) = mailbox().unwrap();
        let mut tools = Tools {
            number: 0,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap(),
            reports,
            desk: Desk::default(),
            buffer: Buffer::Own(vec![0; 4096]),
            journal: None,
            timers: std::collections::BinaryHeap::new(),
            full: false,
            linked: false,
            echo: Some(Echo::to(Some(writer), style)),
        };
        let (pipe, output) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        // Nobody may make a directory there, whoever he is.
        let nowhere = Path::new("/sys/outlast-has-no-log-here");
        let settings = Settings::default();
        let mut slot = Slot::new(1, "web".into(), nowhere, settings, pipe, &tools);
        slot.open(&mut tools);
        slot.settle(&mut tools);
        assert!(slot.log.without().is_some());
        nix::unistd::write(&output, b"one\n").unwrap();
        slot.readable(&mut tools);
        assert_eq!(slot.pipe.as_ref().map(fds::readable), Some(0));
        drop(reader);
        let echo = tools.echo.clone().unwrap();
        while echo.is_open() {
            nix::unistd::write(&output, b"lost with its reader\n").unwrap();
            slot.readable(&mut tools);
            echo.finish(Duration::from_secs(1));
        }
        nix::unistd::write(&output, b"two\n").unwrap();
        slot.readable(&mut tools);
        slot.settle(&mut tools);
        assert_eq!(slot.pipe.as_ref().map(fds::readable), Some(4));
        assert!(slot.is_stuck());
        assert!(slot.log.without().is_none());
    }
}
