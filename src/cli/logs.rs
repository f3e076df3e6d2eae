//! `outlast logs`: one log, or several interleaved by time, and what comes after them.
//!
//! Reads the files of the log directories and nothing else: they are the truth, they are there
//! when neither supervisor nor scribe is, and reading them keeps nobody from writing. Stamps of all
//! three forms are understood. Following costs nothing while nothing is written.

use super::zone;
use crate::log::shown::harmless;
use crate::log::stamp;
use crate::log::tail::{Cursor, Part};
use crate::log::watch::{Watch, Woken};
use crate::os::fds;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// Last lines shown of each log when nothing is said.
pub const LINES_DEFAULT: usize = 10;
/// Names are padded to the longest, up to this.
const NAME_WIDTH_MAX: usize = 20;
/// Where nothing tells of news.
const LOOK_EVERY_MS: u16 = 1000;
/// Open files that have nothing to do with the number of logs.
const FILES_BESIDES: u64 = 64;

/// A log to be shown.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub dir: PathBuf,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Last lines of each log; none means [`LINES_DEFAULT`].
    pub lines: Option<usize>,
    /// Go on with what comes.
    pub follow: bool,
    /// Times in UTC instead of the machine's zone.
    pub utc: bool,
    /// Lines as they are in the files, stamps and control characters included.
    pub raw: bool,
    /// `name | ` before each line; always so when several logs are shown.
    pub names: bool,
}

/// What is to be said of a log beside its lines.
pub enum Remark<'a> {
    /// It can't be read; the others are shown all the same.
    Unread(&'a io::Error),
    /// Fewer lines are shown than wanted, since a processor has made something else of so many files.
    Processed(usize),
}

/// Who is told.
pub type Tell<'a> = dyn FnMut(&Source, Remark<'_>) + 'a;

