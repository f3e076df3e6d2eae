//! Signals to the run, and the control scripts that are asked before them.
//!
//! A script `control/<c>` may do a signal's work itself (exit code 0); otherwise the signal goes
//! out. While one script runs, further signals wait in line: commands are always taken, nothing
//! ever blocks, and a script that does not end loses its say after `finish_timeout`. Called by
//! `command`, `ending`, `leaving` and `service`.

use super::answer::Goal;
use super::service::{Proc, Service, State, Step, Turn};
use super::spec::{Kind, Rule};
use super::view::Want;
use super::vocab::{Action, Exit, FailedBecause, Notice, Pid, Program, Role, Signal, Timer};
use std::collections::VecDeque;

/// Signals that can wait behind a control script: one of each kind, as the kernel keeps at most
/// one pending signal of each. One more of a kind already waiting joins it.
const PENDING_MAX: usize = 16;

/// What a control script is asked about, or what waits to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Job {
    /// `control/u`, then `run`. Its result is ignored.
    Start,
    /// `control/t`, then the stop signal; after it CONT if `cont`, then `then` is told.
    Stop { cont: bool, then: Option<u8> },
    /// `control/d` or `control/x`, told after a stop. Its result is ignored.
    Told(u8),
    /// One of `h a i q 1 2 p c k`.
    Send(u8),
}

impl Job {
    pub(super) fn letter(self) -> u8 {
        match self {
            Job::Start => b'u',
            Job::Stop { .. } => b't',
            Job::Told(letter) | Job::Send(letter) => letter,
        }
    }
}

/// The signal of a command letter, as runsv sends it.
fn signal_of(letter: u8) -> Option<Signal> {
    match letter {
        b'h' => Some(Signal::HUP),
        b'a' => Some(Signal::ALRM),
        b'i' => Some(Signal::INT),
        b'q' => Some(Signal::QUIT),
        b'1' => Some(Signal::USR1),
        b'2' => Some(Signal::USR2),
        b'p' => Some(Signal::STOP),
        b'c' => Some(Signal::CONT),
        b'k' => Some(Signal::KILL),
        _ => None,
    }
}

impl Service {
    /// Does a job, after its script if there are scripts, after those before it in line.
    pub(super) fn submit(&mut self, turn: &mut Turn, job: Job) {
        if self.asks_control() && !(self.job.is_none() && self.control.is_none()) {
            self.queue(turn, job);
        } else {
            self.begin(turn, job);
        }
    }

    /// STOP and CONT discard each other, as in the kernel; what already waits is not doubled. A
    /// control/u whose start was called off serves the next start as well.
    fn queue(&mut self, turn: &mut Turn, job: Job) {
        let undone = match job {
            Job::Send(b'p') => Some(b'c'),
            Job::Send(b'c') => Some(b'p'),
            Job::Send(_) | Job::Start | Job::Stop { .. } | Job::Told(_) => None,
        };
        if let Some(letter) = undone {
            self.withdraw(turn, |waiting| waiting == Job::Send(letter));
        }
        let called_off = job == Job::Start && self.job == Some(Job::Start);
        if !called_off && !self.pending.contains(&job) {
            debug_assert!(
                self.pending.len() < PENDING_MAX,
                "more kinds of jobs than there are"
            );
            self.pending.push_back(job);
        }
    }

    /// Takes jobs out of the line that a later command has overtaken.
    pub(super) fn withdraw(&mut self, turn: &mut Turn, which: impl Fn(Job) -> bool) {
        if self.pending.is_empty() {
            return;
        }
        let (gone, kept): (VecDeque<Job>, _) = self.pending.iter().partition(|job| which(**job));
        self.pending = kept;
        for job in gone {
            let letter = job.letter();
            self.fail(turn, FailedBecause::Overruled, |goal| {
                goal == Goal::Sent { letter }
            });
        }
    }

    /// A script that was killed and still holds the one place for control scripts has lost its
    /// say, and with it those behind it: signals must get through.
    fn asks_control(&self) -> bool {
        let has_scripts = self
            .spec
            .as_ref()
            .is_some_and(|spec| spec.has_control && spec.kind == Kind::Service);
        has_scripts && !self.control_overdue
    }

    fn begin(&mut self, turn: &mut Turn, job: Job) {
        if !self.asks_control() {
            if let Some(next) = self.perform(turn, job, false) {
                // Without scripts there is nobody to tell.
                self.perform(turn, next, false);
            }
            return;
        }
        self.job = Some(job);
        self.control = Proc::Asked;
        turn.act(Action::Spawn(Program::Control(job.letter())));
        if let Some(timeout) = self.stop.finish_timeout {
            turn.set(Timer::Control, timeout);
        }
    }

