//! `logs`: find out where the logs of services stand, then let `logs` show them.
//!
//! A running supervisor knows best. Without one the log root is looked into, so that a log can be
//! read when it is needed most. A service that has a log service of its own decides for itself
//! where its log goes; the usual place of it is tried and told.

use super::arguments::LogsOrder;
use super::client::{Broken, Client, plain};
use super::exit::Exit;
use super::logs::{self, Options, Remark, Source};
use super::screen::Screen;
use super::words::safe;
use crate::ipc::control::{Request, Response, Service, VERSION, Verb};
use crate::os::paths;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// One write takes this much of a log that is only shown, not followed.
const WRITE_BYTES: usize = 64 * 1024;
/// Where log/run puts its log in every example of runit, seen from the service directory.
const OWN_LOG: &str = "log/main";
/// The file that a log directory has.
const CURRENT: &str = "current";
/// What a log service's name ends in.
const LOG_SERVICE: &str = "/log";

/// What there is to show, and what there is to say about the rest.
#[derive(Default)]
struct Found {
    sources: Vec<Source>,
    remarks: Vec<String>,
    exit: Option<Exit>,
}

pub fn carry_out(order: &LogsOrder, screen: &mut Screen) -> io::Result<Exit> {
    let found = match find(order) {
        Ok(found) => found,
        Err((words, exit)) => {
            screen.complain(words)?;
            return Ok(exit);
        }
    };
    for remark in &found.remarks {
        screen.complain(remark)?;
    }
    let mut exit = found.exit.unwrap_or(Exit::Success);
    if found.sources.is_empty() {
        if found.remarks.is_empty() {
            screen.complain("there are no logs yet")?;
        }
        return Ok(exit);
    }
    if !order.follow && !order.names.is_empty() {
        for source in found.sources.iter().filter(|source| is_silent(&source.dir)) {
            let (name, dir) = (safe(&source.name), source.dir.display());
            screen.complain(format_args!("{name}: nothing was written to {dir} yet"))?;
        }
    }
    let options = Options {
        lines: order.lines,
        follow: order.follow,
        utc: order.utc,
        raw: order.raw,
        names: order.names.is_empty() || found.sources.len() > 1,
    };
    let (out, err) = (&mut *screen.out, &mut *screen.err);
    let mut tell = |source: &Source, remark: Remark<'_>| {
        let (name, dir) = (safe(&source.name), source.dir.display());
        // Where stderr is gone as well, the exit code is all that is left.
        let _ = match remark {
            Remark::Unread(error) => {
                let (code, can) = match error.kind() {
                    io::ErrorKind::PermissionDenied => (Exit::NotAllowed, "may not"),
                    _ => (Exit::NotReached, "can't"),
                };
                exit = exit.or_worse(code);
                let cause = plain(error);
                writeln!(
                    err,
                    "outlast: {name}: its log in {dir} {can} be read: {cause}"
                )
            }
            Remark::Processed(files) if !order.names.is_empty() => {
                let s = if files == 1 { "" } else { "s" };
                writeln!(
                    err,
                    "outlast: {name}: older lines are in {files} file{s} that the log's processor has \
                     made: {dir}/@*.s"
                )
            }
            Remark::Processed(_) => Ok(()),
        };
    };
    if order.follow {
        // Each line at once: stdout's own buffer ends at newlines.
        logs::show(&found.sources, &options, out, &mut tell)?;
    } else {
        let mut out = BufWriter::with_capacity(WRITE_BYTES, out);
        logs::show(&found.sources, &options, &mut out, &mut tell)?;
        out.flush()?;
    }
    Ok(exit)
}

/// Nothing was ever written: no file of the log holds a byte. One that can't be looked at is not
/// said to be silent; showing it tells why.
fn is_silent(dir: &Path) -> bool {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            use io::ErrorKind::{NotADirectory, NotFound};
            return matches!(error.kind(), NotFound | NotADirectory);
        }
    };
    let mut written = entries.filter_map(Result::ok).filter(|entry| {
        let name = entry.file_name();
        name == "current" || name.as_encoded_bytes().starts_with(b"@")
    });
    !written.any(|entry| entry.metadata().map_or(true, |data| data.len() > 0))
}

