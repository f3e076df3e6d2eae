//! svlogd's words for what a log does.

use crate::applets::words::{cause, complain};
use crate::log::config::Flaw;
use crate::log::dir::Halt;
use crate::log::engine::{Note, Teller};

/// Tells of one directory.
#[derive(Clone, Debug)]
pub struct Told {
    pub name: Box<[u8]>,
    pub verbose: bool,
}

impl Told {
    fn info(&self, parts: &[&[u8]]) {
        if self.verbose {
            complain(&[b"svlogd: info: ", &parts.concat()]);
        }
    }

    pub fn warning(&self, unable_to: &str, errno: nix::errno::Errno) {
        let what = ["svlogd: warning: unable to ", unable_to, ": "].concat();
        let cause = cause(errno).as_bytes();
        complain(&[what.as_bytes(), &self.name, b": ", cause]);
    }

    /// A directory that turned out to be held; its name is not known yet to svlogd then.
    pub fn nothing_closed(&self) {
        self.info(&[b"close: "]);
    }

    pub fn pausing(&self, halt: &Halt) {
        let (what, cause) = match halt {
            Halt::Full => ("write to current".into(), "out of disk space"),
            Halt::Locked { .. } => ("lock directory".into(), "temporary failure"),
            // Not a failure: svlogd waits for its processor silently.
            Halt::Processing => return,
            Halt::Failed { doing, name, errno } => {
                let what = match (*doing, *name) {
                    ("write", name) => ["write to ", name].concat(),
                    ("chmod", name) => ["set mode of ", name].concat(),
                    (doing, "") => doing.to_owned(),
                    (doing, name) => [doing, " ", name].concat(),
                };
                (what, cause(*errno))
            }
        };
        let what = ["svlogd: pausing: unable to ", &what, ": "].concat();
        complain(&[what.as_bytes(), &self.name, b": ", cause.as_bytes()]);
    }
}

impl Teller for Told {
    fn tell(&self, note: &Note<'_>) {
        let dir = &self.name[..];
        match note {
            Note::Read => self.info(&[b"read: ", dir, b"/config"]),
            Note::Opened { new: true } => self.info(&[b"new: ", dir, b"/current"]),
            Note::Opened { new: false } => self.info(&[b"append: ", dir, b"/current"]),
            Note::Renamed { old, bytes } => {
                let rest = format!(" {} {bytes}", old.name());
                self.info(&[b"rename: ", dir, b"/current", rest.as_bytes()]);
            }
            Note::Deleted(old) => self.info(&[b"delete: ", dir, b"/", old.name().as_bytes()]),
            Note::Processing(old) => {
                self.info(&[b"processing: ", dir, b"/", old.name().as_bytes()]);
            }
            Note::Processed(old) => self.info(&[b"processed: ", dir, b"/", old.name().as_bytes()]),
            Note::Closed => self.info(&[b"close: ", dir]),
            Note::ProcessorFailed => {
                complain(&[b"svlogd: warning: processor failed, restart: ", dir]);
            }
            Note::DeletedForRoom(old) => {
                let name = old.name();
                let what = b"svlogd: warning: out of disk space, delete: ";
                complain(&[what, dir, b"/", name.as_bytes()]);
            }
            Note::Flaw(Flaw::Unreadable(errno)) => self.warning("read config", *errno),
            Note::Flaw(Flaw::Address(text)) => {
                complain(&[b"svlogd: warning: unable to scan ip address: ", text]);
            }
            Note::Flaw(Flaw::Port(text)) => {
                complain(&[b"svlogd: warning: unable to scan port number: ", text]);
            }
            // svlogd obeys whoever may write there.
            Note::Flaw(Flaw::Distrusted(_)) => {}
        }
    }
}
