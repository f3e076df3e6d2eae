//! sv: tells services what to do, says how they are, and waits until it has come about.
//!
//! It knows a service by the files in its `supervise/` alone, so it drives runit's runsv as well as
//! ours. It never waits for anybody but a `check` script, and allocates next to nothing: scripts
//! call it in loops. Called by any other name than `sv` it is that service's init script.

mod check;
mod orders;
mod seen;
mod vigil;

use super::options::{Given, Options};
use super::words;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir};
use orders::{Order, Task};
use seen::Seen;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// Where services are when SVDIR does not say.
const SERVICES: &str = "/etc/service/";

/// How long an order is waited for when nobody says, in seconds.
const WAIT_S: u64 = 7;

/// The highest exit code that counts troubles.
const TROUBLES_MAX: u32 = 99;

/// Exit codes of an init script's `status`.
const SCRIPT_DOWN: u8 = 3;
const SCRIPT_UNKNOWN: u8 = 4;

/// One call of sv.
struct Sv {
    /// Called by another name than `sv`.
    is_script: bool,
    /// When we began, as the status tells times.
    begun: u64,
    order: Order,
    services_dir: OsString,
    /// The working directory of whoever called.
    home: OwnedFd,
    troubles: u32,
    /// What goes to stdout when its line is complete.
    out: Vec<u8>,
}

/// What the command line and the environment say.
struct Call<'a> {
    order: Order,
    wait_s: u64,
    services: &'a [OsString],
}

pub fn main(args: &[OsString]) -> u8 {
    // `sv status * | head` ends with its reader.
    crate::os::default_sigpipe();
    let name = last_part(args.first().map_or(OsStr::new("sv"), OsString::as_os_str));
    let is_script = name.as_bytes() != b"sv";
    let Some(call) = call(args.get(1..).unwrap_or_default(), name, is_script) else {
        return usage(name, is_script);
    };
    let own = [name.to_owned()];
    let services = if is_script { &own } else { call.services };
    if services.is_empty() {
        return usage(name, is_script);
    }
    let home = match open(
        ".",
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Ok(home) => home,
        Err(errno) => return fatal("unable to open current directory", errno, is_script),
    };
    let mut sv = Sv {
        is_script,
        begun: seen::label(crate::os::clock::wall()),
        order: call.order,
        services_dir: std::env::var_os("SVDIR").unwrap_or_else(|| SERVICES.into()),
        home,
        troubles: 0,
        out: Vec::with_capacity(256),
    };
    match sv.run(services, call.wait_s) {
        Ok(code) => code,
        Err(errno) => fatal("unable to change to original directory", errno, is_script),
    }
}

/// None when it makes no sense; what is wrong with an option is told.
fn call<'a>(args: &'a [OsString], name: &OsStr, is_script: bool) -> Option<Call<'a>> {
    let from_environment = std::env::var_os("SVWAIT");
    let mut wait_s = from_environment.map_or(WAIT_S, |text| number(text.as_bytes()));
    let mut waits_always = false;
    let mut options = Options::new(args, "w:vV");
    for given in options.by_ref() {
        match given {
            Given::Value(_, seconds) => {
                wait_s = number(seconds.as_bytes());
                waits_always = true;
            }
            Given::Flag(b'v') => waits_always = true,
            Given::Flag(_) => {
                words::complain(&[b"outlast ", env!("CARGO_PKG_VERSION").as_bytes()]);
                return None;
            }
            Given::Unknown(letter) => {
                words::complain(&[name.as_bytes(), b": illegal option -- ", &[letter]]);
                return None;
            }
            Given::Incomplete(letter) => {
                let what = b": option requires an argument -- ";
                words::complain(&[name.as_bytes(), what, &[letter]]);
                return None;
            }
        }
    }
    let (word, services) = options.operands().split_first()?;
    let order = orders::order(word.as_bytes(), is_script, waits_always)?;
    Some(Call {
        order,
        wait_s,
        services,
    })
}

fn usage(name: &OsStr, is_script: bool) -> u8 {
    let rest: &[u8] = match is_script {
        true => b" [-w sec] command\n",
        false => b" [-v] [-w sec] command service ...\n",
    };
    words::complain(&[b"usage: ", name.as_bytes(), rest]);
    if is_script { 2 } else { 100 }
}

fn fatal(what: &str, errno: Errno, is_script: bool) -> u8 {
    let cause = words::cause(errno).as_bytes();
    words::complain(&[b"fatal: ", what.as_bytes(), b": ", cause]);
    if is_script { 151 } else { 100 }
}

/// Behind the last slash.
fn last_part(path: &OsStr) -> &OsStr {
    let bytes = path.as_bytes();
    let after = bytes.iter().rposition(|byte| *byte == b'/');
    OsStr::from_bytes(
        bytes
            .get(after.map_or(0, |at| at + 1)..)
            .unwrap_or_default(),
    )
}

/// The digits that a text begins with; 0 without any. Too large a number wraps.
fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, digit| {
        let digit = u64::from(digit - b'0');
        number.wrapping_mul(10).wrapping_add(digit)
    })
}

impl Sv {
    /// The exit code. Fails when there is no way back to the caller's directory.
    fn run(&mut self, services: &[OsString], wait_s: u64) -> Result<u8, Errno> {
        let mut awaited = Vec::new();
        for name in services {
            match self.enter(name, true) {
                Err(errno) => self.fail_to_enter(name, errno),
                Ok(()) => match self.order.task {
                    Task::Show => {
                        let code = self.show(name);
                        if self.is_script {
                            return Ok(code);
                        }
                    }
                    Task::Look => awaited.push(vigil::Awaited::new(name, None)),
                    Task::Send(bytes) => {
                        if let Some(before) = self.send(name, bytes) {
                            awaited.push(vigil::Awaited::new(name, Some(before)));
                        }
                    }
                },
            }
            fchdir(&self.home)?;
        }
        if self.order.waits {
            vigil::keep(self, awaited, wait_s)?;
        }
        Ok(u8::try_from(self.troubles.min(TROUBLES_MAX)).unwrap_or(u8::MAX))
    }

