//! Who is who: users and groups by name or number.
//!
//! The binary is static and so has no name-service switch: /etc/passwd and /etc/group are read by
//! the small parser below, and whoever isn't there is asked for through `getent`, which knows
//! LDAP, systemd's dynamic users and the like. Every look-up may wait for a disk or a directory
//! server, so only fresh processes (launch, the applets) and worker threads call this; the
//! supervisor's own thread never does.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// Where getent may be; PATH is not asked, since it can come from a service's own settings.
const GETENT: [&str; 3] = [
    "/usr/bin/getent",
    "/bin/getent",
    "/run/current-system/sw/bin/getent",
];

/// Longest name of a user or group in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest line of either file; a group with ten thousand members fits.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Most that is read of either file, and of getent's answer.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// NGROUPS_MAX of the kernel.
const GROUPS_MAX: usize = 65_536;

/// One line of passwd(5), or what can be said of a number without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// None for a number that has no entry.
    pub name: Option<String>,
    pub uid: u32,
    /// None for a number that has no entry: its group must then be named.
    pub gid: Option<u32>,
    pub home: String,
    pub shell: String,
    found: Found,
}

/// Where an entry came from: its groups are asked for at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    File,
    Getent,
    Nowhere,
}

/// Why somebody could not be looked up. Prints as a sentence without its full stop.
#[derive(Debug)]
pub enum Error {
    NoSuchUser(String),
    NoSuchGroup(String),
    /// Could not be a name, whoever is asked.
    BadName(String),
    Unreadable {
        file: &'static str,
        error: io::Error,
    },
    Getent(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSuchUser(name) => write!(f, "there is no user {name}"),
            Error::NoSuchGroup(name) => write!(f, "there is no group {name}"),
            Error::BadName(name) => write!(f, "{name:?} can't be the name of a user or group"),
            Error::Unreadable { file, error } => write!(f, "cannot read {file}: {error}"),
            Error::Getent(trouble) => write!(f, "getent failed: {trouble}"),
        }
    }
}

impl Error {
    /// The errno that tells programs about it.
    pub fn errno(&self) -> i32 {
        use nix::errno::Errno;
        match self {
            Error::NoSuchUser(_) | Error::NoSuchGroup(_) => Errno::ENOENT as i32,
            Error::BadName(_) => Errno::EINVAL as i32,
            Error::Unreadable { error, .. } => error.raw_os_error().unwrap_or(Errno::EIO as i32),
            Error::Getent(_) => Errno::EIO as i32,
        }
    }
}

/// By name, else by number, as chown(1) does it. A number without an entry is a user as well.
pub fn user(text: &str) -> Result<User, Error> {
    check_name(text)?;
    let number = number(text);
    let mut by_number = None;
    for line in lines(PASSWD)? {
        if let Some(user) = passwd_line(&line?, Found::File) {
            if user.name.as_deref() == Some(text) {
                return Ok(user);
            }
            if by_number.is_none() && Some(user.uid) == number {
                by_number = Some(user);
            }
        }
    }
    if let Some(user) = by_number {
        return Ok(user);
    }
    if let Some(answer) = getent(&["passwd", text])?
        && let Some(user) = passwd_line(&answer, Found::Getent)
        && (user.name.as_deref() == Some(text) || Some(user.uid) == number)
    {
        return Ok(user);
    }
    number.map_or_else(
        || Err(Error::NoSuchUser(text.to_owned())),
        |uid| Ok(nameless(uid)),
    )
}

/// By name alone, as getpwnam(3): a number is a name like any other. A missing file is an error only
/// where nobody else knows the name, as it is to the C library.
pub fn named_user(name: &str) -> Result<Option<User>, Error> {
    for line in lines(PASSWD)? {
        if let Some(user) = passwd_line(&line?, Found::File)
            && user.name.as_deref() == Some(name)
            && !name.starts_with(['-', '+'])
        {
            return Ok(Some(user));
        }
    }
    if could_be_name(name)
        && let Some(answer) = getent(&["passwd", name])?
        && let Some(user) = passwd_line(&answer, Found::Getent)
        && user.name.as_deref() == Some(name)
    {
        return Ok(Some(user));
    }
    unless_missing(PASSWD)
}

/// By name alone, as getgrnam(3).
pub fn named_group(name: &str) -> Result<Option<u32>, Error> {
    for line in lines(GROUP)? {
        if let Some(group) = group_line(&line?)
            && group.name == name
            && !name.starts_with(['-', '+'])
        {
            return Ok(Some(group.gid));
        }
    }
    if could_be_name(name)
        && let Some(answer) = getent(&["group", name])?
        && let Some(group) = group_line(&answer)
        && group.name == name
    {
        return Ok(Some(group.gid));
    }
    unless_missing(GROUP)
}

fn unless_missing<T>(file: &'static str) -> Result<Option<T>, Error> {
    match Path::new(file).metadata() {
        Ok(_) => Ok(None),
        Err(error) => Err(Error::Unreadable { file, error }),
    }
}

