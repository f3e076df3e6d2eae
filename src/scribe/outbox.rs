//! What the supervisor is still to be told. Pure.
//!
//! When it does not read, of each log only the newest state is kept, and answers only up to a
//! bound: nothing here grows with time.

use crate::ipc::scribe::{DATAGRAM_BYTES_MAX, FromScribe};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Answers kept for a supervisor that does not read; the oldest go first.
const ANSWERS_MAX: usize = 256;

#[derive(Debug, Default)]
pub struct Outbox {
    answers: VecDeque<FromScribe>,
    /// Per log: the last that was to be told of its being written, a trouble or that it is mended.
    states: BTreeMap<u32, FromScribe>,
    detached: BTreeSet<u32>,
}

impl Outbox {
    pub fn put(&mut self, message: FromScribe) {
        match message {
            FromScribe::Trouble { id, .. } | FromScribe::Mended { id } => {
                self.states.insert(id, message);
            }
            FromScribe::Detached { id } => {
                self.states.remove(&id);
                self.detached.insert(id);
            }
            // Who does not read does not wait for it either.
            FromScribe::Ended { .. } if self.answers.len() >= ANSWERS_MAX / 2 => {}
            // Asked again and again by one who does not read: one answer is enough.
            FromScribe::Here if self.answers.contains(&FromScribe::Here) => {}
            answer @ (FromScribe::Tail { .. } | FromScribe::Here | FromScribe::Ended { .. }) => {
                if self.answers.len() >= ANSWERS_MAX {
                    self.answers.pop_front();
                }
                self.answers.push_back(answer);
            }
        }
    }

    /// The next datagram; it stays until [`Outbox::sent`].
    pub fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(answer) = self.answers.front_mut() {
            return Some(fitting(answer));
        }
        let Some((_, state)) = self.states.first_key_value() else {
            let id = *self.detached.first()?;
            return Some(encoded(&FromScribe::Detached { id }));
        };
        Some(encoded(state))
    }

    pub fn sent(&mut self) {
        if self.answers.pop_front().is_none() && self.states.pop_first().is_none() {
            self.detached.pop_first();
        }
    }
}

fn encoded(message: &FromScribe) -> Vec<u8> {
    // Strings and numbers only: it can't fail.
    serde_json::to_vec(message).unwrap_or_default()
}

/// The answer as a datagram, without its oldest lines if they don't fit.
fn fitting(answer: &mut FromScribe) -> Vec<u8> {
    loop {
        let bytes = encoded(answer);
        let FromScribe::Tail { lines, .. } = answer else {
            return bytes;
        };
        if bytes.len() <= DATAGRAM_BYTES_MAX || lines.is_empty() {
            return bytes;
        }
        let mut surplus = bytes.len().saturating_sub(DATAGRAM_BYTES_MAX);
        let mut dropped = 0;
        while surplus > 0 && dropped < lines.len() {
            // As it stands in the datagram, where some characters take six bytes.
            let length = serde_json::to_vec(&lines[dropped]).map_or(1, |text| text.len());
            surplus = surplus.saturating_sub(length + 1);
            dropped += 1;
        }
        lines.drain(..dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(outbox: &mut Outbox) -> Option<FromScribe> {
        let bytes = outbox.next()?;
        outbox.sent();
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn only_the_newest_state_of_a_log_is_told() {
        let mut outbox = Outbox::default();
        let trouble = |id, message: &str| FromScribe::Trouble {
            id,
            message: message.to_owned(),
            echoed: false,
            had_file: false,
        };
        outbox.put(trouble(1, "a"));
        outbox.put(trouble(2, "b"));
        outbox.put(FromScribe::Mended { id: 1 });
        assert_eq!(decoded(&mut outbox), Some(FromScribe::Mended { id: 1 }));
        assert_eq!(decoded(&mut outbox), Some(trouble(2, "b")));
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn of_a_log_that_is_gone_only_that_is_told() {
        let mut outbox = Outbox::default();
        outbox.put(FromScribe::Mended { id: 1 });
        outbox.put(FromScribe::Detached { id: 1 });
        assert_eq!(decoded(&mut outbox), Some(FromScribe::Detached { id: 1 }));
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn an_answer_that_is_too_long_loses_its_oldest_lines() {
        let mut outbox = Outbox::default();
        let line = |n: u32| format!("{n} {}", "\u{1}".repeat(1000));
        outbox.put(FromScribe::Tail {
            token: 7,
            lines: (0..200).map(line).collect(),
            file: None,
            unfinished: false,
        });
        let bytes = outbox.next().unwrap();
        assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
        let Some(FromScribe::Tail {
            token: 7, lines, ..
        }) = decoded(&mut outbox)
        else {
            panic!("no answer");
        };
        assert_eq!(lines.last(), Some(&line(199)));
        assert!(lines.len() > 5, "{}", lines.len());
    }

    #[test]
    fn unread_answers_are_bounded() {
        let mut outbox = Outbox::default();
        for token in 0..1000 {
            outbox.put(FromScribe::Tail {
                token,
                lines: vec![],
                file: None,
                unfinished: false,
            });
        }
        assert_eq!(outbox.answers.len(), ANSWERS_MAX);
    }
}
