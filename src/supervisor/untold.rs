//! Answers on their way out. A client relies on what it is told, whomever it asks next.
//!
//! So an answer waits until the keeper has all that a successor needs to know of it; and one that
//! tells of a state that was waited for, until `supervise/` shows that state as well: a script that
//! has just restarted something may ask sv, or read the pid from there. Disks are waited for only so
//! long.

use super::door::Ask;
use super::requests::respond;
use super::vocab::{ServiceId, Tick};
use super::{Job, Supervisor};
use crate::ipc::control::Service;
use crate::os::kill_point;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// How long a slow or stalled disk can hold up an answer.
const SHOW_PATIENCE: Duration = Duration::from_millis(100);
/// An answer about more services than these does not wait for a disk: to write that many takes
/// longer than to start them.
const SHOWN_MAX: usize = 64;

#[derive(Default)]
pub struct Untold {
    /// Those of this turn, or that the keeper is waited for with.
    fresh: Vec<Answer>,
    /// ... and that the disk thread is waited for with, the oldest first.
    unshown: VecDeque<Unshown>,
}

struct Answer {
    ask: Ask,
    ok: bool,
    services: Vec<Service>,
    /// Whose state was waited for.
    ids: Vec<ServiceId>,
}

struct Unshown {
    ticket: u64,
    deadline: Tick,
    answers: Vec<Answer>,
}

impl Untold {
    pub fn deadline(&self) -> Option<Tick> {
        self.unshown.front().map(|next| next.deadline)
    }
}

fn tell(answers: Vec<Answer>) {
    for answer in answers {
        kill_point("answer-unwritten");
        respond(&answer.ask, answer.ok, answer.services);
    }
}

impl Supervisor {
    /// `ids`: the services whose state the client has waited for.
    pub fn answer(&mut self, ask: Ask, ok: bool, services: Vec<Service>, ids: Vec<ServiceId>) {
        self.desk.untold.fresh.push(Answer {
            ask,
            ok,
            services,
            ids,
        });
    }

    /// At the end of a turn.
    pub fn tell_untold(&mut self) {
        let now = self.now();
        let unshown = &mut self.desk.untold.unshown;
        while let Some(late) = unshown.pop_front_if(|next| next.deadline <= now) {
            tell(late.answers);
        }
        if self.keeper.waiting() > 0 || self.desk.untold.fresh.is_empty() {
            return;
        }
        let fresh = std::mem::take(&mut self.desk.untold.fresh);
        let waits = |answer: &Answer| !answer.ids.is_empty() && answer.ids.len() <= SHOWN_MAX;
        let (answers, ready): (Vec<Answer>, Vec<Answer>) = fresh.into_iter().partition(waits);
        tell(ready);
        if answers.is_empty() {
            return;
        }
        let ids: BTreeSet<ServiceId> = answers
            .iter()
            .flat_map(|answer| answer.ids.iter().copied())
            .collect();
        for id in &ids {
            // It may have been put off for the start of another one.
            self.publish_one(*id);
        }
        let ticket = self.desk.next();
        self.desk.untold.unshown.push_back(Unshown {
            ticket,
            deadline: now.after(SHOW_PATIENCE),
            answers,
        });
        self.disk.give_first(Job::Show { ticket, ids });
    }

    /// The disk thread has written what there was when this ticket was given to it.
    pub fn shown(&mut self, ticket: u64) {
        let unshown = &mut self.desk.untold.unshown;
        if let Some(at) = unshown.iter().position(|next| next.ticket == ticket)
            && let Some(shown) = unshown.remove(at)
        {
            tell(shown.answers);
        }
    }

    /// At the end of this supervisor: nothing more will be heard of the disk thread.
    pub fn tell_unshown(&mut self) {
        for unshown in std::mem::take(&mut self.desk.untold.unshown) {
            tell(unshown.answers);
        }
    }
}