fn nameless(uid: u32) -> User {
    User {
        name: None,
        uid,
        gid: None,
        home: "/".to_owned(),
        shell: "/bin/sh".to_owned(),
        found: Found::Nowhere,
    }
}

/// The number of a group, by name or by number; a number needs no entry.
pub fn group(text: &str) -> Result<u32, Error> {
    check_name(text)?;
    for line in lines(GROUP)? {
        if let Some(group) = group_line(&line?)
            && group.name == text
        {
            return Ok(group.gid);
        }
    }
    if let Some(gid) = number(text) {
        return Ok(gid);
    }
    if let Some(answer) = getent(&["group", text])?
        && let Some(group) = group_line(&answer)
        && group.name == text
    {
        return Ok(group.gid);
    }
    Err(Error::NoSuchGroup(text.to_owned()))
}

/// `gid` and all groups that list the user, as initgroups(3) would set them; sorted, each once.
///
/// A user of /etc/passwd has the groups of /etc/group, anybody else those that getent names.
pub fn groups_of(user: &User, gid: u32) -> Result<Vec<u32>, Error> {
    let mut groups = vec![gid];
    match (&user.name, user.found) {
        (None, _) | (_, Found::Nowhere) => {}
        (Some(name), Found::File) => {
            for line in lines(GROUP)? {
                let line = line?;
                if let Some(group) = group_line(&line)
                    && group.members.split(',').any(|member| member == name)
                {
                    groups.push(group.gid);
                }
            }
        }
        (Some(name), Found::Getent) => {
            // An empty answer is no proof that there are no groups: then it fails closed.
            let answer = getent(&["initgroups", name])?
                .ok_or_else(|| Error::Getent(format!("it does not know the groups of {name}")))?;
            groups.extend(answer.split_whitespace().skip(1).filter_map(number));
        }
    }
    groups.sort_unstable();
    groups.dedup();
    groups.truncate(GROUPS_MAX);
    Ok(groups)
}

fn passwd_line(line: &str, found: Found) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let uid = number(fields.next()?)?;
    let gid = number(fields.next()?)?;
    let _gecos = fields.next()?;
    let or = |text: Option<&str>, default: &str| match text {
        Some(text) if !text.is_empty() => text.to_owned(),
        Some(_) | None => default.to_owned(),
    };
    let home = or(fields.next(), "/");
    let shell = or(fields.next(), "/bin/sh");
    let (name, gid) = (Some(name.to_owned()), Some(gid));
    Some(User {
        name,
        uid,
        gid,
        home,
        shell,
        found,
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_line(line: &str) -> Option<Group<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let gid = number(fields.next()?)?;
    let members = fields.next().unwrap_or("");
    Some(Group { name, gid, members })
}

/// Decimal digits only; 2^32-1 means "leave it as it is" to setuid's family, so it is nobody.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok())?;
    number.filter(|number| *number != u32::MAX)
}

/// Whether a user or group could be called so: nothing that is an option to getent, or more than
/// one field of a line.
pub fn could_be_name(text: &str) -> bool {
    let bad = |c: char| matches!(c, ':' | ',' | '/') || c.is_whitespace() || c.is_control();
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && !text.starts_with(['-', '+'])
        && !text.contains(bad)
}

fn check_name(text: &str) -> Result<(), Error> {
    if could_be_name(text) {
        Ok(())
    } else {
        Err(Error::BadName(text.chars().take(32).collect()))
    }
}

/// The lines of a file, each bounded. Bytes that are no UTF-8 are replaced: such a line names
/// nobody we could be asked for, and must not hide the others.
fn lines(file: &'static str) -> Result<impl Iterator<Item = Result<String, Error>>, Error> {
    let unreadable = move |error| Error::Unreadable { file, error };
    let mut reader: Box<dyn BufRead> = match File::open(Path::new(file)) {
        Ok(open) => Box::new(BufReader::new(open.take(FILE_BYTES_MAX))),
        // A container without the file: getent and numbers are left.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Box::new(io::empty()),
        Err(error) => return Err(unreadable(error)),
    };
    Ok(std::iter::from_fn(move || {
        bounded_line(&mut reader).map_err(unreadable).transpose()
    }))
}

