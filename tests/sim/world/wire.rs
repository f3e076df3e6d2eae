//! What the supervisor says to the keeper, on its way: one socket, in order. While the keeper is
//! busy words wait in the socket, and behind them, when that is full, in the supervisor's own queue.
//! A supervisor that dies takes its queue with it; what is in the socket arrives all the same.

use super::{Booked, MS, SECOND, World};
use outlast::machine::view::View;
use outlast::machine::vocab::{Outcome, Pid, Program, Role, ServiceId, Signal, Token};
use std::collections::VecDeque;

/// Records that the socket holds. The kernel's holds some hundred; few make it matter more often.
const SOCKET_RECORDS: usize = 3;

pub(super) enum Word {
    Blob {
        id: ServiceId,
        blob: String,
        main: Option<ServiceId>,
        view: Box<View>,
    },
    Spawn(ServiceId, Program),
    Signal(ServiceId, Role, Signal),
    Acknowledge(ServiceId, Role, Pid),
    EndInput(ServiceId),
    Forget(ServiceId),
}

#[derive(Default)]
pub(super) struct Wire {
    socket: VecDeque<Word>,
    queue: VecDeque<Word>,
    /// The keeper reads nothing before.
    busy_until: u64,
    /// Answers to clients that wait until all before them has left the supervisor.
    answers: Vec<(ServiceId, Token, Outcome)>,
}

impl Wire {
    pub(super) fn is_empty(&self) -> bool {
        self.socket.is_empty() && self.answers.is_empty()
    }

    /// When the keeper reads again, if anything waits for it.
    pub(super) fn next_reading(&self) -> u64 {
        match self.is_empty() {
            true => u64::MAX,
            false => self.busy_until,
        }
    }
}

impl World {
    /// The keeper has something else to do for a while.
    pub(super) fn maybe_busy(&mut self) {
        if self.wire.is_empty() && self.dice.once_in(300) {
            let long = self.dice.once_in(10);
            let most = if long { 3 * SECOND } else { 30 * MS };
            self.wire.busy_until = self.now + self.dice.below(most);
        }
    }

    pub(super) fn tell(&mut self, word: Word) -> Result<(), String> {
        self.maybe_busy();
        if self.wire.socket.is_empty() && self.wire.busy_until <= self.now {
            return self.heed(word);
        }
        if self.wire.queue.is_empty() && self.wire.socket.len() < SOCKET_RECORDS {
            self.wire.socket.push_back(word);
        } else {
            self.wire.queue.push_back(word);
        }
        Ok(())
    }

    /// What a client is told it may rely on: so it is told when the keeper will know of it, whatever
    /// becomes of the supervisor.
    pub(super) fn answer(&mut self, id: ServiceId, token: Token, outcome: Outcome) {
        match self.wire.queue.is_empty() {
            true => self.oracle.told(id, token, &outcome),
            false => self.wire.answers.push((id, token, outcome)),
        }
    }

    /// The keeper reads all that there is.
    pub(super) fn keeper_reads(&mut self) -> Result<(), String> {
        while let Some(word) = self.wire.socket.pop_front() {
            self.heed(word)?;
            let next = self.wire.queue.pop_front();
            self.wire.socket.extend(next);
        }
        for (id, token, outcome) in std::mem::take(&mut self.wire.answers) {
            self.oracle.told(id, token, &outcome);
        }
        Ok(())
    }

    /// The supervisor is dead: what it had not sent is lost, and so are its answers.
    pub(super) fn wire_breaks(&mut self) -> Result<(), String> {
        let lost = self.wire.queue.len();
        self.note(|| format!("{lost} words are lost"));
        self.wire.queue.clear();
        self.wire.answers.clear();
        self.keeper_reads()
    }

    /// One request, carried out by the keeper.
    fn heed(&mut self, word: Word) -> Result<(), String> {
        match word {
            Word::Blob {
                id,
                blob,
                main,
                view,
            } => {
                self.blobs.insert(id, (blob, main));
                self.oracle.published(id, *view);
            }
            Word::Spawn(id, program) => self.spawn(id, program)?,
            Word::Signal(id, role, signal) => self.signal(id, role, signal),
            Word::Acknowledge(id, role, pid) => {
                let same = |b: &Booked| (b.id, b.role, b.pid) == (id, role, pid);
                self.book.retain(|booked| !same(booked));
            }
            Word::EndInput(id) => self.end_input(id)?,
            Word::Forget(id) => {
                self.blobs.remove(&id);
                self.oracle.unstored(id);
            }
        }
        Ok(())
    }
}
