//! How a log is let go of: what is in its pipe is written out, and no processor is waited for longer
//! than a moment.

use super::super::lane::Tools;
use super::Slot;
use crate::log::engine::{End, Flow};
use crate::os::{clock, fds};

/// A processor that works when its log is let go of is waited for so long, in ns.
const PROCESSOR_GRACE_NS: u64 = 2_000_000_000;

impl Slot {
    /// Writes out what is in the pipe. False when that can't be done yet, or a processor is still to
    /// be waited for; it is then tried on, and this is to be called again.
    pub fn detach(&mut self, tools: &mut Tools) -> bool {
        let now = clock::monotonic_ns();
        self.leaves_by
            .get_or_insert(now.saturating_add(PROCESSOR_GRACE_NS));
        self.empty(End::Line, tools) && self.processor_due().is_none()
    }

    /// Until when a processor is waited for, if it is.
    pub(super) fn processor_due(&self) -> Option<u64> {
        self.log.being_processed()?;
        self.leaves_by.filter(|by| *by > clock::monotonic_ns())
    }

    /// Writes out what is in the pipe. False when that can't be done yet.
    pub fn empty(&mut self, end: End, tools: &mut Tools) -> bool {
        self.read(tools, self.pipe_bytes());
        if end == End::Line && self.log.keep_current() {
            self.resume(tools);
            self.read(tools, self.pipe_bytes());
        }
        if self.log.has_predecessors_line() {
            self.open(tools);
            if self.log.has_predecessors_line() {
                return false;
            }
        }
        let nothing = self.log.unwritten_bytes() == 0 && !self.log.is_within_a_line();
        if nothing && self.unread_bytes(end) == 0 {
            // Also when the log is in trouble: nobody has to wait for nothing.
            return true;
        }
        !self.is_stuck() && self.end_line(end, tools) == Flow::Going
    }

    /// What a log that is stuck has left in the pipe, if the pipe ends with us.
    pub fn unread_bytes(&self, end: End) -> usize {
        match &self.pipe {
            Some(pipe) if end == End::Line && self.is_stuck() => fds::readable(pipe),
            Some(_) | None => 0,
        }
    }

    /// It is to be detached and was not yet.
    pub fn owes_detach(&self) -> bool {
        self.leaves_by.is_some()
    }

    /// Lets go of everything; how many bytes are lost, and whose. Those that are in the journal are
    /// not, if there is a `successor`.
    pub fn close(self, successor: bool) -> (Box<str>, usize) {
        let owes = self.log.has_predecessors_line();
        if let Some(old) = self.log.being_processed()
            && !successor
        {
            eprintln!(
                "outlast-scribe: {}: its processor is still at work on {} and is ended; it is \
                 started again when the log is",
                self.name,
                old.name()
            );
        }
        let bytes = self.log.close();
        match self.entry {
            Some(_) if (bytes > 0 || owes) && successor => return (self.name, 0),
            Some(entry) => entry.release(),
            None => {}
        }
        (self.name, bytes)
    }
}
