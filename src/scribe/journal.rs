//! The scribe's memory that outlives it: what has been taken from a service's pipe and is not yet
//! in its log. A memfd that the keeper holds, and a pipe for the way from one to the other.
//!
//! The way of a piece of output, and what whoever comes next does if we are killed there:
//!
//! 1. The lane notes whose piece is to come, then splice(2) *moves* bytes from the service's pipe
//!    into the transit pipe, which nobody else writes to. Killed before: the transit is empty.
//!    After: what lies in it is the piece. splice moves whole buffers under both pipes' locks, so
//!    each byte is in one of the two. (A read would not do: between its end and a note of how
//!    much it brought lies an instant, and the service writes on, so the pipe can't be asked.)
//! 2. The lane notes how many bytes lie there, then reads them into its staging area, which is
//!    part of the memfd. Killed before, after or, on a page that had to be fetched, within: noted
//!    minus still in transit is what the staging area has. `settle` brings in the rest.
//! 3. The engine writes the piece out and sets marks (`log/mark`): the output behind the last mark
//!    may be on disk in part. Killed anywhere here, a write(2) in half or a rotation included:
//!    `settle` puts the staged piece aside for its log; the log's next owner gives the engine the
//!    mark and what is owed behind it, with the time that was noted with the piece.
//! 4. The mark at the piece's end says that all of it is in the log, or held back in the mark
//!    itself as the line in hand. Killed from here on: nothing is owed, the note is void.
//!
//! A log that can't be written leaves its piece aside as well, so that the lane's staging area is
//! free for the others. Numbers of pieces grow, and every note names its piece; so whatever is
//! found is either owed or known to be done, and each step of `settle` may be repeated.
//!
//! A mark is written beside the one in force, then one word puts it in force. Words are stored in
//! program order (Release), and a process that is killed has done its stores up to some point.
//!
//! Without a journal (no memory, no descriptors) the scribe works on, and a kill may lose or
//! double what was under way.

use super::router::LANES_MAX;
use crate::log::line::Place;
use crate::log::mark::{FileId, Mark, Saved, Track, owed};
use crate::log::trip;
use crate::os::fds::{self, SharedBytes, SharedWords};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, SpliceFFlags, fallocate, splice};
use nix::unistd::{Pid, getppid};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod layout;

pub use layout::STAGING_BYTES;
use layout::*;

#[derive(Debug)]
pub struct Journal {
    words: SharedWords,
    file: File,
    transit: OwnedFd,
    /// The keeper, who holds it.
    keeper: Pid,
    /// Held while something is in transit.
    gate: Mutex<()>,
    claims: Mutex<Claims>,
}

#[derive(Debug, Default)]
struct Claims {
    /// Left by a predecessor, by key.
    left: HashMap<u64, usize>,
    free: Vec<usize>,
}

/// What a predecessor left of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub saved: Option<Saved>,
    /// Input that is owed to the log, and when it came.
    pub input: Vec<u8>,
    pub wall: Duration,
}

impl Left {
    /// Whether there is anything to do about it at once.
    pub fn is_unfinished(&self) -> bool {
        let grown = self.saved.as_ref().is_some_and(|saved| {
            let mark = saved.mark;
            mark.grown > mark.length || (!saved.bytes.is_empty() && mark.place != Place::Held)
        });
        grown || !self.input.is_empty()
    }
}

impl Journal {
    /// Takes the journal over, and puts aside for each log what was under way.
    pub fn open(file: OwnedFd, transit: OwnedFd) -> io::Result<Arc<Journal>> {
        let file = File::from(file);
        let mut magic = [0; 8];
        let known = file.metadata()?.len() == BYTES
            && file.read_exact_at(&mut magic, 0).is_ok()
            && u64::from_le_bytes(magic) == MAGIC;
        if !known {
            file.set_len(0)?;
            file.set_len(BYTES)?;
        }
        // A description of our own: the ends that others hold are never read.
        let transit = fds::reopen(transit, OFlag::O_RDWR | OFlag::O_NONBLOCK)?;
        let journal = Journal {
            words: SharedWords::map(file.as_fd(), 0, WORDS)?,
            file,
            transit,
            keeper: getppid(),
            gate: Mutex::default(),
            claims: Mutex::default(),
        };
        if !known {
            journal.head(Head::Magic).store(MAGIC, Ordering::Release);
        }
        journal.settle()?;
        journal.find_left();
        Ok(Arc::new(journal))
    }

    /// Whether there will be somebody to go on with it: it does not outlive the keeper.
    pub fn has_heirs(&self) -> bool {
        getppid() == self.keeper
    }

    /// A lane's staging area; to be asked for once.
    pub fn staging(&self, lane: usize) -> io::Result<SharedBytes> {
        SharedBytes::map(self.file.as_fd(), staging_at(lane), STAGING_BYTES)
    }

