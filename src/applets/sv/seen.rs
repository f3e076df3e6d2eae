//! `supervise/` of the working directory, as a stranger sees it: what it says, how that is put into
//! words, and the way in for commands.

pub use crate::svdir::status::label;
use crate::svdir::status::{Raw, STATUS_BYTES};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{read, write};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub type Seen = Raw;

/// Why there is nothing to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    NoRunsv,
    /// What could not be done, and why unless the words say it all.
    Trouble(&'static str, Option<Errno>),
}

/// Never waits: a FIFO is not waited for, whatever stands in its place.
fn open_at_once(path: &str, way: OFlag) -> Result<OwnedFd, Errno> {
    open(
        path,
        way | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

pub fn glance() -> Result<Seen, Ill> {
    let trouble = |what| move |errno| Ill::Trouble(what, Some(errno));
    match open_at_once("supervise/ok", OFlag::O_WRONLY) {
        Ok(_) => {}
        Err(Errno::ENXIO) => return Err(Ill::NoRunsv),
        Err(errno) => return Err(trouble("unable to open supervise/ok")(errno)),
    }
    let file = open_at_once("supervise/status", OFlag::O_RDONLY)
        .map_err(trouble("unable to open supervise/status"))?;
    let mut bytes = [0; STATUS_BYTES];
    let count = read(&file, &mut bytes).map_err(trouble("unable to read supervise/status"))?;
    let bytes = bytes.get(..count).unwrap_or_default();
    let bad = Ill::Trouble("unable to read supervise/status: bad format", None);
    Raw::read(bytes).ok_or(bad)
}

pub fn control(bytes: &[u8]) -> Result<(), Ill> {
    let fifo = match open_at_once("supervise/control", OFlag::O_WRONLY) {
        Ok(fifo) => fifo,
        Err(Errno::ENXIO) => return Err(Ill::NoRunsv),
        Err(errno) => {
            return Err(Ill::Trouble(
                "unable to open supervise/control",
                Some(errno),
            ));
        }
    };
    let failed = |errno| Ill::Trouble("unable to write to supervise/control", Some(errno));
    match write(&fifo, bytes) {
        Ok(count) if count == bytes.len() => Ok(()),
        // So few bytes go into a FIFO whole or not at all (pipe(7)).
        Ok(_) => Err(failed(Errno::EAGAIN)),
        Err(errno) => Err(failed(errno)),
    }
}

/// The words of `status`, without an end of line.
pub fn render(out: &mut Vec<u8>, name: &[u8], seen: &Seen, normally_up: bool, now: Duration) {
    out.extend_from_slice(match seen.state {
        0 => b"down: ",
        1 => b"run: ",
        2 => b"finish: ",
        _ => b"",
    });
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    let alive = seen.pid != 0;
    // A Vec takes all. By the state, even when no runsv would write such a pair.
    if seen.state != 0 {
        // As runit's sv does: a signed number, printed as an unsigned longer one.
        let pid = i64::from(seen.pid.cast_signed()).cast_unsigned();
        let _ = write!(out, "(pid {pid}) ");
    }
    let _ = write!(out, "{}s", seen.age_s(now));
    let remarks: [(bool, &[u8]); 6] = [
        (alive && !normally_up, b", normally down"),
        (!alive && normally_up, b", normally up"),
        (alive && seen.paused != 0, b", paused"),
        (!alive && seen.want == b'u', b", want up"),
        (alive && seen.want == b'd', b", want down"),
        (alive && seen.got_term != 0, b", got TERM"),
    ];
    for (holds, words) in remarks {
        if holds {
            out.extend_from_slice(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        let seen = Raw::read(bytes).expect("twenty bytes");
        render(&mut out, b"a", &seen, true, Duration::from_secs(100));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_paused_service_that_got_term_and_one_that_is_awaited() {
        let mut bytes = [0; STATUS_BYTES];
        bytes[..8].copy_from_slice(&((1u64 << 62) + 10 + 90).to_be_bytes());
        bytes[12..].copy_from_slice(&[7, 0, 0, 0, 1, b'd', 1, 1]);
        assert_eq!(
            words(&bytes),
            "run: a: (pid 7) 10s, paused, want down, got TERM"
        );
        bytes[12..].copy_from_slice(&[0, 0, 0, 0, 1, b'u', 1, 0]);
        assert_eq!(words(&bytes), "down: a: 10s, normally up, want up");
    }

    proptest! {
        #[test]
        fn any_twenty_bytes_have_words(bytes: [u8; STATUS_BYTES]) {
            let text = words(&bytes);
            prop_assert!(text.contains("a: "));
            prop_assert_eq!(text.contains("(pid "), bytes[19] != 0);
        }
    }
}
