//! Reading a log directory while it is being written: the last lines over all its files, and
//! onwards through rotations.
//!
//! The files are the truth: nothing here needs the program that writes them.

use super::dir;
use super::rotate::{Kind, Old};
use super::settings::SVLOGD;
use memchr::{memchr, memrchr_iter};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const BLOCK_BYTES: usize = 32 * 1024;
/// [`between`] looks at no more than so much at the end of the span.
pub const BETWEEN_BYTES_MAX: u64 = 1024 * 1024;
/// A longer line is passed on in parts.
const PART_BYTES_MAX: usize = 256 * 1024;

/// The last lines of a span of positions; `current` begins at position `begin`. Each line is cut to
/// `line_bytes_max`. Files that have gone leave out what stood in them.
pub fn between(
    path: &Path,
    begin: u64,
    span: Range<u64>,
    processed: bool,
    lines: usize,
    line_bytes_max: usize,
) -> io::Result<Vec<Vec<u8>>> {
    let earliest = span.start.max(span.end.saturating_sub(BETWEEN_BYTES_MAX));
    let mut olds = dir::list(path)?;
    olds.retain(|old| match old.kind {
        Kind::Saved => !processed,
        Kind::Unprocessed => true,
        Kind::Unfinished => false,
    });
    olds.sort_unstable();
    let mut file = path.join("current");
    let mut begin = begin;
    let mut end = span.end;
    // Blocks of text, the last one first.
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    while earliest < end {
        if begin < end {
            let within = earliest.max(begin) - begin..end - begin;
            blocks.push(read_span(&File::open(&file)?, within)?);
            end = begin;
        }
        let Some(old) = olds.pop() else {
            break;
        };
        file = path.join(old.name());
        begin = begin.saturating_sub(fs::metadata(&file)?.len());
    }
    blocks.reverse();
    let text = blocks.concat();
    let mut found: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    if found.last().is_some_and(|last| last.is_empty()) {
        found.pop();
    }
    // The bound may have cut the first line.
    let surplus = found
        .len()
        .saturating_sub(lines)
        .max(usize::from(earliest > span.start));
    let kept = found.into_iter().skip(surplus);
    Ok(kept
        .map(|line| line[..line.len().min(line_bytes_max)].to_vec())
        .collect())
}

fn read_span(file: &File, span: Range<u64>) -> io::Result<Vec<u8>> {
    let length = usize::try_from(span.end - span.start).map_err(io::Error::other)?;
    let mut text = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let place = span.start + u64::try_from(filled).map_err(io::Error::other)?;
        match file.read_at(&mut text[filled..], place)? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    text.truncate(filled);
    Ok(text)
}

/// A line as read, or a part of one that is very long.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    pub text: Vec<u8>,
    /// It starts a line.
    pub begun: bool,
    /// Its newline was there.
    pub ended: bool,
}

/// A reader's place in a log.
#[derive(Debug)]
pub struct Cursor {
    dir: PathBuf,
    /// Held open, so that neither a rotation nor a deletion takes it away.
    file: Option<File>,
    /// The file is a rotated one.
    old: bool,
    /// Rotated files are what a processor has made of them.
    processed: bool,
    /// Such files in which lines would have been looked for.
    left_out: usize,
    /// The newest rotated file that is behind us, or that we are reading.
    passed: Option<Duration>,
    offset: u64,
    text: Vec<u8>,
    /// `text` before this was passed on.
    used: usize,
    within_a_line: bool,
}

