//! What happens to a line beside being written: it is repeated on standard error, or sent; and what
//! becomes of lines where nothing can be written.

use super::super::mark::FileId;
use super::super::rotate::Rule;
use super::*;

/// A log without a file asks again so often, when there is something to be written, whether it may
/// have one after all.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Why there is no file, and when that was last found out.
#[derive(Debug)]
pub(super) struct Without {
    halt: Halt,
    asked_ns: u64,
}

impl Log {
    /// Goes on without a file, for the witness alone, if what it is stuck at will not go away by
    /// waiting. For a caller whose witness keeps the lines. To be followed by [`Log::resume`].
    pub fn go_without(&mut self, now: Now) -> bool {
        let Some(stuck) = &mut self.stuck else {
            return false;
        };
        if !stuck.halt.is_for_good() {
            return false;
        }
        self.without = Some(Box::new(Without {
            halt: stuck.halt.clone(),
            asked_ns: now.mono_ns,
        }));
        self.files = None;
        self.begin += self.size;
        self.size = 0;
        self.found(FileId::default(), 0);
        true
    }

    /// There must be a file again, or it is stuck: the witness keeps the lines no longer.
    pub fn go_with(&mut self, desk: &mut Desk, now: Now) {
        if self.without.take().is_some() {
            self.open(desk, now);
        }
    }

    /// Lines of it may be in a file, which is the only place where somebody looks for the others;
    /// or what is in its place keeps no other log from being written.
    pub fn had_file(&self) -> bool {
        self.opened_once || fs::symlink_metadata(&self.path).is_ok()
    }

    /// Why there is no file, when there is none.
    pub fn without(&self) -> Option<&Halt> {
        self.without.as_ref().map(|without| &without.halt)
    }

    /// Whether it goes without a file for now; asks again if it is time.
    pub(super) fn is_without(&mut self, now: Now) -> bool {
        let Some(without) = &mut self.without else {
            return false;
        };
        if now.mono_ns < without.asked_ns.saturating_add(nanos(ASK_AGAIN)) {
            return true;
        }
        without.asked_ns = now.mono_ns;
        if self.open_files(now).is_err() {
            return true;
        }
        self.without = None;
        false
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Log {
    /// Does that, and tells whether the line of which this is the head goes to `current`.
    pub(super) fn is_written(
        &mut self,
        desk: &mut Desk,
        rule: &Rule,
        stamp: &[u8],
        head: &[u8],
        now: Now,
    ) -> Result<bool, Halt> {
        let Some(extra) = &self.settings().extra else {
            return Ok(true);
        };
        let selected = extra.selects(head);
        let repeats = extra.repeats(head);
        let udp = extra.udp.filter(|_| selected);
        if !repeats && udp.is_none() {
            return Ok(selected);
        }
        // svlogd has it so: a line of exactly the limit counts as cut.
        let cut: &[u8] = match head.len() >= self.settings().line_bytes_max {
            true => b"...",
            false => b"",
        };
        let line = [stamp, self.settings().prefix(), head, cut, b"\n"].concat();
        if repeats {
            desk.errors.extend_from_slice(&line);
        }
        let Some(udp) = udp else {
            return Ok(selected);
        };
        if let Some(to) = udp.to
            && !desk.send(&line, to)
        {
            let told = [b"warning: failure sending through udp: ", &line[..]].concat();
            self.put(desk, rule, [&told, b""], now)?;
        }
        Ok(!udp.only)
    }
}
