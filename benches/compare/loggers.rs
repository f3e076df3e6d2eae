//! Loggers side by side: the same lines through a pipe into each, then read back and compared.
//!
//! Beside the peers' programs stands the plainest logger that stamps at all ([`plain`]): what a
//! logger can reach here when it does nothing else. It never rotates.

use crate::Options;
use memchr::memchr_iter;
use nix::sys::resource::{UsageWho, getrusage};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What is written at once, and what a pipe holds (pipe(7)).
const BLOCK_BYTES: usize = 64 * 1024;
/// Every stamp is so long here, its space included.
const STAMP_BYTES: usize = 26;
const ROUNDS: usize = 3;
/// The plain logger is called so.
const PLAIN: &str = "plain-logger";

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Lines of 60 to 200 bytes.
    Usual,
    /// Lines of 20 bytes.
    Short,
}

/// Where it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Memory,
    Disk,
}

/// Every pair is measured.
pub const CASES: [(Text, Place); 4] = [
    (Text::Usual, Place::Memory),
    (Text::Usual, Place::Disk),
    (Text::Short, Place::Memory),
    (Text::Short, Place::Disk),
];

/// One logger in one case.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    pub bytes_a_second: f64,
    /// Of the logger alone.
    pub processor_seconds_a_byte: f64,
}

/// One logger's column, in the order of [`CASES`]. None is what failed; `troubles` tells how.
#[derive(Default)]
pub struct Paces {
    pub paces: [Option<Pace>; CASES.len()],
    pub troubles: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum Logger {
    Plain,
    Svlogd,
    S6Log,
    Outlast(PathBuf),
}

impl Logger {
    pub fn present(outlast: &Path) -> Vec<Logger> {
        let known = [(Logger::Svlogd, "svlogd"), (Logger::S6Log, "s6-log")];
        let on_path = known
            .into_iter()
            .filter(|(_, program)| crate::peers::is_on_path(program));
        std::iter::once(Logger::Plain)
            .chain(on_path.map(|(logger, _)| logger))
            .chain([Logger::Outlast(outlast.to_owned())])
            .collect()
    }

    pub fn name(&self) -> &'static str {
        match self {
            Logger::Plain => "plain",
            Logger::Svlogd => "runit",
            Logger::S6Log => "s6",
            Logger::Outlast(_) => "outlast",
        }
    }

    /// Writes into `directory`, stamps each line, rotates at 1 MB (but for the plain one) and keeps
    /// all files, so that all lines can be looked at afterwards.
    fn command(&self, directory: &Path) -> std::io::Result<Command> {
        fs::create_dir(directory)?;
        Ok(match self {
            Logger::Plain => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg0(PLAIN).arg(directory);
                command
            }
            Logger::Svlogd | Logger::Outlast(_) => {
                fs::write(directory.join("config"), "s1000000\nn0\n")?;
                let mut command = match self {
                    Logger::Outlast(program) => Command::new(program),
                    Logger::Plain | Logger::Svlogd | Logger::S6Log => Command::new("svlogd"),
                };
                command.arg0("svlogd").arg("-tt").arg(directory);
                command
            }
            Logger::S6Log => {
                let mut command = Command::new("s6-log");
                // It knows no "all".
                command.args(["t", "s1000000", "n1000000"]).arg(directory);
                command
            }
        })
    }
}

/// A column for each. They take turns, so that all have the same share of what else happens on the
/// machine.
pub fn measure(loggers: &[Logger], options: &Options) -> Vec<(&'static str, Paces)> {
    let mut columns: Vec<(&'static str, Paces)> = loggers
        .iter()
        .map(|logger| (logger.name(), Paces::default()))
        .collect();
    for (at, (text, place)) in CASES.into_iter().enumerate() {
        let lines = lines(text, options.log_bytes);
        let mut taken = vec![Vec::new(); loggers.len()];
        // In the first round memory may be used that the machine has never touched; of the others
        // the median counts.
        for round in 0..=ROUNDS {
            for ((logger, taken), (_, paces)) in loggers.iter().zip(&mut taken).zip(&mut columns) {
                if crate::world::interrupted() {
                    break;
                }
                match once(logger, place, &lines) {
                    Ok(_) if round == 0 => {}
                    Ok(pace) => taken.push(pace),
                    Err(trouble) => paces
                        .troubles
                        .push(format!("{text:?} lines, {place:?}: {trouble}")),
                }
            }
        }
        for (mut taken, (_, paces)) in taken.into_iter().zip(&mut columns) {
            taken.sort_by(|a, b| a.bytes_a_second.total_cmp(&b.bytes_a_second));
            paces.paces[at] = taken.get(taken.len() / 2).copied();
        }
    }
    columns
}

/// From the first byte written to the end of the logger.
fn once(logger: &Logger, place: Place, lines: &[u8]) -> Result<Pace, String> {
    let folder = match place {
        Place::Memory => tempfile::tempdir_in("/dev/shm"),
        Place::Disk => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")),
    };
    let folder = folder.map_err(|error| format!("folder: {error}"))?;
    let directory = folder.path().join("log");
    let before = children_processor()?;
    let mut command = logger
        .command(&directory)
        .map_err(|error| format!("layout: {error}"))?;
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("start: {error}"))?;
    let mut pipe = child.stdin.take().ok_or("no pipe")?;
    let begun = Instant::now();
    let fed = lines
        .chunks(BLOCK_BYTES)
        .try_for_each(|block| pipe.write_all(block));
    drop(pipe);
    let ended = child.wait();
    let wall = begun.elapsed();
    fed.map_err(|error| format!("feeding: {error}"))?;
    let status = ended.map_err(|error| format!("waiting: {error}"))?;
    let processor = children_processor()?.saturating_sub(before);
    if !status.success() {
        return Err(format!("{status}"));
    }
    check(&directory, lines)?;
    let bytes = lines.len() as f64;
    Ok(Pace {
        bytes_a_second: bytes / wall.as_secs_f64(),
        processor_seconds_a_byte: processor.as_secs_f64() / bytes,
    })
}

