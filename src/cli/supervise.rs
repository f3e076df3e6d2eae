//! `supervise`: look at what was asked for, tell what can't work, then become the keeper.
//!
//! Everything a person can get wrong is told here, in the foreground and in one line, before the
//! keeper starts. Nothing runs in this process afterwards: the keeper replaces it under the same
//! process id, so that whoever started us signals the right one.

use super::client::{Client, plain};
use super::exit::Exit;
use super::screen::Screen;
use crate::ipc::control::{Request, VERSION, Verb};
use crate::ipc::told::{Stream, Told};
use crate::ipc::wire::Format;
use crate::os::paths::{self, SOCKET_PATH_BYTES_MAX};
use crate::os::pidfd::PidFd;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// argv[0] of the keeper, by which main.rs and `ps` know it.
pub const KEEPER: &str = "outlast-keeper";

/// A keeper that was killed a moment ago may not be missed yet.
const DEATH_IS_NOTICED: Duration = Duration::from_millis(500);
/// Between two questions about it.
const PAUSE: Duration = Duration::from_millis(20);
/// How long somebody who holds our socket may take to say who he is.
const PATIENCE: Duration = Duration::from_secs(2);

/// As the command line says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub socket: Option<PathBuf>,
    pub log_root: Option<PathBuf>,
    pub quiet: bool,
    pub format: Format,
    pub stop_timeout: Option<Duration>,
    pub directory: PathBuf,
}

/// As the keeper gets it: all paths absolute.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    pub socket: PathBuf,
    pub log_root: PathBuf,
    pub quiet: bool,
    pub format: Format,
    pub stop_timeout: Option<Duration>,
    pub directory: PathBuf,
    /// To be told, but no reason not to start.
    pub warning: Option<String>,
}

/// Returns only when it didn't work.
pub fn carry_out(settings: &Settings, screen: &mut Screen) -> io::Result<Exit> {
    let checked = match check(settings) {
        Ok(checked) => checked,
        Err(words) => {
            screen.complain(words)?;
            return Ok(Exit::NotReached);
        }
    };
    if let Some(warning) = &checked.warning {
        let _ = screen.complain(format_args!("warning: {warning}"));
    }
    if !checked.quiet {
        // A full disk behind it keeps no service from running.
        let _ = write!(screen.err, "{}", greeting(&checked));
    }
    let error = exec(&checked);
    screen.complain(format_args!(
        "cannot start the keeper from /proc/self/exe: {}",
        plain(&error)
    ))?;
    Ok(Exit::NotReached)
}

/// The first line, laid out as the supervisor's own that follow it.
fn greeting(checked: &Checked) -> String {
    let text = format!(
        "supervising {}; logs are in {}; Ctrl-C stops all",
        checked.directory.display(),
        checked.log_root.display()
    );
    let time = jiff::Timestamp::now();
    match checked.format {
        Format::Text => format!("outlast      * {text}\n"),
        Format::Stamped => format!("{time:.6} outlast      * {text}\n"),
        Format::Json => {
            let told = Told {
                time: &format!("{time:.6}"),
                service: "outlast",
                stream: Stream::Supervisor,
                level: Some("info"),
                text: &text,
                cut: false,
            };
            told.line()
        }
    }
}

/// Becomes the keeper.
pub fn exec(checked: &Checked) -> io::Error {
    keeper(checked).exec()
}

fn keeper(checked: &Checked) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(KEEPER).arg("supervise");
    command.arg("--socket").arg(&checked.socket);
    command.arg("--log-root").arg(&checked.log_root);
    if checked.quiet {
        command.arg("--quiet");
    }
    if checked.format != Format::Text {
        command.arg("--log-format").arg(checked.format.name());
    }
    if let Some(timeout) = checked.stop_timeout {
        let ms = timeout.as_millis().to_string();
        command.arg("--stop-timeout").arg(ms);
    }
    command.arg(&checked.directory);
    command
}