    /// A place for a log, and what was left there for it. None when all are taken.
    pub fn claim(self: &Arc<Journal>, id: u32, pipe: u64) -> Option<(Entry, Left)> {
        let key = key(id, pipe);
        let mut claims = lock(&self.claims);
        if let Some(slot) = claims.left.remove(&key) {
            let entry = self.entry(slot);
            let left = entry.left();
            return Some((entry, left));
        }
        let used = get(self.head(Head::Used));
        let fresh = usize::try_from(used).ok().filter(|used| *used < SLOTS);
        let slot = match (claims.free.pop(), fresh) {
            (Some(slot), _) => slot,
            (None, Some(used)) => {
                put(self.head(Head::Used), used as u64 + 1);
                used
            }
            // Rather than none: the place of one that has never been asked for again.
            (None, None) => {
                let old = claims.left.keys().next().copied()?;
                claims.left.remove(&old)?
            }
        };
        let entry = self.entry(slot);
        put(self.key(slot), 0);
        for word in 0..RECORD_WORDS {
            put(self.word(RECORDS + slot * RECORD_WORDS + word), 0);
        }
        put(self.key(slot), key);
        Some((entry, Left::default()))
    }

    fn entry(self: &Arc<Journal>, slot: usize) -> Entry {
        Entry {
            journal: self.clone(),
            slot,
        }
    }

    /// Brings what a killed predecessor had under way to a rest. May be killed itself.
    fn settle(&self) -> io::Result<()> {
        if let Some(lane) = place(get(self.head(Head::Mover))) {
            let waiting = fds::readable(&self.transit) as u64;
            let moved = self.lane(lane, Lane::Moved);
            if get(moved) == 0 {
                put(moved, waiting);
            }
            let there = get(moved).saturating_sub(waiting);
            let mut staging = self.staging(lane)?;
            let (from, to) = (there as usize, get(moved) as usize);
            self.bring_in(&mut staging, from.min(STAGING_BYTES)..to.min(STAGING_BYTES))?;
            put(self.head(Head::Mover), 0);
        }
        for lane in 0..LANES_MAX {
            let Some(slot) = place(get(self.lane(lane, Lane::Slot))).filter(|slot| *slot < SLOTS)
            else {
                continue;
            };
            let [batch, bytes, wall] =
                [Lane::Batch, Lane::Moved, Lane::Wall].map(|word| get(self.lane(lane, word)));
            let (marked, done) = self.marked(slot);
            if !owed(marked, done, batch, bytes).is_empty() {
                let mut piece = vec![0; (bytes as usize).min(STAGING_BYTES)];
                self.file.read_exact_at(&mut piece, staging_at(lane))?;
                self.put_aside(slot, batch, &piece, wall)?;
            }
            put(self.lane(lane, Lane::Slot), 0);
        }
        Ok(())
    }

    fn find_left(&self) {
        let mut claims = lock(&self.claims);
        let used = (get(self.head(Head::Used)) as usize).min(SLOTS);
        for slot in 0..used {
            match get(self.key(slot)) {
                0 => claims.free.push(slot),
                key => drop(claims.left.insert(key, slot)),
            }
        }
    }