fn find(order: &LogsOrder) -> Result<Found, (String, Exit)> {
    if let Some(root) = &order.log_root {
        return below(root, &order.names);
    }
    let refused = |refusal: paths::Refusal| (refusal.to_string(), Exit::NoSupervisor);
    let socket = paths::control_socket(order.socket.as_deref()).map_err(refused)?;
    match Client::connect(&socket) {
        Ok(mut client) => from_supervisor(&mut client, order)
            .map_err(|broken| (broken.to_string(), broken.exit())),
        Err(Broken::NoSupervisor { path, cause }) => {
            let root = paths::log_root().map_err(refused)?;
            let none = Broken::NoSupervisor { path, cause };
            let mut found = below(&root, &order.names).map_err(|(words, exit)| {
                let words = format!("{words}; and {none}");
                (words, exit.or_worse(Exit::NoSupervisor))
            })?;
            let found_there = match found.sources.is_empty() {
                true => "and no logs were found",
                false => "these logs were found",
            };
            let (socket, root) = (socket.display(), root.display());
            let words = format!("no supervisor answers at {socket}; {found_there} below {root}");
            found.remarks.insert(0, words);
            Ok(found)
        }
        Err(broken) => Err((broken.to_string(), broken.exit())),
    }
}

fn from_supervisor(client: &mut Client, order: &LogsOrder) -> Result<Found, Broken> {
    let response = client.ask(request(Verb::List, order.names.clone(), None))?;
    let mut found = Found::default();
    if let Some(trouble) = &response.error {
        found.remarks.push(safe(&trouble.message).into_owned());
        found.exit = Some(Exit::of_trouble(trouble));
    }
    let wanted = |service: &&Service| {
        !order.names.is_empty() || service.log_dir.is_some() || !service.name.ends_with(LOG_SERVICE)
    };
    let mut own = Vec::new();
    for service in response.services.iter().filter(wanted) {
        // Whoever asks for it by name looks for lines that may be missing.
        if let Some(trouble) = service.problem.as_ref().filter(|it| it.code == "log")
            && !order.names.is_empty()
        {
            let (name, message) = (safe(&service.name), safe(&trouble.message));
            found.remarks.push(format!("{name}: {message}"));
        }
        match &service.log_dir {
            Some(dir) => found.sources.push(Source {
                name: service.name.clone(),
                dir: dir.into(),
            }),
            None => {
                let name = &service.name;
                own.push(name.strip_suffix(LOG_SERVICE).unwrap_or(name).to_owned());
            }
        }
    }
    own.dedup();
    if !own.is_empty() {
        let why = client.ask(request(Verb::Why, own, Some(0)))?;
        add_own_logs(&mut found, &why, !order.names.is_empty());
    }
    Ok(found)
}

/// Services that have a log service of their own. `tell` is false when all logs were asked for
/// and a missing one needs no word.
fn add_own_logs(found: &mut Found, why: &Response, tell: bool) {
    for service in &why.services {
        let directory = service
            .why
            .as_ref()
            .map(|why| PathBuf::from(&why.directory));
        let has_none = directory
            .as_ref()
            .is_some_and(|it| !it.join("log").exists());
        let usual = directory.map(|directory| directory.join(OWN_LOG));
        let usual = usual.filter(|dir| dir.join(CURRENT).is_file());
        if let (true, Some(trouble)) = (tell && has_none, &service.problem) {
            let (name, message) = (safe(&service.name), safe(&trouble.message));
            found.remarks.push(format!("{name}: {message}"));
        } else if tell {
            let place = match &usual {
                Some(dir) => format!("this is {}", dir.join(CURRENT).display()),
                None => format!("and it is not in {OWN_LOG}; see what log/run does with it"),
            };
            let name = safe(&service.name);
            found.remarks.push(format!(
                "{name}: its log is written by its own log/run; {place}"
            ));
        }
        if let Some(dir) = usual {
            found.sources.push(Source {
                name: service.name.clone(),
                dir,
            });
        }
    }
}

