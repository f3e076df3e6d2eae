//! One log: bytes in, stamped lines out to `current`, rotation as it comes due.
//!
//! It never sleeps and never waits for more than the disk. When something can't be done it is
//! *stuck*: it keeps the bytes that it was given, says why ([`Log::trouble`]) and when to try again
//! ([`Log::wakes_at`]); its caller then stops reading, so that the output waits in the pipe.
//!
//! Where it stands is exact at each return: [`Log::position`] counts what write(2) has taken, and
//! [`Log::unwritten_bytes`] what was taken from the pipe and is not there yet.
//!
//! A rotation, an opening, a flush may each stop at any step. What is left is always the same four
//! things, in order: bytes that belong to this file, a rotation that is due, bytes of the line in
//! hand, input not looked at. `resume` does them in that order, so there is no second code path.

use super::config::Flaw;
pub use super::desk::{Desk, Nobody, Now, Witness};
use super::dir::{self, Files, Halt};
pub use super::dir::{Note, Teller};
use super::line::Lines;
use super::rotate::{Admit, Kind, Old, Rule, surplus};
use super::settings::{Habits, Settings};
use nix::errno::Errno;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

mod aside;
mod file;
mod last;
mod lay;
mod tracked;
mod work;

/// Stamped bytes gathered before they are written, when one read brings very many short lines.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// A full disk is looked at again after this long, as svlogd does.
const FULL_RETRY: Duration = Duration::from_secs(3);
/// Where a log's positions begin: high enough that files older than the log have positions too.
const POSITION_FIRST: u64 = 1 << 48;

/// Whether a log can be given more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Going,
    Stuck,
}

/// How an unfinished line is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a newline: its writer is gone.
    Line,
    /// As it is: its writer lives, and who reads the pipe after us goes on with the line.
    Open,
}

/// What a stuck log holds.
#[derive(Debug)]
struct Stuck {
    halt: Halt,
    /// None: until the processor has ended.
    retry_at: Option<u64>,
    delay: Duration,
    out: Vec<u8>,
    then: Vec<u8>,
    rest: Vec<u8>,
    /// After the rest the line ends.
    ends: Option<End>,
}

/// Where in a line a log is, and whether it writes that line.
#[derive(Clone, Debug)]
pub struct Standing {
    lines: Lines,
    selected: bool,
}

/// One log directory.
#[derive(Debug)]
pub struct Log {
    path: Box<Path>,
    habits: &'static Habits,
    /// As told.
    wanted: Settings,
    /// ... with the config file over it; None when that says nothing.
    overridden: Option<Box<Settings>>,
    files: Option<Files>,
    lines: Lines,
    /// Whether the line in hand is written.
    selected: bool,
    rotation_due: bool,
    /// `current` takes all that comes, however large it gets: no rotation is waited for any more.
    keeps_current: bool,
    /// The newest rotated file, once one was rotated.
    last: Option<Old>,
    opened_once: bool,
    /// When `current` was last seen to be in its place, in seconds.
    checked_s: u64,
    /// When the age of `current` began.
    begun_ns: u64,
    /// Bytes in `current`.
    size: u64,
    /// Position of the first byte of `current`.
    begin: u64,
    /// Positions below this one are not in this directory.
    floor: u64,
    work: Option<Box<work::Work>>,
    /// Lines are seen by the witness only.
    without: Option<Box<aside::Without>>,
    stuck: Option<Box<Stuck>>,
    teller: Option<Box<dyn Teller>>,
    tracked: Option<Box<tracked::Tracked>>,
}

impl Log {
    /// Nothing is touched until [`Log::open`] or the first bytes.
    pub fn new(path: &Path, settings: Settings, habits: &'static Habits) -> Log {
        Log {
            path: path.into(),
            habits,
            wanted: settings,
            overridden: None,
            files: None,
            lines: Lines::default(),
            selected: true,
            rotation_due: false,
            keeps_current: false,
            last: None,
            opened_once: false,
            checked_s: 0,
            begun_ns: 0,
            size: 0,
            begin: POSITION_FIRST,
            floor: POSITION_FIRST,
            work: None,
            without: None,
            stuck: None,
            teller: None,
            tracked: None,
        }
    }

    /// Who hears of what it does.
    pub fn told_to(mut self, teller: Box<dyn Teller>) -> Log {
        self.teller = Some(teller);
        self
    }