/// Shows the logs. Returns when all is shown or, following, when nobody reads any more.
pub fn show(
    sources: &[Source],
    options: &Options,
    out: &mut dyn Write,
    tell: &mut Tell<'_>,
) -> io::Result<()> {
    let mut show = Show::new(sources, options, tell);
    for reader in &show.readers {
        if reader.cursor.left_out() > 0 {
            tell(&reader.source, Remark::Processed(reader.cursor.left_out()));
        }
    }
    if show.readers.is_empty() {
        return Ok(());
    }
    match show.run(out, tell) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A log being read.
struct Reader {
    source: Source,
    cursor: Cursor,
    /// It can't be read any more.
    lost: bool,
    /// The next part to be shown, and its time.
    next: Option<(Duration, Part)>,
    /// Of the last stamped line: what has no stamp stays behind it.
    time: Duration,
    label: String,
}

struct Show {
    readers: Vec<Reader>,
    options: Options,
    zone: TimeZone,
    /// Whose line was begun and not ended.
    open: Option<usize>,
}

impl Show {
    fn new(sources: &[Source], options: &Options, tell: &mut Tell<'_>) -> Show {
        let named = options.names || sources.len() > 1;
        let names = sources.iter().map(|source| source.name.chars().count());
        let width = names.max().unwrap_or(0).min(NAME_WIDTH_MAX);
        let lines = options.lines.unwrap_or(LINES_DEFAULT);
        // Each log is one open file.
        fds::raise_nofile(
            u64::try_from(sources.len())
                .unwrap_or(0)
                .saturating_add(FILES_BESIDES),
        );
        let mut readers = Vec::with_capacity(sources.len());
        for source in sources {
            let cursor = match Cursor::at_last(&source.dir, lines) {
                Ok(cursor) => cursor,
                Err(error) => {
                    tell(source, Remark::Unread(&error));
                    continue;
                }
            };
            let name = &source.name;
            readers.push(Reader {
                source: source.clone(),
                cursor,
                lost: false,
                next: None,
                time: Duration::ZERO,
                label: if named {
                    format!("{name:width$} | ")
                } else {
                    String::new()
                },
            });
        }
        Show {
            readers,
            options: options.clone(),
            zone: if options.utc {
                TimeZone::UTC
            } else {
                zone::local()
            },
            open: None,
        }
    }

    fn run(&mut self, out: &mut dyn Write, tell: &mut Tell<'_>) -> io::Result<()> {
        let all: Vec<usize> = (0..self.readers.len()).collect();
        if !self.options.follow {
            self.show_new(&all, out, tell)?;
            self.show_unfinished(out)?;
            return out.flush();
        }
        // The watch comes first, so that nothing falls between it and the reading.
        let dirs = self.readers.iter().map(|reader| reader.source.dir.clone());
        let watch = match Watch::new(dirs.collect()) {
            // Others of this user have all instances or watches that the kernel has for him.
            Err(Errno::EMFILE | Errno::ENOSPC) => None,
            other => Some(other?),
        };
        self.follow(&all, watch, out, tell)
    }

    /// Without a watch everything is looked at each second.
    fn follow(
        &mut self,
        all: &[usize],
        mut watch: Option<Watch>,
        out: &mut dyn Write,
        tell: &mut Tell<'_>,
    ) -> io::Result<()> {
        self.show_new(all, out, tell)?;
        loop {
            out.flush()?;
            let stdout = io::stdout();
            let stdout = stdout.as_fd();
            let woken = match &mut watch {
                Some(watch) => watch.wait(Some(stdout))?,
                None => {
                    // No events asked for: an error and a hang-up are always told.
                    let mut fds = [PollFd::new(stdout, PollFlags::empty())];
                    match poll(&mut fds, LOOK_EVERY_MS) {
                        Ok(0) | Err(Errno::EINTR) => Woken::News(all.iter().copied().collect()),
                        Ok(_) => Woken::Unread,
                        Err(errno) => return Err(errno.into()),
                    }
                }
            };
            match woken {
                Woken::Unread => return Ok(()),
                Woken::News(news) => {
                    self.show_new(&news.into_iter().collect::<Vec<_>>(), out, tell)?;
                }
            }
        }
    }

    /// Everything whole that these readers can get, in the order of time.
    fn show_new(
        &mut self,
        readers: &[usize],
        out: &mut dyn Write,
        tell: &mut Tell<'_>,
    ) -> io::Result<()> {
        let mut waiting = BinaryHeap::new();
        for index in readers {
            waiting.extend(self.next_of(*index, tell));
        }
        while let Some(Reverse((_, index))) = waiting.pop() {
            self.show_next(index, out)?;
            // A long line is shown to its end before another log has its turn.
            while self.open == Some(index) && self.readers[index].looks(tell) {
                self.show_next(index, out)?;
            }
            // Only this one is looked at again: of a thousand logs nearly all have nothing new.
            waiting.extend(self.next_of(index, tell));
        }
        Ok(())
    }

    fn next_of(&mut self, index: usize, tell: &mut Tell<'_>) -> Option<Reverse<(Duration, usize)>> {
        let reader = self.readers.get_mut(index)?;
        if !reader.looks(tell) {
            return None;
        }
        reader
            .next
            .as_ref()
            .map(|(time, _)| Reverse((*time, index)))
    }

    fn show_unfinished(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for index in 0..self.readers.len() {
            let reader = &mut self.readers[index];
            if let Some(part) = reader.cursor.rest() {
                reader.accept(part);
                self.show_next(index, out)?;
            }
        }
        self.close(out)
    }

    fn show_next(&mut self, index: usize, out: &mut dyn Write) -> io::Result<()> {
        let Some((time, part)) = self.readers[index].next.take() else {
            return Ok(());
        };
        if self.open != Some(index) {
            self.close(out)?;
        }
        let mut text = &part.text[..];
        if part.begun {
            out.write_all(self.readers[index].label.as_bytes())?;
            if !self.options.raw
                && let Some((_, rest)) = stamp::parse(text)
                && let Some(time) = self.time(time)
            {
                text = rest;
                write!(out, "{time} ")?;
            }
        }
        if self.options.raw {
            out.write_all(text)?;
        } else {
            out.write_all(harmless(text).as_bytes())?;
        }
        self.open = Some(index);
        if part.ended { self.close(out) } else { Ok(()) }
    }

    /// Ends the line that is open.
    fn close(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.open.take() {
            Some(_) => out.write_all(b"\n"),
            None => Ok(()),
        }
    }

    /// `2026-11-20T11:00:00.123+01:00`; None beyond the calendar.
    fn time(&self, at: Duration) -> Option<String> {
        let moment = Timestamp::try_from(std::time::UNIX_EPOCH.checked_add(at)?).ok()?;
        let form = if self.options.utc {
            "%Y-%m-%dT%H:%M:%S%.3fZ"
        } else {
            "%Y-%m-%dT%H:%M:%S%.3f%:z"
        };
        let local = moment.to_zoned(self.zone.clone());
        Some(local.strftime(form).to_string())
    }
}

impl Reader {
    /// As `look`; one that can't be read has nothing more.
    fn looks(&mut self, tell: &mut Tell<'_>) -> bool {
        if self.lost {
            return false;
        }
        self.look().unwrap_or_else(|error| {
            self.lost = true;
            tell(&self.source, Remark::Unread(&error));
            false
        })
    }

    /// Sees that the next part is known; false when there is none now.
    fn look(&mut self) -> io::Result<bool> {
        if self.next.is_none()
            && let Some(part) = self.cursor.next_part()?
        {
            self.accept(part);
        }
        Ok(self.next.is_some())
    }

    fn accept(&mut self, part: Part) {
        if part.begun
            && let Some((at, _)) = stamp::parse(&part.text)
        {
            self.time = at;
        }
        self.next = Some((self.time, part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn log(place: &Path, name: &str, text: &str) -> Source {
        let dir = place.join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("current"), text).unwrap();
        Source {
            name: name.to_owned(),
            dir,
        }
    }

    fn shown(sources: &[Source], options: &Options) -> String {
        let mut out = Vec::new();
        let tell = &mut |_: &Source, remark: Remark<'_>| match remark {
            Remark::Unread(error) => panic!("{error}"),
            Remark::Processed(files) => panic!("{files}"),
        };
        show(sources, options, &mut out, tell).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn utc() -> Options {
        Options {
            utc: true,
            ..Options::default()
        }
    }

    #[test]
    fn stamps_of_every_form_are_shown_in_one_form() {
        let place = tempfile::tempdir().unwrap();
        let text = "2026-11-20T10:00:00.12345 iso\n2026-11-20_10:00:01.00000 human\n\
                    @400000006b001a2c1dcd6500 tai\nnone\n9999-12-31T23:00:00.00000 far\n";
        let source = log(place.path(), "web", text);
        assert_eq!(
            shown(std::slice::from_ref(&source), &utc()),
            "2026-11-20T10:00:00.123Z iso\n2026-11-20T10:00:01.000Z human\n\
             2026-11-20T10:00:02.500Z tai\nnone\n9999-12-31T23:00:00.00000 far\n"
        );
        let raw = Options { raw: true, ..utc() };
        assert_eq!(shown(&[source], &raw), text);
    }

    #[test]
    fn several_logs_are_interleaved_by_time_and_unstamped_lines_keep_their_place() {
        let place = tempfile::tempdir().unwrap();
        let at = |second: u32, text: &str| format!("2026-11-20T10:00:0{second}.00000 {text}\n");
        let sources = [
            log(
                place.path(),
                "a",
                &(at(1, "1") + "  more of 1\n" + &at(4, "4")),
            ),
            log(place.path(), "longer", &(at(2, "2") + &at(3, "3"))),
            log(place.path(), "c", &at(5, "5")),
        ];
        let lines = shown(&sources, &utc());
        let expected = "a      | 2026-11-20T10:00:01.000Z 1\na      |   more of 1\n\
                        longer | 2026-11-20T10:00:02.000Z 2\nlonger | 2026-11-20T10:00:03.000Z 3\n\
                        a      | 2026-11-20T10:00:04.000Z 4\nc      | 2026-11-20T10:00:05.000Z 5\n";
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_last_lines_of_each_log_are_shown_and_an_unfinished_one_too() {
        let place = tempfile::tempdir().unwrap();
        let text: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let source = log(place.path(), "web", &(text + "unfinished"));
        let lines = |lines| shown(std::slice::from_ref(&source), &Options { lines, ..utc() });
        assert_eq!(lines(Some(2)), "20\nunfinished\n");
        assert_eq!(lines(None).lines().count(), LINES_DEFAULT);
        assert_eq!(lines(Some(0)), "");
        assert_eq!(lines(Some(99)).lines().count(), 21);
    }

    #[test]
    fn a_service_gives_no_orders_to_the_terminal() {
        let place = tempfile::tempdir().unwrap();
        let source = log(place.path(), "web", "\x1b[2Jclear\n");
        assert_eq!(shown(&[source], &utc()), "^[[2Jclear\n");
    }

    #[test]
    fn a_log_that_is_not_there_is_empty() {
        let place = tempfile::tempdir().unwrap();
        let source = Source {
            name: "none".to_owned(),
            dir: place.path().join("none"),
        };
        assert_eq!(shown(&[source], &utc()), "");
    }

    /// Breaks after so many lines, and lets each be waited for.
    struct Lines {
        sender: std::sync::mpsc::Sender<String>,
        held: Vec<u8>,
        left: usize,
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.held.extend_from_slice(bytes);
            while let Some(at) = memchr::memchr(b'\n', &self.held) {
                if self.left == 0 {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                self.left -= 1;
                let line: Vec<u8> = self.held.drain(..=at).collect();
                self.sender.send(String::from_utf8(line).unwrap()).unwrap();
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn without_a_watch_what_comes_is_shown_as_well() {
        let place = tempfile::tempdir().unwrap();
        let source = log(place.path(), "web", "one\n");
        let current = source.dir.join("current");
        let (sender, lines) = std::sync::mpsc::channel();
        let follower = std::thread::spawn(move || {
            let mut tell = |_: &Source, _: Remark<'_>| {};
            let mut show = Show::new(&[source], &utc(), &mut tell);
            let mut out = Lines {
                sender,
                held: Vec::new(),
                left: 2,
            };
            show.follow(&[0], None, &mut out, &mut tell)
        });
        assert_eq!(lines.recv().unwrap(), "one\n");
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().append(true).open(&current).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("two\n");
        assert_eq!(lines.recv().unwrap(), "two\n");
        append("three\n");
        let ended = follower.join().unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn following_goes_through_rotation_and_removal_and_ends_quietly_with_its_reader() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("logs/late");
        let current = dir.join("current");
        let (sender, lines) = std::sync::mpsc::channel();
        let source = Source {
            name: "late".to_owned(),
            dir: dir.clone(),
        };
        let follower = std::thread::spawn(move || {
            let options = Options {
                follow: true,
                ..utc()
            };
            let mut out = Lines {
                sender,
                held: Vec::new(),
                left: 4,
            };
            show(&[source], &options, &mut out, &mut |_, _| {})
        });
        let append = |text: &str| {
            let mut options = fs::OpenOptions::new();
            let mut file = options.create(true).append(true).open(&current).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        fs::create_dir_all(&dir).unwrap();
        append("one\nt");
        assert_eq!(lines.recv().unwrap(), "one\n");
        append("wo\n");
        assert_eq!(lines.recv().unwrap(), "two\n");
        fs::rename(&current, dir.join("@400000006b001a2c1dcd6500.s")).unwrap();
        append("three\n");
        assert_eq!(lines.recv().unwrap(), "three\n");
        fs::remove_dir_all(&dir).unwrap();
        fs::create_dir_all(&dir).unwrap();
        append("four\n");
        assert_eq!(lines.recv().unwrap(), "four\n");
        append("five\n");
        assert!(follower.join().unwrap().is_ok());
    }
}