impl Cursor {
    /// At the last `lines` lines; at the oldest that is there when there are fewer.
    pub fn at_last(dir: &Path, lines: usize) -> io::Result<Cursor> {
        let mut cursor = Cursor {
            dir: dir.to_path_buf(),
            file: None,
            old: false,
            processed: false,
            left_out: 0,
            passed: None,
            offset: 0,
            text: Vec::new(),
            used: 0,
            within_a_line: false,
        };
        cursor.look_for_processor();
        let mut olds = cursor.olds()?;
        olds.sort_unstable();
        let mut wanted = lines;
        cursor.passed = olds.last().map(|old| old.at);
        if let Some(file) = absent(File::open(dir.join("current")))? {
            cursor.offset = back(&file, &mut wanted)?;
            cursor.file = Some(file);
        }
        while wanted > 0
            && let Some(old) = olds.pop()
        {
            let Some(file) = cursor.open_old(old)? else {
                let made = dir.join(old.name()).exists();
                cursor.left_out += usize::from(made);
                continue;
            };
            cursor.offset = back(&file, &mut wanted)?;
            cursor.file = Some(file);
            cursor.old = true;
            cursor.passed = Some(old.at);
        }
        Ok(cursor)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Files with older lines that a processor has made something else of.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The next line; None when there is no whole one yet.
    pub fn next_part(&mut self) -> io::Result<Option<Part>> {
        let mut searched = self.used;
        loop {
            if let Some(at) = memchr(b'\n', &self.text[searched..]) {
                return Ok(Some(self.part(searched + at, true)));
            }
            searched = self.text.len();
            if searched - self.used >= PART_BYTES_MAX {
                return Ok(Some(self.part(searched, false)));
            }
            let dropped = self.used;
            if !self.fill()? {
                return Ok(None);
            }
            searched -= dropped;
        }
    }

    /// An unfinished line at the very end.
    pub fn rest(&mut self) -> Option<Part> {
        (self.used < self.text.len()).then(|| self.part(self.text.len(), false))
    }

    fn part(&mut self, end: usize, ended: bool) -> Part {
        let part = Part {
            text: self.text[self.used..end].to_vec(),
            begun: !self.within_a_line,
            ended,
        };
        self.used = (end + usize::from(ended)).min(self.text.len());
        self.within_a_line = !ended;
        part
    }

    /// Reads more, of this file or of the one after it. False when there is none now.
    fn fill(&mut self) -> io::Result<bool> {
        self.text.drain(..self.used);
        self.used = 0;
        loop {
            if self.read()? {
                return Ok(true);
            }
            if !self.is_over()? {
                return Ok(false);
            }
            // Between the last read and the look it may have grown.
            if self.read()? {
                return Ok(true);
            }
            if !self.step_on()? {
                return Ok(false);
            }
        }
    }

    fn read(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let length = self.text.len();
        self.text.resize(length + BLOCK_BYTES, 0);
        let result = file.read_at(&mut self.text[length..], self.offset);
        let bytes = *result.as_ref().unwrap_or(&0);
        self.text.truncate(length + bytes);
        self.offset += u64::try_from(bytes).unwrap_or(0);
        if bytes == 0 && self.text.is_empty() {
            self.text = Vec::new();
        }
        result?;
        if bytes == 0 && file.metadata()?.len() < self.offset {
            // Emptied by somebody: what comes now stands at its start.
            self.offset = 0;
        }
        Ok(bytes > 0)
    }

    /// Whether nothing will be added to this file any more.
    fn is_over(&self) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(true);
        };
        if self.old {
            return Ok(true);
        }
        let ours = file.metadata()?;
        let now = absent(fs::metadata(self.dir.join("current")))?;
        Ok(now.is_some_and(|now| (now.dev(), now.ino()) != (ours.dev(), ours.ino())))
    }

    /// To the file that was begun after this one. False when there is none yet.
    fn step_on(&mut self) -> io::Result<bool> {
        self.look_for_processor();
        let mut olds = self.olds()?;
        olds.retain(|old| Some(old.at) > self.passed);
        olds.sort_unstable();
        let mut olds = olds.into_iter();
        if let (Some(file), false) = (&self.file, self.old)
            && let Some(ours) = olds.clone().next()
        {
            // The first name after those that we knew is the one that our file got, unless it was
            // removed instead of rotated.
            let about = file.metadata()?;
            let found = absent(fs::metadata(self.dir.join(ours.name())))?;
            let same = found.is_some_and(|f| (f.dev(), f.ino()) == (about.dev(), about.ino()));
            if same || about.nlink() == 0 {
                self.passed = Some(ours.at);
                olds.next();
            }
        }
        for old in olds {
            if let Some(file) = self.open_old(old)? {
                self.begin(file, true);
                self.passed = Some(old.at);
                return Ok(true);
            }
        }
        let Some(file) = absent(File::open(self.dir.join("current")))? else {
            return Ok(false);
        };
        self.begin(file, false);
        Ok(true)
    }

    fn begin(&mut self, file: File, old: bool) {
        self.file = Some(file);
        self.old = old;
        self.offset = 0;
    }

    fn look_for_processor(&mut self) {
        // What it is allowed to do does not matter here.
        let (config, _) = dir::config(&self.dir, &SVLOGD);
        self.processed = config.processor.is_some();
    }

    /// None for one that is not there, or in which no lines are.
    fn open_old(&self, old: Old) -> io::Result<Option<File>> {
        let Some(file) = absent(File::open(self.dir.join(old.name())))? else {
            return Ok(None);
        };
        let made = old.kind == Kind::Saved && (self.processed || is_packed(&file)?);
        Ok((!made).then_some(file))
    }

    fn olds(&self) -> io::Result<Vec<Old>> {
        let mut olds = absent(dir::list(&self.dir))?.unwrap_or_default();
        olds.retain(|old| old.kind != Kind::Unfinished);
        Ok(olds)
    }
}

