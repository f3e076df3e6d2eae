//! The last lines of a log that has no file, so that `why` can show them all the same.
//!
//! Bounded in lines and in bytes of each; nothing is held for a log that has a file.

use std::collections::VecDeque;

const LINES_MAX: usize = 50;
const LINE_BYTES_MAX: usize = 512;

#[derive(Debug, Default)]
pub struct Recent {
    lines: VecDeque<Box<[u8]>>,
}

impl Recent {
    pub fn add(&mut self, text: &[u8]) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        let head = text.get(..LINE_BYTES_MAX).unwrap_or(text);
        self.lines.push_back(head.into());
    }

    /// A new run begins, or there is a file again.
    pub fn clear(&mut self) {
        self.lines = VecDeque::new();
    }

    /// The last so many, oldest first.
    pub fn last(&self, lines: usize) -> Vec<Vec<u8>> {
        let passed = self.lines.len().saturating_sub(lines);
        let last = self.lines.iter().skip(passed);
        last.map(|line| line.to_vec()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_only_their_heads() {
        let mut recent = Recent::default();
        for n in 0..1000 {
            recent.add(n.to_string().as_bytes());
        }
        recent.add(&[b'x'; 1000]);
        let last = recent.last(3);
        assert_eq!(last[..2], [b"998".to_vec(), b"999".to_vec()]);
        assert_eq!(last[2].len(), LINE_BYTES_MAX);
        assert_eq!(recent.last(1000).len(), LINES_MAX);
        recent.clear();
        assert!(recent.last(1).is_empty());
    }
}