fn request(verb: Verb, names: Vec<String>, lines: Option<u32>) -> Request {
    Request {
        v: VERSION,
        id: 0,
        verb,
        names,
        wait: true,
        timeout_ms: None,
        lines,
        binary: None,
    }
}

/// The log directories below a log root whose names match; all of them without names.
fn below(root: &Path, names: &[String]) -> Result<Found, (String, Exit)> {
    let entries = fs::read_dir(root).map_err(|error| {
        let words = format!(
            "cannot read the log root {}: {}",
            root.display(),
            plain(&error)
        );
        match error.kind() {
            io::ErrorKind::PermissionDenied => (words, Exit::NotAllowed),
            _ => (words, Exit::NotReached),
        }
    })?;
    // By the name that is shown and asked for.
    let logs: BTreeMap<String, PathBuf> = entries
        .filter_map(Result::ok)
        .filter(is_log)
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, entry.path())
        })
        .collect();
    let mut found = Found::default();
    let mut chosen = BTreeSet::new();
    for name in names {
        let pattern = glob::Pattern::new(name).map_err(|error| {
            (
                format!("{}: not a pattern: {error}", safe(name)),
                Exit::Usage,
            )
        })?;
        let before = chosen.len();
        chosen.extend(
            logs.keys()
                .filter(|log| pattern.matches(log) || *log == name)
                .cloned(),
        );
        if chosen.len() == before && !logs.contains_key(name) {
            let words = format!(
                "{}: there is no log of it below {}",
                safe(name),
                root.display()
            );
            found.remarks.push(words);
            found.exit = Some(Exit::NoSuchService);
        }
    }
    let shown = |name: &String| names.is_empty() || chosen.contains(name);
    found.sources = logs
        .into_iter()
        .filter(|(name, _)| shown(name))
        .map(|(name, dir)| Source { name, dir })
        .collect();
    Ok(found)
}

