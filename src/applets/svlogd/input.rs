//! Standard input and the signals.

use super::asked::Asked;
use memchr::memchr;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// As much as a pipe holds by default (pipe(7)).
const READ_BYTES: usize = 64 * 1024;
/// ... once a pipe was found full. A read that finds nothing left wakes the writer and is woken by
/// it, and that costs as much as the copying.
const BUSY_READ_BYTES: usize = 256 * 1024;
/// What a busy pipe is made to hold. Any user may ask for four times as much (pipe(7)), but what a
/// user's pipes hold is counted, and beyond 64 MiB each new pipe of that user is a small one.
const BUSY_PIPE_BYTES: i32 = 256 * 1024;

pub enum Read<'a> {
    Bytes(&'a [u8]),
    /// Another reader was quicker, or the end.
    Nothing,
    Failed(Errno),
}

pub struct Input {
    buffer: Vec<u8>,
    replacer: Option<Replacer>,
    /// What was read last ended a line.
    line_is_complete: bool,
    /// It filled the buffer: there may be more than the buffer holds.
    filled: bool,
    /// No more than the line in hand is to be read.
    finishing: bool,
    ended: bool,
    ready: bool,
}

impl Input {
    pub fn new(asked: &Asked) -> Input {
        Input {
            buffer: vec![0; READ_BYTES],
            replacer: asked
                .replacement
                .map(|with| Replacer::new(with, &asked.replaced, asked.line_bytes_max)),
            line_is_complete: true,
            filled: false,
            finishing: false,
            ended: false,
            ready: false,
        }
    }

    pub fn finish(&mut self) {
        self.finishing = true;
    }

    pub fn is_finished(&self) -> bool {
        self.ended || (self.finishing && self.line_is_complete)
    }

    pub fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    pub fn is_ready(&self) -> bool {
        self.ready && !self.is_finished()
    }

    /// What is there. While finishing byte by byte: what follows the line belongs to whoever
    /// reads the pipe after us.
    pub fn read(&mut self) -> Read<'_> {
        let stdin = std::io::stdin();
        if std::mem::take(&mut self.filled) && self.buffer.len() < BUSY_READ_BYTES {
            self.buffer.resize(BUSY_READ_BYTES, 0);
            // It may be no pipe, or its user may have too many large ones; then it stays as it is.
            let _ = fcntl(stdin.as_fd(), FcntlArg::F_SETPIPE_SZ(BUSY_PIPE_BYTES));
        }
        let most = if self.finishing { 1 } else { self.buffer.len() };
        let bytes = match nix::unistd::read(stdin.as_fd(), &mut self.buffer[..most]) {
            Ok(0) => {
                self.ended = true;
                return Read::Nothing;
            }
            Ok(bytes) => bytes,
            Err(Errno::EINTR | Errno::EAGAIN) => return Read::Nothing,
            Err(errno) => {
                self.ended = true;
                return Read::Failed(errno);
            }
        };
        self.filled = bytes == self.buffer.len();
        let bytes = &mut self.buffer[..bytes];
        self.line_is_complete = bytes.last() == Some(&b'\n');
        if let Some(replacer) = &mut self.replacer {
            replacer.replace(bytes);
        }
        Read::Bytes(bytes)
    }
}

/// `-r` and `-R`.
pub struct Replacer {
    table: [u8; 256],
    line_bytes_max: usize,
    /// Bytes of the line in hand, no more than the limit.
    within: usize,
}

impl Replacer {
    pub fn new(with: u8, replaced: &[u8], line_bytes_max: usize) -> Replacer {
        let printable = b' '..=b'~';
        let table = std::array::from_fn(|byte| {
            let byte = u8::try_from(byte).unwrap_or(u8::MAX);
            match printable.contains(&byte) && !replaced.contains(&byte) {
                true => byte,
                false => with,
            }
        });
        Replacer {
            table,
            line_bytes_max,
            within: 0,
        }
    }

    /// In place; what stands beyond a line's limit stays as it is.
    pub fn replace(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let newline = memchr(b'\n', rest);
            let (line, after) = rest.split_at_mut(newline.unwrap_or(rest.len()));
            let head = line.len().min(self.line_bytes_max - self.within);
            for byte in &mut line[..head] {
                *byte = self.table[usize::from(*byte)];
            }
            self.within = match newline {
                Some(_) => 0,
                None => self.within + head,
            };
            rest = match after.split_first_mut() {
                Some((_, after)) => after,
                None => &mut [],
            };
        }
    }
}

/// TERM, ALRM and HUP, blocked and read from a descriptor: input that never pauses can't keep them
/// waiting. What is started gets an empty mask from the standard library.
pub struct Signals(SignalFd);

impl Signals {
    pub fn new() -> Result<Signals, Errno> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGALRM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Signals(SignalFd::with_flags(&set, flags)?))
    }

    pub fn heard(&mut self) -> Vec<Signal> {
        let next = || self.0.read_signal().ok().flatten();
        std::iter::from_fn(next)
            .filter_map(|about| Signal::try_from(about.ssi_signo as i32).ok())
            .collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_head_of_a_line_is_replaced() {
        let mut bytes = *b"a\tb\x7f\n\t\t\t\t\xff\nx";
        Replacer::new(b'_', b"x", 3).replace(&mut bytes);
        assert_eq!(&bytes, b"a_b\x7f\n___\t\xff\n_");
    }

    proptest! {
        #[test]
        fn chunks_are_replaced_as_the_whole(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..100),
            chunk in 1usize..20,
            limit in 1usize..20,
        ) {
            let mut whole = text.clone();
            Replacer::new(b'_', b"abc", limit).replace(&mut whole);
            let mut parts = text;
            let mut replacer = Replacer::new(b'_', b"abc", limit);
            parts.chunks_mut(chunk).for_each(|part| replacer.replace(part));
            prop_assert_eq!(whole, parts);
        }
    }
}
