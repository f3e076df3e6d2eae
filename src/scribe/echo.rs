//! Every line also to standard output, as `name | line`.
//!
//! Through a bounded queue and a thread of its own: a terminal that is stopped, or a reader that
//! does not read, never delays a log. What did not fit is counted and told.

use crate::log::engine::Witness;
use crate::log::shown::harmless;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Text waiting to be written; as much again may be on its way.
const QUEUE_BYTES_MAX: usize = 256 * 1024;
/// Names are padded to this. The supervisor's lines stand between ours on the same terminal, so its
/// diagnostics pad to the same.
const NAME_WIDTH: usize = 12;
/// Foreground colours that can be read on dark and on light. Red and yellow are the supervisor's, for
/// what is wrong.
const COLOURS: [u8; 4] = [36, 32, 35, 34];

#[derive(Clone, Copy, Debug)]
struct Style {
    /// Control characters are made harmless.
    terminal: bool,
    colour: bool,
}

#[derive(Debug, Default)]
struct Queue {
    text: Vec<u8>,
    left_out: u64,
    /// The thread is writing.
    writing: bool,
    /// Nobody reads any more.
    closed: bool,
}

/// The way to standard output.
#[derive(Debug)]
pub struct Echo {
    queue: Mutex<Queue>,
    changed: Condvar,
    style: Style,
}

impl Echo {
    /// To standard output.
    pub fn start() -> Arc<Echo> {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style {
            terminal,
            colour: terminal && !no_colour,
        };
        let output = stdout.as_fd().try_clone_to_owned().ok();
        Echo::to(output, style)
    }

    fn to(output: Option<OwnedFd>, style: Style) -> Arc<Echo> {
        let echo = Arc::new(Echo {
            queue: Mutex::default(),
            changed: Condvar::new(),
            style,
        });
        let shared = echo.clone();
        let writer = output.map(|output| {
            std::thread::Builder::new()
                .name("outlast-echo".into())
                .spawn(move || shared.write_out(&output))
        });
        if !matches!(writer, Some(Ok(_))) {
            echo.lock().closed = true;
        }
        echo
    }

    /// Waits, not for long, until all is written.
    pub fn finish(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut queue = self.lock();
        Self::tell_left_out(&mut queue);
        self.changed.notify_all();
        while !queue.closed && (queue.writing || !queue.text.is_empty()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: &str, text: &[u8], whole: bool) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        if queue.text.len() + name.len() + text.len() > QUEUE_BYTES_MAX {
            queue.left_out += 1;
            return;
        }
        let was_empty = queue.text.is_empty();
        Self::tell_left_out(&mut queue);
        let mut line = format!("{name:NAME_WIDTH$} | ");
        if self.style.colour {
            line = format!("\x1b[{}m{line}\x1b[0m", colour(name));
        }
        queue.text.extend_from_slice(line.as_bytes());
        if self.style.terminal {
            queue.text.extend_from_slice(harmless(text).as_bytes());
        } else {
            queue.text.extend_from_slice(text);
        }
        queue
            .text
            .extend_from_slice(if whole { b"\n" } else { b"...\n" });
        if was_empty {
            self.changed.notify_all();
        }
    }

    fn tell_left_out(queue: &mut Queue) {
        let lines = match std::mem::take(&mut queue.left_out) {
            0 => return,
            1 => "1 line".to_owned(),
            more => format!("{more} lines"),
        };
        let told = format!(
            "{:NAME_WIDTH$} * {lines} left out here: standard output was not read fast enough\n",
            "outlast"
        );
        queue.text.extend_from_slice(told.as_bytes());
    }

