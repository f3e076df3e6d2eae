//! What a service looks like from outside: everything that `status` and `why` tell, as data.
//!
//! A view is made when somebody asks and is never kept: there is no second copy of the state that
//! could grow stale. It has no words; those are the supervisor's and the commands'. Ticks become
//! dates outside, where there is a calendar.

use super::service::{Service, State, phase};
use super::spec::Scope;
use super::vocab::{Exit, Failure, Leftover, Pid, Tick};
use std::time::Duration;

/// What is wanted of a service.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub enum Want {
    #[default]
    #[serde(rename = "u")]
    Up,
    /// Up, and not again when this run ends.
    #[serde(rename = "o")]
    Once,
    #[serde(rename = "d")]
    Down,
    /// Down, then forgotten.
    #[serde(rename = "x")]
    Exit,
}

/// Where a service is in its life; `machine`'s essay tells what each means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Phase {
    Down,
    Starting,
    Up,
    Stopping,
    Clearing,
    Finish,
    Backoff,
    Broken,
}

/// Why a service is down though nothing is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Serialize, serde::Deserialize)]
pub enum DownReason {
    /// Its directory has not been read yet.
    #[serde(rename = "n")]
    Undefined,
    /// The `down` file.
    #[serde(rename = "f")]
    NormallyDown,
    /// Somebody asked for it, or the service is leaving.
    #[serde(rename = "a")]
    Asked,
    /// It was to run once, and has.
    #[serde(rename = "o")]
    Done,
    /// Its restart policy says that an end such as its last one is final.
    #[serde(rename = "p")]
    Policy,
}

/// How the last run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastExit {
    /// None when the run ended and nobody saw how (its exit was lost with a supervisor).
    pub exit: Option<Exit>,
    pub at: Tick,
    pub ran: Duration,
    pub pid: Pid,
    /// It had been told to end.
    pub asked: bool,
}

/// One service at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    pub phase: Phase,
    pub want: Want,
    /// Its directory is gone or the supervisor ends: it will be forgotten when it is down.
    pub leaving: bool,
    /// The run's, or in [`Phase::Finish`] that of `finish`.
    pub pid: Option<Pid>,
    /// Since when it is in this phase; when up, the start of the run.
    pub since: Tick,
    /// The start of the last run.
    pub started: Tick,
    /// The last arrival in down, or when the service was first seen.
    pub arrived: Tick,
    /// Counts its runs; 0 before the first. Distinguishes two runs where a pid could not.
    pub run: u64,
    /// Starts after the first one since it was last asked to start.
    pub restarts: u64,
    pub last_exit: Option<LastExit>,
    /// Up, and `./check` has passed since the start or there is none.
    pub ready: bool,
    /// A live run was sent STOP.
    pub paused: bool,
    /// runit's flag: also true of a service that was paused while down.
    pub paused_flag: bool,
    /// A stop signal was sent and the run has not ended yet.
    pub got_term: bool,
    /// When the next start is tried.
    pub next_start: Option<Tick>,
    /// Why the last start failed; none once a start has worked.
    pub failure: Option<Failure>,
    /// Failed starts in a row.
    pub start_failures: u32,
    /// Ends too soon and failed starts in a row; what the back-off counts.
    pub failures: u32,
    /// Why the directory as it is now can't be used.
    pub invalid: Option<String>,
    /// Processes of ended runs that are still there.
    pub leftovers: Vec<Leftover>,
    /// What the last run and its `finish` left behind, as far as remembered; ended or being ended.
    pub swept: Vec<Leftover>,
    /// KILL has not ended what is left of it.
    pub unkillable: bool,
    /// `finish` has used up its time and was killed.
    pub finish_overdue: bool,
    /// A control script has used up its time and was killed.
    pub control_overdue: bool,
    /// The run has used up the time it had to stop in and was killed.
    pub stop_overdue: bool,
    /// Why it is down, when it is.
    pub down: Option<DownReason>,
    /// The scope its last run was started with; what a sweep goes by even before the definition
    /// was read again.
    pub scope: Scope,
}

