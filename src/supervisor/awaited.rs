//! At the end: each second, who is still waited for, and how long it may take.
//!
//! Whoever looks at the console of a machine that does not go down wants to know only this.

use super::Supervisor;
use super::farewell::Stage;
use super::vocab::{ServiceId, Tick};
use super::words;
use crate::machine::view::Phase;
use std::time::Duration;

const EACH: Duration = Duration::from_secs(1);
/// Names in one line.
const NAMED_MAX: usize = 6;

impl Supervisor {
    /// When they are named the next time.
    pub fn naming_due(&self) -> Option<Tick> {
        match (&self.stage, self.named_at) {
            (Stage::Stopping { .. }, Some(at)) => Some(at.after(EACH)),
            (_, _) => None,
        }
    }

    pub fn name_awaited(&mut self) {
        let Stage::Stopping { .. } = self.stage else {
            return;
        };
        let now = self.now();
        let named_at = *self.named_at.get_or_insert(now);
        if named_at.after(EACH) > now {
            return;
        }
        self.named_at = Some(now);
        let awaited: Vec<String> = self
            .fleet
            .ids()
            .filter_map(|id| self.awaited(id, now))
            .collect();
        let more = awaited.len().saturating_sub(NAMED_MAX);
        let mut names = awaited;
        names.truncate(NAMED_MAX);
        let names = names.join(", ");
        match (names.is_empty(), more) {
            (true, _) => {}
            (false, 0) => tracing::warn!("waiting for {names}"),
            (false, more) => tracing::warn!("waiting for {names} and {more} more"),
        }
    }

    /// `web (3 s of 10 s)`; nothing for one that has not been told to stop yet.
    fn awaited(&self, id: ServiceId, now: Tick) -> Option<String> {
        let view = self.fleet.view(id)?;
        let name = self.fleet.name(id)?;
        let spec = self.fleet.spec(id);
        let stop = spec.map(|spec| &spec.stop);
        let (what, most) = match view.phase {
            Phase::Stopping => ("", stop.and_then(|stop| stop.timeout)),
            Phase::Finish => ("'s finish", stop.and_then(|stop| stop.finish_timeout)),
            Phase::Clearing => ("'s left-overs", None),
            Phase::Down | Phase::Starting | Phase::Up | Phase::Backoff | Phase::Broken => {
                return None;
            }
        };
        let waited = words::duration(Duration::from_secs(now.since(view.since).as_secs()));
        Some(match most {
            Some(most) => format!("{name}{what} ({waited} of {})", words::duration(most)),
            None => format!("{name}{what} ({waited})"),
        })
    }
}