    /// Reads from the transit until the area is full.
    fn bring_in(&self, staging: &mut [u8], area: std::ops::Range<usize>) -> nix::Result<()> {
        let mut area = area;
        while !area.is_empty() {
            match nix::unistd::read(&self.transit, &mut staging[area.clone()]) {
                Ok(0) => return Err(Errno::EIO),
                Ok(bytes) => area.start += bytes,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// The piece and the byte in it that the mark in force stands at.
    fn marked(&self, slot: usize) -> (u64, u64) {
        let live = self.live(slot);
        let word = |word| get(self.mark_word(slot, live, word));
        (word(Word::Batch), word(Word::Done))
    }

    fn put_aside(&self, slot: usize, batch: u64, piece: &[u8], wall: u64) -> io::Result<()> {
        let record = |word| self.record(slot, word);
        put(record(Record::AsideBatch), 0);
        self.file.write_all_at(piece, aside_at(slot))?;
        put(record(Record::AsideBytes), piece.len() as u64);
        put(record(Record::AsideWall), wall);
        put(record(Record::AsideBatch), batch);
        Ok(())
    }

    fn live(&self, slot: usize) -> usize {
        usize::from(get(self.record(slot, Record::Live)) & 1 == 1)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words.words()[at]
    }

    fn head(&self, word: Head) -> &AtomicU64 {
        self.word(HEAD + word as usize)
    }

    fn lane(&self, lane: usize, word: Lane) -> &AtomicU64 {
        self.word(LANES + lane * LANE_WORDS + word as usize)
    }

    fn key(&self, slot: usize) -> &AtomicU64 {
        self.word(KEYS + slot)
    }

    fn record(&self, slot: usize, word: Record) -> &AtomicU64 {
        self.word(RECORDS + slot * RECORD_WORDS + word as usize)
    }

    fn mark_word(&self, slot: usize, which: usize, word: Word) -> &AtomicU64 {
        let first = RECORDS + slot * RECORD_WORDS + Record::Marks as usize;
        self.word(first + which * MARK_WORDS + word as usize)
    }
}

/// The place of one log in the journal.
#[derive(Clone, Debug)]
pub struct Entry {
    journal: Arc<Journal>,
    slot: usize,
}

impl Entry {
    /// The next piece, from the pipe into the lane's staging area. Zero at the pipe's end.
    pub fn take_in(
        &self,
        lane: usize,
        pipe: BorrowedFd<'_>,
        staging: &mut [u8],
    ) -> nix::Result<usize> {
        let journal = &*self.journal;
        let _gate = lock(&journal.gate);
        let batch = get(self.word(Record::Batch)) + 1;
        let note = |word, value| put(journal.lane(lane, word), value);
        note(Lane::Slot, 0);
        note(Lane::Batch, batch);
        note(Lane::Moved, 0);
        note(Lane::Wall, 0);
        note(Lane::Slot, self.slot as u64 + 1);
        put(journal.head(Head::Mover), lane as u64 + 1);
        trip::at("piece-noted");
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        let most = staging.len().min(STAGING_BYTES);
        let moved = loop {
            match splice(pipe, None, &journal.transit, None, most, flags) {
                Err(Errno::EINTR) => {}
                other => break other,
            }
        };
        trip::at("piece-moved");
        let bytes = match moved {
            Ok(bytes @ 1..) => bytes,
            nothing => {
                put(journal.head(Head::Mover), 0);
                note(Lane::Slot, 0);
                return nothing;
            }
        };
        note(Lane::Moved, bytes as u64);
        trip::at("piece-counted");
        if let Err(errno) = journal.bring_in(staging, 0..bytes) {
            // They are there, and nobody else reads them. A successor may fare better.
            panic!("reading back what was moved: {errno}");
        }
        trip::at("piece-brought-in");
        put(journal.head(Head::Mover), 0);
        put(self.word(Record::Bytes), bytes as u64);
        put(self.word(Record::Batch), batch);
        Ok(bytes)
    }

    /// When the piece that has just been taken in came.
    pub fn came(&self, lane: usize, wall: Duration) {
        put(self.journal.lane(lane, Lane::Wall), nanoseconds(wall));
        trip::at("piece-timed");
    }

    /// The lane is free for another piece.
    pub fn written(&self, lane: usize) {
        trip::at("piece-written");
        put(self.journal.lane(lane, Lane::Slot), 0);
    }

    /// The log is stuck: its piece is kept apart.
    pub fn keep_aside(&self, lane: usize, piece: &[u8]) {
        let journal = &*self.journal;
        let batch = get(self.word(Record::Batch));
        let wall = get(journal.lane(lane, Lane::Wall));
        if let Err(error) = journal.put_aside(self.slot, batch, piece, wall) {
            eprintln!("outlast-scribe: no memory to keep a waiting log's output in: {error}");
        }
        trip::at("piece-aside");
        put(journal.lane(lane, Lane::Slot), 0);
    }

    /// What lay aside is in the log.
    pub fn clear_aside(&self) {
        if get(self.word(Record::AsideBatch)) != 0 {
            put(self.word(Record::AsideBatch), 0);
            self.journal
                .give_back(aside_at(self.slot), STAGING_BYTES as u64);
        }
    }

    /// The log has been let go of in order: a successor finds all it needs in the file.
    pub fn release(self) {
        let journal = &*self.journal;
        put(journal.key(self.slot), 0);
        journal.give_back(hand_at(self.slot), HAND_AREA);
        journal.give_back(aside_at(self.slot), STAGING_BYTES as u64);
        lock(&journal.claims).free.push(self.slot);
    }

    fn left(&self) -> Left {
        let journal = &*self.journal;
        let live = journal.live(self.slot);
        let word = |word| get(journal.mark_word(self.slot, live, word));
        let file = FileId {
            dev: word(Word::Dev),
            ino: word(Word::Ino),
        };
        let [aside, bytes] = [Record::AsideBatch, Record::AsideBytes].map(|it| get(self.word(it)));
        let (marked, done) = journal.marked(self.slot);
        let range = match aside {
            0 => 0..0,
            aside => owed(marked, done, aside, bytes.min(STAGING_BYTES as u64)),
        };
        let mut input = vec![0; (range.end - range.start) as usize];
        let read = journal
            .file
            .read_exact_at(&mut input, aside_at(self.slot) + range.start);
        if read.is_err() {
            input.clear();
        }
        // What is given to the engine next: the rest of that piece, or nothing of the marked one.
        let batch = match input.is_empty() {
            true => [marked.max(aside), done],
            false => [aside, bytes],
        };
        put(self.word(Record::Bytes), batch[1]);
        put(self.word(Record::Batch), batch[0]);
        let saved = (word(Word::Place) & IS_SET != 0).then(|| {
            let mut hand = vec![0; (word(Word::HandBytes) as usize).min(HAND_BYTES_MAX)];
            let at = hand_at(self.slot) + word(Word::HandAt);
            if journal.file.read_exact_at(&mut hand, at).is_err() {
                hand.clear();
            }
            Saved {
                mark: Mark {
                    file,
                    length: word(Word::Length),
                    grown: word(Word::Grown),
                    place: match word(Word::Place) & 3 {
                        1 => Place::Held,
                        2 => Place::Rest,
                        _ => Place::Start,
                    },
                    selected: word(Word::Place) & 4 != 0,
                    since: Duration::from_nanos(word(Word::Since)),
                },
                bytes: hand,
            }
        });
        Left {
            saved,
            input,
            wall: Duration::from_nanos(get(self.word(Record::AsideWall))),
        }
    }

    fn word(&self, word: Record) -> &AtomicU64 {
        self.journal.record(self.slot, word)
    }

    /// Where bytes can be put without touching those of the mark in force.
    fn room(&self, live: usize, bytes: usize) -> u64 {
        let word = |word| get(self.journal.mark_word(self.slot, live, word));
        let (at, length) = (word(Word::HandAt), word(Word::HandBytes));
        match bytes as u64 <= at || length == 0 {
            true => 0,
            false => at + length,
        }
    }
}

impl Track for Entry {
    fn mark(&mut self, mark: &Mark, bytes: &[u8], left: usize) {
        let journal = &*self.journal;
        let live = journal.live(self.slot);
        let next = 1 - live;
        let mut at = 0;
        if !bytes.is_empty() {
            at = self.room(live, bytes.len());
            let fits = bytes.len() <= HAND_BYTES_MAX && at + bytes.len() as u64 <= HAND_AREA;
            let put = match fits {
                true => journal.file.write_all_at(bytes, hand_at(self.slot) + at),
                false => Err(io::ErrorKind::FileTooLarge.into()),
            };
            if let Err(error) = put {
                // The mark before stays in force: a kill may double lines, and lose none.
                eprintln!("outlast-scribe: no room for a line in hand: {error}");
                return;
            }
        }
        let done = get(self.word(Record::Bytes)).saturating_sub(left as u64);
        let place = match mark.place {
            Place::Start => 0,
            Place::Held => 1,
            Place::Rest => 2,
        };
        for (word, value) in [
            (Word::Dev, mark.file.dev),
            (Word::Ino, mark.file.ino),
            (Word::Length, mark.length),
            (Word::Grown, mark.grown),
            (Word::Batch, get(self.word(Record::Batch))),
            (Word::Done, done),
            (Word::Place, place | u64::from(mark.selected) << 2 | IS_SET),
            (Word::HandAt, at),
            (Word::HandBytes, bytes.len() as u64),
            (Word::Since, nanoseconds(mark.since)),
        ] {
            put(journal.mark_word(self.slot, next, word), value);
        }
        trip::at("mark-unset");
        put(self.word(Record::Live), next as u64);
        trip::at("mark-set");
    }

    fn grows(&mut self, file: FileId, from: u64, to: u64) {
        let journal = &*self.journal;
        let live = journal.live(self.slot);
        let word = |which, word| journal.mark_word(self.slot, which, word);
        let marked = FileId {
            dev: get(word(live, Word::Dev)),
            ino: get(word(live, Word::Ino)),
        };
        if marked == file {
            put(word(live, Word::Grown), to);
            trip::at("growth-told");
            return;
        }
        // The file was removed by somebody: the same mark, at another one.
        let next = 1 - live;
        for at in 0..MARK_WORDS {
            let first = RECORDS + self.slot * RECORD_WORDS + Record::Marks as usize;
            let [of, to] = [live, next].map(|which| journal.word(first + which * MARK_WORDS + at));
            put(to, get(of));
        }
        for (at, value) in [
            (Word::Dev, file.dev),
            (Word::Ino, file.ino),
            (Word::Length, from),
            (Word::Grown, to),
        ] {
            put(word(next, at), value);
        }
        put(self.word(Record::Live), next as u64);
    }
}

impl Journal {
    /// Memory that is not needed any more. Should it be kept, no harm is done.
    fn give_back(&self, at: u64, bytes: u64) {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if let (Ok(at), Ok(bytes)) = (i64::try_from(at), i64::try_from(bytes)) {
            let _ = fallocate(&self.file, flags, at, bytes);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

/// Each store stays behind those before it.
fn put(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