fn bounded_line(reader: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_none() && line.len() as u64 == LINE_BYTES_MAX {
        let error = format!("a line is longer than {LINE_BYTES_MAX} bytes");
        return Err(io::Error::other(error));
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// The first line that getent prints; None when it knows nobody (its exit code 2), when it does
/// not know the database (1: `initgroups` is glibc's own), or when there is no getent here.
fn getent(arguments: &[&str; 2]) -> Result<Option<String>, Error> {
    let Some(program) = GETENT.iter().find(|path| Path::new(path).exists()) else {
        return Ok(None);
    };
    let failed = |error: io::Error| Error::Getent(error.to_string());
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let first = match child.stdout.take() {
        Some(output) => bounded_line(&mut BufReader::new(output)),
        None => Ok(None),
    };
    let status = match child.wait() {
        Ok(status) => status,
        // Our parent has left SIGCHLD ignored (wait(2)): no word of how it ended. Nobody is then
        // taken for unknown, which gives nothing to anyone.
        Err(error) if error.raw_os_error() == Some(nix::libc::ECHILD) => {
            return first.map_err(failed);
        }
        Err(error) => return Err(failed(error)),
    };
    let first = first.map_err(failed)?;
    match status.code() {
        Some(0) => Ok(first),
        Some(1 | 2) => Ok(None),
        // Closing its pipe after the first line may end it by SIGPIPE; the line is whole.
        Some(_) | None if first.is_some() => Ok(first),
        Some(_) | None => Err(Error::Getent(status.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = user("root").expect("root");
        assert_eq!((root.uid, root.gid), (0, Some(0)));
        assert_eq!(user("0").expect("0").name.as_deref(), Some("root"));
        assert_eq!(group("root").expect("group"), 0);
    }

    #[test]
    fn an_unknown_name_is_named_in_the_error() {
        let error = user("no-such-user-here").expect_err("nobody");
        assert_eq!(error.to_string(), "there is no user no-such-user-here");
        let error = group("no-such-group-here").expect_err("nobody");
        assert_eq!(error.to_string(), "there is no group no-such-group-here");
    }

    #[test]
    fn a_number_without_an_entry_is_a_user_without_group_and_groups() {
        let user = user("3999999999").expect("a number");
        assert_eq!(
            (user.uid, user.gid, &user.name),
            (3_999_999_999, None, &None)
        );
        assert_eq!(groups_of(&user, 7).expect("groups"), [7]);
        assert_eq!(group("3999999999").expect("a number"), 3_999_999_999);
    }

    #[test]
    fn by_name_alone_a_number_is_nobody() {
        let root = named_user("root").expect("read").expect("root");
        assert_eq!((root.uid, root.gid), (0, Some(0)));
        assert_eq!(named_group("root").expect("read"), Some(0));
        for name in ["0", "", "a:b", "-", "no-such-user-here"] {
            assert_eq!(named_user(name).expect("read"), None, "{name}");
            assert_eq!(named_group(name).expect("read"), None, "{name}");
        }
    }

    #[test]
    fn minus_one_is_nobody() {
        assert!(user("4294967295").is_err());
        assert!(group("4294967295").is_err());
        assert!(user("-1").is_err());
    }

    #[test]
    fn names_that_could_be_options_or_more_than_one_field_are_refused() {
        for name in [
            "",
            "-s",
            "+ldap",
            "a:b",
            "a b",
            "a\nb",
            "a,b",
            &"x".repeat(300),
        ] {
            assert!(matches!(user(name), Err(Error::BadName(_))), "{name:?}");
        }
    }

    #[test]
    fn groups_hold_the_primary_one_once() {
        let root = user("root").expect("root");
        let groups = groups_of(&root, 0).expect("groups");
        assert_eq!(groups.iter().filter(|gid| **gid == 0).count(), 1);
        let output = Command::new("id")
            .args(["-G", "root"])
            .output()
            .expect("id");
        let mut wanted: Vec<u32> = String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .filter_map(number)
            .collect();
        wanted.sort_unstable();
        assert_eq!(groups, wanted);
    }

    #[test]
    fn lines_that_are_no_entries_are_passed_over() {
        for line in [
            "",
            "#x",
            "+::::::",
            "a:b",
            "a:x:1",
            "a:x:-1:1::/:",
            "a:x:1:99999999999::/:",
        ] {
            assert!(passwd_line(line, Found::File).is_none(), "{line}");
        }
        let user = passwd_line("a:x:1:2:gecos", Found::File).expect("short but sufficient");
        assert_eq!((user.home.as_str(), user.shell.as_str()), ("/", "/bin/sh"));
    }

    #[test]
    fn a_line_without_end_is_an_error_and_not_a_wall_of_memory() {
        let mut endless = BufReader::new(io::repeat(b'a'));
        assert!(bounded_line(&mut endless).is_err());
    }

    #[test]
    fn getent_finds_what_it_is_asked_and_knows_when_nobody_is_there() {
        if !GETENT.iter().any(|path| Path::new(path).exists()) {
            println!("skipped: no getent here");
            return;
        }
        let line = getent(&["passwd", "root"]).expect("asked").expect("root");
        let root = passwd_line(&line, Found::Getent).expect("entry");
        assert_eq!(root.uid, 0);
        assert!(groups_of(&root, 0).expect("groups").contains(&0));
        assert!(
            getent(&["passwd", "no-such-user-here"])
                .expect("asked")
                .is_none()
        );
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_an_entry_or_none(line in "[a-z0-9:,+-]{0,40}|\\PC{0,40}") {
            if let Some(user) = passwd_line(&line, Found::File) {
                proptest::prop_assert!(user.uid != u32::MAX && user.gid != Some(u32::MAX));
            }
            if let Some(group) = group_line(&line) {
                proptest::prop_assert!(!group.name.is_empty());
            }
            let _ = could_be_name(&line);
        }
    }
}
