//! The supervisor's own end: services first, then whatever they left anywhere, then the scribe.

use super::leftovers::{self, Pinned};
use super::vocab::{Exit, ServiceId, Signal, Tick};
use super::watched::Woken;
use super::{Supervisor, stuck, words};
use crate::ipc::scribe::ToScribe;
use crate::ipc::wire::{Ending, Key, SCRIBE, ToKeeper};
use std::collections::HashSet;
use std::time::Duration;

/// What daemons that left their session get between TERM and KILL at the very end.
const STRAYS_GRACE: Duration = Duration::from_secs(3);
/// How often KILL is repeated for those that were forked meanwhile, before they are only named.
const STRAYS_ROUNDS: u32 = 5;
/// How long it is waited for that each log says it is written out.
const LOGS_GRACE: Duration = Duration::from_secs(3);
/// What the scribe gets to write out the last lines.
const SCRIBE_GRACE: Duration = Duration::from_secs(10);
/// ... and then to say what is missing, when a disk hangs, too; at most half of what is left.
const SCRIBE_WORDS: Duration = Duration::from_secs(3);
/// Kept back of --stop-timeout, but at most half of it: for what is to be done when services have had
/// their time. A third each for finish scripts of those that were killed, for processes that left
/// their service, for the last lines.
const RESERVE_MAX: Duration = Duration::from_secs(3);
/// What the disk thread gets to write the last status files.
const DISK_GRACE: Duration = Duration::from_secs(2);

pub enum Stage {
    Serving,
    /// All services are being stopped.
    Stopping {
        since: Tick,
        push: Push,
    },
    /// Processes that no service's scope covered are being ended.
    Sweeping {
        round: u32,
        until: Tick,
        pinned: Vec<Pinned>,
    },
    /// The scribe writes out what is left.
    Writing {
        until: Tick,
        /// It was told that nothing more comes.
        told: bool,
    },
    Over {
        code: u8,
    },
    /// All is left to another supervisor.
    Yielded,
}

/// What comes next when the stop as a whole is bounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Push {
    Press,
    Hurry,
    GiveUp,
}

/// When what is due of a bounded stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bounds {
    press: Tick,
    hurry: Tick,
    strays: Tick,
    end: Tick,
}

impl Bounds {
    fn new(end: Tick, whole: Duration) -> Bounds {
        let reserve = (whole / 2).min(RESERVE_MAX);
        let before = |thirds: u32| {
            let nanos = (reserve * thirds / 3).as_nanos();
            Tick(
                end.0
                    .saturating_sub(u64::try_from(nanos).unwrap_or(u64::MAX)),
            )
        };
        Bounds {
            press: before(3),
            hurry: before(2),
            strays: before(1),
            end,
        }
    }

    fn at(&self, push: Push) -> Tick {
        match push {
            Push::Press => self.press,
            Push::Hurry => self.hurry,
            Push::GiveUp => self.strays,
        }
    }
}

impl Supervisor {
    pub fn farewell_deadline(&self) -> Option<Tick> {
        match &self.stage {
            Stage::Stopping { push, .. } => self.bounds().map(|bounds| bounds.at(*push)),
            Stage::Sweeping { until, .. } | Stage::Writing { until, .. } => Some(*until),
            Stage::Serving | Stage::Over { .. } | Stage::Yielded => None,
        }
    }

    fn bounds(&self) -> Option<Bounds> {
        let whole = self.settings.stop_timeout?;
        (self.ending.until_ns != 0).then(|| Bounds::new(Tick(self.ending.until_ns), whole))
    }

    /// The first time in order, the second time at once.
    pub fn told_to_end(&mut self, signal: Signal) {
        match self.stage {
            Stage::Serving => self.shut_down(&format!("caught {signal}")),
            Stage::Stopping { .. } | Stage::Sweeping { .. } | Stage::Writing { .. } => {
                tracing::warn!("caught {signal} again: killing what still runs");
                let outs = self.fleet.hurry(self.now());
                self.perform_all(outs);
            }
            Stage::Over { .. } | Stage::Yielded => {}
        }
    }

    /// All services, in order; then outlast exits with 0.
    pub fn shut_down(&mut self, why: &str) {
        if !matches!(self.stage, Stage::Serving) {
            return;
        }
        self.begin_to_end(why, Ending::default());
        let outs = self.fleet.shut_down(self.now());
        self.perform_all(outs);
    }

    /// An essential service has ended for good. The actions that stop the others follow.
    pub fn end_all(&mut self, id: ServiceId, code: u8) {
        if !matches!(self.stage, Stage::Serving) {
            return;
        }
        // The fleet may have forgotten it by now.
        let place = self.places.get(&id);
        let name = place.map_or("a service", |place| &*place.name);
        let why = format!("{name} is essential and has ended, so all ends with exit code {code}");
        self.begin_to_end(&why, Ending { code, until_ns: 0 });
    }

