//! svlogd against a plain model of it: its patterns, its config file, and what of its input is on
//! disk in the end.

use crate::applets::svlogd::input::Replacer;
use crate::log::Stamp;
use crate::log::config::{CONFIG_BYTES_MAX, Config};
use crate::log::engine::{Desk, End, Flow, Log, Nobody, Now};
use crate::log::rotate::Old;
use crate::log::select::{self, Rule, Verdict};
use crate::log::settings::{SVLOGD, Settings};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Longer lines and patterns find nothing new, and the model calls itself for each byte.
const MODEL_BYTES_MAX: usize = 1000;

/// The language of the patterns once more, as plain recursion over (pattern, line).
fn matches(pattern: &[u8], line: &[u8]) -> bool {
    match (pattern, line) {
        ([], line) => line.is_empty(),
        ([b'*'], _) => true,
        ([b'*', _, ..], []) => false,
        ([b'*', c, ..], [b, ..]) if c == b => matches(&pattern[1..], line),
        ([b'*', ..], [_, line @ ..]) => matches(pattern, line),
        ([b'+'], line) => line.is_empty(),
        ([b'+', c, ..], [b]) => c == b,
        ([b'+', c, ..], [b, next, ..]) if c == b && next == c => matches(pattern, &line[1..]),
        ([b'+', c, pattern @ ..], [b, line @ ..]) => c == b && matches(pattern, line),
        ([b'+', ..], []) => false,
        ([_, ..], []) => false,
        ([c, pattern @ ..], [b, line @ ..]) => c == b && matches(pattern, line),
    }
}

/// A pattern, a NUL, and a line: the model's answer.
pub fn pattern(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let [pattern, line] = [parts.next(), parts.next()].map(|part| {
        let part = part.unwrap_or_default();
        &part[..part.len().min(MODEL_BYTES_MAX)]
    });
    assert_eq!(select::matches(pattern, line), matches(pattern, line));
}

/// Any bytes are a config, and each line says the same whatever stands around it.
pub fn config(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(CONFIG_BYTES_MAX)];
    let whole = Config::parse(bytes);
    let mut joined = Config::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let one = Config::parse(line);
        assert!(one.rules.len() + one.error_rules.len() <= 1);
        joined.size = one.size.or(joined.size);
        joined.keep = one.keep.or(joined.keep);
        joined.min = one.min.or(joined.min);
        joined.age_s = one.age_s.or(joined.age_s);
        joined.processor = one.processor.or(joined.processor);
        joined.prefix = one.prefix.or(joined.prefix);
        joined.rules.extend(one.rules);
        joined.error_rules.extend(one.error_rules);
        joined.flaws.extend(one.flaws);
        if let Some(one) = one.udp {
            let udp = joined.udp.get_or_insert_default();
            udp.only |= one.only;
            udp.to = one.to.or(udp.to);
        }
    }
    assert_eq!(whole, joined);
    if let Some(size) = whole.size {
        let again = Config::parse(format!("s{size}\n").as_bytes());
        assert_eq!(again.size, Some(size));
    }
}

/// What svlogd is started with, and what happens to it.
struct Script<'a> {
    line_bytes_max: usize,
    replaces: bool,
    config: Vec<u8>,
    steps: Vec<(&'a [u8], Then)>,
}

/// What follows a piece of input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    More,
    /// SIGALRM.
    Rotate,
    /// SIGHUP.
    Reopen,
}