    fn tell(&self, note: &Note<'_>) {
        if let Some(teller) = &self.teller {
            teller.tell(note);
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, locks and opens it.
    pub fn open(&mut self, desk: &mut Desk, now: Now) -> Flow {
        self.take(desk, &[], now, &mut Nobody)
    }

    /// Bytes as they came from the pipe. All of them are written, or kept until they can be.
    pub fn take(
        &mut self,
        desk: &mut Desk,
        input: &[u8],
        now: Now,
        witness: &mut dyn Witness,
    ) -> Flow {
        if let Some(stuck) = &mut self.stuck {
            stuck.rest.extend_from_slice(input);
            return Flow::Stuck;
        }
        self.go_on(desk, input, None, None, now, witness)
    }

    /// Writes an unfinished line.
    pub fn end_line(
        &mut self,
        end: End,
        desk: &mut Desk,
        now: Now,
        witness: &mut dyn Witness,
    ) -> Flow {
        if let Some(stuck) = &mut self.stuck {
            stuck.ends = Some(end);
            return Flow::Stuck;
        }
        // A run's end is a good moment to see that `current` has been removed.
        self.checked_s = 0;
        self.go_on(desk, &[], Some(end), None, now, witness)
    }

    /// Reads the config file again; before the directory is open that is still to come.
    pub fn reload(&mut self) {
        if self.opened_once {
            self.read_config();
        }
    }

    /// Rotates now if there is anything in `current`.
    pub fn turn(&mut self, desk: &mut Desk, now: Now) -> Flow {
        if self.size > 0 {
            self.rotation_due = true;
        }
        match self.stuck {
            Some(_) => self.resume(desk, now, &mut Nobody),
            None => self.go_on(desk, &[], None, None, now, &mut Nobody),
        }
    }

    /// Opens the directory that this path leads to now; to be let go of first when it is open.
    pub fn open_at(&mut self, path: &Path, desk: &mut Desk, now: Now) -> Flow {
        self.path = path.into();
        self.open(desk, now)
    }

    /// Where in a line it stands.
    pub fn standing(&self) -> Standing {
        Standing {
            lines: self.lines.clone(),
            selected: self.selected,
        }
    }

    /// Goes on within the line that another log, given the same input, is in.
    pub fn stand(&mut self, standing: &Standing) {
        self.lines = standing.lines.clone();
        self.selected = standing.selected;
    }

    /// Other settings from here on; the config file still stands above them.
    pub fn set(&mut self, wanted: Settings) {
        self.wanted = wanted;
        self.keeps_current = false;
        self.read_config();
    }

    fn read_config(&mut self) {
        // Another one may have been in this directory since, or a processor.
        self.last = None;
        let (config, says_something) = dir::config(&self.path, self.habits);
        let (unreadable, others): (Vec<&Flaw>, Vec<&Flaw>) = config
            .flaws
            .iter()
            .partition(|flaw| matches!(flaw, Flaw::Unreadable(_)));
        for flaw in &unreadable {
            self.tell(&Note::Flaw(flaw));
        }
        // svlogd says so of one that it could not read, too.
        if says_something || !unreadable.is_empty() {
            self.tell(&Note::Read);
        }
        for flaw in others {
            self.tell(&Note::Flaw(flaw));
        }
        self.overridden = says_something.then(|| Box::new(self.wanted.overridden(config)));
    }

    fn settings(&self) -> &Settings {
        self.overridden.as_deref().unwrap_or(&self.wanted)
    }

    fn rule(&self) -> Rule {
        let mut rule = self.settings().rule(self.habits);
        if self.keeps_current {
            rule.size = 0;
        }
        rule
    }

    /// Tries again what could not be done; to be called at [`Log::wakes_at`], and when the
    /// processor's descriptor is readable.
    pub fn resume(&mut self, desk: &mut Desk, now: Now, witness: &mut dyn Witness) -> Flow {
        self.look_after_processor(now);
        let age_is_due = self.age_due_at().is_some_and(|due| due <= now.mono_ns);
        self.rotation_due |= age_is_due;
        let Some(mut stuck) = self.stuck.take() else {
            return match self.rotation_due {
                true => self.go_on(desk, &[], None, None, now, witness),
                false => Flow::Going,
            };
        };
        if stuck.halt == Halt::Full && self.habits.config_is_heard_in_trouble {
            // Somebody may have allowed old files to go.
            self.read_config();
        }
        desk.out.append(&mut stuck.out);
        desk.then.append(&mut stuck.then);
        let rest = std::mem::take(&mut stuck.rest);
        let ends = stuck.ends;
        self.go_on(desk, &rest, ends, Some(&stuck), now, witness)
    }

    /// When [`Log::resume`] is to be called, by the monotonic clock; None for never.
    pub fn wakes_at(&self) -> Option<u64> {
        let stuck = self.stuck.as_ref().and_then(|stuck| stuck.retry_at);
        let work = self.work.as_ref();
        let work = work.and_then(|work| work.running.is_none().then_some(work.retry_at));
        let age = self.age_due_at().filter(|_| self.stuck.is_none());
        [stuck, work, age].into_iter().flatten().min()
    }

    /// Readable when [`Log::resume`] is to be called for the processor's sake.
    pub fn processor(&self) -> Option<BorrowedFd<'_>> {
        let running = self.work.as_ref()?.running.as_ref()?;
        Some(running.pidfd())
    }

    /// Why it is stuck.
    pub fn trouble(&self) -> Option<&Halt> {
        self.stuck.as_ref().map(|stuck| &stuck.halt)
    }

    /// Counts the bytes of this log; never goes back.
    pub fn position(&self) -> u64 {
        self.begin + self.size
    }

    /// The device that the directory is on, once it is open.
    pub fn device(&self) -> Option<u64> {
        self.files.as_ref().map(Files::device)
    }

    pub fn is_within_a_line(&self) -> bool {
        self.lines.is_within_a_line()
    }

    /// Lets go of the directory. Returns how many bytes could not be written and are lost.
    pub fn close(mut self) -> usize {
        self.let_go();
        self.unwritten_bytes()
    }

    /// Closes in order what is open; the line in hand is kept.
    pub fn let_go(&mut self) {
        // Should it fail, a line or a part of one stands there twice.
        let _ = self.cut_off();
        let Some(files) = self.files.take() else {
            return;
        };
        self.tell(&Note::Closed);
        if self.habits.closed_is_synced {
            let _ = files.current.sync_all();
        }
        if let Some(mode) = self.habits.closed_mode {
            // Without it the next svlogd puts the file aside as unclean; nothing is lost.
            let _ = files.current.set_permissions(Permissions::from_mode(mode));
        }
    }

    /// Bytes that were taken and are not on disk.
    pub fn unwritten_bytes(&self) -> usize {
        let stuck = self.stuck.as_ref();
        let unwritten = stuck.map_or(0, |s| s.out.len() + s.then.len() + s.rest.len());
        unwritten + self.lines.held_bytes() + self.predecessors_bytes()
    }

    /// The one way forward. `desk` holds what was left; `before` is the last failure.
    fn go_on(
        &mut self,
        desk: &mut Desk,
        input: &[u8],
        ends: Option<End>,
        before: Option<&Stuck>,
        now: Now,
        witness: &mut dyn Witness,
    ) -> Flow {
        let mut input = input;
        let result = self.steps(desk, &mut input, ends, now, witness);
        desk.tell_errors();
        let Err(halt) = result else {
            return Flow::Going;
        };
        let [first, most] = self.habits.retry;
        let delay = match (&halt, before) {
            (Halt::Full, _) => FULL_RETRY,
            (_, Some(before)) => (before.delay * 2).clamp(first, most),
            (_, None) => first,
        };
        let retry_at = (halt != Halt::Processing).then(|| later(now, delay));
        self.stuck = Some(Box::new(Stuck {
            halt,
            retry_at,
            delay,
            out: desk.out.drain(..).collect(),
            then: desk.then.drain(..).collect(),
            rest: input.to_vec(),
            ends,
        }));
        Flow::Stuck
    }

    fn steps(
        &mut self,
        desk: &mut Desk,
        input: &mut &[u8],
        ends: Option<End>,
        now: Now,
        witness: &mut dyn Witness,
    ) -> Result<(), Halt> {
        self.be_open(now)?;
        desk.left = input.len();
        self.take_up(desk);
        self.flush(desk, now)?;
        if self.rotation_due {
            self.turn_over(desk, now)?;
        }
        self.pour(desk, true, now)?;
        // Taken out since pieces borrow from it while they are written.
        let mut lines = std::mem::take(&mut self.lines);
        let mut result = self.lay(&mut lines, desk, input, now, witness);
        if let (Some(end), Ok(())) = (ends, &result) {
            result = self.lay_end(end, &mut lines, desk, now, witness);
        }
        self.lines = lines;
        result?;
        self.flush(desk, now)?;
        self.mark(desk);
        Ok(())
    }

    fn lay_end(
        &mut self,
        end: End,
        lines: &mut Lines,
        desk: &mut Desk,
        now: Now,
        witness: &mut dyn Witness,
    ) -> Result<(), Halt> {
        let rule = self.rule();
        let newline: &[u8] = match end {
            End::Line => b"\n",
            End::Open => b"",
        };
        let Some(piece) = lines.end(end == End::Open) else {
            return Ok(());
        };
        self.lines.be_behind(end == End::Line);
        let Some(begun) = piece.begun else {
            return match self.selected {
                true => self.put(desk, &rule, [b"", newline], now),
                false => Ok(()),
            };
        };
        let stamp = desk.stamper.text(self.settings().stamp, begun);
        self.selected = self.is_written(desk, &rule, stamp.as_bytes(), piece.text, now)?;
        if !self.selected {
            return Ok(());
        }
        witness.line(begun, piece.text, true);
        self.put_line(desk, &rule, stamp.as_bytes(), piece.text, newline, now)
    }

    /// A line, or the head of one.
    fn put_line(
        &mut self,
        desk: &mut Desk,
        rule: &Rule,
        stamp: &[u8],
        text: &[u8],
        newline: &[u8],
        now: Now,
    ) -> Result<(), Halt> {
        let bytes = stamp.len() + self.settings().prefix().len() + text.len() + newline.len();
        let used = self.used(desk);
        let fits = rule.admits(used, wide(bytes), true) == Admit::Take(wide(bytes));
        let place = if fits { &mut desk.out } else { &mut desk.then };
        place.extend_from_slice(stamp);
        place.extend_from_slice(self.settings().prefix());
        place.extend_from_slice(text);
        place.extend_from_slice(newline);
        if !fits {
            return self.pour(desk, true, now);
        }
        self.after(desk, rule, !newline.is_empty(), now)
    }

    /// More of a line whose head was written.
    fn put(
        &mut self,
        desk: &mut Desk,
        rule: &Rule,
        parts: [&[u8]; 2],
        now: Now,
    ) -> Result<(), Halt> {
        let bytes = wide(parts[0].len() + parts[1].len());
        let fits = rule.admits(self.used(desk), bytes, false) == Admit::Take(bytes);
        let place = if fits { &mut desk.out } else { &mut desk.then };
        place.extend_from_slice(parts[0]);
        place.extend_from_slice(parts[1]);
        if !fits {
            return self.pour(desk, false, now);
        }
        self.after(desk, rule, !parts[1].is_empty(), now)
    }

    fn after(&mut self, desk: &mut Desk, rule: &Rule, newline: bool, now: Now) -> Result<(), Halt> {
        if newline && rule.is_full(self.used(desk)) {
            self.rotation_due = true;
            self.flush(desk, now)?;
            return self.turn_over(desk, now);
        }
        if desk.out.len() >= OUT_BYTES_MAX {
            return self.flush(desk, now);
        }
        Ok(())
    }

    /// Brings the line in hand over a border between files. `desk.then` keeps what is left of it.
    fn pour(&mut self, desk: &mut Desk, begins: bool, now: Now) -> Result<(), Halt> {
        let rule = self.rule();
        let mut begins = begins;
        while !desk.then.is_empty() {
            match rule.admits(self.used(desk), wide(desk.then.len()), begins) {
                Admit::Take(bytes) => {
                    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                    let part = desk.then.drain(..bytes.min(desk.then.len()));
                    desk.out.extend(part);
                    begins = false;
                }
                Admit::RotateFirst => {
                    self.rotation_due = true;
                    self.flush(desk, now)?;
                    self.turn_over(desk, now)?;
                }
            }
        }
        let newline = desk.out.last() == Some(&b'\n');
        self.after(desk, &rule, newline, now)
    }

    fn used(&self, desk: &Desk) -> u64 {
        self.size + wide(desk.out.len())
    }

    fn age_due_at(&self) -> Option<u64> {
        let age = self.settings().age_s;
        (age > 0 && self.size > 0).then(|| {
            self.begun_ns
                .saturating_add(age.saturating_mul(1_000_000_000))
        })
    }
}

fn later(now: Now, delay: Duration) -> u64 {
    let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    now.mono_ns.saturating_add(delay)
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
