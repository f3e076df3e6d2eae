//! Every line also to standard output, as `name | line` or as a JSON object.
//!
//! Through a bounded queue and a thread of its own: a terminal that is stopped, or a reader that
//! does not read, never delays a log, and so no service. What did not fit is counted and told.
//! Only this thread writes what services say, so no line is in another one; towards whoever else
//! writes into the same pipe, lines up to PIPE_BUF are whole as well.

use super::recent::Recent;
use crate::ipc::told::{Stream, Told};
use crate::ipc::wire::Format;
use crate::log::Stamp;
use crate::log::engine::Witness;
use crate::log::shown::harmless;
use crate::log::stamp::Stamper;
use crate::os::clock;
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
/// A write of so many bytes to a pipe is not mixed with others' (PIPE_BUF, pipe(7)).
const WHOLE_BYTES_MAX: usize = 4096;
/// Foreground colours that can be read on dark and on light. Red and yellow are the supervisor's, for
/// what is wrong.
const COLOURS: [u8; 4] = [36, 32, 35, 34];

#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub format: Format,
    /// Control characters are made harmless.
    pub terminal: bool,
    pub colour: bool,
}

#[derive(Debug, Default)]
struct Queue {
    text: Vec<u8>,
    stamper: Stamper,
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
    pub fn start(format: Format) -> Arc<Echo> {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style {
            format,
            terminal: terminal && format != Format::Json,
            colour: terminal && !no_colour,
        };
        let output = stdout.as_fd().try_clone_to_owned().ok();
        Echo::to(output, style)
    }

    pub fn to(output: Option<OwnedFd>, style: Style) -> Arc<Echo> {
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
        self.tell_left_out(&mut queue);
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

    /// Whether anybody may still read it.
    pub fn is_open(&self) -> bool {
        !self.lock().closed
    }

    fn add(&self, name: &str, begun: Duration, text: &[u8], whole: bool) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        if queue.text.len() + name.len() + text.len() > QUEUE_BYTES_MAX {
            queue.left_out += 1;
            return;
        }
        let was_empty = queue.text.is_empty();
        self.tell_left_out(&mut queue);
        match self.style.format {
            Format::Json => queue.add_json(name, begun, text, whole),
            Format::Text | Format::Stamped => self.add_text(&mut queue, name, begun, text, whole),
        }
        if was_empty {
            self.changed.notify_all();
        }
    }

    fn add_text(&self, queue: &mut Queue, name: &str, begun: Duration, text: &[u8], whole: bool) {
        let mut line = format!("{name:NAME_WIDTH$} | ");
        if self.style.colour {
            line = format!("\x1b[{}m{line}\x1b[0m", colour(name));
        }
        if self.style.format == Format::Stamped {
            let time = queue.time(begun);
            queue.text.extend_from_slice(time.as_bytes());
            queue.text.push(b' ');
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
    }

    fn tell_left_out(&self, queue: &mut Queue) {
        let lines = match std::mem::take(&mut queue.left_out) {
            0 => return,
            1 => "1 line".to_owned(),
            more => format!("{more} lines"),
        };
        let text = format!("{lines} left out here: standard output was not read fast enough");
        let now = clock::wall();
        let told = match self.style.format {
            Format::Json => {
                let time = queue.time(now);
                let told = Told {
                    time: &time,
                    service: "outlast",
                    stream: Stream::Supervisor,
                    level: Some("warn"),
                    text: &text,
                    cut: false,
                };
                told.line()
            }
            Format::Stamped => {
                format!("{} {:NAME_WIDTH$} * {text}\n", queue.time(now), "outlast")
            }
            Format::Text => format!("{:NAME_WIDTH$} * {text}\n", "outlast"),
        };
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
            let written = whole_lines(&text).try_for_each(|part| write_all(output, part));
            if written.is_err() {
                let mut queue = self.lock();
                queue.closed = true;
                queue.text = Vec::new();
                self.changed.notify_all();
                return;
            }
        }
    }
}

impl Queue {
    fn time(&mut self, at: Duration) -> String {
        let text = self.stamper.text(Stamp::Iso, at);
        let text = String::from_utf8_lossy(text.as_bytes()).into_owned();
        text.trim_end().to_owned() + "Z"
    }

    fn add_json(&mut self, name: &str, begun: Duration, text: &[u8], whole: bool) {
        let time = self.time(begun);
        let told = Told {
            time: &time,
            service: name,
            stream: Stream::Output,
            level: None,
            text: &String::from_utf8_lossy(text),
            cut: !whole,
        };
        self.text.extend_from_slice(told.line().as_bytes());
    }
}

