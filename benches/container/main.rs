//! What becomes of twelve services when their container is stopped: by outlast and by others as the
//! first process, in one run and one table.
//!
//! Each contestant that is on the PATH runs in a pid namespace of its own (unshare(1)), gets the
//! same services laid out in its own way, and is sent TERM when all are up. Nothing is asserted.
//! Called by `cargo bench --bench container`; benches/README.md tells how to read it.
//!
//! The same program is the service as well: called as `run` it waits for TERM, which it obeys at
//! once.

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const SERVICES: usize = 12;
/// A container engine's usual patience; then it kills.
const GRACE: Duration = Duration::from_secs(10);
/// Longest wait for all services to be up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a service says when it is told to end.
const LAST: &str = "this is the last line";

struct Contestant {
    name: &'static str,
    /// All of them have to be on the PATH.
    programs: &'static [&'static str],
    /// The line that a container would have as its entry point; `SCAN` is the directory.
    line: &'static str,
    /// How the log of each service is kept; None is done by the supervisor.
    log: Option<&'static str>,
}

const CONTESTANTS: [Contestant; 5] = [
    Contestant {
        name: "runsvdir",
        programs: &["runsvdir", "svlogd"],
        line: "runsvdir SCAN",
        log: Some("exec svlogd -tt ./main"),
    },
    Contestant {
        name: "tini, runsvdir",
        programs: &["tini", "runsvdir", "svlogd"],
        line: "tini -- runsvdir SCAN",
        log: Some("exec svlogd -tt ./main"),
    },
    Contestant {
        name: "tini -g, runsvdir",
        programs: &["tini", "runsvdir", "svlogd"],
        line: "tini -g -- runsvdir SCAN",
        log: Some("exec svlogd -tt ./main"),
    },
    Contestant {
        name: "s6-svscan",
        programs: &["s6-svscan", "s6-log"],
        line: "s6-svscan SCAN",
        log: Some("exec s6-log t s1000000 n10 ./main"),
    },
    Contestant {
        name: "outlast",
        programs: &[],
        line: "OUTLAST supervise --quiet --socket ROOM/control --log-root ROOM/logs SCAN",
        log: None,
    },
];

/// What was seen of one of them.
struct Seen {
    told: usize,
    finished: usize,
    last_lines: usize,
    code: String,
    took: Option<Duration>,
}

fn main() -> ExitCode {
    let own = std::env::args().next().unwrap_or_default();
    if Path::new(&own)
        .file_name()
        .is_some_and(|name| name == "run")
    {
        return serve();
    }
    let mut rows = Vec::new();
    for contestant in CONTESTANTS.iter().filter(|one| one.is_present()) {
        eprintln!("measuring {} ...", contestant.name);
        match measure(contestant) {
            Ok(seen) => rows.push((contestant.name, seen)),
            Err(error) => eprintln!("{}: {error}", contestant.name),
        }
    }
    println!(
        "| first process | got TERM | `finish` ran | last line kept | exit code | time to stop |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, seen) in rows {
        let took = match seen.took {
            Some(took) => format!("{:.2} s", took.as_secs_f64()),
            None => format!("killed after {} s", GRACE.as_secs()),
        };
        println!(
            "| {name} | {} | {} | {} | {} | {took} |",
            seen.told, seen.finished, seen.last_lines, seen.code
        );
    }
    ExitCode::SUCCESS
}

/// One service: up, until it is told to end.
fn serve() -> ExitCode {
    let Ok(mut signals) = Signals::new([SIGTERM]) else {
        return ExitCode::FAILURE;
    };
    mark("up");
    signals.forever().next();
    println!("{LAST}");
    let _ = io::stdout().flush();
    mark("told");
    ExitCode::SUCCESS
}

/// The working directory is the service's, below the scan directory.
fn mark(what: &str) {
    let here = std::env::current_dir().unwrap_or_default();
    let name = here.file_name().unwrap_or_default();
    let _ = fs::write(Path::new("../..").join(what).join(name), "");
}

impl Contestant {
    fn is_present(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        self.programs
            .iter()
            .all(|program| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
    }

    fn lay_out(&self, room: &Path) -> io::Result<()> {
        for name in ["scan", "up", "told", "finished", "logs"] {
            fs::create_dir(room.join(name))?;
        }
        fs::copy(std::env::current_exe()?, room.join("run"))?;
        for number in 0..SERVICES {
            let service = room.join("scan").join(format!("s{number:02}"));
            fs::create_dir(&service)?;
            fs::hard_link(room.join("run"), service.join("run"))?;
            let finish = format!(": >../../finished/s{number:02}");
            script(&service.join("finish"), &finish)?;
            if let Some(line) = self.log {
                fs::create_dir_all(service.join("log/main"))?;
                script(&service.join("log/run"), line)?;
            }
        }
        Ok(())
    }

    fn start(&self, room: &Path) -> io::Result<Child> {
        let line = self
            .line
            .replace("SCAN", &room.join("scan").to_string_lossy())
            .replace("ROOM", &room.to_string_lossy())
            .replace("OUTLAST", env!("CARGO_BIN_EXE_outlast"));
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.arg("-Ur");
        }
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(line.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }

    fn kept(&self, room: &Path) -> usize {
        let current = |name: &str| match self.log {
            Some(_) => room.join("scan").join(name).join("log/main/current"),
            None => room.join("logs").join(name).join("current"),
        };
        let whole = |path: PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(LAST));
        let names = (0..SERVICES).map(|number| format!("s{number:02}"));
        names.filter(|name| whole(current(name))).count()
    }
}

fn script(path: &Path, line: &str) -> io::Result<()> {
    fs::write(path, format!("#!/bin/sh\n{line}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn measure(contestant: &Contestant) -> io::Result<Seen> {
    let folder = tempfile::Builder::new().prefix("container-").tempdir()?;
    let room = folder.path();
    contestant.lay_out(room)?;
    let mut container = contestant.start(room)?;
    let up = until(PATIENCE, || count(room, "up") == SERVICES);
    // What is up has to be past its supervisor's minimal run.
    std::thread::sleep(Duration::from_secs(2));
    let first = first_child(container.id());
    let (Some(first), true) = (first, up) else {
        container.kill()?;
        container.wait()?;
        return Err(io::Error::other("its services did not come up"));
    };
    let begun = Instant::now();
    let pid = nix::unistd::Pid::from_raw(first);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let ended = until(GRACE, || !matches!(container.try_wait(), Ok(None)));
    let took = ended.then(|| begun.elapsed());
    if !ended {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    }
    let status = container.wait()?;
    Ok(Seen {
        told: count(room, "told"),
        finished: count(room, "finished"),
        last_lines: contestant.kept(room),
        code: match (status.code(), status.signal()) {
            (Some(code), _) => code.to_string(),
            (None, Some(signal)) => (128 + signal).to_string(),
            (None, None) => "-".to_owned(),
        },
        took,
    })
}

fn count(room: &Path, what: &str) -> usize {
    fs::read_dir(room.join(what)).map_or(0, Iterator::count)
}

fn until(patience: Duration, mut look: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    while !look() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// unshare(1) has one child: the first process of the namespace.
fn first_child(parent: u32) -> Option<i32> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    list.split_whitespace().next()?.parse().ok()
}
