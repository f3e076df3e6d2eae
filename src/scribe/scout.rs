//! Finds out which file system a log directory is on, in threads of its own: a stat(2) on a dead
//! network mount may never return.
//!
//! One scout is enough as long as it comes back. When it has been at one directory for long while
//! others wait, another is started, up to a bound.

use super::link::Report;
use super::mail::Post;
use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A scout that is away for longer is not waited for by other directories.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// Most scouts, hanging ones included.
const SCOUTS_MAX: usize = 32;
const STACK_BYTES: usize = 64 * 1024;

/// What a scout is sent for.
#[derive(Debug)]
pub struct Errand {
    pub id: u32,
    /// Which of several errands for this log.
    pub turn: u64,
    pub dir: PathBuf,
}

#[derive(Debug, Default)]
struct Board {
    errands: VecDeque<Errand>,
    /// Scouts waiting for an errand.
    idle: usize,
    scouts: usize,
    /// When an errand was last taken.
    moved: Option<Instant>,
}

#[derive(Debug)]
pub struct Scouts {
    board: Arc<(Mutex<Board>, Condvar)>,
    reports: Post<Report>,
}

impl Scouts {
    pub fn new(reports: Post<Report>) -> Scouts {
        Scouts {
            board: Arc::default(),
            reports,
        }
    }

    pub fn send(&self, errand: Errand) {
        let mut board = self.board.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.errands.push_back(errand);
        if board.idle > 0 {
            self.board.1.notify_one();
        } else if board.scouts == 0 {
            self.add(&mut board);
        }
    }

    /// To be called from time to time while errands wait (see [`Scouts::waiting`]): sends another
    /// scout when those on their way don't come back.
    pub fn hurry(&self) {
        let mut board = self.board.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stuck = board.moved.is_some_and(|moved| moved.elapsed() >= PATIENCE);
        if stuck && board.idle == 0 && !board.errands.is_empty() && board.scouts < SCOUTS_MAX {
            self.add(&mut board);
        }
    }

    pub fn waiting(&self) -> bool {
        let board = self.board.0.lock().unwrap_or_else(PoisonError::into_inner);
        !board.errands.is_empty()
    }

    fn add(&self, board: &mut Board) {
        let (shared, reports) = (self.board.clone(), self.reports.clone());
        let started = std::thread::Builder::new()
            .name("outlast-scout".into())
            .stack_size(STACK_BYTES)
            .spawn(move || scout(&shared, &reports));
        match started {
            Ok(_) => board.scouts += 1,
            // Without threads the errands wait; the next one tries again.
            Err(error) => eprintln!("outlast-scribe: cannot start a thread: {error}"),
        }
        board.moved = Some(Instant::now());
    }
}

fn scout((board, bell): &(Mutex<Board>, Condvar), reports: &Post<Report>) {
    loop {
        let mut free = board.lock().unwrap_or_else(PoisonError::into_inner);
        let errand = loop {
            if let Some(errand) = free.errands.pop_front() {
                free.moved = Some(Instant::now());
                break errand;
            }
            if free.idle > 0 {
                // One waiting scout is enough.
                free.scouts -= 1;
                return;
            }
            free.idle += 1;
            free = bell.wait(free).unwrap_or_else(PoisonError::into_inner);
            free.idle -= 1;
        };
        drop(free);
        reports.send(Report::Found {
            id: errand.id,
            turn: errand.turn,
            device: device(&errand.dir),
        });
    }
}

/// The file system of a directory that may still have to be made.
fn device(dir: &Path) -> u64 {
    let found = dir
        .ancestors()
        .find_map(|path| std::fs::metadata(path).ok());
    found.map_or(0, |about| about.dev())
}
