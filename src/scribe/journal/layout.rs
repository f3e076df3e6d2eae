//! Where what stands in the journal. A layout has a name; whoever finds another one begins anew.

use super::super::router::LANES_MAX;

/// A layout of its own each; a journal of another one is begun anew.
pub const MAGIC: u64 = u64::from_le_bytes(*b"outlog 1");
/// Logs that find a place; each has three descriptors, and there are no more.
pub const SLOTS: usize = 1 << 14;
/// Longest piece.
pub const STAGING_BYTES: usize = 64 * 1024;
/// Longest line in hand: the scribe's limit of a line, its stamp and its prefix, if that is sane.
pub const HAND_BYTES_MAX: usize = 32 * 1024;

// In words: the head, one record a lane, one key a log, one record a log. Records of logs that are
// not there are never touched, so they need no memory.
pub const HEAD: usize = 0;
pub const LANES: usize = 512;
pub const LANE_WORDS: usize = 8;
pub const KEYS: usize = LANES + LANES_MAX * LANE_WORDS;
pub const RECORDS: usize = KEYS + SLOTS;
pub const RECORD_WORDS: usize = 32;
pub const WORDS: usize = RECORDS + SLOTS * RECORD_WORDS;

// In bytes, behind the words.
pub const STAGING_AT: u64 = (WORDS * 8) as u64;
pub const HANDS_AT: u64 = STAGING_AT + (LANES_MAX * STAGING_BYTES) as u64;
/// Two of different lengths beside each other, wherever the first one lies.
pub const HAND_AREA: u64 = 3 * HAND_BYTES_MAX as u64;
pub const ASIDE_AT: u64 = HANDS_AT + SLOTS as u64 * HAND_AREA;
pub const BYTES: u64 = ASIDE_AT + (SLOTS * STAGING_BYTES) as u64;

/// Words of the head.
#[derive(Clone, Copy)]
pub enum Head {
    Magic,
    /// The lane, plus one, whose piece is in transit.
    Mover,
    /// Keys up to here may be taken.
    Used,
}

/// Words of a lane's record.
#[derive(Clone, Copy)]
pub enum Lane {
    /// The place, plus one, of the log whose piece the rest is about.
    Slot,
    Batch,
    /// Bytes that were in transit.
    Moved,
    /// When the piece came, in nanoseconds since 1970.
    Wall,
}

/// Words of a log's record.
#[derive(Clone, Copy)]
pub enum Record {
    /// Which of the two marks is in force.
    Live,
    /// The piece that was given to the engine last, and how long it is.
    Batch,
    Bytes,
    /// What lies aside.
    AsideBatch,
    AsideBytes,
    AsideWall,
    /// Two marks.
    Marks = 8,
}

/// Words of a mark.
#[derive(Clone, Copy)]
pub enum Word {
    Dev,
    Ino,
    Length,
    Grown,
    Batch,
    Done,
    /// Place in the line, bit 2: selected, bit 3: [`IS_SET`].
    Place,
    /// Of the line in hand, within its area.
    HandAt,
    HandBytes,
    Since,
}
pub const MARK_WORDS: usize = 10;
/// There is a mark.
pub const IS_SET: u64 = 8;

/// A service's number and its pipe: a number may be another service's one day.
pub fn key(id: u32, pipe: u64) -> u64 {
    // A pipe's inode has 32 bits and is never zero.
    (pipe << 32 | u64::from(id)).max(1)
}

pub fn place(word: u64) -> Option<usize> {
    usize::try_from(word).ok()?.checked_sub(1)
}

pub fn staging_at(lane: usize) -> u64 {
    STAGING_AT + (lane * STAGING_BYTES) as u64
}

pub fn hand_at(slot: usize) -> u64 {
    HANDS_AT + slot as u64 * HAND_AREA
}

pub fn aside_at(slot: usize) -> u64 {
    ASIDE_AT + (slot * STAGING_BYTES) as u64
}
