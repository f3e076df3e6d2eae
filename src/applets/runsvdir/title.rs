//! The last words of all services in the command line of runsvdir, where ps(1) shows them.
//!
//! The kernel shows what stands in our memory between two addresses; what is written there through
//! /proc/self/mem is seen at once. The first five bytes stay, the rest moves to the left.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Of LOG, never overwritten.
const HEAD_BYTES: usize = 5;
const DOT_NS: u64 = 15 * 60 * 1_000_000_000;

pub struct Title {
    memory: File,
    /// Where LOG stands in our memory.
    address: u64,
    head: Vec<u8>,
    shown: Vec<u8>,
    changed: bool,
    dot_ns: u64,
}

impl Title {
    /// `at`: which argument is LOG.
    pub fn new(args: &[OsString], at: usize) -> io::Result<Title> {
        let text = args.get(at).map(|text| text.as_bytes()).unwrap_or_default();
        let before: usize = args.iter().take(at).map(|arg| arg.len() + 1).sum();
        let start = arguments_start()?;
        let address = start + u64::try_from(before).map_err(io::Error::other)?;
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/self/mem")?;
        // Nothing is written where anything else is found than what we were called with.
        let mut there = vec![0; text.len()];
        memory.read_exact_at(&mut there, address)?;
        if there != text {
            return Err(io::Error::other(
                "the arguments are not where they should be",
            ));
        }
        let (head, shown) = text.split_at(HEAD_BYTES.min(text.len()));
        Ok(Title {
            memory,
            address,
            head: head.to_vec(),
            shown: shown.to_vec(),
            changed: false,
            dot_ns: 0,
        })
    }

    /// NULs are left out: they would end the argument.
    pub fn append(&mut self, bytes: &[u8]) {
        let room = self.shown.len();
        self.shown.extend(bytes.iter().filter(|byte| **byte != 0));
        let over = self.shown.len() - room;
        self.shown.drain(..over);
        self.changed |= over > 0;
    }

    pub fn dot_due_in_ns(&self, now_ns: u64) -> u64 {
        self.dot_ns.saturating_sub(now_ns)
    }

    /// A sign of life, at the start and every fifteen minutes.
    pub fn dot_when_due(&mut self, now_ns: u64) {
        if now_ns >= self.dot_ns {
            self.dot_ns = now_ns.saturating_add(DOT_NS);
            self.append(b".");
        }
    }

    pub fn show(&mut self) {
        if std::mem::take(&mut self.changed) {
            let at = self.address + self.head.len() as u64;
            // Nobody can be told, and nothing else depends on it.
            let _ = self.memory.write_all_at(&self.shown, at);
        }
    }
}

/// Field 48 of /proc/self/stat, arg_start (proc_pid_stat(5)).
fn arguments_start() -> io::Result<u64> {
    let stat = std::fs::read("/proc/self/stat")?;
    let after = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    let rest = OsStr::from_bytes(stat.get(after + 1..).unwrap_or_default());
    let field = rest.to_str().and_then(|rest| {
        let field = rest.split_ascii_whitespace().nth(48 - 3)?;
        field.parse().ok()
    });
    field
        .filter(|start| *start != 0)
        .ok_or_else(|| io::Error::other("/proc/self/stat does not tell where the arguments are"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_comes_at_the_start_and_then_every_fifteen_minutes() {
        let mut title = Title {
            memory: tempfile::tempfile().unwrap(),
            address: 0,
            head: b"log: ".to_vec(),
            shown: b"abcdef".to_vec(),
            changed: false,
            dot_ns: 0,
        };
        let mut shown_at = |now_ns: u64| {
            title.dot_when_due(now_ns);
            (title.shown.clone(), title.dot_due_in_ns(now_ns))
        };
        let start = 77_000_000_000;
        assert_eq!(shown_at(start), (b"bcdef.".to_vec(), DOT_NS));
        assert_eq!(shown_at(start + DOT_NS - 1), (b"bcdef.".to_vec(), 1));
        assert_eq!(shown_at(start + DOT_NS + 5), (b"cdef..".to_vec(), DOT_NS));
        assert_eq!(shown_at(start + 2 * DOT_NS), (b"cdef..".to_vec(), 5));
    }
}
