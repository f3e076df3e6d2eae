//! The environment that the program will get, and the files that add to it.

use super::carry::{Broken, at};
use crate::os::step::Step;
use crate::os::users::User;
use crate::sys;
use nix::errno::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;

/// Largest environment file in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The search path when there is none: PID 1 is started without.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `NAME=VALUE` strings, in their order.
#[derive(Default)]
pub struct Environment {
    entries: Vec<CString>,
    /// Something with a NUL byte was to be set; a program must not be started without it.
    nul: bool,
}

impl Environment {
    pub fn of_this_process() -> Environment {
        Environment {
            entries: sys::environment(),
            nul: false,
        }
    }

    /// For execve(2); None when one holds a NUL.
    pub fn strings(&self) -> Option<&[CString]> {
        (!self.nul).then_some(&self.entries)
    }

    /// The one value of the name from now on.
    pub(super) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        self.entries
            .retain(|entry| value_of(entry, name.as_bytes()).is_none());
        match CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()) {
            Ok(entry) => self.entries.push(entry),
            Err(_) => self.nul = true,
        }
    }

    /// `NAME=VALUE` sets and `NAME` unsets, the way daemontools and runit do: the first entry of
    /// that name goes, the last one takes its place, the new one comes last. `env` shows the order.
    pub fn change(&mut self, change: CString) {
        let bytes = change.as_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=');
        let name = bytes.get(..equals.unwrap_or(bytes.len()));
        let name = name.unwrap_or_default();
        let known = self.entries.iter();
        if let Some(place) = known
            .map(|entry| value_of(entry, name))
            .position(|value| value.is_some())
        {
            self.entries.swap_remove(place);
        }
        if equals.is_some() {
            self.entries.push(change);
        }
    }

    pub(super) fn path(&self) -> &OsStr {
        let path = self
            .entries
            .iter()
            .find_map(|entry| value_of(entry, b"PATH"));
        path.map_or(OsStr::new(DEFAULT_PATH), OsStr::from_bytes)
    }

    /// As login(1) does it, without which many daemons look for their files in root's home.
    pub(super) fn set_user(&mut self, user: &User) {
        let name = user.name.clone().unwrap_or_else(|| user.uid.to_string());
        self.set("HOME", &user.home);
        self.set("SHELL", &user.shell);
        self.set("USER", &name);
        self.set("LOGNAME", name);
    }

    pub(super) fn add_file(&mut self, path: &str) -> Result<(), Broken> {
        let text = read(path)?;
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            match assignment(line) {
                Ok(Some((name, value))) => self.set(name, value),
                Ok(None) => {}
                Err(why) => {
                    return Err(Broken {
                        step: Step::EnvFile,
                        errno: Errno::EINVAL as i32,
                        detail: format!("{path}:{number}: {why}"),
                    });
                }
            }
        }
        Ok(())
    }
}

fn value_of<'a>(entry: &'a CString, name: &[u8]) -> Option<&'a [u8]> {
    entry.as_bytes().strip_prefix(name)?.strip_prefix(b"=")
}

/// Opened without waiting: a FIFO in its place must not hold the start up for ever.
fn read(path: &str) -> Result<Vec<u8>, Broken> {
    let failed = |error: std::io::Error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        at(Step::EnvFile, path)(errno)
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Broken {
            step: Step::EnvFile,
            errno: Errno::EFBIG as i32,
            detail: format!("{path} is larger than {FILE_BYTES_MAX} bytes"),
        });
    }
    Ok(text)
}

type Assignment = Option<(OsString, OsString)>;

