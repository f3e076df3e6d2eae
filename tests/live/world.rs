//! A supervisor of our own for one test: the real binary over a temporary directory.
//!
//! A test says what services there are, asks over the control socket, and looks. When it ends, the
//! supervisor is told to end, and it is a failure if anything of it is left.

use outlast::ipc::control::{Hello, Request, Response, Service, State, VERSION, Verb};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_outlast");

/// Longest time that anything may take on a machine that is busy with all the other tests.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    dir: tempfile::TempDir,
    keeper: Option<Child>,
    socket: PathBuf,
    /// The supervisor was told to end already, or is not expected to end well.
    ended: bool,
    /// A keeper was killed, and its supervisor may still answer.
    orphaned: bool,
}

impl World {
    /// A directory without services and no supervisor yet.
    pub fn quiet() -> World {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(dir.path().join("services")).expect("services");
        World {
            socket: dir.path().join("socket"),
            dir,
            keeper: None,
            ended: false,
            orphaned: false,
        }
    }

    /// ... and a supervisor over it that answers.
    pub fn new() -> World {
        let mut world = World::quiet();
        world.supervise(&[]);
        world
    }

    pub fn supervise(&mut self, more: &[&str]) {
        self.supervise_as(Command::new(BINARY), more);
    }

    /// ... with so many descriptors at most.
    pub fn supervise_with_descriptors(&mut self, limit: u32) {
        let mut shell = Command::new("/bin/sh");
        shell.args([
            "-c",
            &format!("ulimit -n {limit}; exec \"$0\" \"$@\""),
            BINARY,
        ]);
        self.supervise_as(shell, &[]);
    }

    pub fn supervise_as(&mut self, mut command: Command, more: &[&str]) {
        let file = |name: &str| {
            let mut open = fs::OpenOptions::new();
            open.append(true).create(true).open(self.path(name))
        };
        let stderr = file("stderr").expect("stderr");
        let stdout = file("stdout").expect("stdout");
        let keeper = command
            .arg("supervise")
            .arg("--socket")
            .arg(self.socket())
            .arg("--log-root")
            .arg(self.path("log"))
            .args(more)
            .arg(self.path("services"))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("outlast");
        self.keeper = Some(keeper);
        if !self.orphaned {
            return eventually("the supervisor answers", || {
                UnixStream::connect(self.socket()).ok().map(drop)
            });
        }
        let parent = format!(" {} ", self.keeper_pid());
        eventually("the supervisor answers", || {
            let pid = hello(&self.socket())?.pid;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (_, rest) = stat.rsplit_once(") ")?;
            rest.get(1..)?.starts_with(&parent).then_some(())
        });
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Before a supervisor is there.
    pub fn put_socket_at(&mut self, path: PathBuf) {
        self.socket = path;
    }

    pub fn keeper_pid(&self) -> i32 {
        let keeper = self.keeper.as_ref().expect("a keeper");
        i32::try_from(keeper.id()).expect("pid")
    }

    /// What the supervisor said on stderr so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// Makes a service directory elsewhere and moves it in, as a whole.
    pub fn service(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let draft = self.path("draft").join(name);
        for (file, content) in files {
            write_script(&draft.join(file), content);
        }
        let place = self.path("services").join(name);
        fs::rename(&draft, &place).expect("moved in");
        place
    }

    /// A service that only has a `run`, in sh.
    pub fn run(&self, name: &str, body: &str) -> PathBuf {
        self.service(name, &[("run", &format!("#!/bin/sh\n{body}\n"))])
    }

    pub fn request(&self, request: &Request) -> Response {
        ask(&self.socket(), request)
    }

    pub fn ask(&self, verb: Verb, names: &[&str]) -> Response {
        self.request(&request(verb, names))
    }

    /// Asks and insists on success.
    pub fn must(&self, verb: Verb, names: &[&str]) -> Response {
        let response = self.ask(verb, names);
        assert!(
            response.ok,
            "{verb:?} {names:?}: {response:#?}\n{}",
            self.said()
        );
        response
    }

    /// None while the supervisor does not know it.
    pub fn find(&self, name: &str) -> Option<Service> {
        self.ask(Verb::Status, &[name]).services.into_iter().next()
    }

    pub fn show(&self, name: &str) -> Service {
        self.find(name)
            .unwrap_or_else(|| panic!("no service {name}: {}", self.said()))
    }

    /// Waits until the service is as wanted.
    pub fn until(&self, name: &str, what: &str, wanted: impl Fn(&Service) -> bool) -> Service {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(service) = self.find(name) {
                if wanted(&service) {
                    return service;
                }
                last = Some(service);
            }
            assert!(
                Instant::now() < deadline,
                "{name} never was {what}; last: {last:#?}\n{}",
                self.said()
            );
            breathe();
        }
    }

