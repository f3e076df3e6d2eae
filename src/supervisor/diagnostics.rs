//! The supervisor's own lines: on stderr for whoever watches, in daily files below the log root.
//!
//! Both are written by threads of their own, because the supervisor may not wait for a disk or for
//! a terminal that somebody has stopped.

use crate::ipc::told::{Stream, Told};
use crate::ipc::wire::Format;
use nix::unistd::{AccessFlags, access};
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// Lines that may wait for a slow stderr or disk; beyond it they are counted and left out.
const LINES_WAITING_MAX: usize = 2_048;
/// Daily files kept.
const FILES_MAX: usize = 14;
/// ... and how long after the first could not be opened it is tried again, with what is to be written.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Names shorter than this are padded to it, so that the lines of several services align, also with
/// what the scribe's echo writes between them.
const NAME_WIDTH: usize = 12;

/// Keeps the writers going; dropping it writes out what waits.
pub struct Diagnostics {
    _guards: Vec<WorkerGuard>,
}

/// Sets the writers up for this process. A log root that can't be written costs the file only;
/// the returned text says why.
///
/// On a machine's console only warnings stand: somebody may be logged in there.
pub fn start(log_root: &Path, format: Format, machine: bool) -> (Diagnostics, Option<String>) {
    let (stderr, guard) = slow(std::io::stderr());
    let mut guards = vec![guard];
    let screen = tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        .with_ansi(false)
        .event_format(Lines {
            form: Form::Screen(format),
            colour: colour() && format != Format::Json,
        })
        .with_filter(match machine {
            true => LevelFilter::WARN,
            false => LevelFilter::INFO,
        });
    let file = make(log_root)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let needed = AccessFlags::W_OK | AccessFlags::X_OK;
            access(log_root, needed).map_err(|errno| errno.to_string())
        })
        .map(|()| Diary::new(log_root));
    let (file, trouble) = match file {
        Ok(file) => {
            let (file, guard) = slow(file);
            guards.push(guard);
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(file)
                .with_ansi(false)
                .event_format(Lines {
                    form: Form::File,
                    colour: false,
                });
            (Some(layer), None)
        }
        Err(error) => {
            let text = format!(
                "cannot keep a log of my own in {}: {error}; these lines go to stderr only; \
                 make it writable or choose another place with --log-root",
                log_root.display()
            );
            (None, Some(text))
        }
    };
    // Each command that was taken is a debug event: of use to who debugs the supervisor only.
    let subscriber = tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(screen)
        .with(file);
    let _ = tracing::subscriber::set_global_default(subscriber);
    (Diagnostics { _guards: guards }, trouble)
}

/// The daily files, opened with the first line: that looks at every log directory beside them, for
/// old files to be removed, and a successor has better things to do first.
enum Diary {
    Closed {
        root: PathBuf,
        /// When it was last tried in vain.
        failed: Option<Instant>,
    },
    Open {
        root: PathBuf,
        appender: RollingFileAppender,
        /// The newest of the files, when that was last looked for.
        newest: Option<OsString>,
        looked: Instant,
    },
}

impl Diary {
    fn new(root: &Path) -> Diary {
        Diary::Closed {
            root: root.to_owned(),
            failed: None,
        }
    }

    fn build(root: &Path) -> Result<RollingFileAppender, InitError> {
        // Should it fail, what follows does too, and says why.
        let _ = make(root);
        RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .filename_prefix("outlast")
            .filename_suffix("log")
            .max_log_files(FILES_MAX)
            .build(root)
    }

    /// Told once: these lines are on stderr as well.
    fn open(&mut self) -> io::Result<&mut RollingFileAppender> {
        if let Diary::Closed { root, failed } = self {
            if failed.is_some_and(|at| at.elapsed() < TRY_AGAIN) {
                return Err(io::ErrorKind::NotFound.into());
            }
            match Diary::build(root) {
                Ok(appender) => {
                    let newest = newest(root);
                    close_to_others(root, newest.as_deref());
                    *self = Diary::Open {
                        newest,
                        root: std::mem::take(root),
                        appender,
                        looked: Instant::now(),
                    };
                }
                Err(error) => {
                    if failed.replace(Instant::now()).is_none() {
                        eprintln!(
                            "outlast: warning: cannot keep a log of my own in {}: {error}; these \
                             lines go to stderr only until it can be written",
                            root.display()
                        );
                    }
                }
            }
        }
        match self {
            Diary::Open { appender, .. } => Ok(appender),
            Diary::Closed { .. } => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Diary {
    /// Begins anew when the file has been removed: what is written into it, nobody finds.
    fn look(&mut self) {
        let Diary::Open {
            root,
            newest: known,
            looked,
            ..
        } = self
        else {
            return;
        };
        if looked.elapsed() < TRY_AGAIN {
            return;
        }
        *looked = Instant::now();
        // At midnight there is a newer one.
        let found = newest(root);
        if found < *known {
            *self = Diary::new(root);
        } else if found != *known {
            close_to_others(root, found.as_deref());
            *known = found;
        }
    }
}

/// Whatever umask we were started with, nobody else may write there.
fn make(root: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(root)
}

/// The same for a daily file, which is not made by us.
fn close_to_others(root: &Path, name: Option<&OsStr>) {
    let Some(path) = name.map(|name| root.join(name)) else {
        return;
    };
    if let Ok(about) = std::fs::symlink_metadata(&path)
        && about.is_file()
        && about.mode() & 0o022 != 0
    {
        let mode = std::fs::Permissions::from_mode(about.mode() & 0o755);
        let _ = std::fs::set_permissions(&path, mode);
    }
}

/// The newest of the daily files: their names have the date.
fn newest(root: &Path) -> Option<OsString> {
    let names = std::fs::read_dir(root).ok()?.flatten();
    let names = names.map(|entry| entry.file_name());
    names
        .filter(|name| {
            let name = name.as_encoded_bytes();
            name.starts_with(b"outlast.") && name.ends_with(b".log")
        })
        .max()
}

impl io::Write for Diary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look();
        self.open()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Diary::Open { appender, .. } => appender.flush(),
            Diary::Closed { .. } => Ok(()),
        }
    }
}

