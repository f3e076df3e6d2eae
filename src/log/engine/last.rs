//! What was written last, and what is about to be.

use super::super::line::Place;
use super::super::settings::Extra;
use super::super::stamp::Stamper;
use super::super::tail;
use super::Log;
use std::io;
use std::ops::Range;

impl Log {
    /// The last lines that stand between two positions, as far as the files are still there, each
    /// cut to `line_bytes_max`.
    pub fn lines_between(
        &self,
        from: u64,
        to: u64,
        lines: usize,
        line_bytes_max: usize,
    ) -> io::Result<Vec<Vec<u8>>> {
        self.lines_of(from.max(self.floor)..to, lines, line_bytes_max)
    }

    /// The last lines before a position, those of others who wrote this log included. The first of them
    /// may be cut at its begin.
    pub fn lines_before(
        &self,
        to: u64,
        lines: usize,
        line_bytes_max: usize,
    ) -> io::Result<Vec<Vec<u8>>> {
        let from = to.saturating_sub(tail::BETWEEN_BYTES_MAX);
        self.lines_of(from..to, lines, line_bytes_max)
    }

    /// The line that is not in the file yet, as far as it has come.
    pub fn in_hand(&self, line_bytes_max: usize) -> Option<Vec<u8>> {
        let (held, since) = self.lines.held();
        let settings = self.settings();
        let selects = |extra: &Extra| extra.selects(held);
        if self.lines.place() != Place::Held || !settings.extra.as_deref().is_none_or(selects) {
            return None;
        }
        let stamp = Stamper::default().text(settings.stamp, since);
        let mut line = [stamp.as_bytes(), settings.prefix(), held].concat();
        line.truncate(line_bytes_max);
        Some(line)
    }

    fn lines_of(
        &self,
        span: Range<u64>,
        lines: usize,
        line_bytes_max: usize,
    ) -> io::Result<Vec<Vec<u8>>> {
        // What a processor made of a file has another length, and may not be text.
        let processed = self.settings().processor().is_some();
        tail::between(
            &self.path,
            self.begin,
            span,
            processed,
            lines,
            line_bytes_max,
        )
    }
}