    pub fn until_up(&self, name: &str) -> i32 {
        self.until(name, "up", |service| service.state == State::Up)
            .pid
            .expect("a pid")
    }

    /// ... and until runit's clients can read it too: nothing is written any more, which would get
    /// in the way of somebody who removes the directory.
    pub fn until_up_on_disk(&self, name: &str) -> i32 {
        /// Of the 20 bytes of `supervise/status`: the process (little endian) and the state.
        const PID: std::ops::Range<usize> = 12..16;
        const RUNS: (usize, u8) = (19, 1);
        let pid = self.until_up(name);
        let status = self.path("services").join(name).join("supervise/status");
        eventually("its status is written", || {
            let status = fs::read(&status).ok()?;
            let written =
                status.get(PID)? == pid.to_le_bytes() && status.get(RUNS.0) == Some(&RUNS.1);
            written.then_some(pid)
        })
    }

    pub fn until_state(&self, name: &str, state: State) -> Service {
        self.until(name, &format!("{state:?}"), |service| {
            service.state == state
        })
    }

    /// The command line for people.
    pub fn outlast(&self, args: &[&str]) -> Output {
        Command::new(BINARY)
            .args(args)
            .env("OUTLAST_SOCKET", self.socket())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("outlast")
    }

    /// Waits until the definitions have been there for so long that they are not suspected when the
    /// supervisor is killed again and again.
    pub fn until_trusted(&self) {
        let long = |service: &Service| service.seconds > 2.5;
        eventually("all are there for a while", || {
            let all = self.ask(Verb::Status, &[]).services;
            let steady = all.iter().filter(|service| service.state == State::Up);
            let (mut count, mut young) = (0, 0);
            for service in steady {
                count += 1;
                young += usize::from(!long(service));
            }
            (count > 0 && young == 0).then_some(())
        });
    }

    /// The lines of a log without their stamps.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let current = self.path("log").join(name).join("current");
        let text = fs::read(current).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .map(|line| {
                line.split_once(' ')
                    .map_or(line, |(_, rest)| rest)
                    .to_owned()
            })
            .collect()
    }

    pub fn until_line(&self, name: &str, line: &str) {
        eventually(&format!("{name} logs {line:?}"), || {
            self.lines(name)
                .iter()
                .any(|found| found == line)
                .then_some(())
        });
    }

    /// All living processes below the keeper, services and our own.
    pub fn descendants(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut open = vec![self.keeper_pid()];
        while let Some(pid) = open.pop() {
            for child in children(pid) {
                found.push(child);
                open.push(child);
            }
        }
        found
    }

    /// The process whose comm this is.
    pub fn part(&self, comm: &str) -> i32 {
        eventually(&format!("{comm} runs"), || {
            children(self.keeper_pid())
                .into_iter()
                .find(|pid| lives(*pid) && comm_of(*pid) == comm)
        })
    }

    /// Kills the supervisor and waits until its successor answers.
    pub fn replace_supervisor(&self) {
        let old = self.part("outlast-super");
        kill(old, nix::sys::signal::Signal::SIGKILL);
        self.until_replaced(old);
    }

    pub fn until_replaced(&self, old: i32) {
        eventually("another supervisor answers", || {
            // Threads of a killed process can hold its socket open for a moment longer.
            let gone = !std::path::Path::new(&format!("/proc/{old}")).exists();
            (gone && self.answers()).then_some(())
        });
    }

    fn answers(&self) -> bool {
        hello(&self.socket()).is_some()
    }

    /// Kills the keeper alone; all that it had go on as somebody else's children.
    pub fn kill_keeper(&mut self) {
        let mut keeper = self.keeper.take().expect("a keeper");
        keeper.kill().expect("killed");
        keeper.wait().expect("waited for");
        self.orphaned = true;
    }

    /// Living processes that have to do with this world, whosever children they are.
    pub fn all_processes(&self) -> Vec<i32> {
        let ours = self.dir.path();
        let about = |pid: &i32| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let cwd = fs::read_link(proc.join("cwd")).unwrap_or_default();
            let line = fs::read(proc.join("cmdline")).unwrap_or_default();
            let named = String::from_utf8_lossy(&line).contains(&*ours.to_string_lossy());
            (cwd.starts_with(ours) || named) && lives(*pid)
        };
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(about)
            .collect()
    }

    /// TERM to the keeper; its exit code.
    pub fn end(&mut self) -> Option<i32> {
        let mut keeper = self.keeper.take().expect("a keeper");
        kill(
            i32::try_from(keeper.id()).expect("pid"),
            nix::sys::signal::Signal::SIGTERM,
        );
        self.ended = true;
        eventually("the keeper ends", || keeper.try_wait().expect("wait")).code()
    }

    /// Waits for a keeper that was told to end by other means.
    pub fn until_ended(&mut self) -> Option<i32> {
        let mut keeper = self.keeper.take().expect("a keeper");
        self.ended = true;
        eventually("the keeper ends", || keeper.try_wait().expect("wait")).code()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Leave nothing behind, whatever went wrong.
            let mut all = self.all_processes();
            if self.keeper.is_some() {
                all.push(self.keeper_pid());
                all.extend(self.descendants());
            }
            for pid in all.into_iter().rev() {
                kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            eprintln!("the supervisor said:\n{}", self.said());
            return;
        }
        if self.ended || self.keeper.is_none() {
            return;
        }
        let before = self.descendants();
        let code = self.end();
        assert_eq!(code, Some(0), "{}", self.said());
        let left: Vec<i32> = before.into_iter().filter(|pid| lives(*pid)).collect();
        assert!(left.is_empty(), "left behind: {left:?}\n{}", self.said());
    }
}