/// Whether a packer has made it, whose command may be gone from the config since.
fn is_packed(file: &File) -> io::Result<bool> {
    const BEGINNINGS: [&[u8]; 5] = [
        b"\x1f\x8b",         // gzip
        b"\x28\xb5\x2f\xfd", // zstd
        b"\xfd7zXZ\0",       // xz
        b"BZh",              // bzip2
        b"\x04\x22\x4d\x18", // lz4
    ];
    let mut begin = [0; 6];
    let bytes = file.read_at(&mut begin, 0)?;
    let begin = &begin[..bytes];
    Ok(BEGINNINGS.iter().any(|packed| begin.starts_with(packed)))
}

/// None for what is not there.
fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Where the last `wanted` lines of a file begin; `wanted` is lowered by those it has.
fn back(file: &File, wanted: &mut usize) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut end = size;
    if *wanted == 0 {
        return Ok(size);
    }
    while end > 0 {
        let start = end.saturating_sub(u64::try_from(BLOCK_BYTES).map_err(io::Error::other)?);
        let block = read_span(file, start..end)?;
        for at in memrchr_iter(b'\n', &block) {
            let after = start + u64::try_from(at).map_err(io::Error::other)? + 1;
            if after == size {
                continue;
            }
            *wanted -= 1;
            if *wanted == 0 {
                return Ok(after);
            }
        }
        end = start;
    }
    if size > 0 {
        *wanted -= 1;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old_name(second: u64, kind: Kind) -> String {
        let at = Duration::from_secs(second);
        Old { at, kind }.name()
    }

    fn texts(cursor: &mut Cursor) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(part) = cursor.next_part().unwrap() {
            texts.push(String::from_utf8(part.text).unwrap());
        }
        texts
    }

    fn three_files() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(old_name(1, Kind::Saved)), "1\n2\n").unwrap();
        fs::write(place.path().join(old_name(2, Kind::Unprocessed)), "3\n4\n").unwrap();
        fs::write(place.path().join(old_name(2, Kind::Unfinished)), "half").unwrap();
        fs::write(place.path().join("current"), "5\n6\n").unwrap();
        place
    }

    #[test]
    fn the_last_lines_are_found_across_files() {
        let place = three_files();
        for (lines, expected) in [
            (0, vec![]),
            (1, vec!["6"]),
            (2, vec!["5", "6"]),
            (3, vec!["4", "5", "6"]),
            (5, vec!["2", "3", "4", "5", "6"]),
            (99, vec!["1", "2", "3", "4", "5", "6"]),
        ] {
            let mut cursor = Cursor::at_last(place.path(), lines).unwrap();
            assert_eq!(texts(&mut cursor), expected, "{lines}");
        }
    }

    #[test]
    fn lines_longer_than_a_block_are_found_as_well() {
        let place = tempfile::tempdir().unwrap();
        let long = "x".repeat(BLOCK_BYTES * 2 + 7);
        fs::write(
            place.path().join("current"),
            format!("first\n{long}\nlast\n"),
        )
        .unwrap();
        let mut cursor = Cursor::at_last(place.path(), 2).unwrap();
        assert_eq!(texts(&mut cursor), [long.as_str(), "last"]);
    }

    #[test]
    fn a_reader_goes_on_through_rotations_without_missing_or_repeating() {
        let place = tempfile::tempdir().unwrap();
        let current = place.path().join("current");
        let mut cursor = Cursor::at_last(place.path(), 10).unwrap();
        assert_eq!(texts(&mut cursor), [""; 0], "nothing is there yet");
        fs::write(&current, "1\n2\nha").unwrap();
        assert_eq!(texts(&mut cursor), ["1", "2"]);
        fs::write(&current, "1\n2\nhalf\n").unwrap();
        fs::rename(&current, place.path().join(old_name(5, Kind::Saved))).unwrap();
        fs::write(&current, "3\n").unwrap();
        fs::rename(&current, place.path().join(old_name(6, Kind::Saved))).unwrap();
        fs::write(&current, "4\n").unwrap();
        assert_eq!(texts(&mut cursor), ["half", "3", "4"]);
        fs::remove_file(&current).unwrap();
        assert_eq!(texts(&mut cursor), [""; 0]);
        fs::write(&current, "5\n").unwrap();
        assert_eq!(texts(&mut cursor), ["5"]);
    }

    #[test]
    fn what_a_processor_has_made_is_not_taken_for_lines() {
        let place = three_files();
        let path = place.path();
        fs::write(path.join("config"), "!tr a-z A-Z\n").unwrap();
        let mut cursor = Cursor::at_last(path, 99).unwrap();
        assert_eq!(texts(&mut cursor), ["3", "4", "5", "6"]);
        assert_eq!(cursor.left_out(), 1);
        assert_eq!(Cursor::at_last(path, 3).unwrap().left_out(), 0);
        // The reader of a file that is rotated and processed goes on with the one after it.
        fs::rename(path.join("current"), path.join(old_name(7, Kind::Saved))).unwrap();
        fs::remove_file(path.join(old_name(7, Kind::Saved))).unwrap();
        fs::write(path.join(old_name(7, Kind::Saved)), "5 AND 6\n").unwrap();
        fs::write(path.join(old_name(8, Kind::Unprocessed)), "7\n").unwrap();
        fs::write(path.join("current"), "8\n").unwrap();
        assert_eq!(texts(&mut cursor), ["7", "8"]);
        fs::remove_file(path.join("config")).unwrap();
        fs::write(path.join(old_name(7, Kind::Saved)), b"\x1f\x8bxx").unwrap();
        let mut cursor = Cursor::at_last(path, 99).unwrap();
        assert_eq!(texts(&mut cursor), ["1", "2", "3", "4", "7", "8"]);
        assert_eq!(cursor.left_out(), 1);
    }

    #[test]
    fn an_unfinished_line_is_the_rest() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("current"), "a\nb").unwrap();
        let mut cursor = Cursor::at_last(place.path(), 1).unwrap();
        assert_eq!(texts(&mut cursor), [""; 0]);
        assert_eq!(cursor.rest().map(|part| part.text), Some(b"b".to_vec()));
        assert_eq!(cursor.rest(), None);
    }

    #[test]
    fn an_emptied_file_is_read_from_its_start() {
        let place = tempfile::tempdir().unwrap();
        let current = place.path().join("current");
        fs::write(&current, "one\ntwo\n").unwrap();
        let mut cursor = Cursor::at_last(place.path(), 0).unwrap();
        assert_eq!(texts(&mut cursor), [""; 0]);
        File::create(&current).unwrap();
        assert_eq!(texts(&mut cursor), [""; 0]);
        fs::write(&current, "3\n").unwrap();
        assert_eq!(texts(&mut cursor), ["3"]);
    }

    #[test]
    fn a_very_long_line_comes_in_parts() {
        let place = tempfile::tempdir().unwrap();
        let bytes = PART_BYTES_MAX * 3;
        fs::write(place.path().join("current"), "x".repeat(bytes) + "\nend\n").unwrap();
        let mut cursor = Cursor::at_last(place.path(), 2).unwrap();
        let mut sum = 0;
        loop {
            let part = cursor.next_part().unwrap().unwrap();
            assert_eq!(part.begun, sum == 0);
            assert!(part.text.len() <= PART_BYTES_MAX + BLOCK_BYTES);
            sum += part.text.len();
            if part.ended {
                break;
            }
        }
        assert_eq!(sum, bytes);
        assert_eq!(texts(&mut cursor), ["end"]);
    }

    #[test]
    fn a_span_is_read_across_files_and_cut_to_its_ends() {
        let place = three_files();
        let lines = |span: Range<u64>, lines| -> Vec<String> {
            let found = between(place.path(), 100, span, false, lines, 50).unwrap();
            let text = |line| String::from_utf8(line).unwrap();
            found.into_iter().map(text).collect()
        };
        assert_eq!(lines(98..102, 9), ["4", "5"]);
        assert_eq!(lines(92..104, 2), ["5", "6"]);
        assert_eq!(lines(92..98, 9), ["1", "2", "3"]);
        assert_eq!(lines(100..100, 9), [""; 0]);
        assert_eq!(lines(0..96, 9), ["1", "2"], "as far as the files go");
    }
}
