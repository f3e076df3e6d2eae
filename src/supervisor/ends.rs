//! Between the end of a process and the next start of its service: the scribe shall have read by then
//! what that process has written. Else an unfinished last line and the first of the next run would be
//! one line, since both come through the same pipe.
//!
//! Supervision is not for the scribe to hold up: it is waited for only for a moment, and not a second
//! time before it has answered.

use super::Supervisor;
use super::vocab::{Action, Program, Role, ServiceId, Tick};
use crate::ipc::scribe::ToScribe;
use std::collections::BTreeMap;
use std::time::Duration;

/// A scribe that is not busy answers within a millisecond.
const PATIENCE: Duration = Duration::from_millis(500);

/// After this long it is tried again with a scribe that has not answered.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Ends(BTreeMap<ServiceId, Wait>);

#[derive(Debug)]
struct Wait {
    /// Ends that were told and not answered.
    unanswered: u32,
    until: Tick,
    parked: Option<Program>,
}

impl Wait {
    fn from(now: Tick) -> Wait {
        Wait {
            unanswered: 0,
            until: now.after(PATIENCE),
            parked: None,
        }
    }
}

impl Ends {
    /// The scribe is told of an end.
    fn told(&mut self, id: ServiceId, now: Tick) {
        let wait = self.0.entry(id).or_insert_with(|| Wait::from(now));
        if wait.until.after(FORGIVEN_AFTER) < now {
            *wait = Wait::from(now);
        }
        wait.unanswered = wait.unanswered.saturating_add(1);
    }

    /// Whether this is to be started later.
    pub fn park(&mut self, id: ServiceId, program: Program, now: Tick) -> bool {
        let writes = matches!(program.role(), Role::Run | Role::Finish);
        match self.0.get_mut(&id) {
            Some(wait) if writes && now < wait.until => {
                wait.parked = Some(program);
                true
            }
            Some(_) | None => false,
        }
    }

    /// The scribe has answered; what can be started now.
    fn answered(&mut self, id: ServiceId) -> Option<Program> {
        let wait = self.0.get_mut(&id)?;
        wait.unanswered = wait.unanswered.saturating_sub(1);
        if wait.unanswered > 0 {
            return None;
        }
        self.0.remove(&id)?.parked
    }

    /// What is not to wait any longer.
    fn overdue(&mut self, now: Tick) -> Vec<(ServiceId, Program)> {
        let late = self.0.iter_mut().filter(|(_, wait)| wait.until <= now);
        late.filter_map(|(id, wait)| Some((*id, wait.parked.take()?)))
            .collect()
    }

    /// There is nobody who could answer.
    fn release(&mut self) -> Vec<(ServiceId, Program)> {
        let all = std::mem::take(&mut self.0);
        let parked = all
            .into_iter()
            .filter_map(|(id, wait)| Some((id, wait.parked?)));
        parked.collect()
    }

    pub fn forget(&mut self, id: ServiceId) {
        self.0.remove(&id);
    }

    /// None unless somebody waits.
    pub fn deadline(&self) -> Option<Tick> {
        let waits = self.0.values().filter(|wait| wait.parked.is_some());
        waits.map(|wait| wait.until).min()
    }
}

impl Supervisor {
    /// A process that writes to the service's pipe has ended.
    pub fn output_ends(&mut self, id: ServiceId, role: Role) {
        let scribed = self.places.get(&id).is_some_and(|place| place.scribed);
        if scribed && matches!(role, Role::Run | Role::Finish) {
            self.pen.send_soon(ToScribe::RunEnded { id: id.0 });
            if self.pen.is_connected() {
                let now = self.now();
                self.ends.told(id, now);
            }
        }
    }

    pub fn output_has_ended(&mut self, id: ServiceId) {
        let program = self.ends.answered(id);
        self.start_parked(program.map(|program| (id, program)));
    }

    pub fn start_overdue(&mut self) {
        let overdue = self.ends.overdue(self.now());
        self.start_parked(overdue);
    }

    pub fn start_all_parked(&mut self) {
        let all = self.ends.release();
        self.start_parked(all);
    }

    fn start_parked(&mut self, parked: impl IntoIterator<Item = (ServiceId, Program)>) {
        for (id, program) in parked {
            self.perform(id, Action::Spawn(program));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ServiceId = ServiceId(7);

    fn at(ms: u64) -> Tick {
        Tick(ms * 1_000_000)
    }

    #[test]
    fn a_start_waits_until_the_last_words_are_read() {
        let mut ends = Ends::default();
        assert!(!ends.park(ID, Program::Run, at(0)), "nothing has ended");
        ends.told(ID, at(0));
        assert_eq!(ends.deadline(), None, "nobody waits");
        let finish = Program::Finish { code: 0, status: 0 };
        assert!(ends.park(ID, finish, at(1)));
        assert_eq!(ends.answered(ID), Some(finish));
        assert!(!ends.park(ID, Program::Run, at(2)));
        ends.told(ID, at(3));
        ends.told(ID, at(4));
        assert!(!ends.park(ID, Program::Check, at(5)));
        assert!(ends.park(ID, Program::Run, at(5)));
        assert_eq!(ends.answered(ID), None, "that was the first end");
        assert_eq!(ends.answered(ID), Some(Program::Run));
        assert_eq!(ends.deadline(), None);
    }

    #[test]
    fn a_scribe_that_does_not_answer_holds_up_one_start_for_a_moment() {
        let mut ends = Ends::default();
        ends.told(ID, at(0));
        assert!(ends.park(ID, Program::Run, at(1)));
        let late = ends.deadline().expect("a time");
        assert_eq!(ends.overdue(at(1)), []);
        assert_eq!(ends.overdue(late), [(ID, Program::Run)]);
        assert_eq!(ends.deadline(), None);
        ends.told(ID, at(600));
        assert!(!ends.park(ID, Program::Run, at(601)));
        ends.told(ID, at(30_501));
        assert!(ends.park(ID, Program::Run, at(30_502)), "another try");
        ends.release();
        ends.told(ID, at(40_000));
        assert!(ends.park(ID, Program::Run, at(40_001)));
        assert_eq!(ends.release(), [(ID, Program::Run)]);
    }
}