fn check(settings: &Settings) -> Result<Checked, String> {
    let directory = absolute(&settings.directory)?;
    let warning = look_into(&directory)?;
    let socket = absolute(&paths::place_for_socket(settings.socket.as_deref()).map_err(as_words)?)?;
    check_socket(&socket, settings.socket.is_some(), &directory)?;
    let log_root = match &settings.log_root {
        Some(root) => absolute(root)?,
        None => paths::log_root().map_err(as_words)?,
    };
    // One that can't be made or written is told later, and costs the files only.
    if fs::metadata(&log_root).is_ok_and(|found| !found.is_dir()) {
        let shown = log_root.display();
        return Err(format!(
            "{shown}, where the logs are to be, is not a directory; name another place with --log-root"
        ));
    }
    Ok(Checked {
        socket,
        log_root,
        quiet: settings.quiet,
        format: settings.format,
        stop_timeout: settings.stop_timeout,
        directory,
        warning,
    })
}

fn as_words(refusal: paths::Refusal) -> String {
    refusal.to_string()
}

/// Links are left as they are, so that a directory that is one may be pointed elsewhere later.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {}", path.display(), plain(&error)))
}

/// A warning when there is nothing to supervise. A service taken for a directory of services would
/// get a `supervise/` in each of its folders, so it is refused; but not where it holds services too.
fn look_into(directory: &Path) -> Result<Option<String>, String> {
    let shown = directory.display();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{shown} does not exist; run: mkdir -p {shown}"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(format!(
                "{shown} is not a directory; name the one that holds the service directories"
            ));
        }
        Err(error) => return Err(format!("cannot read {shown}: {}", plain(&error))),
    };
    let services = entries
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().as_bytes().starts_with(b"."))
        .filter(|entry| entry.path().is_dir())
        .filter(|entry| entry.file_name() != OsStr::new("supervise"))
        .map(|entry| entry.path())
        .collect::<Vec<_>>();
    let holds_services = services
        .iter()
        .any(|path| path.file_name() != Some(OsStr::new("log")) && is_service(path));
    if is_service(directory) && !holds_services {
        return Err(format!(
            "{shown} is one service; name the directory that holds it: outlast supervise {}",
            directory.parent().unwrap_or(directory).display()
        ));
    }
    Ok(services.is_empty().then(|| {
        format!("{shown} holds no services yet; each directory made in it becomes one at once")
    }))
}

fn is_service(directory: &Path) -> bool {
    ["run", "service.toml"]
        .iter()
        .any(|file| directory.join(file).is_file())
}

/// It can be made, and nobody serves it.
fn check_socket(socket: &Path, named: bool, directory: &Path) -> Result<(), String> {
    let shown = socket.display();
    let bytes = socket.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(format!(
            "the socket's path is too long ({bytes} bytes, the kernel takes {SOCKET_PATH_BYTES_MAX}): \
             {shown}; name a shorter one with --socket"
        ));
    }
    let parent = socket.parent().unwrap_or(Path::new("/"));
    if !named {
        paths::claim(socket).map_err(|error| {
            format!(
                "cannot make {} for the control socket: {}; name another place with --socket",
                parent.display(),
                plain(&error)
            )
        })?;
        // Somebody else may have been faster in /tmp.
        paths::control_socket(None).map_err(as_words)?;
    }
    if !parent.is_dir() {
        let parent = parent.display();
        return Err(format!(
            "{parent}, where the socket is to be, is not a directory; run: mkdir -p {parent}"
        ));
    }
    if fs::metadata(socket).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(format!(
            "{shown}, where the socket is to be, is there and is no socket; \
             name another path with --socket"
        ));
    }
    make_room(socket, directory)?;
    match served_by(socket) {
        None => Ok(()),
        Some(words) => Err(format!(
            "{shown} is served by {words} already; end it with 'outlast shutdown --socket {shown}', \
             or name another socket with --socket"
        )),
    }
}

