//! A directory with services, the FIFO through which they tell that they run, and the certainty
//! that nothing of it stays behind.

use crate::peers::Peer;
use crate::processes;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The FIFO as seen from a service directory.
pub const MARKS_FROM_SERVICE: &str = "../../marks";

/// Longest wait for anything; runsvdir looks every five seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// A service has run its first instruction.
#[derive(Clone, Debug)]
pub struct Mark {
    pub pid: i32,
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    pub name: String,
}

pub struct World {
    folder: PathBuf,
    marks: File,
    /// Bytes read of a mark whose end has not come yet.
    unread: String,
    supervisor: Option<Child>,
    /// Until it is stopped: a supervisor that has ended will start nothing more.
    expects_more: bool,
}

/// Orphans come to us, so that they can be found and ended; Ctrl-C ends the waiting, not us.
pub fn prepare() -> Result<(), String> {
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| format!("subreaper: {error}"))?;
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, flag.clone()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

pub fn interrupted() -> bool {
    INTERRUPTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
}

pub fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

pub fn service_name(number: usize) -> String {
    format!("s{number:04}")
}

impl World {
    /// Lays out `services` services in the way of `peer`, below `yard`; nothing runs yet. It stays
    /// there when its processes have gone: on ext4 whoever makes files within minutes of the removal
    /// of many others pays for that, and the next world would.
    pub fn new(peer: &Peer, services: usize, yard: &Path) -> Result<World, String> {
        let folder = yard.join(format!("{}-{services}", peer.name()));
        fs::create_dir(&folder).map_err(told("folder"))?;
        let path = folder.as_path();
        for below in ["scan", "logs", "definitions", "new"] {
            fs::create_dir(path.join(below)).map_err(told(below))?;
        }
        let fifo = path.join("marks");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).map_err(|error| format!("fifo: {error}"))?;
        let own = std::env::current_exe().map_err(told("own program"))?;
        fs::copy(own, path.join("probe")).map_err(told("probe"))?;
        // Without O_NONBLOCK this open would wait for the first service.
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let marks = options.open(&fifo).map_err(told("marks"))?;
        let world = World {
            folder,
            marks,
            unread: String::new(),
            supervisor: None,
            expects_more: true,
        };
        for number in 0..services {
            let name = service_name(number);
            peer.lay(&world, &world.scan().join(&name), &name)
                .map_err(told(&name))?;
        }
        peer.lay_rest(&world, services).map_err(told("layout"))?;
        Ok(world)
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    pub fn scan(&self) -> PathBuf {
        self.path().join("scan")
    }

    pub fn start(&mut self, peer: &Peer) -> Result<(), String> {
        let output = File::create(self.path().join("output")).map_err(told("output"))?;
        let mut command = peer.start(self);
        command.stdin(std::process::Stdio::null());
        command
            .stderr(output.try_clone().map_err(told("output"))?)
            .stdout(output);
        self.supervisor = Some(command.spawn().map_err(told(peer.name()))?);
        Ok(())
    }

    pub fn supervisor(&self) -> Option<&Child> {
        self.supervisor.as_ref()
    }

    /// The next `count` marks, in the order in which they came.
    pub fn marks(&mut self, count: usize) -> Result<Vec<Mark>, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut found = Vec::new();
        while found.len() < count {
            let (bytes, _) = self.hear(deadline).ok_or_else(|| {
                format!(
                    "only {} of {count} services ran; {}",
                    found.len(),
                    self.last_words()
                )
            })?;
            self.unread.push_str(&bytes);
            while let Some((line, rest)) = self.unread.split_once('\n') {
                found.extend(mark(line));
                self.unread = rest.to_owned();
            }
        }
        Ok(found)
    }

    /// Waits until no service holds the FIFO any more.
    pub fn silence(&mut self) -> Result<(), String> {
        self.expects_more = false;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.hear(deadline) {
                Some((_, true)) => return Ok(()),
                Some(_) => {}
                None => return Err("some services did not end".to_owned()),
            }
        }
    }

    /// What came through the FIFO, and whether its last writer has gone. None at the deadline.
    fn hear(&mut self, deadline: Instant) -> Option<(String, bool)> {
        while Instant::now() < deadline && !interrupted() {
            let mut fds = [PollFd::new(self.marks.as_fd(), PollFlags::POLLIN)];
            // Woken now and then to see a Ctrl-C.
            poll(&mut fds, PollTimeout::from(200u8)).ok();
            let events = fds[0].revents().unwrap_or(PollFlags::empty());
            if events.contains(PollFlags::POLLIN) {
                let mut bytes = [0; 4096];
                let count = self.marks.read(&mut bytes).unwrap_or(0);
                return Some((String::from_utf8_lossy(&bytes[..count]).into_owned(), false));
            }
            let silent = events.contains(PollFlags::POLLHUP);
            if silent && !self.expects_more {
                return Some((String::new(), true));
            }
            if self.expects_more && self.supervisor_has_ended() {
                return None;
            }
            if silent {
                // Every service has died and may come back; poll does not wait meanwhile.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        None
    }

    fn supervisor_has_ended(&mut self) -> bool {
        self.supervisor
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// The end of what the supervisor printed.
    fn last_words(&self) -> String {
        let output = fs::read_to_string(self.path().join("output")).unwrap_or_default();
        let lines: Vec<&str> = output.lines().rev().take(2).collect();
        format!(
            "it said: {:?}",
            lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        processes::end_all_of_ours();
    }
}

fn mark(line: &str) -> Option<Mark> {
    let mut words = line.split(' ');
    Some(Mark {
        pid: words.next()?.parse().ok()?,
        at_ns: words.next()?.parse().ok()?,
        name: words.next()?.to_owned(),
    })
}

fn told<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}
