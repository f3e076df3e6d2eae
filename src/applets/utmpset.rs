//! utmpset: marks a terminal line as logged out in utmp and, with -w, in wtmp, for gettys under a
//! supervisor that knows nothing of logins.

use super::options::{Given, Options};
use super::{usage, words};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_NONBLOCK, utmpx};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem::{offset_of, size_of};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

const UTMP: &str = "/var/run/utmp";
const WTMP: &str = "/var/log/wtmp";
const EXIT_USAGE: u8 = 1;
const EXIT_FAILED: u8 = 111;

/// One record of utmp(5), laid out as this machine's C library has it.
struct Record([u8; size_of::<utmpx>()]);

const TYPE: Range<usize> = field(offset_of!(utmpx, ut_type), size_of::<i16>());
const LINE: Range<usize> = field(offset_of!(utmpx, ut_line), 32);
const USER: Range<usize> = field(offset_of!(utmpx, ut_user), 32);
const HOST: Range<usize> = field(offset_of!(utmpx, ut_host), 256);
/// Seconds, the first half of the time: 32 or 64 bits.
const SECONDS: Range<usize> = field(
    offset_of!(utmpx, ut_tv),
    (offset_of!(utmpx, ut_addr_v6) - offset_of!(utmpx, ut_tv)) / 2,
);

/// DEAD_PROCESS of utmp(5).
const DEAD: i16 = 8;

const fn field(start: usize, bytes: usize) -> Range<usize> {
    start..start + bytes
}

impl Record {
    fn empty() -> Record {
        Record([0; size_of::<utmpx>()])
    }

    fn get(&self, field: Range<usize>) -> &[u8] {
        self.0.get(field).unwrap_or_default()
    }

    /// The bytes, then zeros; what is too long is cut.
    fn set(&mut self, field: Range<usize>, bytes: &[u8]) {
        let bytes = bytes.iter().copied().chain(std::iter::repeat(0));
        let places = self.0.get_mut(field).unwrap_or_default();
        for (place, byte) in places.iter_mut().zip(bytes) {
            *place = byte;
        }
    }

    /// Somebody is logged in on this line. A name that fills the whole field is never found, as
    /// with runit.
    fn is_login_on(&self, line: &[u8]) -> bool {
        let mut wanted = Record::empty();
        wanted.set(LINE, line);
        let fits = line.len() < LINE.len();
        fits && self.get(USER).first() != Some(&0) && self.get(LINE) == wanted.get(LINE)
    }

    fn die_now(&mut self) {
        self.set(TYPE, &DEAD.to_ne_bytes());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |time| time.as_secs());
        if SECONDS.len() == size_of::<u32>() {
            // utmp's own year 2106: the upper half is let go.
            self.set(SECONDS, &(now as u32).to_ne_bytes());
        } else {
            self.set(SECONDS, &now.to_ne_bytes());
        }
    }
}

pub fn utmpset(args: &[OsString]) -> u8 {
    let argv0 = args.first().map_or(OsStr::new(""), OsString::as_os_str);
    let mut also_wtmp = false;
    let mut options = Options::new(args.get(1..).unwrap_or_default(), "wV");
    for given in options.by_ref() {
        match given {
            Given::Flag(b'w') => also_wtmp = true,
            Given::Flag(_) => {
                usage::version();
                return refuse(argv0);
            }
            mistake => {
                usage::complain_of(argv0, &mistake);
                return refuse(argv0);
            }
        }
    }
    let Some(line) = options.operands().first() else {
        return refuse(argv0);
    };
    match log_out(line.as_bytes(), also_wtmp) {
        Ok(()) => 0,
        Err(message) => {
            words::complain(&[b"utmpset: ", &message]);
            EXIT_FAILED
        }
    }
}

fn refuse(argv0: &OsStr) -> u8 {
    usage::usage(argv0.as_bytes(), "[-w] line");
    EXIT_USAGE
}

