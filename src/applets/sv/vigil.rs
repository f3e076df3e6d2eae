//! Waiting until what was asked for has come about.
//!
//! runit looks every 420 ms. So do we, and these looks alone run a `check` again and see that the
//! time is over. Between them we glance at the status, often at first and then ever more seldom, so
//! that an answer is late by a small part of what it took. Not by inotify(7): the kernel takes 6 to
//! 30 ms to end a process that has a watch, ten times what a restart takes.

use super::orders::Task;
use super::seen::{self, Ill, Seen};
use super::{Sv, check};
use nix::errno::Errno;
use nix::unistd::fchdir;
use std::ffi::OsStr;
use std::time::{Duration, Instant};

const LOOKS_APART: Duration = Duration::from_millis(420);

/// The first glances are so far apart, later ones this part of the time that has passed: some 250
/// in seven seconds.
const GLANCES_APART: Duration = Duration::from_micros(250);
const GLANCES_PART: u32 = 32;

/// A service whose order is given, until it is carried out or can't be.
pub struct Awaited<'a> {
    name: &'a OsStr,
    /// The status when the order was given; None when there was no order.
    before: Option<Seen>,
    last: Option<Result<Seen, Ill>>,
}

impl<'a> Awaited<'a> {
    pub fn new(name: &'a OsStr, before: Option<Seen>) -> Awaited<'a> {
        Awaited {
            name,
            before,
            last: None,
        }
    }
}

/// Why a service is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It is time; whether the time is over.
    Look { too_late: bool },
    /// Of interest only if the status is another than before.
    Glance,
}

pub fn keep(sv: &mut Sv, mut awaited: Vec<Awaited>, wait_s: u64) -> Result<(), Errno> {
    let begun = Instant::now();
    // At the first look no time has passed, so that even `-w 0` has a second one.
    let mut passed = Duration::ZERO;
    while !awaited.is_empty() {
        let too_late = passed.as_secs_f64() > wait_s as f64;
        sv.look_at(&mut awaited, Why::Look { too_late })?;
        let next = Instant::now() + LOOKS_APART;
        while !awaited.is_empty() {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(GLANCES_APART.max(begun.elapsed() / GLANCES_PART)));
            sv.look_at(&mut awaited, Why::Glance)?;
        }
        passed = begun.elapsed();
    }
    Ok(())
}

impl Sv {
    /// Forgets those that are done.
    fn look_at(&mut self, awaited: &mut Vec<Awaited>, why: Why) -> Result<(), Errno> {
        let mut lost = None;
        awaited.retain_mut(|one| {
            if lost.is_some() {
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
            (Err(_), Why::Glance) => return false,
            (Err(errno), Why::Look { .. }) => {
                self.fail_to_enter(one.name, errno);
                return true;
            }
        }
        let glance = seen::glance();
        if why == Why::Glance && one.last == Some(glance) {
            return false;
        }
        one.last = Some(glance);
        let seen = match glance {
            Ok(seen) => seen,
            // A supervisor that is replaced is away for a moment; the next look tells.
            Err(_) if why == Why::Glance && !self.order.ends_runsv() => return false,
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