/// A supervisor whose keeper was killed is asked to end; its services go on, and ours takes them over.
/// Anybody else stays.
fn make_room(socket: &Path, directory: &Path) -> Result<(), String> {
    let until = Instant::now() + DEATH_IS_NOTICED;
    loop {
        match step_down(socket, directory) {
            Answer::Stays => return Ok(()),
            // It may be about to find out.
            Answer::HasKeeper if Instant::now() < until => std::thread::park_timeout(PAUSE),
            Answer::HasKeeper => return Ok(()),
            Answer::Refuses(words) => {
                return Err(format!(
                    "the supervisor at {} has lost its keeper and does not make room: {words}; \
                     end it with 'outlast shutdown --socket {0}'",
                    socket.display()
                ));
            }
            Answer::Goes(pid) => {
                let gone = PidFd::open(pid).map_or(true, |it| it.ends_within(PATIENCE * 2));
                return match gone {
                    true => Ok(()),
                    false => Err(format!(
                        "the supervisor (pid {pid}) that lost its keeper does not end; \
                         run: kill -9 {pid}"
                    )),
                };
            }
        }
    }
}

enum Answer {
    /// Nobody there, or nobody who knows what we ask for.
    Stays,
    HasKeeper,
    Refuses(String),
    Goes(i32),
}

fn step_down(socket: &Path, directory: &Path) -> Answer {
    let Ok(mut client) = Client::connect(socket) else {
        return Answer::Stays;
    };
    if client.read_hello(PATIENCE).is_err() {
        return Answer::Stays;
    }
    let answer = client.ask(Request {
        v: VERSION,
        id: 0,
        verb: Verb::StepDown,
        names: vec![directory.to_string_lossy().into_owned()],
        wait: true,
        timeout_ms: u64::try_from(PATIENCE.as_millis()).ok(),
        lines: None,
        binary: None,
    });
    match (answer.map(|answer| answer.error), client.pid()) {
        (Ok(None), Some(pid)) => Answer::Goes(pid),
        (Ok(Some(trouble)), _) if trouble.code == "has-keeper" => Answer::HasKeeper,
        (Ok(Some(trouble)), _)
            if trouble.code == "other-directory" || trouble.code == "leaving" =>
        {
            Answer::Refuses(trouble.message)
        }
        (Ok(_) | Err(_), _) => Answer::Stays,
    }
}

