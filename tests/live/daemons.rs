//! The examples with real daemons, each in a copy with a port and a state directory of its own.
//!
//! What only real daemons show: orphaned workers that hold a port, masters that leave their
//! session, parts that run as users of their own. Needs root and the daemons; says so otherwise.

use super::world::{World, children, comm_of, kill, lacks, lives, needs_root};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services.example/.daemons");
/// Where the examples keep their state.
const STATE: &str = "/run/outlast-example";
/// A daemon that takes longer than this for one answer does not serve.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// One example, supervised, and the port of its copy.
struct Daemon {
    world: World,
    name: &'static str,
    port: u16,
}

impl Daemon {
    /// None, with a line to say why, where it can't be tried.
    fn new(example: &str, port_there: &str, name: &'static str) -> Option<Daemon> {
        if needs_root() || lacks(name) || lacks("curl") {
            return None;
        }
        let world = World::new();
        // The daemons' own users have to get at their state in it.
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).expect("mode");
        let port = free_port();
        let state = world.path("state");
        let state = state.to_str().expect("a plain path");
        let example = Path::new(EXAMPLES).join(example);
        let files: Vec<(String, String)> = fs::read_dir(&example)
            .expect("the example")
            .map(|file| {
                let file = file.expect("a file");
                let name = file.file_name().into_string().expect("a plain name");
                let text = fs::read_to_string(file.path()).expect("text");
                assert!(!name.contains("service.toml") || text.contains(STATE));
                let text = text.replace(STATE, state);
                (name, text.replace(port_there, &port.to_string()))
            })
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        world.service(name, &files);
        Some(Daemon { world, name, port })
    }

    /// Waits for a run other than `old` whose ./check has passed.
    fn until_ready(&self, old: Option<i32>) -> i32 {
        let ready = |pid: Option<i32>, ready: bool| ready && pid.is_some() && pid != old;
        self.world
            .until(self.name, "ready", |found| ready(found.pid, found.ready))
            .pid
            .expect("a pid")
    }

    /// The first line of what it answers, to a greeting or to nothing.
    fn answer(&self, greeting: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.set_read_timeout(Some(ANSWER_TIME)).expect("timeout");
        stream.write_all(greeting.as_bytes()).expect("sent");
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .expect("an answer");
        line
    }

    /// Kills a process of the run, by which the run ends, and waits until its successor is ready.
    fn survives(&self, victim: i32) {
        let first = self.world.show(self.name).pid.expect("a pid");
        let old = self.processes();
        assert!(old.contains(&first) && old.len() > 1, "{old:?}");
        kill(victim, Signal::SIGKILL);
        self.until_ready(Some(first));
        let restarts = self.world.show(self.name).restarts;
        assert_eq!(
            restarts,
            1,
            "it met its predecessor: {:?}",
            self.world.lines(self.name)
        );
        for pid in old {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            assert!(!lives(pid), "still there: {stat:?}\n{}", self.world.said());
        }
    }

    fn stops_whole(&self) {
        let stopped = self.world.must(Verb::Stop, &[self.name]).services.remove(0);
        assert_eq!(stopped.state, State::Down);
        let left: Vec<String> = self.processes().into_iter().map(comm_of).collect();
        assert!(left.is_empty(), "{left:?}\n{}", self.world.said());
    }

    /// Everything below the keeper that is not ours.
    fn processes(&self) -> Vec<i32> {
        let mut all = self.world.descendants();
        all.retain(|pid| lives(*pid) && !comm_of(*pid).starts_with("outlast-"));
        all
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn owner(pid: i32) -> u32 {
    fs::metadata(format!("/proc/{pid}")).expect("alive").uid()
}

#[test]
fn a_killed_nginx_comes_back_serving_although_its_workers_held_the_port() {
    for example in ["runit/nginx", "toml/nginx"] {
        let Some(nginx) = Daemon::new(example, "8085", "nginx") else {
            return;
        };
        let serves = || assert!(nginx.answer("GET / HTTP/1.0\r\n\r\n").contains("200"));
        let master = nginx.until_ready(None);
        serves();
        let workers = children(master);
        assert!(workers.iter().all(|worker| owner(*worker) != 0));
        // A worker that doesn't run can't end by itself, whatever it notices.
        for worker in &workers {
            kill(*worker, Signal::SIGSTOP);
        }
        nginx.survives(master);
        serves();
        nginx.stops_whole();
    }
}

#[test]
fn a_killed_postfix_comes_back_serving() {
    let Some(postfix) = Daemon::new("runit/postfix", "10025", "postfix") else {
        return;
    };
    let master = postfix.until_ready(None);
    assert!(postfix.answer("").starts_with("220 "));
    assert!(children(master).into_iter().any(|part| owner(part) != 0));
    postfix.survives(master);
    assert!(postfix.answer("").starts_with("220 "));
    postfix.stops_whole();
}

#[test]
fn a_master_that_left_the_session_is_held_by_the_scope_tree() {
    let Some(postfix) = Daemon::new("toml/postfix", "10025", "postfix") else {
        return;
    };
    let shell = postfix.until_ready(None);
    assert!(
        children(shell)
            .into_iter()
            .any(|master| comm_of(master) == "master")
    );
    postfix.survives(shell);
    assert!(postfix.answer("").starts_with("220 "));
    postfix.stops_whole();
}

#[test]
fn a_killed_dovecot_comes_back_serving() {
    for example in ["runit/dovecot", "toml/dovecot"] {
        let Some(dovecot) = Daemon::new(example, "10143", "dovecot") else {
            return;
        };
        let master = dovecot.until_ready(None);
        assert!(dovecot.answer("").starts_with("* OK"));
        dovecot.survives(master);
        assert!(dovecot.answer("").starts_with("* OK"));
        dovecot.stops_whole();
    }
}
