//! Who waits for what: every command with a token gets exactly one answer, as soon as its state is
//! reached or can't be reached any more.
//!
//! After each turn every goal is looked at again, so that no path through the states can forget
//! somebody. Called by `service` (each turn) and by whoever knows that a goal is lost.

use super::service::{Proc, Service, State, Turn};
use super::view::DownReason;
use super::vocab::{Action, FailedBecause, Outcome, Tick, Timer, Token};
use std::mem;

/// Most commands that can wait for one service. One more is carried out all the same, and its
/// sender is told at once that the wait is over ([`FailedBecause::TimedOut`]).
pub(super) const WAITERS_MAX: usize = 1024;

/// The state a command waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Goal {
    /// This run or a later one is up and ready; `clean` names what had to be ended before.
    Up { run: u64, clean: bool },
    /// This run or a later one was spawned.
    Once { run: u64 },
    /// No process is left.
    Down,
    /// No process is left and the service is forgotten.
    Exit,
    /// This run has ended, and either nothing is left or a newer one is up.
    Ended { run: u64 },
    /// The signal of this command letter was sent, or its script has done the work.
    Sent { letter: u8 },
    /// The `./check` of this number, or a later one, has ended.
    Checked { serial: u32 },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    token: Token,
    deadline: Option<Tick>,
    pub(super) goal: Goal,
}

impl Service {
    pub(super) fn expect(
        &mut self,
        turn: &mut Turn,
        token: Option<Token>,
        deadline: Option<Tick>,
        goal: Goal,
    ) {
        let Some(token) = token else { return };
        if self.waiters.len() >= WAITERS_MAX {
            reply(turn, token, Outcome::Failed(FailedBecause::TimedOut));
        } else {
            self.waiters.push(Waiter {
                token,
                deadline,
                goal,
            });
        }
    }

    /// Answers everybody whose goal is reached or lost by now, and sets the clock for the rest.
    pub(super) fn answer(&mut self, turn: &mut Turn) {
        if !self.waiters.is_empty() {
            for waiter in mem::take(&mut self.waiters) {
                match self.verdict(waiter.goal) {
                    Some(outcome) => reply(turn, waiter.token, outcome),
                    None => self.waiters.push(waiter),
                }
            }
        }
        let next = self
            .waiters
            .iter()
            .filter_map(|waiter| waiter.deadline)
            .min();
        if next != self.answer_at {
            self.answer_at = next;
            match next {
                Some(at) => turn.act(Action::SetTimer {
                    timer: Timer::Answer,
                    at,
                }),
                None => turn.cancel(Timer::Answer),
            }
        }
    }

    pub(super) fn answer_due(&mut self, turn: &mut Turn) {
        self.answer_at = None;
        let now = turn.now;
        // Whoever has arrived in this very turn has arrived.
        for waiter in mem::take(&mut self.waiters) {
            let late = waiter.deadline.is_some_and(|deadline| deadline <= now);
            match self.verdict(waiter.goal) {
                Some(outcome) => reply(turn, waiter.token, outcome),
                None if late => reply(turn, waiter.token, failed(FailedBecause::TimedOut)),
                None => self.waiters.push(waiter),
            }
        }
    }

    /// Tells everybody with such a goal that it is lost.
    pub(super) fn fail(
        &mut self,
        turn: &mut Turn,
        why: FailedBecause,
        which: impl Fn(Goal) -> bool,
    ) {
        self.waiters.retain(|waiter| {
            let lost = which(waiter.goal);
            if lost {
                reply(turn, waiter.token, failed(why));
            }
            !lost
        });
    }

    /// Tells everybody who waited for this signal that it is on its way.
    pub(super) fn sent(&mut self, turn: &mut Turn, letter: u8) {
        self.waiters.retain(|waiter| {
            let mine = waiter.goal == Goal::Sent { letter };
            if mine {
                reply(
                    turn,
                    waiter.token,
                    Outcome::Reached {
                        leftovers: Vec::new(),
                    },
                );
            }
            !mine
        });
    }