    /// Does what was asked about, unless the script has done it. Returns what comes after it.
    fn perform(&mut self, turn: &mut Turn, job: Job, done: bool) -> Option<Job> {
        match job {
            Job::Start => {
                if self.state == State::Starting(Step::Announce) {
                    self.spawn_run(turn);
                }
                None
            }
            Job::Stop { cont, then } => {
                if self.is_alive() {
                    self.send_stop(turn, cont, done);
                }
                then.map(Job::Told)
            }
            Job::Told(_) => None,
            Job::Send(letter) => {
                self.send(turn, letter, done);
                None
            }
        }
    }

    fn send_stop(&mut self, turn: &mut Turn, cont: bool, done: bool) {
        self.end_asked = true;
        if !done {
            turn.act(Action::Signal {
                role: Role::Run,
                signal: self.stop.signal,
            });
            self.got_term = true;
        }
        if cont {
            turn.act(Action::Signal {
                role: Role::Run,
                signal: Signal::CONT,
            });
        }
        if let (State::Stopping, None, Some(timeout)) =
            (self.state, self.stop_at, self.stop.timeout)
        {
            self.arm_stop(turn, timeout);
        }
    }

    fn send(&mut self, turn: &mut Turn, letter: u8, done: bool) {
        if !self.is_alive() {
            self.fail(turn, FailedBecause::NotRunning, |goal| {
                goal == Goal::Sent { letter }
            });
            return;
        }
        if let (false, Some(signal)) = (done, signal_of(letter)) {
            turn.act(Action::Signal {
                role: Role::Run,
                signal,
            });
        }
        match letter {
            // Set even when the script says that it has done the work, whatever that was: runit.
            b'p' => self.paused = true,
            b'c' => self.paused = false,
            b'k' => self.end_asked = true,
            _ => {}
        }
        self.sent(turn, letter);
    }

    /// The script in question has answered, failed or lost its say.
    fn resume(&mut self, turn: &mut Turn, done: bool) {
        if let Some(job) = self.job.take()
            && let Some(next) = self.perform(turn, job, done)
        {
            // At once: whoever waits in line waits behind the whole of a stop.
            self.begin(turn, next);
        }
        while self.job.is_none() && (self.control.is_none() || !self.asks_control()) {
            let Some(next) = self.pending.pop_front() else {
                break;
            };
            self.begin(turn, next);
        }
    }

    pub(super) fn control_spawned(&mut self, turn: &mut Turn, pid: Pid) {
        if self.control == Proc::None && self.job.is_none() {
            // A predecessor's: nobody waits for its word, but its place is taken.
            turn.act(Action::Signal {
                role: Role::Control,
                signal: Signal::KILL,
            });
        }
        self.control = Proc::Alive(pid);
        if self.control_overdue {
            turn.act(Action::Signal {
                role: Role::Control,
                signal: Signal::KILL,
            });
        }
    }

    /// Not there, or not to be run: the signal goes out.
    pub(super) fn control_failed(&mut self, turn: &mut Turn) {
        if self.control == Proc::Asked {
            self.control_gone(turn, false);
        }
    }

    pub(super) fn control_exited(&mut self, turn: &mut Turn, exit: Exit) {
        let done = match exit {
            Exit::Code(code) => code == 0,
            // runsv takes a script that was killed for one that has done its work.
            Exit::Signal { .. } => self.rule_is_runit(),
        };
        if self.control.pid().is_some() {
            self.control_gone(turn, done);
        }
    }

    fn control_gone(&mut self, turn: &mut Turn, done: bool) {
        self.control = Proc::None;
        self.control_overdue = false;
        turn.cancel(Timer::Control);
        self.resume(turn, done);
        if self.control.is_none() {
            self.resume_finish(turn);
        }
    }

    pub(super) fn control_due(&mut self, turn: &mut Turn) {
        if self.control.is_none() || self.control_overdue {
            return;
        }
        self.control_overdue = true;
        turn.note(Notice::ControlKilled {
            after: self.stop.finish_timeout.unwrap_or_default(),
        });
        if self.control.pid().is_some() {
            turn.act(Action::Signal {
                role: Role::Control,
                signal: Signal::KILL,
            });
        }
        self.resume(turn, false);
    }