    fn write_out(&self, output: &OwnedFd) {
        let mut text = Vec::new();
        loop {
            text.clear();
            let mut queue = self.lock();
            queue.writing = false;
            self.changed.notify_all();
            while queue.text.is_empty() {
                queue = self
                    .changed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            queue.writing = true;
            std::mem::swap(&mut text, &mut queue.text);
            drop(queue);
            if write_all(output, &text).is_err() {
                let mut queue = self.lock();
                queue.closed = true;
                queue.text = Vec::new();
                self.changed.notify_all();
                return;
            }
        }
    }
}

/// Waits for the reader, also when somebody has made the description non-blocking.
fn write_all(output: &OwnedFd, text: &[u8]) -> nix::Result<()> {
    let mut text = text;
    while !text.is_empty() {
        match nix::unistd::write(output, text) {
            Ok(bytes) => text = &text[bytes..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same for a name each time, and mostly another for another name.
fn colour(name: &str) -> u8 {
    // FNV-1a. Its upper bits: a plain sum of letters, or the lowest bits, give half of all names the
    // same colour.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    COLOURS[(hash >> 16) as usize % COLOURS.len()]
}

/// Echoes the lines of one log, if there is an echo.
pub struct Named<'a> {
    pub echo: Option<&'a Echo>,
    pub name: &'a str,
}

impl Witness for Named<'_> {
    fn line(&mut self, text: &[u8], whole: bool) {
        if let Some(echo) = self.echo {
            echo.add(self.name, text, whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const PLAIN: Style = Style {
        terminal: false,
        colour: false,
    };

    fn pipe() -> (std::fs::File, Option<OwnedFd>) {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        (reader.into(), Some(writer))
    }

    fn read(reader: &mut std::fs::File, bytes: usize) -> String {
        let mut text = vec![0; bytes];
        reader.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn lines_are_tagged_and_names_are_aligned() {
        let (mut reader, writer) = pipe();
        let echo = Echo::to(writer, PLAIN);
        echo.add("longer/log", b"one", true);
        echo.add("web", b"two\x1b[2J", true);
        echo.add("web", b"head", false);
        echo.finish(Duration::from_secs(60));
        let expected = "longer/log   | one\nweb          | two\x1b[2J\nweb          | head...\n";
        assert_eq!(read(&mut reader, expected.len()), expected);
    }

    #[test]
    fn the_examples_are_told_apart_by_colour() {
        let names = [
            "cleaner", "crasher", "declared", "family", "logged", "ticker", "web",
        ];
        let colours: std::collections::BTreeSet<u8> = names.into_iter().map(colour).collect();
        assert!(colours.len() >= 3, "{colours:?}");
    }

    #[test]
    fn on_a_terminal_a_service_gives_no_orders() {
        let (mut reader, writer) = pipe();
        let style = Style {
            terminal: true,
            colour: true,
        };
        Echo::to(writer, style).add("web", b"\x1b[2Jx", true);
        let expected = format!("\x1b[{}mweb          | \x1b[0m^[[2Jx\n", colour("web"));
        assert_eq!(read(&mut reader, expected.len()), expected);
    }

    #[test]
    fn a_reader_that_does_not_read_delays_nothing_and_is_told_what_it_missed() {
        let (mut reader, writer) = pipe();
        let echo = Echo::to(writer, PLAIN);
        let text = [b'x'; 984];
        for _ in 0..2000 {
            echo.add("web", &text, true);
        }
        let left_out = echo.lock().left_out;
        assert!(left_out > 1000, "{left_out}");
        let mut shown = 0;
        while shown + left_out < 2000 {
            assert!(read(&mut reader, 1000).ends_with("x\n"));
            shown += 1;
        }
        echo.add("web", b"next", true);
        let expected = format!(
            "outlast      * {left_out} lines left out here: standard output was not read fast enough\nweb          | next\n"
        );
        assert_eq!(read(&mut reader, expected.len()), expected);
    }

    #[test]
    fn a_reader_who_left_ends_the_echo() {
        let (reader, writer) = pipe();
        drop(reader);
        let echo = Echo::to(writer, PLAIN);
        echo.add("web", b"x", true);
        echo.finish(Duration::from_secs(60));
        assert!(echo.lock().closed);
        echo.add("web", b"x", true);
        assert!(echo.lock().text.is_empty());
    }
}