fn log_out(line: &[u8], also_wtmp: bool) -> Result<(), Vec<u8>> {
    let unable = |cause: &[u8]| [b"warning: unable to logout line ", line, cause].concat();
    let mut utmp = locked(OpenOptions::new().read(true).write(true), UTMP, ": ")?;
    // Whatever goes wrong, runit says so.
    match log_out_of_utmp(&mut utmp, line) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Err(unable(b" in utmp: no such entry")),
    }
    drop(utmp);
    if also_wtmp {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let mut wtmp = locked(options.custom_flags(O_NONBLOCK), WTMP, " ")?;
        append(&mut wtmp, line).map_err(|error| unable(&cause(" in wtmp: ", &error)))?;
    }
    Ok(())
}

/// `after_lock` is what stands before the file's name when the lock is refused.
fn locked(options: &OpenOptions, path: &str, after_lock: &str) -> Result<Flock<File>, Vec<u8>> {
    let failed = |what: &str, error: &io::Error| cause(&format!("fatal: {what}{path}: "), error);
    let file = options
        .open(path)
        .map_err(|error| failed("unable to open ", &error))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| failed(&format!("unable to lock{after_lock}"), &errno.into()))
}

fn cause(before: &str, error: &io::Error) -> Vec<u8> {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    [before, words::cause(errno)].concat().into_bytes()
}

/// Whether somebody was logged in there.
fn log_out_of_utmp(utmp: &mut File, line: &[u8]) -> io::Result<bool> {
    let mut record = Record::empty();
    let size = i64::try_from(record.0.len()).unwrap_or(0);
    loop {
        match utmp.read_exact(&mut record.0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        if record.is_login_on(line) {
            record.set(USER, b"");
            record.set(HOST, b"");
            record.die_now();
            utmp.seek(SeekFrom::Current(-size))?;
            utmp.write_all(&record.0)?;
            return Ok(true);
        }
    }
}

fn append(wtmp: &mut File, line: &[u8]) -> io::Result<()> {
    let before = wtmp.metadata()?.len();
    let mut record = Record::empty();
    record.set(LINE, line);
    record.die_now();
    match wtmp.write(&record.0) {
        Ok(written) if written == record.0.len() => Ok(()),
        other => {
            // Half a record would shift all that follow.
            wtmp.set_len(before)?;
            Err(other.err().unwrap_or_else(|| Errno::ENOSPC.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(line: &[u8], user: &[u8]) -> Record {
        let mut record = Record::empty();
        record.set(LINE, line);
        record.set(USER, user);
        record
    }

    #[test]
    fn a_line_is_found_by_its_whole_name_and_only_with_a_user() {
        assert!(login(b"tty1", b"bob").is_login_on(b"tty1"));
        assert!(!login(b"tty10", b"bob").is_login_on(b"tty1"));
        assert!(!login(b"tty1", b"bob").is_login_on(b"tty10"));
        assert!(!login(b"tty1", b"").is_login_on(b"tty1"));
        let long = [b'a'; 32];
        assert!(!login(&long, b"bob").is_login_on(&long));
        assert!(login(&long[..31], b"bob").is_login_on(&long[..31]));
    }

    #[test]
    fn a_logged_out_record_keeps_line_and_id() {
        let mut utmp = tempfile::tempfile().expect("file");
        utmp.write_all(&login(b"tty2", b"ann").0).expect("written");
        utmp.write_all(&login(b"tty1", b"bob").0).expect("written");
        utmp.rewind().expect("start");
        assert!(log_out_of_utmp(&mut utmp, b"tty1").expect("worked"));
        utmp.rewind().expect("start");
        let mut record = Record::empty();
        utmp.read_exact(&mut record.0).expect("first");
        assert!(record.is_login_on(b"tty2"));
        utmp.read_exact(&mut record.0).expect("second");
        assert_eq!(record.get(TYPE), DEAD.to_ne_bytes());
        assert!(record.get(LINE).starts_with(b"tty1\0"));
        assert!(record.get(USER).iter().all(|byte| *byte == 0));
        assert!(record.get(SECONDS).iter().any(|byte| *byte != 0));
    }
}