/// One that may not be looked into counts, so that whoever asks for it is told so; and one whose
/// file can't be read.
fn is_log(entry: &fs::DirEntry) -> bool {
    // Of links the file below tells whether they lead to a directory.
    if entry.file_type().is_ok_and(|kind| kind.is_file()) {
        return false;
    }
    match fs::metadata(entry.path().join(CURRENT)) {
        Ok(current) => current.is_file() || current.is_dir(),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, Fake, React, service};
    use super::super::screen::Look;
    use super::*;
    use crate::ipc::control::Why;

    fn shown(order: &LogsOrder) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen {
            out: &mut out,
            err: &mut err,
            look: Look::default(),
        };
        let exit = carry_out(order, &mut screen).expect("printed");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (exit, text(out), text(err))
    }

    fn names(found: &Found) -> Vec<&str> {
        found
            .sources
            .iter()
            .map(|source| source.name.as_str())
            .collect()
    }

    /// A log root with these logs in it.
    fn log_root(logs: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("tempdir");
        for log in logs {
            fs::create_dir(root.path().join(log)).expect("mkdir");
            fs::write(root.path().join(log).join(CURRENT), "x\n").expect("write");
        }
        fs::create_dir(root.path().join("no-log")).expect("mkdir");
        root
    }

    fn ask(server: &Fake, names: &[&str]) -> Found {
        let order = LogsOrder {
            names: names.iter().map(|name| name.to_string()).collect(),
            socket: Some(server.path.clone()),
            ..LogsOrder::default()
        };
        find(&order).expect("an answer")
    }

    #[test]
    fn the_supervisor_says_where_the_logs_are() {
        let server = Fake::answering(|_| {
            let dir = Some("/l/web".to_string());
            React::Answer(vec![Service {
                log_dir: dir,
                ..service("web")
            }])
        });
        let found = ask(&server, &["w*"]);
        assert_eq!(names(&found), ["web"]);
        assert_eq!(found.sources[0].dir, Path::new("/l/web"));
        assert_eq!(server.requests()[0].names, ["w*"]);
    }

    #[test]
    fn why_a_log_is_not_written_is_told_to_whoever_asks_for_it() {
        let place = tempfile::tempdir().expect("tempdir");
        let dir = place.path().join("late").display().to_string();
        let log_dir = Some(dir.clone());
        let server = Fake::answering(move |_| {
            React::Answer(vec![Service {
                log_dir: log_dir.clone(),
                problem: Some(crate::ipc::control::Trouble {
                    code: "log".into(),
                    message: "log: no space left".into(),
                }),
                ..service("late")
            }])
        });
        let order = LogsOrder {
            names: vec!["late".into()],
            socket: Some(server.path.clone()),
            ..LogsOrder::default()
        };
        let (_, _, err) = shown(&order);
        let told = format!(
            "outlast: late: log: no space left\noutlast: late: nothing was written to {dir} yet\n"
        );
        assert_eq!(err, told);
    }

    #[test]
    fn a_service_that_writes_its_own_log_is_told_and_its_usual_place_shown() {
        let dir = tempfile::tempdir().expect("tempdir");
        let main = dir.path().join(OWN_LOG);
        fs::create_dir_all(&main).expect("mkdir");
        fs::write(main.join(CURRENT), "x\n").expect("write");
        let directory = dir.path().display().to_string();
        let server = Fake::answering(move |request| match request.verb {
            Verb::Why => {
                let why = Why {
                    story: Vec::new(),
                    advice: None,
                    usage: None,
                    log: Vec::new(),
                    log_file: None,
                    log_unfinished: false,
                    directory: directory.clone(),
                };
                React::Answer(vec![Service {
                    why: Some(why),
                    ..service("web")
                }])
            }
            _ => React::Answer(vec![service("web"), service("web/log")]),
        });
        let found = ask(&server, &["web", "web/log"]);
        assert_eq!(names(&found), ["web"]);
        assert_eq!(found.sources[0].dir, main);
        assert!(
            found.remarks[0].contains("written by its own log/run"),
            "{:?}",
            found.remarks
        );

        fs::remove_dir_all(&main).expect("rm");
        let found = ask(&server, &["web"]);
        assert!(found.sources.is_empty());
        assert!(
            found.remarks[0].contains("not in log/main"),
            "{:?}",
            found.remarks
        );
        assert!(
            ask(&server, &[]).remarks.is_empty(),
            "of all logs a missing one needs no word"
        );
    }

    #[test]
    fn an_unknown_service_is_told_by_the_supervisors_words_and_code() {
        let server =
            Fake::answering(|_| React::Respond(fake::refusal("no-such-service", "wbe: unknown")));
        let order = LogsOrder {
            names: vec!["wbe".into()],
            socket: Some(server.path.clone()),
            ..LogsOrder::default()
        };
        assert_eq!(
            shown(&order),
            (
                Exit::NoSuchService,
                String::new(),
                "outlast: wbe: unknown\n".into()
            )
        );
    }

    #[test]
    fn a_log_root_is_searched_by_names_and_patterns() {
        use std::os::unix::ffi::OsStrExt;
        let root = log_root(&["web-1", "web-2", "db"]);
        let search = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
            below(root.path(), &names).expect("readable")
        };
        assert_eq!(names(&search(&[])), ["db", "web-1", "web-2"]);
        assert_eq!(names(&search(&["web-*", "web-1"])), ["web-1", "web-2"]);
        let odd = std::ffi::OsStr::from_bytes(b"odd\xff");
        fs::create_dir(root.path().join(odd)).expect("mkdir");
        fs::write(root.path().join(odd).join(CURRENT), "x\n").expect("write");
        let found = search(&["odd*"]);
        assert_eq!(names(&found), ["odd\u{fffd}"]);
        assert_eq!(found.sources[0].dir, root.path().join(odd));
        let missing = search(&["db", "no-log", "x*"]);
        assert_eq!(names(&missing), ["db"]);
        assert_eq!(
            (missing.remarks.len(), missing.exit),
            (2, Some(Exit::NoSuchService))
        );
    }

    #[test]
    fn a_log_root_on_the_command_line_needs_no_supervisor() {
        let root = log_root(&["web"]);
        let order = LogsOrder {
            log_root: Some(root.path().into()),
            ..LogsOrder::default()
        };
        let (exit, _, err) = shown(&order);
        assert_eq!((exit, err.as_str()), (Exit::Success, ""));
        let order = LogsOrder {
            log_root: Some(root.path().join("none")),
            ..LogsOrder::default()
        };
        let (exit, _, err) = shown(&order);
        assert_eq!(exit, Exit::NotReached);
        assert!(err.contains("cannot read the log root"), "{err}");
    }

    #[test]
    fn a_log_that_cannot_be_read_is_told_and_hides_no_other() {
        let root = log_root(&["web", "db"]);
        fs::remove_file(root.path().join("db").join(CURRENT)).expect("rm");
        fs::create_dir(root.path().join("db").join(CURRENT)).expect("mkdir");
        for names in [vec![], vec!["db".to_owned(), "web".to_owned()]] {
            let order = LogsOrder {
                names,
                log_root: Some(root.path().into()),
                ..LogsOrder::default()
            };
            let (exit, out, err) = shown(&order);
            assert_eq!((exit, out.as_str()), (Exit::NotReached, "web | x\n"));
            let dir = root.path().join("db");
            let told = format!(
                "outlast: db: its log in {} can't be read: Is a directory\n",
                dir.display()
            );
            assert_eq!(err, told);
        }
    }

    #[test]
    fn lines_that_a_processor_has_packed_are_said_to_be_elsewhere() {
        let root = log_root(&["web"]);
        let dir = root.path().join("web");
        fs::write(dir.join("@400000006b001a2a00000000.s"), b"\x1f\x8b").expect("write");
        for (lines, told) in [(None, true), (Some(1), false)] {
            let order = LogsOrder {
                names: vec!["web".into()],
                lines,
                log_root: Some(root.path().into()),
                ..LogsOrder::default()
            };
            let (exit, out, err) = shown(&order);
            assert_eq!((exit, out.as_str()), (Exit::Success, "x\n"));
            assert_eq!(err.contains("has made: "), told, "{err}");
        }
    }

    #[test]
    fn a_log_that_may_not_be_read_is_not_said_to_be_missing() {
        use std::os::unix::fs::PermissionsExt;
        let root = log_root(&["web"]);
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        };
        let shown_to_another = |names: &[&str]| {
            let order = LogsOrder {
                names: names.iter().map(|name| name.to_string()).collect(),
                log_root: Some(root.path().into()),
                ..LogsOrder::default()
            };
            let look = move || {
                // Of this thread alone, and of no effect unless it is root's.
                nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
                shown(&order)
            };
            std::thread::spawn(look).join().expect("shown")
        };
        mode(root.path(), 0o755);
        mode(&root.path().join("web"), 0);
        let (all, named) = (shown_to_another(&[]), shown_to_another(&["web"]));
        mode(root.path(), 0);
        let none = shown_to_another(&[]);
        mode(root.path(), 0o700);
        mode(&root.path().join("web"), 0o700);
        for (exit, out, err) in [all, named] {
            assert_eq!((exit, out.as_str()), (Exit::NotAllowed, ""));
            let dir = root.path().join("web");
            let told = format!(
                "outlast: web: its log in {} may not be read: Permission denied\n",
                dir.display()
            );
            assert_eq!(err, told);
        }
        assert_eq!(none.0, Exit::NotAllowed, "{}", none.2);
    }

    #[test]
    fn a_log_is_silent_until_its_first_byte_and_never_after() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = dir.path().join("web");
        assert!(is_silent(&log));
        fs::create_dir(&log).expect("mkdir");
        fs::write(log.join("current"), "").expect("write");
        fs::write(log.join("config"), "s1000\n").expect("write");
        assert!(is_silent(&log));
        fs::write(log.join("@400000005f.s"), "x\n").expect("write");
        assert!(!is_silent(&log), "rotated just now");
    }
}