    /// Makes the service's directory the working directory. A name that ends in a slash is a path
    /// when the order is given, and is not when it is waited for: so does runit.
    fn enter(&self, name: &OsStr, slash_makes_a_path: bool) -> Result<(), Errno> {
        let bytes = name.as_bytes();
        let is_path = bytes.starts_with(b"/")
            || bytes.starts_with(b".")
            || (slash_makes_a_path && bytes.ends_with(b"/"));
        if !is_path {
            chdir(self.services_dir.as_os_str())?;
        }
        chdir(name)
    }

    /// Gives back what the status was when the order was given. None when it could not be given.
    fn send(&mut self, name: &OsStr, bytes: &'static [u8]) -> Option<Seen> {
        let seen = self.look(name, b"")?;
        // What is wanted already needs no telling, unless the TERM that goes with `d` is missing.
        if bytes.first() == Some(&seen.want) && (seen.want != b'd' || seen.got_term == 1) {
            return Some(seen);
        }
        match seen::control(bytes) {
            Ok(()) => Some(seen),
            Err(seen::Ill::NoRunsv) => {
                self.no_runsv(name, b"");
                None
            }
            Err(seen::Ill::Trouble(what, errno)) => {
                self.warn(name, b"", what, errno);
                None
            }
        }
    }

    /// Reads the status in the working directory. What is wrong is told, and counted.
    fn look(&mut self, name: &OsStr, below: &[u8]) -> Option<Seen> {
        match seen::glance() {
            Ok(seen) => Some(seen),
            Err(ill) => {
                self.tell(name, below, ill);
                None
            }
        }
    }

    fn tell(&mut self, name: &OsStr, below: &[u8], ill: seen::Ill) {
        match ill {
            seen::Ill::NoRunsv => self.no_runsv(name, below),
            seen::Ill::Trouble(what, errno) => self.warn(name, below, what, errno),
        }
    }

    /// `status`: one line, the log service on the same one. The code is an init script's.
    fn show(&mut self, name: &OsStr) -> u8 {
        let mut shown = match seen::glance() {
            Ok(seen) => self.print(name, &seen),
            Err(ill) => {
                self.tell(name, b"", ill);
                return match ill {
                    seen::Ill::NoRunsv => 1,
                    seen::Ill::Trouble(..) => SCRIPT_UNKNOWN,
                };
            }
        };
        match chdir("log") {
            Err(Errno::ENOENT) => self.end_line(),
            Err(errno) => {
                self.out.extend_from_slice(b"; ");
                self.warn(name, b"/log", "unable to change directory", Some(errno));
            }
            Ok(()) => {
                self.out.extend_from_slice(b"; ");
                // The log's state decides the code, if it can be read.
                if let Some(log) = self.look(name, b"/log") {
                    shown = self.print(OsStr::new("log"), &log);
                    self.end_line();
                }
            }
        }
        match shown {
            Some(true) => 0,
            Some(false) => SCRIPT_DOWN,
            None => SCRIPT_UNKNOWN,
        }
    }

    /// Whether it has a process; None (and nothing on stdout) when `down` can't be asked for.
    fn print(&mut self, name: &OsStr, seen: &Seen) -> Option<bool> {
        let normally_up = match nix::sys::stat::stat("down") {
            Ok(_) => false,
            Err(Errno::ENOENT) => true,
            Err(errno) => {
                let cause = words::cause(errno).as_bytes();
                let parts = [
                    b"warning: unable to stat ",
                    name.as_bytes(),
                    b"/down: ",
                    cause,
                ];
                words::complain(&parts);
                return None;
            }
        };
        let now = crate::os::clock::wall();
        seen::render(&mut self.out, name.as_bytes(), seen, normally_up, now);
        Some(seen.pid != 0)
    }

    fn fail_to_enter(&mut self, name: &OsStr, errno: Errno) {
        let what = "unable to change to service directory";
        self.trouble(b"fail: ", name, b"", what, Some(errno));
    }

    /// For one who asked that runsv end, this is what was asked for.
    fn no_runsv(&mut self, name: &OsStr, below: &[u8]) {
        if self.order.ends_runsv() {
            self.say(b"ok: ", name, below, "runsv not running", None);
        } else {
            self.trouble(b"fail: ", name, below, "runsv not running", None);
        }
    }

    fn warn(&mut self, name: &OsStr, below: &[u8], what: &str, errno: Option<Errno>) {
        self.trouble(b"warning: ", name, below, what, errno);
    }

    fn trouble(
        &mut self,
        kind: &[u8],
        name: &OsStr,
        below: &[u8],
        what: &str,
        errno: Option<Errno>,
    ) {
        self.troubles = self.troubles.saturating_add(1);
        self.say(kind, name, below, what, errno);
    }

    fn say(&mut self, kind: &[u8], name: &OsStr, below: &[u8], what: &str, errno: Option<Errno>) {
        for part in [kind, name.as_bytes(), below, b": ", what.as_bytes()] {
            self.out.extend_from_slice(part);
        }
        if let Some(errno) = errno {
            self.out.extend_from_slice(b": ");
            self.out.extend_from_slice(words::cause(errno).as_bytes());
        }
        self.end_line();
    }

    fn end_line(&mut self) {
        self.out.push(b'\n');
        // Nobody is there to be told that stdout is full or closed; nor does runit tell.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(&self.out).and_then(|()| stdout.flush());
        self.out.clear();
    }
}