impl Script<'_> {
    /// A byte for the options, the config up to a NUL, and input in which 1, 2 and 3 end a piece.
    fn read(bytes: &[u8]) -> Script<'_> {
        let (options, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let mut parts = rest.splitn(2, |byte| *byte == 0);
        // Nothing is executed nor sent, whoever thinks of it, and nothing is deleted.
        let said = parts.next().unwrap_or_default();
        let said = &said[..said.len().min(MODEL_BYTES_MAX)];
        let mut config = Vec::new();
        for line in said.split(|byte| *byte == b'\n') {
            if line.first().is_some_and(|key| b"stp+-".contains(key)) {
                config.extend_from_slice(line);
                config.push(b'\n');
            }
        }
        config.extend_from_slice(b"n0\n");
        let input = parts.next().unwrap_or_default();
        let steps = input.split_inclusive(|byte| (1..=3).contains(byte));
        Script {
            line_bytes_max: usize::from(options >> 1) + 1,
            replaces: options & 1 != 0,
            config,
            steps: steps
                .map(|step| match step.split_last() {
                    Some((1, piece)) => (piece, Then::More),
                    Some((2, piece)) => (piece, Then::Rotate),
                    Some((3, piece)) => (piece, Then::Reopen),
                    _ => (step, Then::More),
                })
                .collect(),
        }
    }

    /// What is to be on disk: each selected line, whole, with its prefix and a newline.
    fn model(&self) -> Vec<u8> {
        let config = Config::parse(&self.config);
        let input: Vec<u8> = self
            .steps
            .iter()
            .flat_map(|(piece, _)| *piece)
            .copied()
            .collect();
        let mut lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        let mut out = Vec::new();
        for line in lines {
            let mut line = line.to_vec();
            let head = line.len().min(self.line_bytes_max);
            if self.replaces {
                for byte in &mut line[..head] {
                    *byte = match *byte {
                        b' '..=b'~' if *byte != b'x' => *byte,
                        _ => b'_',
                    };
                }
            }
            if selects(&config.rules, &line[..head]) {
                out.extend_from_slice(config.prefix.as_deref().unwrap_or_default());
                out.extend_from_slice(&line);
                out.push(b'\n');
            }
        }
        out
    }
}

fn selects(rules: &[Rule], head: &[u8]) -> bool {
    rules
        .iter()
        .fold(true, |selected, rule| match matches(&rule.pattern, head) {
            true => rule.verdict == Verdict::Selected,
            false => selected,
        })
}

/// Options, a config and input, however it is cut, rotated and reopened meanwhile: what the model
/// says is on disk, no file longer than the size. `place` is emptied first.
pub fn input(place: &Path, bytes: &[u8]) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    let script = Script::read(bytes);
    let written = fs::write(place.join("config"), &script.config);
    assert!(written.is_ok(), "{written:?}");
    let settings = Settings {
        stamp: Stamp::None,
        line_bytes_max: script.line_bytes_max,
        ..Settings::default()
    };
    let mut log = Log::new(place, settings, &SVLOGD);
    let mut desk = Desk::default();
    let mut now = Now {
        wall: Duration::from_secs(1_795_168_800),
        mono_ns: 0,
    };
    let mut replacer = script
        .replaces
        .then(|| Replacer::new(b'_', b"x", script.line_bytes_max));
    let mut flow = log.open(&mut desk, now);
    for (piece, then) in &script.steps {
        now.wall += Duration::from_nanos(1);
        let mut piece = piece.to_vec();
        if let Some(replacer) = &mut replacer {
            replacer.replace(&mut piece);
        }
        flow = log.take(&mut desk, &piece, now, &mut Nobody);
        match then {
            Then::More => {}
            Then::Rotate => flow = log.turn(&mut desk, now),
            Then::Reopen => {
                log.let_go();
                flow = log.open_at(place, &mut desk, now);
            }
        }
    }
    if flow == Flow::Going {
        flow = log.end_line(End::Line, &mut desk, now, &mut Nobody);
    }
    assert_eq!(flow, Flow::Going, "{:?}", log.trouble());
    assert_eq!(log.close(), 0);
    let size = Config::parse(&script.config).size.filter(|size| *size > 0);
    let mut found = Vec::new();
    for file in files(place) {
        let length = u64::try_from(file.len()).unwrap_or(u64::MAX);
        assert!(size.is_none_or(|size| length <= size));
        found.extend(file);
    }
    let shown = |bytes: &[u8]| OsStr::from_bytes(bytes).to_os_string();
    assert_eq!(shown(&found), shown(&script.model()));
}

/// Contents, the oldest first, `current` last.
fn files(place: &Path) -> Vec<Vec<u8>> {
    let names = fs::read_dir(place).into_iter().flatten().flatten();
    let mut olds: Vec<Old> = names
        .filter_map(|entry| Old::parse(entry.file_name().as_bytes()))
        .collect();
    olds.sort();
    let olds = olds.iter().map(|old| place.join(old.name()));
    olds.chain([place.join("current")])
        .map(|path| fs::read(path).unwrap_or_default())
        .collect()
}
