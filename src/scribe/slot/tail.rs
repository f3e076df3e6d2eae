//! What a run has written last.

use super::super::lane::Tools;
use super::super::link::Report;
use super::{Run, Slot, TURN_BYTES};
use crate::ipc::scribe::{Asked, FromScribe};
use crate::log::stamp;
use std::time::Duration;

/// Bounds of an answer.
const LINES_MAX: usize = 1000;
const LINE_BYTES_MAX: usize = 4096;
/// A run may have written before its start was heard of.
const SLACK: Duration = Duration::from_millis(50);

impl Slot {
    pub fn tail(&mut self, token: u64, asked: Asked, tools: &mut Tools) {
        let under_way = self.run != Run::Between || self.owed.started;
        let current = asked.current && under_way;
        if current {
            self.read(tools, TURN_BYTES);
        }
        let (span, known) = match current || self.owed.ended {
            true => (self.starts..self.log.position(), self.starts_known),
            false => (self.last.clone(), self.last_known),
        };
        let known = known || asked.from_ns == 0;
        let lines = usize::try_from(asked.lines)
            .unwrap_or(usize::MAX)
            .min(LINES_MAX);
        let without = self.log.without().is_some();
        let mut found = match without {
            true => self.recent.last(lines),
            false if !known => self.of_that_time(&asked, tools),
            // Not there to be read is not there.
            false => self
                .log
                .lines_between(span.start, span.end, lines, LINE_BYTES_MAX)
                .unwrap_or_default(),
        };
        let unfinished = current && self.log.is_within_a_line();
        if unfinished {
            found.extend(self.log.in_hand(LINE_BYTES_MAX));
        }
        found.drain(..found.len().saturating_sub(lines));
        let known = known || !found.is_empty();
        let text = |line: Vec<u8>| String::from_utf8_lossy(&line).into_owned();
        let file = self.log.path().join("current").display().to_string();
        tools.reports.send(Report::Tell(FromScribe::Tail {
            token,
            unfinished: unfinished && !found.is_empty(),
            lines: found.into_iter().map(text).collect(),
            file: (!without && known).then_some(file),
        }));
    }

    /// Of a run whose start, or end, a predecessor was told: what has a stamp of that time. Without
    /// stamps nothing is known.
    fn of_that_time(&mut self, asked: &Asked, tools: &mut Tools) -> Vec<Vec<u8>> {
        if !self.is_stuck() {
            self.open(tools);
        }
        let from = Duration::from_nanos(asked.from_ns).saturating_sub(SLACK);
        let to = match asked.to_ns {
            0 => Duration::MAX,
            to_ns => Duration::from_nanos(to_ns),
        };
        let end = self.log.position();
        let all = self.log.lines_before(end, LINES_MAX, LINE_BYTES_MAX);
        let mut all = all.unwrap_or_default();
        let mut within = false;
        all.retain(|line| {
            if let Some((at, _)) = stamp::parse(line) {
                within = from <= at && at <= to;
            }
            within
        });
        all
    }
}