/// Of all children that have been waited for.
fn children_processor() -> Result<Duration, String> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| format!("usage: {error}"))?;
    let micros = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)
    };
    Ok(Duration::from_micros(
        micros(usage.user_time()) + micros(usage.system_time()),
    ))
}

/// Each line exactly once, in order, behind a stamp, over all files from the oldest to `current`.
fn check(directory: &Path, lines: &[u8]) -> Result<(), String> {
    let entries = fs::read_dir(directory).map_err(|error| format!("log: {error}"))?;
    let mut olds: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes()[0] == b'@')
        })
        .collect();
    olds.sort();
    olds.push(directory.join("current"));
    let mut expected = lines;
    let mut number = 0;
    for file in olds {
        let bytes = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let stamped = line.get(STAMP_BYTES - 1) == Some(&b' ') && line.ends_with(b"\n");
            // With its newline, so it is one whole line of what was written.
            let text = line.get(STAMP_BYTES..).filter(|_| stamped);
            let rest = text.and_then(|text| expected.strip_prefix(text));
            expected = rest.ok_or_else(|| {
                let name = file.file_name().unwrap_or_default().display();
                format!("line {number} is missing, doubled or changed in {name}")
            })?;
            number += 1;
        }
    }
    match expected.is_empty() {
        true => Ok(()),
        false => Err(format!("it ends after {number} lines")),
    }
}

/// Numbered lines, no two of them alike.
fn lines(text: Text, bytes: usize) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes + 256);
    let mut number = 0u64;
    let mut dice = 1u64;
    while lines.len() < bytes {
        // Knuth's MMIX constants.
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let length = match text {
            Text::Usual => 60 + usize::try_from((dice >> 33) % 141).unwrap_or(0),
            Text::Short => 20,
        };
        let start = lines.len();
        lines.extend_from_slice(format!("{number:09} a line of text").as_bytes());
        lines.resize(start + length - 1, b'.');
        lines.push(b'\n');
        number += 1;
    }
    lines
}

pub fn plain_is_asked_for() -> bool {
    std::env::args_os().next().is_some_and(|name| name == PLAIN)
}

/// One stamp a read, one write a buffer.
pub fn plain() -> ExitCode {
    let directory = std::env::args_os().nth(1).unwrap_or_default();
    let written = || -> std::io::Result<()> {
        let mut file = File::create_new(Path::new(&directory).join("current"))?;
        let mut stdin = std::io::stdin().lock();
        let mut input = vec![0; BLOCK_BYTES];
        let mut out = Vec::with_capacity(4 * BLOCK_BYTES);
        let mut begins = true;
        loop {
            let count = stdin.read(&mut input)?;
            if count == 0 {
                return Ok(());
            }
            let now = jiff::Timestamp::now()
                .strftime("%Y-%m-%d_%H:%M:%S.%5f ")
                .to_string();
            out.clear();
            let mut from = 0;
            for at in memchr_iter(b'\n', &input[..count]) {
                if begins {
                    out.extend_from_slice(now.as_bytes());
                }
                out.extend_from_slice(&input[from..=at]);
                from = at + 1;
                begins = true;
            }
            if from < count {
                if begins {
                    out.extend_from_slice(now.as_bytes());
                }
                out.extend_from_slice(&input[from..count]);
                begins = false;
            }
            file.write_all(&out)?;
        }
    };
    match written() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{PLAIN}: {error}");
            ExitCode::FAILURE
        }
    }
}
