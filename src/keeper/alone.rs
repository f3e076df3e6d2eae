//! Told to end while no supervisor can be started: the keeper ends what it has, without policy.
//!
//! How a stop goes is the supervisor's to know (order, signals, times, `finish`), so one that says hello
//! takes it over at any point. But where none comes (no process to be had, no memory, a crash at each
//! start) TERM and Ctrl-C must not do nothing for ever. So it is waited for a while, or until somebody
//! says it again; then everybody in the book gets TERM and CONT, and later KILL. Not for runit's
//! programs, whose signals mean other things, nor on a machine, whose stages decide. Called by `keeper`
//! at each turn.

use super::{Birth, Keeper, say};
use crate::ipc::wire::{Key, SCRIBE};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};

const S: u64 = 1_000_000_000;
/// How long a supervisor is waited for.
const PATIENCE_NS: u64 = 10 * S;
/// From TERM to KILL.
const GRACE_NS: u64 = 10 * S;
/// How long it is waited for the end of what was killed.
const KILLED_NS: u64 = 5 * S;
/// Two signals that are no further apart are one: who ends a group may send to its members, too.
const AGAIN_NS: u64 = S;

#[derive(Default)]
pub struct Alone {
    wish: Option<Wish>,
}

/// Everything is to end, and no supervisor has said that it sees to it.
struct Wish {
    /// Since when it stands as it does, and when the next thing is due.
    since_ns: u64,
    due_ns: u64,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Waiting,
    Told,
    Killed,
}

impl Wish {
    fn new(now_ns: u64) -> Wish {
        Wish {
            since_ns: now_ns,
            due_ns: now_ns.saturating_add(PATIENCE_NS),
            step: Step::Waiting,
        }
    }
}

impl Alone {
    pub fn due_ns(&self, listening: bool) -> Option<u64> {
        let wish = self.wish.as_ref().filter(|_| !listening)?;
        Some(wish.due_ns)
    }

    /// A supervisor sees to it.
    pub fn taken(&mut self) {
        self.wish = None;
    }
}

impl Keeper {
    fn ends_alone(&self) -> bool {
        self.birth == Birth::Named && self.stages.is_none() && self.done.is_none()
    }

    /// A signal has come that a supervisor will be told of.
    pub fn caught_alone(&mut self, signal: i32, now_ns: u64) {
        if !self.ends_alone() || !matches!(signal, SIGTERM | SIGINT | SIGQUIT) {
            return;
        }
        let (lives, listening) = (self.deputy.lives(), self.deputy.is_listening());
        match &mut self.alone.wish {
            Some(_) if listening => {}
            Some(wish) if now_ns >= wish.since_ns.saturating_add(AGAIN_NS) => wish.due_ns = now_ns,
            Some(_) => {}
            // The end that has begun is known to whoever serves.
            None if listening && self.ending.is_some() => {}
            None => {
                self.alone.wish = Some(Wish::new(now_ns));
                if !lives {
                    say(
                        "told to end, but there is no supervisor now; waiting 10 s for one, \
                         a second signal ends all services without it",
                    );
                }
            }
        }
    }

    /// It has ended unasked.
    pub fn left_alone(&mut self, now_ns: u64) {
        if !self.ends_alone() {
            return;
        }
        match (&self.alone.wish, self.ending) {
            (None, Some(_)) => self.alone.wish = Some(Wish::new(now_ns)),
            // It may have been told and have died of something else before it did anything.
            (Some(_), None) => {
                let at = u32::try_from(SIGTERM).ok();
                self.untold_signals |= at.and_then(|at| 1u64.checked_shl(at)).unwrap_or(0);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Does what is due, as long as no supervisor listens.
    pub fn end_alone(&mut self, now_ns: u64) {
        if !self.ends_alone() || self.deputy.is_listening() {
            return;
        }
        let Some(wish) = &mut self.alone.wish else {
            return;
        };
        let mut living = self.book.living();
        living.retain(|key| key.id != SCRIBE);
        if wish.step != Step::Waiting && living.is_empty() {
            return self.be_done_alone("all services have ended, without a supervisor");
        }
        if wish.due_ns > now_ns {
            return;
        }
        wish.since_ns = now_ns;
        let count = living.len();
        match wish.step {
            Step::Waiting => {
                wish.step = Step::Told;
                wish.due_ns = now_ns.saturating_add(GRACE_NS);
                // For a supervisor that comes after all.
                self.ending.get_or_insert_default();
                say(&format!(
                    "no supervisor can be started, so all ends without one: TERM to {count} \
                     processes, KILL after 10 s or at the next signal"
                ));
                self.signal_all(&living, Signal::SIGTERM);
                self.signal_all(&living, Signal::SIGCONT);
            }
            Step::Told => {
                wish.step = Step::Killed;
                wish.due_ns = now_ns.saturating_add(KILLED_NS);
                say(&format!("KILL to {count} processes"));
                self.signal_all(&living, Signal::SIGKILL);
            }
            Step::Killed => {
                self.be_done_alone(&format!("left behind, KILL does not end them: {count}"));
            }
        }
    }

    /// With the group that each leads, unless it is another's to reap: then only the process itself
    /// can be meant for sure.
    fn signal_all(&mut self, keys: &[Key], signal: Signal) {
        for key in keys {
            let own = self.book.process(*key).filter(|process| !process.adopted);
            let told = own.is_some_and(|process| {
                let group = Pid::from_raw(process.pid.as_raw().saturating_neg());
                kill(group, signal).is_ok()
            });
            // Once: many take a second TERM for an order to end at once.
            if let (false, Ok(number)) = (told, u8::try_from(signal as i32)) {
                self.book.signal(*key, number);
            }
        }
    }

    /// Never 0, which would say that all went well.
    fn be_done_alone(&mut self, line: &str) {
        say(line);
        self.alone.taken();
        self.deputy.hang_up();
        self.deputy.rest();
        self.done = Some(self.ending.map_or(1, |ending| ending.code.max(1)));
    }
}