    /// A predecessor has begun it.
    pub fn go_on_ending(&mut self, ending: Ending) {
        if self.settings.manner.is_runit() {
            return self.caught_as_runit(Signal::TERM);
        }
        if !matches!(self.stage, Stage::Serving) {
            return;
        }
        self.begin_to_end("the end had begun", ending);
        let outs = self.fleet.shut_down(self.now());
        self.perform_all(outs);
    }

    /// What a successor would have to know goes to the keeper first.
    fn begin_to_end(&mut self, why: &str, mut ending: Ending) {
        let now = self.now();
        if let (0, Some(whole)) = (ending.until_ns, self.settings.stop_timeout) {
            ending.until_ns = now.after(whole).0;
        }
        let count = self
            .places
            .values()
            .filter(|place| place.main.is_none())
            .count();
        let plural = if count == 1 { "service" } else { "services" };
        tracing::info!("{why}: stopping {count} {plural}; once more kills them at once");
        self.ending = ending;
        self.tell_keeper(&ToKeeper::Ending(ending));
        self.stage = Stage::Stopping {
            since: now,
            push: Push::Press,
        };
    }

    /// The stop as a whole takes too long.
    fn push(&mut self, since: Tick, push: Push) {
        let names = self.still_there();
        let next = match push {
            Push::Press => {
                tracing::warn!("--stop-timeout is nearly over: killing what still runs: {names}");
                let outs = self.fleet.press(self.now());
                self.perform_all(outs);
                Push::Hurry
            }
            Push::Hurry => {
                tracing::warn!("... and what is still to be done after it: {names}");
                let outs = self.fleet.hurry(self.now());
                self.perform_all(outs);
                Push::GiveUp
            }
            Push::GiveUp => {
                tracing::error!("--stop-timeout is over; left behind: {names}");
                self.ending.code = self.ending.code.max(1);
                return self.sweep_all(0, Signal::KILL);
            }
        };
        self.stage = Stage::Stopping { since, push: next };
    }

    /// The services that have not been forgotten.
    pub fn still_there(&self) -> String {
        let mains = self.places.values().filter(|place| place.main.is_none());
        first_of(&mains.map(|place| &*place.name).collect::<Vec<_>>())
    }

    /// From one stage to the next, when it is time.
    pub fn advance(&mut self) {
        let now = self.now();
        match &self.stage {
            Stage::Serving if self.is_over_as_runit() => self.stage = Stage::Over { code: 0 },
            Stage::Serving | Stage::Over { .. } | Stage::Yielded => {}
            Stage::Stopping { since, push } => {
                let (since, push) = (*since, *push);
                if self.fleet.is_empty() && self.queue.is_empty() {
                    let took = words::duration(now.since(since));
                    tracing::info!("all services are down after {took}");
                    self.sweep_all(0, Signal::TERM);
                } else if self.bounds().is_some_and(|bounds| bounds.at(push) <= now) {
                    self.push(since, push);
                }
            }
            Stage::Sweeping {
                round,
                until,
                pinned,
            } => {
                let round = *round;
                if !pinned.iter().any(Pinned::lives) {
                    // Their children, if they had any, are ours now.
                    self.sweep_all(round, Signal::KILL);
                } else if *until <= now {
                    self.sweep_all(round.saturating_add(1), Signal::KILL);
                }
            }
            Stage::Writing { told: false, until } => {
                if self.pen.leaving.is_empty() || *until <= now {
                    self.finish_scribe();
                }
            }
            Stage::Writing { told: true, until } => {
                if self.pen.pid.is_none() && !self.pen.starting {
                    let code = self.ending.code;
                    self.stage = Stage::Over { code };
                } else if *until <= now {
                    tracing::error!("the scribe does not end; last lines may be missing");
                    let key = Key {
                        id: SCRIBE,
                        role: 0,
                    };
                    self.tell_keeper(&ToKeeper::Signal {
                        key,
                        signal: Signal::KILL.0,
                    });
                    // Not 0, which would say that all went well.
                    let code = self.ending.code.max(1);
                    self.stage = Stage::Over { code };
                }
            }
        }
    }

    /// Nothing that hangs below us outlives us.
    fn sweep_all(&mut self, round: u32, signal: Signal) {
        let mut strays = leftovers::strays(self.keeper_pid, &self.booked_pids());
        let known: HashSet<i32> = strays.iter().map(|stray| stray.pid).collect();
        let abroad = self.still_abroad().into_iter();
        strays.extend(abroad.filter(|it| !known.contains(&it.pid)));
        let pinned: Vec<Pinned> = strays.iter().filter_map(Pinned::pin).collect();
        let named: Vec<_> = pinned.iter().map(|pin| pin.leftover.clone()).collect();
        let now = self.now();
        let bound = self.bounds().map(|bounds| bounds.strays);
        let late = bound.is_some_and(|strays| strays <= now);
        if pinned.is_empty() || round > STRAYS_ROUNDS || late {
            if late {
                for pin in &pinned {
                    pin.signal(i32::from(Signal::KILL.0));
                }
            } else if !pinned.is_empty() {
                tracing::error!("left behind: {}", stuck::all(&named).words());
                self.are_left_behind(named);
            }
            return self.close_scribe();
        }
        if signal == Signal::TERM {
            tracing::warn!(
                "ending processes that left their service: {}",
                words::names(&named)
            );
        }
        for pin in &pinned {
            pin.signal(i32::from(signal.0));
            pin.signal(i32::from(Signal::CONT.0));
            let _ = self.watched.add(pin.pidfd(), Woken::Last);
        }
        let until = now.after(STRAYS_GRACE).min(bound.unwrap_or(Tick(u64::MAX)));
        self.stage = Stage::Sweeping {
            round,
            until,
            pinned,
        };
    }