pub fn write_script(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    fs::write(path, content).expect("written");
    if content.starts_with("#!") {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("mode");
    }
}

pub fn request(verb: Verb, names: &[&str]) -> Request {
    Request {
        v: VERSION,
        id: 7,
        verb,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        wait: true,
        timeout_ms: None,
        lines: None,
        binary: None,
    }
}

pub fn ask(socket: &Path, request: &Request) -> Response {
    let stream = UnixStream::connect(socket).expect("connected");
    stream
        .set_read_timeout(Some(PATIENCE * 2))
        .expect("timeout");
    let mut line = serde_json::to_vec(request).expect("request");
    line.push(b'\n');
    (&stream).write_all(&line).expect("sent");
    let mut reader = BufReader::new(stream);
    let mut hello = String::new();
    reader.read_line(&mut hello).expect("hello");
    serde_json::from_str::<Hello>(&hello).expect("a hello");
    let mut answer = String::new();
    reader.read_line(&mut answer).expect("an answer");
    serde_json::from_str(&answer).expect("a response")
}

/// What the supervisor there says first.
fn hello(socket: &Path) -> Option<Hello> {
    let stream = UnixStream::connect(socket).ok()?;
    let mut hello = String::new();
    BufReader::new(stream).read_line(&mut hello).ok()?;
    serde_json::from_str(&hello).ok()
}

/// Whether there was an answer within that time, whatever it was.
pub fn answered_within(socket: &Path, request: &Request, ms: u64) -> bool {
    let stream = UnixStream::connect(socket).expect("connected");
    let timeout = Some(Duration::from_millis(ms));
    stream.set_read_timeout(timeout).expect("timeout");
    let mut line = serde_json::to_vec(request).expect("request");
    line.push(b'\n');
    (&stream).write_all(&line).expect("sent");
    let mut reader = BufReader::new(stream);
    let mut said = [String::new(), String::new()];
    said.iter_mut()
        .all(|line| reader.read_line(line).is_ok_and(|count| count > 0))
}

/// Looks again and again until there is something to see. The one place where tests let time pass:
/// what they look at (files, /proc, a state) has no event that a stranger could wait for.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        breathe();
    }
}

fn breathe() {
    std::thread::park_timeout(Duration::from_millis(5));
}

pub fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// Not ended, and not a zombie either.
pub fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| rest.starts_with(['Z', 'X']))
        })
        .is_some_and(|dead| !dead)
}

/// The pid that a script has written there.
pub fn pid_in(path: &Path) -> i32 {
    eventually("a pid is written", || {
        fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

pub fn comm_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

pub fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect::<Vec<i32>>()
        })
        .collect()
}

/// True, with a line to say so, when a test can't be run without root.
pub fn needs_root() -> bool {
    let missing = !nix::unistd::geteuid().is_root();
    if missing {
        println!("skipped: needs root");
    }
    missing
}

/// True, with a line to say so, when a program is not installed.
pub fn lacks(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|dir| dir.join(program).exists());
    if !found {
        println!("skipped: {program} is not installed");
    }
    !found
}
