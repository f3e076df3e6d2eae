//! What a log does at its file: writing, making room, opening, turning over to the next one.
//!
//! Each step may stop at a disk that does not take it; then nothing is lost and `resume` goes on.

use super::super::rotate::Surplus;
use super::super::trip;
use super::super::way::{Reached, reach};
use super::*;

impl Log {
    /// Writes what is gathered to `current`. On failure `desk.out` keeps what was not written.
    pub(super) fn flush(&mut self, desk: &mut Desk, now: Now) -> Result<(), Halt> {
        if desk.out.is_empty() {
            return Ok(());
        }
        self.be_open(now)?;
        if self.without.is_some() {
            desk.out.clear();
            return Ok(());
        }
        self.pass_over(desk)?;
        if self.size == 0 {
            self.count_age_on(now);
        }
        self.announce(desk.out.len());
        if let Some(files) = &self.files {
            trip::within("half-written", || {
                drop((&files.current).write(&desk.out[..desk.out.len() / 2]));
            });
        }
        let mut written = 0;
        let mut result = Ok(());
        while written < desk.out.len() && result.is_ok() {
            let Some(files) = &mut self.files else {
                break;
            };
            match files.current.write(&desk.out[written..]) {
                // What some file systems say for a full disk.
                Ok(0) => result = Err(io::Error::from_raw_os_error(Errno::ENOSPC as i32)),
                Ok(bytes) => {
                    written += bytes;
                    self.size += wide(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
            if let Err(error) = &result
                && Halt::of(dir::WRITE, "current", error) == Halt::Full
                && self.make_room(desk).is_some_and(|old| {
                    self.tell(&Note::DeletedForRoom(old));
                    true
                })
            {
                result = Ok(());
            }
        }
        desk.out.drain(..written);
        trip::at("file-written");
        result.map_err(|error| {
            let halt = Halt::of(dir::WRITE, "current", &error);
            if halt != Halt::Full && self.habits.looks_for_current {
                // The file itself may be stale (a server went away): open it anew.
                self.files = None;
            }
            halt
        })
    }

    /// That the disk is full, with the way out that is left.
    pub fn full_words(&self) -> String {
        let words = Halt::Full.words(&self.path);
        let olds = dir::list(&self.path).is_ok_and(|olds| !olds.is_empty());
        match self.settings().min {
            None if olds => words,
            Some(_) | None => match words.split_once(", or let old") {
                Some((words, _)) => words.to_owned(),
                None => words,
            },
        }
    }

    /// On a full disk: deletes the oldest file, if the config's N allows one to go.
    pub(super) fn make_room(&self, desk: &mut Desk) -> Option<Old> {
        let (min, keep) = (self.settings().min?, self.settings().keep);
        // A deleted file that is still being synced would give no room.
        desk.settle();
        let at = reach(&self.path, self.habits, false).ok()?;
        let mut olds = dir::list(at.path()).ok()?;
        let unlimited = match self.habits.surplus {
            Surplus::All => keep == 0,
            // To svlogd keeping all is less than keeping any number.
            Surplus::OneSaved => false,
        };
        if min >= keep && !unlimited {
            return None;
        }
        if self.habits.surplus == Surplus::OneSaved {
            olds.retain(|old| old.kind == Kind::Saved);
        }
        let busy = self.work.as_ref().map(|work| work.old.at);
        // N0 means that every old file may go; for `surplus` zero means that all stay.
        let goes = match min {
            0 => olds
                .iter()
                .filter(|old| Some(old.at) != busy)
                .min()
                .copied(),
            min => surplus(&olds, min, self.habits.surplus, busy)
                .first()
                .copied(),
        };
        let goes = goes?;
        fs::remove_file(at.path().join(goes.name())).ok()?;
        Some(goes)
    }

    /// Opens the directory, or sees (once a second) that `current` is still in its place.
    pub(super) fn be_open(&mut self, now: Now) -> Result<(), Halt> {
        if self.is_without(now) {
            return Ok(());
        }
        let second = now.mono_ns / 1_000_000_000;
        if let Some(files) = &self.files {
            let looks = self.habits.looks_for_current && second != self.checked_s;
            if !looks || dir::in_place(&self.path, files) {
                self.checked_s = second;
                return Ok(());
            }
            // Removed or renamed under us. The lock is let go too: it is that directory's.
            self.files = None;
        }
        self.open_files(now)
    }

    pub(super) fn open_files(&mut self, now: Now) -> Result<(), Halt> {
        let second = now.mono_ns / 1_000_000_000;
        let opened = dir::open(&self.path, self.habits, now.wall)?;
        let position = self.position();
        self.size = self.found(opened.files.id(), opened.size);
        self.begin = position.saturating_sub(self.size);
        self.floor = self.begin;
        self.begun_ns = now.mono_ns;
        self.checked_s = second;
        self.rotation_due = false;
        trip::at("file-opened");
        self.read_config();
        self.files = Some(opened.files);
        self.tell(&Note::Opened { new: opened.new });
        if !self.opened_once {
            self.opened_once = true;
            if opened.within_a_line && self.habits.open_line_goes_on {
                self.lines = Lines::within_a_line();
            }
            if self.habits.unprocessed_are_taken_up {
                self.process_left_over(now);
            }
        }
        Ok(())
    }

    /// The rotation.
    pub(super) fn turn_over(&mut self, desk: &mut Desk, now: Now) -> Result<(), Halt> {
        if self.size == 0 || self.keeps_current {
            self.rotation_due = false;
            return Ok(());
        }
        if self.work.is_some() {
            return Err(Halt::Processing);
        }
        self.cut_off()?;
        self.mark(desk);
        let kind = match self.settings().processor() {
            Some(_) => Kind::Unprocessed,
            None => Kind::Saved,
        };
        // Where all are kept there may be very many, and the last one is all that matters: to make
        // names is ours alone while we hold the lock.
        let known = self
            .last
            .filter(|_| self.settings().keep == 0 && kind == Kind::Saved);
        let renamed = reach(&self.path, self.habits, false).and_then(|at| {
            let olds = match known {
                Some(last) => vec![last],
                None => dir::list(at.path())?,
            };
            let old = dir::rename_current(at.path(), &olds, kind, now.wall)?;
            Ok((at, olds, old))
        });
        let (at, mut olds, old) = match renamed {
            Ok(renamed) => renamed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The directory or `current` is gone: begin anew instead.
                self.files = None;
                return self.be_open(now);
            }
            Err(error) => return Err(Halt::of("rename", "current", &error)),
        };
        trip::at("file-renamed");
        self.rotation_due = false;
        self.tell(&Note::Renamed {
            old,
            bytes: self.size,
        });
        self.begin += self.size;
        self.size = 0;
        match self.habits.age_runs_on {
            true => self.count_age_on(now),
            false => self.begun_ns = now.mono_ns,
        }
        if let Some(files) = self.files.take() {
            if let Some(mode) = self.habits.rotated_mode {
                let _ = files.current.set_permissions(Permissions::from_mode(mode));
            }
            let (files, rotated) = dir::renew(&at, self.habits, files)?;
            trip::at("file-begun");
            self.found(files.id(), 0);
            self.files = Some(files);
            self.mark(desk);
            desk.sync(rotated);
        }
        olds.push(old);
        self.last = olds.iter().max().copied();
        self.clean_up(&at, &olds);
        if kind == Kind::Unprocessed {
            self.process(old, now);
        }
        Ok(())
    }

    /// Deletes what a rotation makes superfluous. What can't be deleted now is tried at the next
    /// one: no reason to stop logging.
    fn clean_up(&self, at: &Reached, olds: &[Old]) {
        let unfinished = olds.iter().filter(|old| old.kind == Kind::Unfinished);
        let beyond = surplus(olds, self.settings().keep, self.habits.surplus, None);
        for old in unfinished.chain(&beyond) {
            if fs::remove_file(at.path().join(old.name())).is_ok() && old.kind != Kind::Unfinished {
                self.tell(&Note::Deleted(*old));
            }
        }
    }

    /// Leaves out whole spans of age in which there was nothing to rotate.
    fn count_age_on(&mut self, now: Now) {
        let age_ns = self.settings().age_s.saturating_mul(1_000_000_000);
        let passed = now.mono_ns.saturating_sub(self.begun_ns);
        if let Some(spans) = passed.checked_div(age_ns) {
            self.begun_ns += spans * age_ns;
        }
    }
}
