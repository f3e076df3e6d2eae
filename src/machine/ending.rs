//! From a run's exit to rest: leftovers, `finish`, its leftovers, then down, a wait or a start.
//!
//! Nothing is started while anything of the old run is known or suspected to live. Every step has
//! its clock, so that a hanging finish or an unkillable process is seen and told, never waited for
//! in silence. Called by `service`, `starting`, `command` and `leaving`.

use super::answer::Goal;
use super::restart::{runit_pause, starts_again};
use super::service::{Ended, Finishing, Leaving, Proc, Service, State, Turn};
use super::spec::{Kind, Rule, Scope};
use super::view::{DownReason, LastExit, Want};
use super::vocab::{
    Action, Exit, FailedBecause, Leftover, Notice, Pid, Program, Role, Signal, Timer,
};
use std::time::Duration;

/// What leftovers are given after the stop signal, and after each KILL.
pub(super) const CLEAR_TIME: Duration = Duration::from_secs(2);
/// How long a supervisor that ends waits for what KILL has not ended.
const GIVE_UP_TIME: Duration = Duration::from_secs(10);
/// So many times leftovers are sent KILL before they are told to be unkillable.
pub(super) const CLEAR_KILLS_MAX: u8 = 3;
/// Most leftovers that are remembered by name.
pub(super) const LEFTOVERS_MAX: usize = 32;
/// finish's arguments after an exit that nobody saw.
const UNSEEN: (i32, i32) = (-1, 0);

impl Service {
    /// An exit of a run that was never reported says nothing about one that may be under way.
    pub(super) fn run_exited(&mut self, turn: &mut Turn, exit: Exit) {
        if self.is_alive() {
            self.run_ended(turn, Some(exit));
        }
    }

    /// `exit` is none when a predecessor was told of it and its successor was not.
    pub(super) fn run_ended(&mut self, turn: &mut Turn, exit: Option<Exit>) {
        let Proc::Alive(pid) = self.run else { return };
        let asked = self.end_asked || self.state == State::Stopping;
        let ran = turn.now.since(self.started);
        self.last_exit = Some(LastExit {
            exit,
            at: turn.now,
            ran,
            pid,
            asked,
        });
        self.changed = true;
        let was_ready = self.ready;
        self.run = Proc::None;
        self.ready = false;
        // `paused` stays, as in runit, until the next start.
        self.got_term = false;
        self.end_asked = false;
        if self.check.pid().is_some() {
            turn.act(Action::Signal {
                role: Role::Check,
                signal: Signal::KILL,
            });
        }
        self.drop_signals(turn);
        if !was_ready && !asked {
            let ended = self.number;
            self.fail(turn, FailedBecause::Ended, |goal| match goal {
                Goal::Up { run, .. } => run <= ended,
                Goal::Once { .. }
                | Goal::Down
                | Goal::Exit
                | Goal::Ended { .. }
                | Goal::Sent { .. }
                | Goal::Checked { .. } => false,
            });
        }
        self.delay = self.spec.as_ref().map(|spec| {
            self.back_off
                .after_run(&spec.restart.rule, ran, asked, turn.jitter)
        });
        self.tell_end(turn, exit, asked, ran);
        self.swept.clear();
        if self.stop.scope == Scope::Process {
            self.after_run(turn, arguments(exit));
        } else {
            self.clear(turn, Ended::Run);
        }
    }

    fn tell_end(&mut self, turn: &mut Turn, exit: Option<Exit>, asked: bool, ran: Duration) {
        let Some(exit) = exit else { return };
        if asked {
            let took = turn.now.since(self.stop_began);
            turn.note(Notice::Stopped { exit, took });
            return;
        }
        let next = self.spec.as_ref().and_then(|spec| {
            let again = self.wanted() == Want::Up && starts_again(spec.restart.policy, Some(exit));
            let pause = runit_pause(&spec.restart.rule, ran);
            again.then(|| self.delay.unwrap_or_default().max(pause))
        });
        turn.note(Notice::Ended { exit, ran, next });
    }

    /// Ends what is left of the scope, beginning with a look that may find nobody.
    pub(super) fn clear(&mut self, turn: &mut Turn, ended: Ended) {
        self.leftovers.clear();
        self.unkillable = false;
        self.enter(turn, State::Clearing { ended, round: 0 });
        let impatient = self.stop_overdue || self.finish_overdue || self.hurried;
        let signal = if impatient {
            Signal::KILL
        } else {
            self.stop.signal
        };
        self.sweep(turn, signal);
    }

    /// The clock runs from the sweep, not from its answer: an answer that does not come means
    /// "unknown", and is asked for again.
    pub(super) fn sweep(&mut self, turn: &mut Turn, signal: Signal) {
        turn.act(Action::Sweep { signal });
        turn.set(Timer::Clear, CLEAR_TIME);
    }