    /// One of the last has ended. It is watched no longer: an ended process would wake us again and
    /// again until the others have ended too.
    pub fn stray_ended(&mut self) {
        let watched = &self.watched;
        if let Stage::Sweeping { pinned, .. } = &mut self.stage {
            pinned.retain(|pin| {
                let lives = pin.lives();
                if !lives {
                    watched.remove(pin.pidfd());
                }
                lives
            });
        }
    }

    /// What services have written last is to be in their logs, also when the scribe has just been
    /// killed and another one is not there yet.
    fn close_scribe(&mut self) {
        let now = self.now();
        let left = self.bounds().map(|bounds| bounds.end.since(now));
        // The scribe has to be told while there is time for an answer.
        let grace = left.map_or(LOGS_GRACE, |left| LOGS_GRACE.min(left / 2));
        let until = now.after(grace);
        let told = false;
        self.stage = Stage::Writing { until, told };
        self.pen.hurry();
        self.attach_some();
        self.advance();
    }

    fn finish_scribe(&mut self) {
        let unwritten = self.unwritten();
        if !self.pen.leaving.is_empty() && !self.pen.is_connected() {
            tracing::error!("there is no scribe; last lines are missing");
        }
        self.pen.attached.clear();
        self.pen.leaving.clear();
        self.to_attach.clear();
        let now = self.now();
        let until = now.after(SCRIBE_GRACE + SCRIBE_WORDS);
        let until = self.bounds().map_or(until, |bounds| until.min(bounds.end));
        let left = until.since(now);
        let within = left.saturating_sub(SCRIBE_WORDS.min(left / 2));
        // 0 has a meaning of its own.
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
        self.pen.send(&ToScribe::Finish { within_ms }, None);
        if let Some(names) = unwritten {
            let within = words::duration(within);
            tracing::warn!("waiting up to {within} for the last lines to be written of {names}");
        }
        let told = true;
        self.stage = Stage::Writing { until, told };
        self.advance();
    }

    /// Whose log is not said to be written out.
    fn unwritten(&self) -> Option<String> {
        let logs = self.pen.leaving.iter().map(|id| self.pen.attached.get(id));
        let names: Vec<&str> = logs.flatten().map(|log| &*log.name).collect();
        (!names.is_empty()).then(|| first_of(&names))
    }

    pub fn scribe_ended(&mut self, exit: Exit) {
        self.scribe_gone();
        let ending = match self.stage {
            Stage::Writing { told, .. } => told,
            Stage::Over { .. } | Stage::Yielded => true,
            Stage::Serving | Stage::Stopping { .. } | Stage::Sweeping { .. } => false,
        };
        if !ending && !exit.success() {
            tracing::error!(
                "the scribe ended ({}); output waits in the pipes, a new one takes over",
                words::exit(exit)
            );
        }
    }

    /// The last things: answers, status files, the socket, the keeper.
    pub async fn leave(&mut self, code: u8) -> std::io::Result<()> {
        self.say_notices();
        self.answer_shutdowns();
        let left = self.bounds().map(|bounds| bounds.end.since(self.now()));
        self.disk
            .end(left.map_or(DISK_GRACE, |left| left.min(DISK_GRACE)));
        self.tell_unshown();
        if let Some(cgroups) = &self.cgroups {
            cgroups.clean();
        }
        if self.socket_identity.is_some()
            && super::door::identity(&self.settings.socket) == self.socket_identity
        {
            let _ = std::fs::remove_file(&self.settings.socket);
        }
        tracing::info!("everything has ended; good-bye");
        self.keeper.send(&ToKeeper::Done { code }, &[])?;
        self.keeper.deliver().await
    }
}

fn first_of(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_stop_leaves_time_for_what_comes_after_the_services() {
        let second = 1_000_000_000;
        let bounds = Bounds::new(Tick(100 * second), Duration::from_secs(25));
        let all = [bounds.press, bounds.hurry, bounds.strays, bounds.end];
        assert_eq!(all, [97, 98, 99, 100].map(|s| Tick(s * second)));
        let bounds = Bounds::new(Tick(second), Duration::from_millis(600));
        assert_eq!(bounds.press, Tick(second - 300_000_000));
        assert_eq!(bounds.at(Push::GiveUp), bounds.strays);
    }
}
