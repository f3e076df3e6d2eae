//! The exit codes of every command, as scripts may rely on them; man/outlast.1 lists them.

use crate::ipc::control::{Response, Trouble};
use std::process::ExitCode;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    Success = 0,
    /// At least one service did not reach what was asked for.
    NotReached = 1,
    /// The command line or the request makes no sense.
    Usage = 2,
    /// `status NAME`: a named service is not up.
    NotUp = 3,
    NoSuchService = 4,
    /// Nobody answers, or the connection broke before the answer.
    NoSupervisor = 5,
    NotAllowed = 6,
}

impl Exit {
    pub fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    /// Codes of a newer supervisor count as "not reached".
    pub fn of_trouble(trouble: &Trouble) -> Exit {
        match trouble.code.as_str() {
            "no-such-service" => Exit::NoSuchService,
            "not-allowed" => Exit::NotAllowed,
            "bad-request" | "too-long" => Exit::Usage,
            _ => Exit::NotReached,
        }
    }

    /// Where services failed for different reasons, the one that asks for another command line (no
    /// such service, not allowed) outweighs the one that doesn't.
    pub fn or_worse(self, other: Exit) -> Exit {
        if other as u8 > self as u8 {
            other
        } else {
            self
        }
    }

    /// Of an answer to a command.
    pub fn of_answer(response: &Response) -> Exit {
        if let Some(trouble) = &response.error {
            return Exit::of_trouble(trouble);
        }
        let failed = response
            .services
            .iter()
            .filter_map(|service| service.outcome.as_ref());
        failed
            .filter(|outcome| !outcome.ok)
            .map(|outcome| {
                outcome
                    .trouble
                    .as_ref()
                    .map_or(Exit::NotReached, Exit::of_trouble)
            })
            .reduce(Exit::or_worse)
            .unwrap_or(if response.ok {
                Exit::Success
            } else {
                Exit::NotReached
            })
    }
}