/// What runit's 20-byte status record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunitStatus {
    pub pid: Option<Pid>,
    pub paused: bool,
    /// `u` or `d`; an exit is a `d` too.
    pub want: u8,
    /// For `stat`, which tells an exit from a down.
    pub want_exit: bool,
    pub got_term: bool,
    /// 0 down, 1 run, 2 finish.
    pub state: u8,
    pub since: Tick,
}

impl Service {
    pub(super) fn view(&self) -> View {
        let (down, next_start) = match self.state {
            State::Down(reason) => (Some(reason), None),
            State::Backoff { until } => (None, Some(until)),
            State::Broken { retry } => (None, retry),
            State::Starting(_)
            | State::Up
            | State::Stopping
            | State::Clearing { .. }
            | State::Finishing(_) => (None, None),
        };
        View {
            phase: phase(self.state),
            want: self.wanted(),
            leaving: self.is_leaving(),
            pid: self.run.pid().or(self.finish.pid()),
            since: self.since,
            started: self.started,
            arrived: self.arrived,
            run: self.number,
            restarts: self.restarts,
            last_exit: self.last_exit,
            ready: self.ready,
            paused: self.paused && self.is_alive(),
            paused_flag: self.paused,
            got_term: self.got_term,
            next_start,
            failure: self.failure.as_deref().cloned(),
            start_failures: self.start_failures,
            failures: self.back_off.failures,
            invalid: self.invalid.as_deref().map(str::to_owned),
            leftovers: self.leftovers.clone(),
            swept: self.swept.clone(),
            unkillable: self.unkillable,
            finish_overdue: self.finish_overdue,
            control_overdue: self.control_overdue,
            stop_overdue: self.stop_overdue,
            down,
            scope: self.stop.scope,
        }
    }
}

impl View {
    /// The same seen with runit's eyes. It knows three states: a service whose leftovers are being
    /// ended shows as in finish (without a pid at first, as runsv announces finish too), so that
    /// `sv stop` waits for them. Its time is the run's start even in finish.
    pub fn runit(&self) -> RunitStatus {
        let (state, since) = match self.phase {
            Phase::Down | Phase::Starting | Phase::Backoff | Phase::Broken => (0, self.arrived),
            Phase::Up | Phase::Stopping => (1, self.started),
            Phase::Clearing | Phase::Finish => (2, self.started),
        };
        RunitStatus {
            pid: self.pid,
            paused: self.paused_flag,
            want: if self.want == Want::Up { b'u' } else { b'd' },
            want_exit: self.want == Want::Exit,
            got_term: self.got_term,
            state,
            since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Rig, runit, seconds};
    use super::super::spec::Spec;
    use super::super::vocab::{Command, Role};

    #[test]
    fn runits_time_is_the_runs_start_even_in_finish_and_the_arrival_when_down() {
        let mut rig = Rig::up(Spec {
            has_finish: true,
            ..runit()
        });
        let started = rig.now;
        rig.pass(seconds(5));
        rig.say(Command::Down);
        let status = rig.view().runit();
        assert_eq!(
            (status.state, status.want, status.got_term),
            (1, b'd', true)
        );
        rig.exits(Role::Run, 0);
        let status = rig.view().runit();
        assert_eq!((status.state, status.pid, status.since), (2, None, started));
        rig.spawned(Role::Finish);
        assert!(rig.view().runit().pid.is_some());
        rig.exits(Role::Finish, 0);
        let status = rig.view().runit();
        assert_eq!((status.state, status.pid, status.since), (0, None, rig.now));
    }

    #[test]
    fn an_exit_is_a_down_to_runit_and_its_stat_tells_them_apart() {
        let mut rig = Rig::up(runit());
        rig.say(Command::Exit);
        let status = rig.view().runit();
        assert_eq!((status.want, status.want_exit), (b'd', true));
        rig.say(Command::Once);
        let status = rig.view().runit();
        assert_eq!((status.want, status.want_exit), (b'd', false));
    }
}
