//! What chpst and its daemontools names are asked for, read from their arguments. Pure: nothing is
//! done and nobody is looked up here.

use crate::applets::options::{Given, Options};
use nix::sys::resource::Resource;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// The program that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    Chpst,
    EnvDir,
    EnvUidGid,
    PgrpHack,
    SetLock,
    SetUidGid,
    SoftLimit,
}

impl Called {
    /// What stands behind the name in the usage text. chpst's is that of the runit releases that
    /// have -C.
    pub fn usage(self) -> &'static str {
        match self {
            Called::Chpst => {
                "[-vVP012] [-u user[:group]] [-U user[:group]] [-b argv0] [-e dir] [-/ root] \
                 [-C pwd] [-n nice] [-l|-L lock] [-m n] [-d n] [-o n] [-p n] [-f n] [-c n] [-t n] \
                 prog"
            }
            Called::EnvDir => "dir child",
            Called::EnvUidGid | Called::SetUidGid => "account child",
            Called::PgrpHack => "child",
            Called::SetLock => "[ -nNxX ] file program [ arg ... ]",
            Called::SoftLimit => {
                "[-a allbytes] [-c corebytes] [-d databytes] [-f filebytes] [-l lockbytes] \
                 [-m membytes] [-o openfiles] [-p processes] [-r residentbytes] [-s stackbytes] \
                 [-t cpusecs] child"
            }
        }
    }

    fn letters(self) -> &'static str {
        match self {
            Called::Chpst => "u:U:b:e:m:d:o:p:f:c:r:t:/:C:n:l:L:vP012V",
            Called::SetLock => "nNxX",
            Called::SoftLimit => "a:c:d:f:l:m:o:p:r:s:t:",
            Called::EnvDir | Called::EnvUidGid | Called::PgrpHack | Called::SetUidGid => "",
        }
    }
}

/// Why the usage text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    Unknown(u8),
    Incomplete(u8),
    /// -V: no mistake, but it ends the same way.
    Version,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub mistake: Mistake,
    /// Whose usage text: softlimit shows chpst's for a bad number.
    pub usage_of: Called,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    pub file: OsString,
    pub wait: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub resource: Resource,
    /// None: the hard limit.
    pub soft: Option<u64>,
}

/// In the order in which the limits are set.
pub const RESOURCES: [Resource; 10] = [
    Resource::RLIMIT_DATA,
    Resource::RLIMIT_STACK,
    Resource::RLIMIT_MEMLOCK,
    Resource::RLIMIT_AS,
    Resource::RLIMIT_NOFILE,
    Resource::RLIMIT_NPROC,
    Resource::RLIMIT_FSIZE,
    Resource::RLIMIT_CORE,
    Resource::RLIMIT_RSS,
    Resource::RLIMIT_CPU,
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub new_session: bool,
    pub env_dir: Option<OsString>,
    /// Directories in it are passed over.
    pub skip_directories: bool,
    pub verbose: bool,
    pub root: Option<OsString>,
    pub directory: Option<OsString>,
    pub nice: i32,
    pub env_user: Option<OsString>,
    pub user: Option<OsString>,
    /// Both users are plain accounts, without groups or numbers.
    pub plain_account: bool,
    pub lock: Option<Lock>,
    /// setlock -x: trouble is no failure and not told.
    pub silent: bool,
    /// Descriptors 0, 1 and 2.
    pub close: [bool; 3],
    limits: Raw,
    pub argv0: Option<OsString>,
    /// Never empty.
    pub program: Vec<OsString>,
}

/// As runit keeps them, in `RESOURCES`' order: below -1 not asked for, -1 the hard limit. Numbers
/// that don't fit wrap around, so very large ones mean one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Raw([i64; RESOURCES.len()]);

impl Default for Raw {
    fn default() -> Raw {
        Raw([-2; RESOURCES.len()])
    }
}

impl Wishes {
    pub fn limits(&self) -> impl Iterator<Item = Limit> {
        let asked = RESOURCES.into_iter().zip(self.limits.0);
        asked
            .filter(|(_, raw)| *raw >= -1)
            .map(|(resource, raw)| Limit {
                resource,
                soft: u64::try_from(raw).ok(),
            })
    }

    fn limit(&mut self, resource: Resource, raw: i64) {
        for (known, value) in RESOURCES.into_iter().zip(&mut self.limits.0) {
            if known == resource {
                *value = raw;
            }
        }
    }

    fn memory(&mut self, raw: i64) {
        for value in self.limits.0.iter_mut().take(4) {
            *value = raw;
        }
    }
}

/// `arguments` without the program's name.
pub fn read(called: Called, arguments: &[OsString]) -> Result<Wishes, Refused> {
    let mut wishes = Wishes::default();
    let operands = match called {
        Called::Chpst | Called::SetLock | Called::SoftLimit => {
            let mut options = Options::new(arguments, called.letters());
            for given in options.by_ref() {
                wishes.take(called, given)?;
            }
            options.operands()
        }
        // These know no options: whatever comes first is the operand.
        Called::EnvDir | Called::EnvUidGid | Called::PgrpHack | Called::SetUidGid => arguments,
    };
    let program = wishes.take_operand(called, operands);
    match program {
        Some(program) if !program.is_empty() => {
            wishes.program = program.to_vec();
            Ok(wishes)
        }
        Some(_) | None => Err(refused(called)),
    }
}

fn refused(usage_of: Called) -> Refused {
    Refused {
        mistake: Mistake::Other,
        usage_of,
    }
}

