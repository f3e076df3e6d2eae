//! Input cut into lines and stamped: one reading of the clock, one buffer and one write for each read.

use super::super::stamp::STAMP_BYTES;
use super::*;
use memchr::memchr_iter;

impl Log {
    /// Lines of the input, into `desk.out`, and to the disk where a file is full.
    pub(super) fn lay(
        &mut self,
        lines: &mut Lines,
        desk: &mut Desk,
        input: &mut &[u8],
        now: Now,
        witness: &mut dyn Witness,
    ) -> Result<(), Halt> {
        let limit = self.settings().line_bytes_max;
        let stamp = desk.stamper.text(self.settings().stamp, now.wall);
        let rule = self.rule();
        loop {
            self.lay_whole(
                lines,
                desk,
                input,
                (now.wall, stamp.as_bytes()),
                &rule,
                witness,
            );
            let Some(piece) = lines.next(input, now.wall, limit) else {
                desk.left = input.len();
                return Ok(());
            };
            desk.left = input.len();
            self.lines.be_behind(piece.ended);
            let newline: &[u8] = if piece.ended { b"\n" } else { b"" };
            let Some(begun) = piece.begun else {
                if self.selected {
                    self.put(desk, &rule, [piece.text, newline], now)?;
                }
                continue;
            };
            let own = (begun != now.wall).then(|| desk.stamper.text(self.settings().stamp, begun));
            let stamp = own.as_ref().unwrap_or(&stamp).as_bytes();
            self.selected = self.is_written(desk, &rule, stamp, piece.text, now)?;
            if !self.selected {
                continue;
            }
            witness.line(begun, piece.text, piece.ended);
            self.put_line(desk, &rule, stamp, piece.text, newline, now)?;
        }
    }

    /// Whole lines about which nothing has to be decided, up to the first that needs more: nearly
    /// every line goes this way, at the price of finding its end and copying it.
    fn lay_whole(
        &self,
        lines: &Lines,
        desk: &mut Desk,
        input: &mut &[u8],
        (now, stamp): (Duration, &[u8]),
        rule: &Rule,
        witness: &mut dyn Witness,
    ) {
        if lines.is_within_a_line() || self.settings().extra.is_some() {
            return;
        }
        // Of a length that is known here it is copied without a call.
        let stamp = stamp.first_chunk::<STAMP_BYTES>();
        let stamp_bytes = stamp.map_or(0, |stamp| wide(stamp.len()));
        let text_max = self.settings().line_bytes_max;
        let mut used = self.used(desk);
        let mut taken = 0;
        for newline in memchr_iter(b'\n', input) {
            let line = &input[taken..=newline];
            let bytes = stamp_bytes + wide(line.len());
            let fits = rule.admits(used, bytes, true) == Admit::Take(bytes);
            let goes_on = fits && !rule.is_full(used + bytes) && desk.out.len() < OUT_BYTES_MAX;
            if !goes_on || line.len() > text_max {
                break;
            }
            if let Some(stamp) = stamp {
                desk.out.extend_from_slice(stamp);
            }
            desk.out.extend_from_slice(line);
            witness.line(now, &line[..line.len() - 1], true);
            used += bytes;
            taken = newline + 1;
        }
        *input = &input[taken..];
    }
}