    pub(super) fn left(&mut self, turn: &mut Turn, leftovers: Vec<Leftover>) {
        let State::Clearing { ended, .. } = self.state else {
            return;
        };
        if leftovers.is_empty() {
            self.changed |= !self.leftovers.is_empty();
            self.leftovers.clear();
            self.unkillable = false;
            return match ended {
                Ended::Run => self.after_run(turn, self.finish_arguments()),
                Ended::Finish => self.rest(turn),
            };
        }
        let first = self.leftovers.is_empty();
        for leftover in &leftovers {
            if !self.swept.contains(leftover) && self.swept.len() < LEFTOVERS_MAX {
                self.swept.push(leftover.clone());
            }
        }
        self.changed |= self.leftovers != leftovers;
        self.leftovers = leftovers;
        self.leftovers.truncate(LEFTOVERS_MAX);
        if first {
            turn.note(Notice::Clearing {
                leftovers: self.leftovers.clone(),
            });
        }
    }

    pub(super) fn clear_due(&mut self, turn: &mut Turn) {
        let State::Clearing { ended, round } = self.state else {
            return;
        };
        if round < CLEAR_KILLS_MAX {
            self.enter(
                turn,
                State::Clearing {
                    ended,
                    round: round + 1,
                },
            );
            self.sweep(turn, Signal::KILL);
        } else {
            self.stuck(turn, self.leftovers.clone());
        }
    }

    /// KILL has been sent and nothing has come of it: a process in an uninterruptible wait. It is
    /// told, and waited for without a clock; only a supervisor that ends leaves it to the keeper,
    /// after one more wait, as the news of its end may merely be late.
    fn stuck(&mut self, turn: &mut Turn, leftovers: Vec<Leftover>) {
        let told = self.unkillable;
        if !told {
            self.unkillable = true;
            turn.note(Notice::Unkillable { leftovers });
        }
        if self.leaving == Leaving::ShutDown {
            if told {
                self.given_up = true;
            } else {
                self.wait_for_the_stuck(turn);
            }
        }
    }

    pub(super) fn wait_for_the_stuck(&mut self, turn: &mut Turn) {
        match self.state {
            State::Stopping => self.arm_stop(turn, GIVE_UP_TIME),
            State::Clearing { .. } => turn.set(Timer::Clear, GIVE_UP_TIME),
            State::Finishing(_) => turn.set(Timer::Finish, GIVE_UP_TIME),
            State::Down(_)
            | State::Backoff { .. }
            | State::Starting(_)
            | State::Up
            | State::Broken { .. } => {}
        }
    }

    /// The run itself, or finish, outlives its KILL.
    pub(super) fn stuck_process(&mut self, turn: &mut Turn, proc: Proc) {
        let name = self.name.to_string();
        let leftovers = proc
            .pid()
            .map(|pid| Leftover { pid, name })
            .into_iter()
            .collect();
        self.stuck(turn, leftovers);
    }

    /// An operator is not content to wait: look and kill again.
    pub(super) fn sweep_again(&mut self, turn: &mut Turn) {
        if let State::Clearing { ended, .. } = self.state {
            self.enter(turn, State::Clearing { ended, round: 1 });
            self.sweep(turn, Signal::KILL);
        }
    }

    fn finish_arguments(&self) -> (i32, i32) {
        arguments(self.last_exit.and_then(|last| last.exit))
    }

    /// The run and its leftovers are gone: `finish`, if there is one.
    pub(super) fn after_run(&mut self, turn: &mut Turn, (code, status): (i32, i32)) {
        if self.hurried {
            return self.rest(turn);
        }
        match &self.spec {
            None if self.invalid.is_none() && !self.is_leaving_for_good() && !self.is_log() => {
                self.enter(turn, State::Finishing(Finishing::Undefined));
            }
            Some(spec) if spec.has_finish && spec.kind == Kind::Service => {
                // runsv takes note of the end only when control/d or control/x is through.
                let told = self.control.is_none() || self.control_overdue;
                if spec.restart.rule == Rule::Runit && !told {
                    return self.enter(turn, State::Finishing(Finishing::Undefined));
                }
                self.finish_overdue = false;
                if self.finish.is_none() {
                    self.finish = Proc::Asked;
                    turn.act(Action::Spawn(Program::Finish { code, status }));
                }
                self.enter(turn, State::Finishing(Finishing::Running));
                if let Some(timeout) = self.stop.finish_timeout {
                    turn.set(Timer::Finish, timeout);
                }
            }
            None | Some(_) => self.rest(turn),
        }
    }

