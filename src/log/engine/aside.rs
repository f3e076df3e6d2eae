//! What happens to a line beside being written: it is repeated on standard error, or sent.

use super::*;

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