impl Wishes {
    /// Takes what stands before the program, and returns the rest.
    fn take_operand<'a>(
        &mut self,
        called: Called,
        operands: &'a [OsString],
    ) -> Option<&'a [OsString]> {
        if called == Called::PgrpHack {
            self.new_session = true;
        }
        if matches!(called, Called::Chpst | Called::PgrpHack | Called::SoftLimit) {
            return Some(operands);
        }
        let (first, program) = operands.split_first()?;
        let first = first.clone();
        match called {
            Called::EnvDir => self.env_dir = Some(first),
            Called::EnvUidGid => self.env_user = Some(first),
            Called::SetUidGid => self.user = Some(first),
            Called::SetLock => {
                let wait = self.lock.as_ref().is_some_and(|lock| lock.wait);
                self.lock = Some(Lock { file: first, wait });
            }
            Called::Chpst | Called::PgrpHack | Called::SoftLimit => {}
        }
        self.plain_account = true;
        Some(program)
    }

    fn take(&mut self, called: Called, given: Given) -> Result<(), Refused> {
        let mistake = |mistake| Refused {
            mistake,
            usage_of: called,
        };
        match (called, given) {
            (_, Given::Unknown(letter)) => Err(mistake(Mistake::Unknown(letter))),
            (_, Given::Incomplete(letter)) => Err(mistake(Mistake::Incomplete(letter))),
            (Called::Chpst, Given::Flag(b'V')) => Err(mistake(Mistake::Version)),
            (Called::SoftLimit, Given::Value(letter, text)) => self.take_soft_limit(letter, &text),
            (Called::SetLock, Given::Flag(letter)) => {
                self.take_lock_flag(letter);
                Ok(())
            }
            (_, Given::Flag(letter)) => {
                self.take_flag(letter);
                Ok(())
            }
            (_, Given::Value(letter, text)) => self.take_value(letter, text),
        }
    }

    fn take_flag(&mut self, letter: u8) {
        let [stdin, stdout, stderr] = &mut self.close;
        match letter {
            b'v' => self.verbose = true,
            b'P' => self.new_session = true,
            b'0' => *stdin = true,
            b'1' => *stdout = true,
            b'2' => *stderr = true,
            _ => {}
        }
    }

    fn take_lock_flag(&mut self, letter: u8) {
        match letter {
            b'x' => self.silent = true,
            b'X' => self.silent = false,
            _ => {
                // The file comes with the operands.
                self.lock = Some(Lock {
                    file: OsString::new(),
                    wait: letter == b'n',
                });
            }
        }
    }

    fn take_value(&mut self, letter: u8, text: OsString) -> Result<(), Refused> {
        match letter {
            b'u' => self.user = Some(text),
            b'U' => self.env_user = Some(text),
            b'b' => self.argv0 = Some(text),
            b'e' => {
                self.env_dir = Some(text);
                self.skip_directories = true;
            }
            b'/' => self.root = Some(text),
            b'C' => self.directory = Some(text),
            b'n' => self.nice = nice(&text).ok_or(refused(Called::Chpst))?,
            b'l' | b'L' if self.lock.is_some() => return Err(refused(Called::Chpst)),
            b'l' | b'L' => {
                self.lock = Some(Lock {
                    file: text,
                    wait: letter == b'l',
                });
            }
            _ => self.take_limit(letter, number(text.as_bytes())?),
        }
        Ok(())
    }

    fn take_soft_limit(&mut self, letter: u8, text: &OsStr) -> Result<(), Refused> {
        let raw = match text.as_bytes() {
            b"=" => -1,
            text => number(text)?,
        };
        match letter {
            b'a' => self.limit(Resource::RLIMIT_AS, raw),
            b'l' => self.limit(Resource::RLIMIT_MEMLOCK, raw),
            b's' => self.limit(Resource::RLIMIT_STACK, raw),
            _ => self.take_limit(letter, raw),
        }
        Ok(())
    }

    fn take_limit(&mut self, letter: u8, raw: i64) {
        match letter {
            b'm' => self.memory(raw),
            b'd' => self.limit(Resource::RLIMIT_DATA, raw),
            b'o' => self.limit(Resource::RLIMIT_NOFILE, raw),
            b'p' => self.limit(Resource::RLIMIT_NPROC, raw),
            b'f' => self.limit(Resource::RLIMIT_FSIZE, raw),
            b'c' => self.limit(Resource::RLIMIT_CORE, raw),
            b'r' => self.limit(Resource::RLIMIT_RSS, raw),
            b't' => self.limit(Resource::RLIMIT_CPU, raw),
            _ => {}
        }
    }
}

/// Decimal digits at the beginning, and what follows them. Wraps around as runit's unsigned long
/// does; no digits at all are 0.
pub fn scan(text: &[u8]) -> (u64, &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    let number = digits.iter().fold(0u64, |number, digit| {
        let digit = u64::from(digit - b'0');
        number.wrapping_mul(10).wrapping_add(digit)
    });
    (number, rest)
}

/// softlimit's mistakes are shown chpst's usage too.
fn number(text: &[u8]) -> Result<i64, Refused> {
    match scan(text) {
        (number, []) => Ok(number.cast_signed()),
        _ => Err(refused(Called::Chpst)),
    }
}

fn nice(text: &OsStr) -> Option<i32> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let (number, []) = scan(digits) else {
        return None;
    };
    let signed = if negative {
        number.cast_signed().wrapping_neg()
    } else {
        number.cast_signed()
    };
    // nice(2) takes an int: runit lets the upper half go.
    Some(signed as i32)
}

#[cfg(test)]
mod tests;