/// Who answers there, in words. None for no socket, and for one that a dead supervisor left.
fn served_by(socket: &Path) -> Option<String> {
    let mut client = Client::connect(socket).ok()?;
    // The hello may not come, and then the kernel still knows who listens.
    let listener = client
        .listener()
        .map(|pid| format!(" (pid {pid})"))
        .unwrap_or_default();
    Some(match client.read_hello(PATIENCE) {
        Ok(hello) => format!("a supervisor (pid {})", hello.pid),
        Err(_) => format!("somebody who is no outlast of this version{listener}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, Fake, React};
    use super::*;
    use std::os::unix::net::UnixListener;

    fn settings(directory: &Path, socket: &Path) -> Settings {
        Settings {
            socket: Some(socket.to_path_buf()),
            log_root: Some("logs".into()),
            quiet: true,
            format: Format::Text,
            stop_timeout: Some(Duration::from_millis(1500)),
            directory: directory.to_path_buf(),
        }
    }

    fn refused(settings: &Settings) -> String {
        check(settings).expect_err("refused")
    }

    #[test]
    fn the_keeper_gets_absolute_paths_and_its_own_name() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("web")).expect("mkdir");
        let socket = dir.path().join("control");
        let checked = check(&settings(dir.path(), &socket)).expect("fine");
        assert_eq!(checked.warning, None);
        assert!(checked.log_root.is_absolute());
        let keeper = keeper(&checked);
        assert_eq!(keeper.get_program(), "/proc/self/exe");
        let arguments: Vec<_> = keeper
            .get_args()
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        assert_eq!(arguments[0], "supervise");
        assert_eq!(
            arguments[1..3],
            ["--socket".to_owned(), socket.display().to_string()]
        );
        assert_eq!(arguments[3], "--log-root");
        assert_eq!(
            arguments[5..],
            [
                "--quiet",
                "--stop-timeout",
                "1500",
                dir.path().to_str().expect("text")
            ]
        );
    }

    #[test]
    fn a_directory_that_cannot_be_supervised_is_told_with_the_cure() {
        let dir = tempfile::tempdir().expect("tempdir");
        let socket = dir.path().join("control");
        let words = refused(&settings(&dir.path().join("gone"), &socket));
        assert!(words.contains("does not exist; run: mkdir -p /"), "{words}");
        fs::write(dir.path().join("file"), "").expect("write");
        let words = refused(&settings(&dir.path().join("file"), &socket));
        assert!(words.contains("is not a directory"), "{words}");
    }

    #[test]
    fn what_stands_in_the_place_of_the_socket_or_of_the_logs_is_kept_and_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let [services, file] = ["services", "file"].map(|name| dir.path().join(name));
        fs::create_dir(&services).expect("mkdir");
        fs::write(&file, "precious").expect("write");
        for place in [&file, &services] {
            let words = refused(&settings(&services, place));
            assert!(words.contains("is no socket; name another path"), "{words}");
        }
        let mut settings = settings(&services, &dir.path().join("control"));
        settings.log_root = Some(file.clone());
        let words = refused(&settings);
        assert!(
            words.contains("is not a directory; name another"),
            "{words}"
        );
        assert_eq!(fs::read(&file).expect("read"), b"precious");
    }

    #[test]
    fn an_empty_directory_is_warned_about_and_a_single_service_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let services = dir.path().join("services");
        fs::create_dir_all(services.join(".hidden")).expect("mkdir");
        let settings = settings(&services, &dir.path().join("control"));
        let warning = check(&settings).expect("fine").warning.expect("a warning");
        assert!(warning.contains("holds no services yet"), "{warning}");
        fs::write(services.join("run"), "#!/bin/sh\n").expect("write");
        fs::create_dir(services.join("log")).expect("mkdir");
        fs::write(services.join("log/run"), "#!/bin/sh\n").expect("write");
        let words = refused(&settings);
        let cure = format!("outlast supervise {}", dir.path().display());
        assert!(words.ends_with(&cure), "{words}");
        fs::create_dir(services.join("web")).expect("mkdir");
        fs::write(services.join("web/run"), "#!/bin/sh\n").expect("write");
        assert_eq!(check(&settings).expect("fine").warning, None);
    }

    #[test]
    fn the_first_line_says_where_the_logs_are_and_how_to_end_it() {
        let line = greeting(&Checked {
            socket: "/run/s".into(),
            log_root: "/var/log/outlast".into(),
            quiet: false,
            format: Format::Text,
            stop_timeout: None,
            directory: "/etc/service".into(),
            warning: None,
        });
        let wanted = "outlast      * supervising /etc/service; logs are in /var/log/outlast; \
                      Ctrl-C stops all\n";
        assert_eq!(line, wanted);
    }

    #[test]
    fn a_socket_path_that_the_kernel_would_refuse_is_told_with_its_length() {
        let dir = tempfile::tempdir().expect("tempdir");
        let long = dir.path().join("x".repeat(SOCKET_PATH_BYTES_MAX));
        let words = refused(&settings(dir.path(), &long));
        assert!(
            words.contains("too long") && words.contains("--socket"),
            "{words}"
        );
        let words = refused(&settings(dir.path(), &dir.path().join("no/control")));
        assert!(words.contains("mkdir -p /"), "{words}");
    }

    #[test]
    fn a_second_supervisor_is_refused_and_told_the_pid_of_the_first() {
        let dir = tempfile::tempdir().expect("tempdir");
        let server = Fake::answering(|_| React::HangUp);
        let words = refused(&settings(dir.path(), &server.path));
        assert!(
            words.contains(&format!("a supervisor (pid {})", fake::PID)),
            "{words}"
        );
        assert!(words.contains("--socket"), "{words}");
    }

    #[test]
    fn whoever_else_holds_the_socket_is_named_by_pid() {
        let dir = tempfile::tempdir().expect("tempdir");
        let server = Fake::greeting("220 smtp");
        let words = refused(&settings(dir.path(), &server.path));
        assert!(
            words.contains(&format!("(pid {})", std::process::id())),
            "{words}"
        );
    }

    #[test]
    fn a_socket_left_by_a_dead_supervisor_is_no_hindrance() {
        let dir = tempfile::tempdir().expect("tempdir");
        let socket = dir.path().join("control");
        drop(UnixListener::bind(&socket).expect("bind"));
        assert!(check(&settings(dir.path(), &socket)).is_ok());
    }
}