/// One line: nothing, or a name and a value. Blanks around the line and around the name are cut;
/// quotes are taken off as a pair only, and nothing is expanded within them.
fn assignment(line: &[u8]) -> Result<Assignment, &'static str> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let Some(equals) = line.iter().position(|byte| *byte == b'=') else {
        return Err("no NAME=VALUE here");
    };
    let (name, value) = line.split_at(equals);
    let (name, value) = (name.trim_ascii_end(), value.get(1..).unwrap_or_default());
    if name.is_empty() {
        return Err("there is no name before the =");
    }
    if name.iter().any(u8::is_ascii_whitespace) {
        return Err("a blank inside the name (no shell reads this file: leave out export)");
    }
    if line.contains(&0) {
        return Err("there is a NUL byte");
    }
    let value = unquoted(value.trim_ascii_start());
    let own = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    Ok(Some((own(name), own(value))))
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<(String, String)> {
        let text = |text: OsString| text.into_string().expect("text");
        let found = assignment(line.as_bytes()).expect("a good line");
        found.map(|(name, value)| (text(name), text(value)))
    }

    fn pair(name: &str, value: &str) -> Option<(String, String)> {
        Some((name.to_owned(), value.to_owned()))
    }

    #[test]
    fn lines_give_names_and_values_without_expansion() {
        assert_eq!(parsed("A=1"), pair("A", "1"));
        assert_eq!(parsed("  A = \"b c\" \r"), pair("A", "b c"));
        assert_eq!(parsed("A='$HOME'"), pair("A", "$HOME"));
        assert_eq!(parsed("A="), pair("A", ""));
        assert_eq!(parsed("A=b=c # d"), pair("A", "b=c # d"));
        assert_eq!(parsed("A=\""), pair("A", "\""));
        assert_eq!(parsed("# A=1"), None);
        assert_eq!(parsed(""), None);
    }

    #[test]
    fn lines_that_are_no_assignment_are_refused() {
        for line in ["A", "=1", "export A=1", "A=\0"] {
            assert!(assignment(line.as_bytes()).is_err(), "{line:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_line_or_a_mistake(line in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            if let Ok(Some((name, value))) = assignment(&line) {
                let name = name.as_encoded_bytes();
                proptest::prop_assert!(!name.is_empty() && !name.contains(&b'='));
                proptest::prop_assert!(!value.as_encoded_bytes().contains(&0));
            }
        }
    }

    fn entries(environment: &Environment) -> Vec<&str> {
        let strings = environment.strings().expect("no NUL");
        strings
            .iter()
            .map(|entry| entry.to_str().expect("text"))
            .collect()
    }

    #[test]
    fn a_change_takes_the_first_entry_of_its_name_and_comes_last() {
        let text = |text: &str| CString::new(text).expect("no NUL");
        let mut environment = Environment {
            entries: ["A=1", "B=2", "A=3", "C=4", "odd"].map(text).into(),
            nul: false,
        };
        environment.change(text("A=5"));
        assert_eq!(entries(&environment), ["odd", "B=2", "A=3", "C=4", "A=5"]);
        environment.change(text("odd"));
        assert_eq!(entries(&environment), ["odd", "B=2", "A=3", "C=4", "A=5"]);
        environment.change(text("B"));
        assert_eq!(entries(&environment), ["odd", "A=5", "A=3", "C=4"]);
        environment.set("A", "6");
        assert_eq!(entries(&environment), ["odd", "C=4", "A=6"]);
        environment.set("A", "\0");
        assert!(environment.strings().is_none());
    }

    #[test]
    fn a_bad_line_is_named_with_file_and_number() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("env");
        std::fs::write(&path, "A=1\n\nbad\n").expect("file");
        let mut environment = Environment::default();
        let broken = environment
            .add_file(path.to_str().expect("text"))
            .expect_err("line 3");
        assert!(
            broken.detail.ends_with("env:3: no NAME=VALUE here"),
            "{}",
            broken.detail
        );
    }

    #[test]
    fn a_fifo_in_place_of_the_file_does_not_hold_the_start_up() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("env");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        let mut environment = Environment::default();
        environment
            .add_file(path.to_str().expect("text"))
            .expect("nobody writes: empty");
    }
}
