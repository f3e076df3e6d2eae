//! `upgrade`: another binary for keeper, supervisor and scribe, without a service noticing.
//!
//! First a copy of the keeper's book, with which the new binary shows that it is fit (`fitness`);
//! then the client is answered, and our own end makes room. The successor, ours or the new
//! binary's, is asked how it went.

use super::disk::News;
use super::door::{Ask, refusal};
use super::{Stage, Supervisor, fitness};
use crate::ipc::control::{Response, VERSION};
use crate::ipc::wire::ToKeeper;
use crate::ipc::wire::ledger::Outcome;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Who asked, and for which binary.
pub struct Upgrade {
    ask: Ask,
    binary: PathBuf,
}

impl Supervisor {
    pub fn ask_upgrade(&mut self, ask: Ask) {
        let refuse = |code: &str, words: String| {
            let _ = ask.answer.send(refusal(ask.request.id, code, words));
        };
        let Some(binary) = ask.request.binary.as_ref().map(PathBuf::from) else {
            return match how_it_went(self.last_upgrade) {
                Ok(()) => accept(&ask),
                Err((code, words)) => refuse(code, words),
            };
        };
        if !binary.is_absolute() {
            return refuse("bad-request", "the binary's path must be absolute".into());
        }
        if !matches!(self.stage, Stage::Serving) {
            return refuse("leaving", "the supervisor is ending".into());
        }
        if self.upgrade.is_some() {
            return refuse("busy", "an upgrade is under way already".into());
        }
        self.upgrade = Some(Upgrade { ask, binary });
        self.tell_keeper(&ToKeeper::Copy);
    }

    /// The copy of the book has come: a thread lets the binary read it.
    pub fn book_copied(&mut self, book: Option<OwnedFd>) {
        let Some(Upgrade { binary, .. }) = &self.upgrade else {
            return;
        };
        let Some(book) = book else {
            return self.examined(Err("the keeper could not copy its book".into()));
        };
        let (binary, dir) = (binary.clone(), self.settings.dir.clone());
        let tell = self.disk.teller();
        let examine = move || {
            // Without a supervisor nobody wants to know.
            let _ = tell.send(News::Examined(fitness::examine(&binary, book, &dir)));
        };
        let thread = std::thread::Builder::new().name("outlast-check".into());
        if let Err(error) = thread.spawn(examine) {
            self.examined(Err(format!("no thread to examine it with: {error}")));
        }
    }

    pub fn examined(&mut self, found: Result<OwnedFd, String>) {
        let Some(Upgrade { ask, binary }) = self.upgrade.take() else {
            return;
        };
        let found = match matches!(self.stage, Stage::Serving) {
            true => found,
            false => Err("the supervisor is ending".into()),
        };
        match found {
            Ok(file) => {
                tracing::info!("upgrading to {}", binary.display());
                accept(&ask);
                self.call_off_trial();
                self.successor = Some(file);
            }
            Err(words) => {
                tracing::error!("not upgraded: {words}");
                let words = format!("not upgraded: {words}; everything goes on as it was");
                let _ = ask.answer.send(refusal(ask.request.id, "unfit", words));
            }
        }
    }
}

pub fn accept(ask: &Ask) {
    let _ = ask.answer.send(Response {
        v: VERSION,
        id: ask.request.id,
        ok: true,
        error: None,
        notice: None,
        services: Vec::new(),
    });
}

/// Of the last upgrade, for whoever asks the successor.
fn how_it_went(outcome: Outcome) -> Result<(), (&'static str, String)> {
    let back = |why: &str| {
        let words = format!("not upgraded: {why}; the old binary is back, no service was touched");
        Err(("came-back", words))
    };
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::None => Err(("no-upgrade", "there was no upgrade".into())),
        Outcome::Silent => back("the new supervisor did not answer within 5 s"),
        Outcome::Ended => back("the new supervisor ended at once"),
        Outcome::Unread => back("the new binary could not read the book"),
        Outcome::Refused(errno) => {
            let errno = nix::errno::Errno::from_raw(errno).desc();
            back(&format!("it could not be executed: {errno}"))
        }
    }
}
