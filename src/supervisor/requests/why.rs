//! `why`: the story, and the lines that the scribe has of the run.

use super::super::show::wall;
use super::super::{Supervisor, show};
use super::{Answered, Desk, Pending, refuse, respond};
use crate::ipc::scribe::{Asked, ToScribe};
use crate::machine::view::Phase;
use crate::supervisor::door::Ask;
use crate::supervisor::vocab::{ServiceId, Tick};
use std::collections::BTreeMap;
use std::time::Duration;

/// Lines of log in `why`.
const LINES: u32 = 10;
const LINES_MAX: u32 = 200;
/// Services whose log lines are asked for with one `why`.
const WHY_MAX: usize = 64;
/// How long a stalled scribe can hold up an answer to `why`.
const TAIL_PATIENCE: Duration = Duration::from_secs(1);

/// The last lines of a run.
#[derive(Default)]
pub struct Tail {
    pub lines: Vec<String>,
    /// Where they stand, if that is known.
    pub file: Option<String>,
    /// The last of them has no newline yet.
    pub unfinished: bool,
}

impl Tail {
    pub(super) fn late() -> Tail {
        Tail {
            lines: vec!["(its log could not be read in time: the disk may hang)".into()],
            ..Tail::default()
        }
    }
}

impl Desk {
    pub(super) fn finish_why(&mut self, number: u64) {
        let Some(pending) = self.pending.remove(&number) else {
            return;
        };
        let mut tails = pending.tails.into_values();
        let services = pending
            .services
            .into_iter()
            .filter_map(|(_, answered)| {
                let Answered { shown, if_silent } = answered?;
                let mut shown = shown?;
                let tail = tails.next().flatten();
                if let (Some(why), Some(tail)) = (&mut shown.why, tail) {
                    if tail.lines.is_empty() && tail.file.is_some() && if_silent.is_some() {
                        why.advice = if_silent;
                    }
                    why.log = tail.lines;
                    why.log_file = tail.file;
                    why.log_unfinished = tail.unfinished;
                }
                Some(shown)
            })
            .collect();
        respond(&pending.ask, true, services);
    }
}

impl Supervisor {
    pub(super) fn ask_why(&mut self, ask: Ask, ids: Vec<ServiceId>) {
        let lines = ask.request.lines.unwrap_or(LINES).min(LINES_MAX);
        if lines > 0 && ids.len() > WHY_MAX {
            let message = format!(
                "the log lines of {} services are too many for one answer; ask for at most {WHY_MAX} \
                 at once, or for 0 lines",
                ids.len()
            );
            return refuse(&ask, "too-many", message);
        }
        let number = self.desk.next();
        let mut services = Vec::new();
        let mut tails = BTreeMap::new();
        for id in ids {
            let (mut shown, mut if_silent) = (self.show(id), None);
            if let Some(shown) = &mut shown {
                let living_on = self.living_on(id);
                shown.living_on = show::leftovers(&living_on);
                if let Some(told) = self.why(id, &living_on) {
                    shown.why = Some(told.why);
                    if_silent = told.if_silent.filter(|_| lines > 0);
                }
            }
            services.push((id, Some(Answered { shown, if_silent })));
            let token = self.desk.next();
            let scribed = self.places.get(&id).is_some_and(|place| place.scribed);
            if lines > 0 && scribed && self.pen.is_connected() {
                let asked = self.asked(id, lines);
                let id = id.0;
                self.pen.send(&ToScribe::Tail { token, id, asked }, None);
                tails.insert(token, None);
            } else {
                tails.insert(token, Some(Tail::default()));
            }
        }
        let deadline = Some(self.now().after(TAIL_PATIENCE));
        self.desk.pending.insert(
            number,
            Pending {
                ask,
                services,
                tails,
                deadline,
            },
        );
    }

    pub fn tail_came(&mut self, token: u64, tail: Tail) {
        for pending in self.desk.pending.values_mut() {
            if let Some(place) = pending.tails.get_mut(&token) {
                *place = Some(tail);
                return;
            }
        }
    }

    /// Which lines are to be shown.
    fn asked(&self, id: ServiceId, lines: u32) -> Asked {
        let nanoseconds = |at: Tick| u64::try_from(wall(at).as_nanos()).unwrap_or(u64::MAX);
        let view = self.fleet.view(id);
        let current = view.as_ref().is_some_and(|view| match view.phase {
            Phase::Up | Phase::Stopping => true,
            Phase::Down
            | Phase::Starting
            | Phase::Clearing
            | Phase::Finish
            | Phase::Backoff
            | Phase::Broken => false,
        });
        let last = view
            .as_ref()
            .and_then(|view| view.last_exit)
            .filter(|_| !current);
        Asked {
            lines,
            current,
            from_ns: match (&last, &view) {
                (Some(last), _) => nanoseconds(last.at)
                    .saturating_sub(u64::try_from(last.ran.as_nanos()).unwrap_or(u64::MAX)),
                (None, Some(view)) => nanoseconds(view.started),
                (None, None) => 0,
            },
            to_ns: last.map_or(0, |last| nanoseconds(last.at)),
        }
    }
}
