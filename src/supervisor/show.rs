//! A service as others see it: as the control protocol's object, and as runit's status record.

use super::place::Hindrance;
use super::vocab::{Exit, ServiceId, Tick};
use super::words;
use super::{Supervisor, stuck};
use crate::ipc::control::{LastExit, Leftover, Service, State, Trouble, Want};
use crate::launch::report::Words;
use crate::machine::CHECK_TIME_MAX;
use crate::machine::view::{self, DownReason, Phase, View};
use crate::os::clock;
use crate::svdir::status;
use std::time::Duration;

/// A check that takes longer is told of.
const CHECK_SLOW: Duration = Duration::from_millis(900);

/// The wall's time of a tick.
pub fn wall(at: Tick) -> Duration {
    let now = Tick(clock::monotonic_ns());
    clock::wall().saturating_sub(now.since(at))
}

/// `since` is the time of `view.runit().since`.
pub fn runit_status(view: &View, since: Duration) -> status::Status {
    let seen = view.runit();
    status::Status {
        since,
        pid: seen.pid.and_then(|pid| u32::try_from(pid.0).ok()),
        paused: seen.paused,
        want: match (seen.want_exit, seen.want) {
            (true, _) => status::Want::Exit,
            (false, b'u') => status::Want::Up,
            (false, _) => status::Want::Down,
        },
        got_term: seen.got_term,
        state: match seen.state {
            0 => status::State::Down,
            1 => status::State::Run,
            _ => status::State::Finish,
        },
    }
}

pub fn leftovers(leftovers: &[super::vocab::Leftover]) -> Vec<Leftover> {
    leftovers
        .iter()
        .map(|leftover| Leftover {
            pid: leftover.pid.0,
            name: leftover.name.clone(),
        })
        .collect()
}

impl Supervisor {
    /// None for a service that has gone.
    pub fn show(&self, id: ServiceId) -> Option<Service> {
        let view = self.fleet.view(id)?;
        let place = self.places.get(&id)?;
        let now = self.now();
        let face = self.face(id);
        Some(Service {
            name: place.name.to_string(),
            state: state(view.phase),
            want: want(view.want),
            pid: view.pid.map(|pid| pid.0),
            since: seconds(wall(view.since)),
            seconds: seconds(now.since(view.since)),
            restarts: view.restarts,
            last_exit: view.last_exit.map(|last| last_exit(&last, place.oom)),
            ready: view.ready,
            paused: view.paused,
            got_term: view.got_term,
            normally_down: face.down,
            description: face.description,
            next_start: view.next_start.map(|at| seconds(at.since(now))),
            problem: self.problem(id, &view),
            log_dir: face.log_dir,
            leftovers: leftovers(&view.leftovers),
            living_on: Vec::new(),
            outcome: None,
            why: None,
        })
    }

    /// A check that has been running for longer than checks do.
    pub fn silent(&self, id: ServiceId) -> Option<String> {
        let ran = self.now().since(self.fleet.checking(id)?);
        (ran >= CHECK_SLOW).then(|| {
            format!(
                "./check has not answered for {}; it is killed after {}",
                words::duration(ran),
                words::duration(CHECK_TIME_MAX)
            )
        })
    }

    /// The one thing that matters most of what is wrong.
    pub fn problem(&self, id: ServiceId, view: &View) -> Option<Trouble> {
        let place = self.places.get(&id)?;
        let trouble = |code: &str, message: String| {
            Some(Trouble {
                code: code.into(),
                message,
            })
        };
        if let Some(reason) = &view.invalid {
            let code = match place.hindrance {
                _ if place.quarantined => "quarantined",
                Some(Hindrance::Held) => "held-by-another",
                Some(Hindrance::Short) => "no-open-files",
                Some(Hindrance::Closed) => "directory-refused",
                None => "bad-definition",
            };
            return trouble(code, reason.clone());
        }
        if let Some(failure) = &view.failure {
            return match place.words.as_deref() {
                Some(Words { code, message, .. }) => trouble(code, message.clone()),
                None => trouble(
                    "cannot-start",
                    format!("cannot start: {}", words::error(failure.errno)),
                ),
            };
        }
        if view.unkillable {
            return trouble("unkillable", stuck::of(view).words());
        }
        match view.phase {
            Phase::Backoff => {
                let last = view.last_exit.and_then(|last| last.exit);
                let text = last.map_or_else(|| "ended".to_owned(), words::exit);
                return trouble(
                    "crashed",
                    format!("{text}, {} in a row", times(view.failures)),
                );
            }
            Phase::Finish if view.finish_overdue => {
                return trouble("finish-hangs", "./finish does not end".into());
            }
            Phase::Stopping if view.stop_overdue => {
                return trouble("stop-hangs", "it does not end after KILL".into());
            }
            // Until the first look has found somebody there is nothing to tell.
            Phase::Clearing if !view.leftovers.is_empty() => {
                let leftovers = words::names(&view.leftovers);
                return trouble("leftovers", format!("ending {leftovers}"));
            }
            Phase::Up if !view.ready => {
                return trouble("not-ready", unready(self.silent(id)));
            }
            Phase::Up => {
                if let Some(silent) = self.silent(id) {
                    return trouble("check-hangs", silent);
                }
            }
            Phase::Down => {
                if let (Some(DownReason::Policy | DownReason::Done), Some(last)) =
                    (view.down, view.last_exit)
                    && let Some(exit) = last.exit
                    && !exit.success()
                    && !last.asked
                {
                    return trouble("failed", format!("{}; stays down", words::exit(exit)));
                }
            }
            Phase::Starting | Phase::Stopping | Phase::Clearing | Phase::Finish | Phase::Broken => {
            }
        }
        if let Some(text) = &place.log_trouble {
            return trouble("log", format!("log: {text}"));
        }
        if let Some(text) = &place.supervise_trouble {
            return trouble("supervise", text.to_string());
        }
        None
    }
}

/// Why a run that is up is not ready.
pub fn unready(silent: Option<String>) -> String {
    silent.unwrap_or_else(|| "./check has not passed yet".to_owned())
}

fn times(count: u32) -> String {
    if count == 1 {
        "once".into()
    } else {
        format!("{count} times")
    }
}

pub fn state(phase: Phase) -> State {
    match phase {
        Phase::Down => State::Down,
        Phase::Starting => State::Starting,
        Phase::Up => State::Up,
        Phase::Stopping => State::Stopping,
        Phase::Clearing => State::Clearing,
        Phase::Finish => State::Finish,
        Phase::Backoff => State::Backoff,
        Phase::Broken => State::Broken,
    }
}

fn want(want: view::Want) -> Want {
    match want {
        view::Want::Up => Want::Up,
        view::Want::Once => Want::Once,
        view::Want::Down => Want::Down,
        view::Want::Exit => Want::Exit,
    }
}

fn last_exit(last: &view::LastExit, oom: Option<bool>) -> LastExit {
    let (code, signal, core) = match last.exit {
        Some(Exit::Code(code)) => (Some(i32::from(code)), None, false),
        Some(Exit::Signal { signal, core }) => (None, Some(signal.to_string()), core),
        None => (None, None, false),
    };
    LastExit {
        code,
        signal,
        core,
        at: seconds(wall(last.at)),
        ran: seconds(last.ran),
        pid: last.pid.0,
        oom,
        asked: last.asked,
    }
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}