/// Parts that end with a line, as few as a pipe takes whole; a line that is longer is a part.
fn whole_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let head = rest.get(..WHOLE_BYTES_MAX).unwrap_or(rest);
        let last = head.iter().rposition(|byte| *byte == b'\n');
        let first = || rest.iter().position(|byte| *byte == b'\n');
        let end = last.or_else(first).map_or(rest.len(), |at| at + 1);
        let (part, behind) = rest.split_at(end);
        rest = behind;
        (!part.is_empty()).then_some(part)
    })
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
    /// Of a log without a file.
    pub recent: Option<&'a mut Recent>,
}

impl Witness for Named<'_> {
    fn line(&mut self, begun: Duration, text: &[u8], whole: bool) {
        if let Some(echo) = self.echo {
            echo.add(self.name, begun, text, whole);
        }
        if let Some(recent) = &mut self.recent {
            recent.add(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// 2026-11-20T10:00:00.5
    const THEN: Duration = Duration::from_millis(1_795_168_800_500);
    const PLAIN: Style = Style {
        format: Format::Text,
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
        echo.add("longer/log", THEN, b"one", true);
        echo.add("web", THEN, b"two\x1b[2J", true);
        echo.add("web", THEN, b"head", false);
        echo.finish(Duration::from_secs(60));
        let expected = "longer/log   | one\nweb          | two\x1b[2J\nweb          | head...\n";
        assert_eq!(read(&mut reader, expected.len()), expected);
    }

    fn styled(format: Format) -> (std::fs::File, Arc<Echo>) {
        let (reader, writer) = pipe();
        let style = Style { format, ..PLAIN };
        (reader, Echo::to(writer, style))
    }

    #[test]
    fn stamped_lines_have_the_time_that_they_came_in_front() {
        let (mut reader, echo) = styled(Format::Stamped);
        echo.add("web", THEN, b"one", true);
        let expected = "2026-11-20T10:00:00.50000Z web          | one\n";
        assert_eq!(read(&mut reader, expected.len()), expected);
    }

    #[test]
    fn as_json_each_line_is_an_object_whatever_bytes_it_has() {
        let (mut reader, echo) = styled(Format::Json);
        echo.add("web", THEN, b"one \xff\x1b", true);
        echo.add("web", THEN, b"head", false);
        let time = "2026-11-20T10:00:00.50000Z";
        let expected = format!(
            "{{\"time\":\"{time}\",\"service\":\"web\",\"stream\":\"output\",\
             \"text\":\"one \u{fffd}\\u001b\"}}\n\
             {{\"time\":\"{time}\",\"service\":\"web\",\"stream\":\"output\",\
             \"text\":\"head\",\"cut\":true}}\n"
        );
        assert_eq!(read(&mut reader, expected.len()), expected);
    }

    #[test]
    fn a_pipe_gets_whole_lines_at_once_as_far_as_it_takes_them_whole() {
        let long = vec![b'x'; 3 * WHOLE_BYTES_MAX];
        let line = vec![b'y'; 1000];
        let newline: &[u8] = b"\n";
        let text = [&line[..], newline, &line, newline, &long, newline, &line].concat();
        let many = [&text[..], newline].concat().repeat(3);
        let parts: Vec<&[u8]> = whole_lines(&many).collect();
        assert_eq!(parts.concat(), many);
        for part in parts {
            assert!(part.ends_with(newline));
            let lines = part.iter().filter(|byte| **byte == b'\n').count();
            assert!(part.len() <= WHOLE_BYTES_MAX || lines == 1);
        }
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
            ..PLAIN
        };
        Echo::to(writer, style).add("web", THEN, b"\x1b[2Jx", true);
        let expected = format!("\x1b[{}mweb          | \x1b[0m^[[2Jx\n", colour("web"));
        assert_eq!(read(&mut reader, expected.len()), expected);
    }

    #[test]
    fn a_reader_that_does_not_read_delays_nothing_and_is_told_what_it_missed() {
        let (mut reader, writer) = pipe();
        let echo = Echo::to(writer, PLAIN);
        let text = [b'x'; 984];
        for _ in 0..2000 {
            echo.add("web", THEN, &text, true);
        }
        let left_out = echo.lock().left_out;
        assert!(left_out > 1000, "{left_out}");
        let mut shown = 0;
        while shown + left_out < 2000 {
            assert!(read(&mut reader, 1000).ends_with("x\n"));
            shown += 1;
        }
        echo.add("web", THEN, b"next", true);
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
        echo.add("web", THEN, b"x", true);
        echo.finish(Duration::from_secs(60));
        assert!(!echo.is_open());
        echo.add("web", THEN, b"x", true);
        assert!(echo.lock().text.is_empty());
    }
}