fn slow(writer: impl std::io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name("outlast-diary")
        .finish(writer)
}

fn colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

#[derive(Clone, Copy)]
enum Form {
    File,
    Screen(Format),
}

/// `name * message`, in the file with time and level in front.
struct Lines {
    form: Form,
    /// What is wrong stands out among what is as it should be.
    colour: bool,
}

impl Lines {
    /// What begins and what ends a line's colour.
    fn paint(&self, level: Level) -> (&'static str, &'static str) {
        match level {
            Level::ERROR if self.colour => ("\x1b[31m", "\x1b[0m"),
            Level::WARN if self.colour => ("\x1b[33m", "\x1b[0m"),
            _ => ("", ""),
        }
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        _ => "info",
    }
}

#[derive(Default)]
struct Found {
    service: Option<String>,
    message: String,
}

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "service" {
            self.service = Some(value.to_owned());
        } else if field.name() == "message" {
            self.message.push_str(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else if field.name() == "service" {
            self.service = Some(format!("{value:?}"));
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut found = Found::default();
        event.record(&mut found);
        let name = found.service.as_deref().unwrap_or("outlast");
        match self.form {
            Form::File => {
                SystemTime.format_time(&mut writer)?;
                write!(writer, " {:5} ", event.metadata().level())?;
            }
            Form::Screen(Format::Text) => {}
            Form::Screen(Format::Stamped) => {
                SystemTime.format_time(&mut writer)?;
                writer.write_char(' ')?;
            }
            Form::Screen(Format::Json) => {
                let mut time = String::new();
                SystemTime.format_time(&mut Writer::new(&mut time))?;
                let told = Told {
                    time: &time,
                    service: name,
                    stream: Stream::Supervisor,
                    level: Some(level(*event.metadata().level())),
                    text: &found.message,
                    cut: false,
                };
                return writer.write_str(&told.line());
            }
        }
        let (begin, end) = self.paint(*event.metadata().level());
        for (number, line) in found.message.lines().enumerate() {
            // What a definition contains may not write to the terminal.
            let clean: String = line
                .chars()
                .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
                .collect();
            let mark = if number == 0 { '*' } else { ' ' };
            writeln!(writer, "{begin}{name:NAME_WIDTH$} {mark} {clean}{end}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn a_diary_that_is_removed_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut diary = Diary::new(&root);
        diary.write_all(b"one\n").unwrap();
        let file = root.join(newest(&root).unwrap());
        let hurry = |diary: &mut Diary| {
            if let Diary::Open { looked, .. } = diary {
                *looked = Instant::now().checked_sub(TRY_AGAIN).unwrap();
            }
        };
        hurry(&mut diary);
        diary.write_all(b"two\n").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"one\ntwo\n");
        for whole in [false, true] {
            match whole {
                false => fs::remove_file(&file).unwrap(),
                true => fs::remove_dir_all(&root).unwrap(),
            }
            hurry(&mut diary);
            diary.write_all(b"three\n").unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"three\n");
        }
    }

    #[test]
    fn a_diary_is_nobody_elses_to_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut diary = Diary::new(dir.path());
        diary.write_all(b"one\n").unwrap();
        let file = dir.path().join(newest(dir.path()).unwrap());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        Diary::new(dir.path()).write_all(b"two\n").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_diary_that_could_not_be_opened_is_written_when_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut diary = Diary::new(dir.path());
        diary.write_all(b"one\n").unwrap();
        let entry = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap();
        // What today's file is called is taken by something else.
        let root = dir.path().join("root");
        let obstacle = root.join(entry.file_name());
        fs::create_dir_all(&obstacle).unwrap();
        let mut diary = Diary::new(&root);
        assert!(diary.write_all(b"lost\n").is_err());
        fs::remove_dir(&obstacle).unwrap();
        // Not with each line.
        assert!(diary.write_all(b"lost\n").is_err());
        if let Diary::Closed { failed, .. } = &mut diary {
            *failed = Instant::now().checked_sub(TRY_AGAIN);
        }
        diary.write_all(b"two\n").unwrap();
        assert_eq!(fs::read(&obstacle).unwrap(), b"two\n");
    }
}
