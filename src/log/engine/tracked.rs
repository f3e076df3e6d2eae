//! A log whose progress is written down, so that another process can go on with it (`log/mark`).

use super::super::line::{Lines, Place};
use super::super::mark::{FileId, Mark, Saved, Track};
use super::*;
use std::os::unix::fs::FileExt;

#[derive(Debug)]
pub(super) struct Tracked {
    track: Box<dyn Track>,
    /// What our predecessor left, until the directory is open.
    saved: Option<Saved>,
    /// A first mark was set, or found.
    began: bool,
    file: FileId,
    /// As long as `current` was when it was opened. What of it lies behind the log's own size was
    /// written by our predecessor, and is going to be made once more from the same input.
    length: u64,
}

impl Log {
    /// Who writes down how far it has come, and what was written down of a log before.
    pub fn tracked_by(mut self, track: Box<dyn Track>, saved: Option<Saved>) -> Log {
        self.tracked = Some(Box::new(Tracked {
            track,
            saved,
            began: false,
            file: FileId::default(),
            length: 0,
        }));
        self
    }

    /// `current` is now this file. Returns how much of it is accounted for.
    pub(super) fn found(&mut self, file: FileId, length: u64) -> u64 {
        let size = self.size;
        let Some(tracked) = &mut self.tracked else {
            return length;
        };
        let again = tracked.began && tracked.file == file && size < tracked.length;
        (tracked.file, tracked.length) = (file, length);
        match again {
            true => size.min(length),
            false => length,
        }
    }

    /// Goes on where a predecessor stopped; to be done once, when the directory is open.
    pub(super) fn take_up(&mut self, desk: &mut Desk) {
        let Some(tracked) = &mut self.tracked else {
            return;
        };
        if std::mem::replace(&mut tracked.began, true) {
            return;
        }
        let Some(Saved { mark, bytes }) = tracked.saved.take() else {
            return self.mark(desk);
        };
        // Its mark stays as it is: what it says of the file is still to be seen to.
        if let Some(kept) = mark.answered_for(tracked.file, tracked.length) {
            self.begin += self.size - kept;
            self.floor = self.begin;
            self.size = kept;
        }
        self.selected = mark.selected;
        self.lines = match mark.place {
            Place::Held => Lines::at(Place::Held, mark.since, bytes),
            place => {
                desk.then = bytes;
                Lines::at(place, mark.since, Vec::new())
            }
        };
    }

    /// Bytes that a predecessor held back and that have not been gone on with.
    pub(super) fn predecessors_bytes(&self) -> usize {
        let saved = self.tracked.as_ref().and_then(|it| it.saved.as_ref());
        saved.map_or(0, |saved| saved.bytes.len())
    }

    /// A predecessor had a line in hand or in part in the file, and it has not been gone on with.
    pub fn has_predecessors_line(&self) -> bool {
        let saved = self.tracked.as_ref().and_then(|it| it.saved.as_ref());
        saved.is_some_and(|saved| !saved.bytes.is_empty() || saved.mark.place != Place::Start)
    }

    /// Writes down how far it has come: all that was gathered is in the file.
    pub(super) fn mark(&mut self, desk: &Desk) {
        let Some(tracked) = &mut self.tracked else {
            return;
        };
        let (held, since) = self.lines.held();
        let place = self.lines.place();
        let bytes = match place {
            Place::Held => held,
            Place::Start | Place::Rest => &desk.then,
        };
        let mark = Mark {
            file: tracked.file,
            length: self.size,
            grown: self.size.max(tracked.length),
            place,
            selected: self.selected,
            since,
        };
        tracked.track.mark(&mark, bytes, desk.left);
    }

    /// Tells that so many bytes are going to be added to `current`.
    pub(super) fn announce(&mut self, bytes: usize) {
        if let Some(tracked) = &mut self.tracked
            && bytes > 0
        {
            let to = self.size + wide(bytes);
            tracked.track.grows(tracked.file, self.size, to);
        }
    }

    /// Leaves out of what is to be written what a predecessor has written of it already.
    pub(super) fn pass_over(&mut self, desk: &mut Desk) -> Result<(), Halt> {
        let (Some(tracked), Some(files)) = (&self.tracked, &self.files) else {
            return Ok(());
        };
        let surplus = tracked.length.saturating_sub(self.size);
        let Ok(most) = usize::try_from(surplus.min(wide(desk.out.len()))) else {
            return Ok(());
        };
        if most == 0 {
            return Ok(());
        }
        let mut there = vec![0; most];
        if files.current.read_exact_at(&mut there, self.size).is_err() {
            there.clear();
        }
        let pairs = there.iter().zip(&desk.out);
        let same = pairs.take_while(|(there, ours)| there == ours).count();
        desk.out.drain(..same);
        self.size += wide(same);
        match same == most {
            true => Ok(()),
            // The settings have changed in between, say: it is written anew from here on.
            false => self.cut_off(),
        }
    }

    /// Ends `current` where we have come to.
    pub(super) fn cut_off(&mut self) -> Result<(), Halt> {
        let (Some(tracked), Some(files)) = (&mut self.tracked, &self.files) else {
            return Ok(());
        };
        if tracked.began && self.size < tracked.length {
            let cut = files.current.set_len(self.size);
            cut.map_err(|error| Halt::of("cut", "current", &error))?;
            tracked.length = self.size;
        }
        Ok(())
    }
}
