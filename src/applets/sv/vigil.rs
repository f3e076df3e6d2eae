//! Waiting until what was asked for has come about.
//!
//! runit looks every 420 ms. So do we, and these looks alone run a `check` again and see that the
//! time is over; between them `supervise/` is watched (inotify(7)), so that an answer comes with the
//! change that it depends on. Where that can't be, the looks are enough.

use super::orders::Task;
use super::seen::{self, Ill, Seen};
use super::{Sv, check};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::unistd::fchdir;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const LOOKS_APART: Duration = Duration::from_millis(420);

/// A service whose order is given, until it is carried out or can't be.
pub struct Awaited<'a> {
    name: &'a OsStr,
    /// The status when the order was given; None when there was no order.
    before: Option<Seen>,
    last: Option<Result<Seen, Ill>>,
    watched: Vec<WatchDescriptor>,
}

impl<'a> Awaited<'a> {
    pub fn new(name: &'a OsStr, before: Option<Seen>) -> Awaited<'a> {
        Awaited {
            name,
            before,
            last: None,
            watched: Vec::new(),
        }
    }
}

/// Why a service is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It is time; whether the time is over.
    Look { too_late: bool },
    /// Something has happened: of interest only if it has changed the status.
    Change,
}

pub fn keep(sv: &mut Sv, mut awaited: Vec<Awaited>, wait_s: u64) -> Result<(), Errno> {
    let begun = Instant::now();
    let mut watch: Option<Watch> = None;
    while !awaited.is_empty() {
        // At the first look no time has passed, so that even `-w 0` has a second one.
        let passed = watch.as_ref().map_or(Duration::ZERO, |_| begun.elapsed());
        let too_late = passed.as_secs_f64() > wait_s as f64;
        sv.look_at(&mut awaited, Why::Look { too_late }, |_| true)?;
        let next = Instant::now() + LOOKS_APART;
        if watch.is_none() && !awaited.is_empty() {
            watch = Some(Watch::over(sv, &mut awaited)?);
            // What happened before the watch was set.
            sv.look_at(&mut awaited, Why::Change, |_| true)?;
        }
        let Some(watch) = &watch else { continue };
        while !awaited.is_empty() {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let stirred = watch.wait(left);
            if !stirred.is_empty() {
                let moved = |one: &Awaited| one.watched.iter().any(|it| stirred.contains(it));
                sv.look_at(&mut awaited, Why::Change, moved)?;
            }
        }
    }
    Ok(())
}

impl Sv {
    /// Looks at those that `of_interest` names, and forgets the ones that are done.
    fn look_at(
        &mut self,
        awaited: &mut Vec<Awaited>,
        why: Why,
        of_interest: impl Fn(&Awaited) -> bool,
    ) -> Result<(), Errno> {
        let mut lost = None;
        awaited.retain_mut(|one| {
            if lost.is_some() || !of_interest(one) {
                return true;
            }
            let done = self.is_done(one, why);
            lost = fchdir(&self.home).err();
            !done
        });
        lost.map_or(Ok(()), Err)
    }

    fn is_done(&mut self, one: &mut Awaited, why: Why) -> bool {
        match (self.enter(one.name, false), why) {
            (Ok(()), _) => {}
            (Err(_), Why::Change) => return false,
            (Err(errno), Why::Look { .. }) => {
                self.fail_to_enter(one.name, errno);
                return true;
            }
        }
        let glance = seen::glance();
        if why == Why::Change && one.last == Some(glance) {
            return false;
        }
        one.last = Some(glance);
        let seen = match glance {
            Ok(seen) => seen,
            // A supervisor that is replaced is away for a moment; the next look tells.
            Err(_) if why == Why::Change && !self.order.ends_runsv() => return false,
            Err(ill) => {
                self.tell(one.name, b"", ill);
                return true;
            }
        };
        if self.is_reached(one, &seen) {
            self.out.extend_from_slice(b"ok: ");
            self.print(one.name, &seen);
            self.end_line();
            return true;
        }
        if why == (Why::Look { too_late: true }) {
            self.give_up(one.name);
            return true;
        }
        false
    }

    fn give_up(&mut self, name: &OsStr) {
        self.out.extend_from_slice(match self.order.kills {
            true => b"kill: ",
            false => b"timeout: ",
        });
        if let Some(seen) = self.look(name, b"") {
            self.print(name, &seen);
            self.troubles = self.troubles.saturating_add(1);
        }
        self.end_line();
        if self.order.kills {
            self.send(name, b"k");
        }
    }

    fn is_reached(&self, one: &Awaited, seen: &Seen) -> bool {
        let checked = std::cell::OnceCell::new();
        let passes = || *checked.get_or_init(|| check::passes(one.name));
        let bytes = match self.order.task {
            Task::Send(bytes) => bytes,
            Task::Look => return seen.pid == 0 || passes(),
            Task::Show => return true,
        };
        let alive = seen.pid != 0;
        bytes.iter().all(|byte| match byte {
            b'u' => alive && seen.state == 1 && passes(),
            b'd' => !alive && seen.state == 0,
            // runsv is there.
            b'x' => false,
            b't' | b'k' => {
                // Every start has its own time, to the nanosecond, and finish keeps its run's.
                // Never the clock's word against it: clocks are set, and a second is long.
                let is_new = one.before.is_none_or(|before| before.since != seen.since);
                (!alive && seen.want == b'd') || (alive && is_new && seen.got_term == 0 && passes())
            }
            b'o' => match alive {
                true => seen.want == b'd',
                false => self.begun <= seen.since.0,
            },
            b'p' => !alive || seen.paused != 0,
            b'c' => !alive || seen.paused == 0,
            _ => true,
        })
    }
}

struct Watch {
    inotify: Option<Inotify>,
}

impl Watch {
    fn over(sv: &Sv, awaited: &mut [Awaited]) -> Result<Watch, Errno> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).ok();
        for one in awaited {
            if let Some(inotify) = &inotify
                && sv.enter(one.name, false).is_ok()
            {
                // status is renamed into place; runsv holds ok open for reading while it lives.
                // Two watches, since a watch on the directory would tell of every reader of status.
                let renamed = inotify.add_watch("supervise", AddWatchFlags::IN_MOVED_TO);
                let closed = inotify.add_watch("supervise/ok", AddWatchFlags::IN_CLOSE_NOWRITE);
                one.watched.extend([renamed, closed].into_iter().flatten());
            }
            fchdir(&sv.home)?;
        }
        Ok(Watch { inotify })
    }

    /// What has stirred, at most so long later; nothing when the time is over.
    fn wait(&self, left: Duration) -> Vec<WatchDescriptor> {
        // Rounded up, or the last millisecond would be spent in a circle.
        let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let Some(inotify) = &self.inotify else {
            let _ = poll(&mut [], left);
            return Vec::new();
        };
        match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], left) {
            Ok(1..) => inotify.read_events().unwrap_or_default(),
            _ => Vec::new(),
        }
        .into_iter()
        .map(|event| event.wd)
        .collect()
    }
}