    /// The live run is gone: signals that wait for it are lost.
    pub(super) fn drop_signals(&mut self, turn: &mut Turn) {
        self.pending.clear();
        self.fail(turn, FailedBecause::NotRunning, |goal| match goal {
            Goal::Sent { .. } | Goal::Checked { .. } => true,
            Goal::Up { .. } | Goal::Once { .. } | Goal::Down | Goal::Exit | Goal::Ended { .. } => {
                false
            }
        });
    }

    /// The stop signal as `t`, `d` or `x` send it: runsv looks at what is wanted by then.
    pub(super) fn stop_job(&self) -> Job {
        match self.wanted() {
            // CONT as in `sv restart`: a paused run could not end.
            Want::Up => Job::Stop {
                cont: self.again,
                then: None,
            },
            Want::Once | Want::Down => Job::Stop {
                cont: true,
                then: Some(b'd'),
            },
            Want::Exit => Job::Stop {
                cont: true,
                then: Some(b'x'),
            },
        }
    }

    pub(super) fn rule_is_runit(&self) -> bool {
        self.spec
            .as_ref()
            .is_some_and(|spec| spec.restart.rule == Rule::Runit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{CONT, RUN, Rig, TERM, plain, reached, runit, seconds};
    use super::super::spec::Spec;
    use super::super::view::Phase;
    use super::super::vocab::{Command, Event, FailureClass};
    use super::*;

    fn ask(letter: u8) -> Action {
        Action::Spawn(Program::Control(letter))
    }

    fn signal(signal: Signal) -> Action {
        Action::Signal {
            role: Role::Run,
            signal,
        }
    }

    fn with_control(spec: Spec) -> Rig {
        let mut rig = Rig::new(Spec {
            has_control: true,
            ..spec
        });
        rig.failed(Role::Control, FailureClass::Local);
        rig.spawned(Role::Run);
        assert_eq!(rig.phase(), Phase::Up);
        rig
    }

    #[test]
    fn a_start_asks_control_u_first_and_does_not_mind_its_result() {
        let mut rig = Rig::unread();
        let spec = Spec {
            has_control: true,
            ..plain()
        };
        assert_eq!(rig.tell(Event::Defined(Box::new(spec))), [ask(b'u')]);
        rig.spawned(Role::Control);
        assert_eq!(rig.exits(Role::Control, 1), [RUN]);
    }

    #[test]
    fn down_asks_t_then_sends_term_and_cont_then_tells_d() {
        let mut rig = with_control(plain());
        assert_eq!(rig.say(Command::Down), [ask(b't')]);
        rig.spawned(Role::Control);
        assert_eq!(rig.exits(Role::Control, 1), [TERM, CONT, ask(b'd')]);
        assert!(rig.view().got_term);
    }

    #[test]
    fn a_script_that_succeeds_has_done_the_signals_work() {
        let mut rig = with_control(plain());
        rig.say(Command::Down);
        rig.spawned(Role::Control);
        assert_eq!(rig.exits(Role::Control, 0), [CONT, ask(b'd')]);
        assert!(!rig.view().got_term);
        // The clock to KILL runs all the same.
        rig.spawned(Role::Control);
        rig.exits(Role::Control, 0);
        assert_eq!(rig.pass(seconds(10)), [super::super::rig::KILL]);
    }

    #[test]
    fn a_script_that_is_not_there_lets_the_signal_out() {
        let mut rig = with_control(plain());
        let (token, effects) = rig.ask(Command::Hup);
        assert_eq!(effects, [ask(b'h')]);
        let effects = rig.failed(Role::Control, FailureClass::Local);
        assert_eq!(effects, [signal(Signal::HUP), reached(token)]);
    }

    #[test]
    fn a_script_killed_by_a_signal_has_done_its_work_for_runit_only() {
        let killed = Exit::Signal {
            signal: Signal(11),
            core: false,
        };
        for (spec, effects) in [(runit(), vec![]), (plain(), vec![signal(Signal::HUP)])] {
            let mut rig = with_control(spec);
            rig.say(Command::Hup);
            rig.spawned(Role::Control);
            assert_eq!(
                rig.tell(Event::Exited {
                    role: Role::Control,
                    exit: killed
                }),
                effects
            );
        }
    }

    #[test]
    fn signals_wait_in_line_behind_a_script_and_are_not_doubled() {
        let mut rig = with_control(plain());
        rig.say(Command::Hup);
        for _ in 0..1000 {
            assert_eq!(rig.say(Command::Usr1), []);
            assert_eq!(rig.say(Command::Usr2), []);
        }
        rig.spawned(Role::Control);
        assert_eq!(rig.exits(Role::Control, 0), [ask(b'1')]);
        rig.spawned(Role::Control);
        assert_eq!(rig.exits(Role::Control, 0), [ask(b'2')]);
        rig.spawned(Role::Control);
        assert_eq!(rig.exits(Role::Control, 0), []);
    }

    #[test]
    fn every_kind_of_signal_fits_into_the_line() {
        let mut rig = with_control(plain());
        rig.say(Command::Hup);
        let all = [
            Command::Hup,
            Command::Alarm,
            Command::Interrupt,
            Command::Quit,
            Command::Usr1,
            Command::Usr2,
            Command::Kill,
            Command::Term,
            Command::Once,
            Command::Term,
            Command::Pause,
            Command::Cont,
        ];
        for command in all.iter().chain(&all) {
            rig.say(*command);
        }
        let mut asked = 0;
        while rig
            .failed(Role::Control, FailureClass::Local)
            .iter()
            .any(|a| matches!(a, Action::Spawn(_)))
        {
            asked += 1;
        }
        assert!((10..PENDING_MAX).contains(&asked), "{asked}");
    }

    #[test]
    fn pause_and_cont_that_wait_discard_each_other_as_in_the_kernel() {
        let mut rig = with_control(plain());
        rig.say(Command::Hup);
        let (paused, _) = rig.ask(Command::Pause);
        let (_, effects) = rig.ask(Command::Cont);
        let outcome = super::super::answer::failed(FailedBecause::Overruled);
        assert_eq!(
            effects,
            [Action::Reply {
                token: paused,
                outcome
            }]
        );
    }

    #[test]
    fn a_stop_overtakes_what_waits() {
        let mut rig = with_control(plain());
        rig.say(Command::Hup);
        let (token, _) = rig.ask(Command::Pause);
        let outcome = super::super::answer::failed(FailedBecause::Overruled);
        assert_eq!(rig.say(Command::Down), [Action::Reply { token, outcome }]);
        let effects = rig.failed(Role::Control, FailureClass::Local);
        assert_eq!(effects, [signal(Signal::HUP), ask(b't')]);
    }

    #[test]
    fn a_script_that_hangs_loses_its_say_and_those_behind_it_are_not_asked() {
        let mut rig = with_control(plain());
        rig.say(Command::Hup);
        rig.spawned(Role::Control);
        rig.say(Command::Usr1);
        let kill = Action::Signal {
            role: Role::Control,
            signal: Signal::KILL,
        };
        let effects = rig.pass(seconds(10));
        assert_eq!(effects, [kill, signal(Signal::HUP), signal(Signal::USR1)]);
        assert!(rig.view().control_overdue);
        assert_eq!(rig.say(Command::Usr2), [signal(Signal::USR2)]);
        rig.exits(Role::Control, 0);
        assert_eq!(rig.say(Command::Usr2), [ask(b'2')]);
    }

    #[test]
    fn the_pause_flag_outlives_the_run_and_is_cleared_by_the_next() {
        let mut rig = Rig::up(runit());
        rig.pass(seconds(5));
        assert_eq!(rig.say(Command::Pause), [signal(Signal::STOP)]);
        rig.exits(Role::Run, 0);
        assert!(rig.view().paused_flag && !rig.view().paused);
        rig.spawned(Role::Run);
        assert!(!rig.view().paused_flag);
    }

    #[test]
    fn under_runits_rule_finish_waits_for_control_x() {
        let mut rig = with_control(Spec {
            has_finish: true,
            ..runit()
        });
        rig.say(Command::Exit);
        rig.spawned(Role::Control);
        assert_eq!(rig.exits(Role::Control, 1), [TERM, CONT, ask(b'x')]);
        rig.spawned(Role::Control);
        assert_eq!(rig.exits(Role::Run, 0), []);
        let finish = Action::Spawn(Program::Finish { code: 0, status: 0 });
        assert_eq!(rig.exits(Role::Control, 0), [finish]);
    }

    #[test]
    fn term_during_once_is_a_stop_as_in_runsv() {
        let mut rig = Rig::up(runit());
        assert_eq!(rig.say(Command::Term), [TERM]);
        rig.say(Command::Once);
        assert_eq!(rig.say(Command::Term), [TERM, CONT]);
    }
}
