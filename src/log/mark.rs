//! What a log's next writer must know to go on exactly where this one was killed. Pure.
//!
//! A *mark* says: so much of the input is in the file, the file is this one and so long, and this
//! is the line in hand. It replaces the mark before it as a whole. Between two marks the file grows
//! by what the input behind the mark makes, and only up to a length that was told before
//! ([`Track::grows`]). So who comes next knows which bytes of the file nobody answers for. It
//! gives the log the same input again: as the time is the same too, the same bytes come out, and
//! what is there already is not written twice (`engine/tracked`).
//!
//! A rotation stands between two marks: one before the rename says that the file is complete, one
//! after it names the new file. Whoever finds another `current` than the mark names knows that the
//! rename has been done, and that nothing is in the new file yet.

use super::line::Place;
use std::ops::Range;
use std::time::Duration;

/// A file by device and inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileId {
    pub dev: u64,
    pub ino: u64,
}

/// How far a log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub file: FileId,
    /// Bytes of the file that the input up to here has made, or that were there before.
    pub length: u64,
    /// How long it may have become since.
    pub grown: u64,
    pub place: Place,
    /// Whether the line in hand is written.
    pub selected: bool,
    /// When the line in hand began.
    pub since: Duration,
}

impl Mark {
    /// Of a file as it is found: the length up to which it is answered for, if it is longer than
    /// that. None when all of it is to stay, above all when somebody else has written to it.
    pub fn answered_for(&self, found: FileId, length: u64) -> Option<u64> {
        let unsure = self.file == found && self.length < length && length <= self.grown;
        unsure.then_some(self.length)
    }
}

/// A mark as it is left to a successor, with the bytes that go with it: what is held back of the
/// line in hand or, behind a border between files, what is still to be written of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    pub mark: Mark,
    pub bytes: Vec<u8>,
}

/// Who keeps the marks of one log.
pub trait Track: std::fmt::Debug + Send {
    /// `left` bytes of the input that was given last come behind the mark.
    fn mark(&mut self, mark: &Mark, bytes: &[u8], left: usize);

    /// The file, which is `from` bytes long, is going to be up to `to` bytes long.
    fn grows(&mut self, file: FileId, from: u64, to: u64);
}

/// Pieces of input are numbered. Of the piece `batch`, `bytes` long, the part that is not in the
/// log yet when its mark stands at `done` bytes of the piece `marked`.
pub fn owed(marked: u64, done: u64, batch: u64, bytes: u64) -> Range<u64> {
    match marked.cmp(&batch) {
        std::cmp::Ordering::Less => 0..bytes,
        std::cmp::Ordering::Equal => done.min(bytes)..bytes,
        std::cmp::Ordering::Greater => bytes..bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: FileId = FileId { dev: 1, ino: 2 };

    fn mark(length: u64, grown: u64) -> Mark {
        Mark {
            file: FILE,
            length,
            grown,
            ..Mark::default()
        }
    }

    #[test]
    fn a_file_as_the_mark_says_is_answered_for() {
        assert_eq!(mark(10, 10).answered_for(FILE, 10), None);
        assert_eq!(mark(10, 30).answered_for(FILE, 10), None, "nothing came");
    }

    #[test]
    fn what_came_after_the_mark_is_not() {
        for length in 11..=30 {
            assert_eq!(mark(10, 30).answered_for(FILE, length), Some(10));
        }
    }

    #[test]
    fn what_others_did_to_a_file_is_left_alone() {
        assert_eq!(mark(10, 30).answered_for(FILE, 31), None, "added to");
        assert_eq!(mark(10, 10).answered_for(FILE, 11), None, "added to");
        assert_eq!(mark(10, 30).answered_for(FILE, 3), None, "emptied");
        let other = FileId { dev: 1, ino: 3 };
        assert_eq!(mark(10, 30).answered_for(other, 20), None, "rotated");
    }

    #[test]
    fn a_piece_of_input_is_owed_until_a_mark_says_otherwise() {
        assert_eq!(owed(4, 100, 5, 70), 0..70, "no mark in it yet");
        assert_eq!(owed(5, 30, 5, 70), 30..70, "a file ended in it");
        assert_eq!(owed(5, 70, 5, 70), 70..70, "all of it is there");
        assert_eq!(owed(6, 0, 5, 70), 70..70, "the next one came");
    }

    proptest! {
        #[test]
        fn nothing_is_owed_twice(batch in 1u64..9, marked in 0u64..10, done in 0u64..100, bytes in 0u64..100) {
            let owed = owed(marked, done, batch, bytes);
            prop_assert!(owed.start <= owed.end && owed.end == bytes);
            let before = if marked == batch { done.min(bytes) } else if marked < batch { 0 } else { bytes };
            prop_assert_eq!(before + (owed.end - owed.start), bytes);
        }

        #[test]
        fn only_what_was_announced_is_ever_taken_back(length in 0u64..100, more in 0u64..100, found in 0u64..300) {
            let mark = mark(length, length + more);
            match mark.answered_for(FILE, found) {
                Some(kept) => prop_assert!(kept == length && found > length && found <= length + more),
                None => prop_assert!(found <= length || found > length + more),
            }
        }
    }
}