    /// Tells those who waited for this call of `./check` how it ended.
    pub(super) fn checked(&mut self, turn: &mut Turn, serial: u32, passed: bool) {
        self.waiters.retain(|waiter| {
            let mine = match waiter.goal {
                Goal::Checked { serial: wanted } => wanted <= serial,
                Goal::Up { .. }
                | Goal::Once { .. }
                | Goal::Down
                | Goal::Exit
                | Goal::Ended { .. }
                | Goal::Sent { .. } => false,
            };
            if mine {
                let outcome = match passed {
                    true => Outcome::Reached {
                        leftovers: Vec::new(),
                    },
                    false => failed(FailedBecause::NotReady),
                };
                reply(turn, waiter.token, outcome);
            }
            !mine
        });
    }

    /// The last answers: the service is forgotten after them.
    pub(super) fn dismiss(&mut self, turn: &mut Turn) {
        for waiter in mem::take(&mut self.waiters) {
            let outcome = match waiter.goal {
                Goal::Exit | Goal::Down | Goal::Ended { .. } if self.given_up => {
                    failed(FailedBecause::TimedOut)
                }
                Goal::Exit | Goal::Down | Goal::Ended { .. } => self.reached_with_leftovers(),
                Goal::Up { .. } | Goal::Once { .. } | Goal::Sent { .. } | Goal::Checked { .. } => {
                    failed(FailedBecause::Leaving)
                }
            };
            reply(turn, waiter.token, outcome);
        }
        turn.cancel(Timer::Answer);
    }

    /// None: neither reached nor lost yet.
    fn verdict(&self, goal: Goal) -> Option<Outcome> {
        match goal {
            Goal::Up { run, clean } => {
                if self.state == State::Up && self.number >= run && self.ready {
                    return Some(match clean {
                        true => self.reached_with_leftovers(),
                        false => Outcome::Reached {
                            leftovers: Vec::new(),
                        },
                    });
                }
                self.start_is_off()
            }
            Goal::Once { run } if self.number >= run => Some(Outcome::Reached {
                leftovers: Vec::new(),
            }),
            Goal::Once { .. } => self.start_is_off(),
            Goal::Down => self.is_quiet().then(|| self.reached_with_leftovers()),
            Goal::Exit => None,
            Goal::Ended { run } => {
                let over = self.number > run || self.run == Proc::None;
                if over && self.is_quiet() {
                    return Some(self.reached_with_leftovers());
                }
                let newer = self.state == State::Up && self.number > run && self.ready;
                newer.then(|| self.reached_with_leftovers())
            }
            // Both are told by the script or signal itself, or by the run's end.
            Goal::Sent { .. } | Goal::Checked { .. } => None,
        }
    }

    /// A start that will not come: the service rests and nothing but a new command moves it.
    fn start_is_off(&self) -> Option<Outcome> {
        match self.state {
            State::Down(DownReason::Undefined) => None,
            State::Down(
                DownReason::NormallyDown
                | DownReason::Asked
                | DownReason::Done
                | DownReason::Policy,
            ) => Some(failed(FailedBecause::Ended)),
            State::Broken { .. } => Some(failed(FailedBecause::CannotStart)),
            State::Backoff { .. }
            | State::Starting(_)
            | State::Up
            | State::Stopping
            | State::Clearing { .. }
            | State::Finishing(_) => None,
        }
    }

    fn reached_with_leftovers(&self) -> Outcome {
        Outcome::Reached {
            leftovers: self.swept.clone(),
        }
    }
}

pub(super) fn reply(turn: &mut Turn, token: Token, outcome: Outcome) {
    turn.act(Action::Reply { token, outcome });
}

pub(super) fn failed(why: FailedBecause) -> Outcome {
    Outcome::Failed(why)
}

impl Goal {
    /// Waits for a run to come.
    pub(super) fn is_upward(self) -> bool {
        match self {
            Goal::Up { .. } | Goal::Once { .. } => true,
            Goal::Down
            | Goal::Exit
            | Goal::Ended { .. }
            | Goal::Sent { .. }
            | Goal::Checked { .. } => false,
        }
    }

    /// Waits for the service to be down.
    pub(super) fn is_downward(self) -> bool {
        match self {
            Goal::Down | Goal::Exit => true,
            Goal::Up { .. }
            | Goal::Once { .. }
            | Goal::Ended { .. }
            | Goal::Sent { .. }
            | Goal::Checked { .. } => false,
        }
    }
}