    fn is_leaving_for_good(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// The directory has been read, or never will be: go on from where a restore had to wait.
    pub(super) fn resume_finish(&mut self, turn: &mut Turn) {
        if self.state == State::Finishing(Finishing::Undefined) {
            self.after_run(turn, self.finish_arguments());
        }
    }

    pub(super) fn finish_spawned(&mut self, turn: &mut Turn, pid: Pid) {
        let killed = self.finish_overdue || self.state != State::Finishing(Finishing::Running);
        self.finish = Proc::Alive(pid);
        // runsv clears its flags at each start, that of finish included.
        self.paused = false;
        if killed {
            turn.act(Action::Signal {
                role: Role::Finish,
                signal: Signal::KILL,
            });
        }
    }

    pub(super) fn finish_failed(&mut self, turn: &mut Turn) {
        if self.finish == Proc::Asked {
            turn.note(Notice::FinishFailed {
                exit: Exit::Code(111),
            });
            self.finish_gone(turn);
        }
    }

    pub(super) fn finish_exited(&mut self, turn: &mut Turn, exit: Exit) {
        if self.finish.pid().is_some() {
            if !exit.success() && !self.finish_overdue {
                turn.note(Notice::FinishFailed { exit });
            }
            self.finish_gone(turn);
        }
    }

    fn finish_gone(&mut self, turn: &mut Turn) {
        self.finish = Proc::None;
        if self.state != State::Finishing(Finishing::Running) {
            return;
        }
        self.unkillable = false;
        if self.stop.scope == Scope::Process {
            self.rest(turn);
        } else {
            self.clear(turn, Ended::Finish);
        }
    }

    pub(super) fn finish_due(&mut self, turn: &mut Turn) {
        if self.state != State::Finishing(Finishing::Running) {
            return;
        }
        if self.finish_overdue {
            return self.stuck_process(turn, self.finish);
        }
        self.finish_overdue = true;
        turn.note(Notice::FinishKilled {
            after: turn.now.since(self.since),
        });
        if self.finish.pid().is_some() {
            turn.act(Action::Signal {
                role: Role::Finish,
                signal: Signal::KILL,
            });
        }
        turn.set(Timer::Finish, CLEAR_TIME);
    }

    /// Arrival in down: what is wanted decides whether it stays there.
    pub(super) fn rest(&mut self, turn: &mut Turn) {
        let since_start = turn.now.since(self.started);
        self.arrived = turn.now;
        if self.number > 0 || self.failure.is_some() {
            // Of no meaning under another rule; which one it is may not be known yet.
            self.pause_until = turn.now.after(runit_pause(&Rule::Runit, since_start));
        }
        let Some(spec) = &self.spec else {
            let unread = self.invalid.is_none() && !self.is_leaving_for_good();
            return match (self.wanted(), unread) {
                (Want::Up | Want::Once, true) => {
                    self.enter(turn, State::Down(DownReason::Undefined));
                }
                (Want::Up | Want::Once, false) => self.broken(turn),
                (Want::Down | Want::Exit, _) => self.enter(turn, State::Down(DownReason::Asked)),
            };
        };
        let rule = spec.restart.rule;
        let policy = spec.restart.policy;
        self.end_all_if_over(turn, policy);
        match self.wanted() {
            Want::Down | Want::Exit => self.enter(turn, State::Down(DownReason::Asked)),
            Want::Up | Want::Once if self.invalid.is_some() => self.broken(turn),
            Want::Up | Want::Once if self.again => self.start(turn, false),
            // It was never spawned: what is wanted once is still to come.
            Want::Up | Want::Once if self.number == 0 && self.failure.is_none() => {
                self.start(turn, false);
            }
            Want::Once => {
                self.want = Want::Down;
                self.enter(turn, State::Down(DownReason::Done));
            }
            Want::Up if !starts_again(policy, self.last_exit.and_then(|last| last.exit)) => {
                self.want = Want::Down;
                self.enter(turn, State::Down(DownReason::Policy));
            }
            Want::Up => self.start_after_delay(turn, &rule),
        }
    }

    fn start_after_delay(&mut self, turn: &mut Turn, rule: &Rule) {
        let delay = match self.delay {
            Some(delay) => delay,
            // The run ended before a restored supervisor had read the definition.
            None => {
                let (ran, asked) = self
                    .last_exit
                    .map_or((Duration::ZERO, false), |last| (last.ran, last.asked));
                self.back_off.after_run(rule, ran, asked, turn.jitter)
            }
        };
        self.delay = Some(delay);
        if delay.is_zero() {
            self.start(turn, true);
        } else {
            self.enter(
                turn,
                State::Backoff {
                    until: turn.now.after(delay),
                },
            );
        }
    }
}

fn arguments(exit: Option<Exit>) -> (i32, i32) {
    exit.map_or(UNSEEN, Exit::finish_arguments)
}

#[cfg(test)]
mod tests;
