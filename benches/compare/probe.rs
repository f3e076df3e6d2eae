//! The service under measurement: it notes when it runs, says so to its log, and waits.
//!
//! The note goes through a FIFO that it keeps open, so that the end of the last one can be seen as
//! well. It does nothing else: what is measured is the supervisor.

use crate::world::{self, MARKS_FROM_SERVICE};
use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Supervisors call it `run`; nobody else does.
pub fn is_asked_for() -> bool {
    let called = env::args_os().next().unwrap_or_default();
    Path::new(&called)
        .file_name()
        .is_some_and(|name| name == "run")
}

pub fn run() -> ExitCode {
    // First of all: what comes later is not the supervisor's time.
    let now = world::now_ns();
    let directory = env::current_dir().unwrap_or_default();
    let name = directory
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mark = format!("{} {now} {name}\n", std::process::id());
    let Ok(mut marks) = OpenOptions::new().write(true).open(MARKS_FROM_SERVICE) else {
        return ExitCode::FAILURE;
    };
    // One write below PIPE_BUF, so that marks do not mix (pipe(7)).
    if marks.write_all(mark.as_bytes()).is_err() {
        return ExitCode::FAILURE;
    }
    println!("{name} is up");
    loop {
        std::thread::park();
    }
}
