//! A supervisor for tests: a real socket in a directory of its own, scripted answers.

use crate::ipc::control::{
    Hello, LastExit, Outcome, Request, Response, Service, State, Trouble, VERSION, Verb, Want,
};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

/// The pid that the fake supervisor says it has.
pub const PID: i32 = 4711;

/// What the fake does with a request.
pub enum React {
    /// Success with these services.
    Answer(Vec<Service>),
    /// This response, under the request's id.
    Respond(Response),
    Bytes(Vec<u8>),
    BytesThenHangUp(Vec<u8>),
    HangUp,
}

pub struct Fake {
    pub path: PathBuf,
    /// Every request, as it came in.
    pub asked: mpsc::Receiver<Request>,
    _dir: tempfile::TempDir,
}

impl Fake {
    pub fn answering(react: impl Fn(&Request) -> React + Send + 'static) -> Fake {
        let hello = Hello {
            outlast: VERSION,
            version: "0.0.0".into(),
            pid: PID,
        };
        Fake::run(Some(line(&hello)), react)
    }

    /// Says this one line, then nothing more.
    pub fn greeting(words: &str) -> Fake {
        Fake::run(Some(format!("{words}\n").into_bytes()), |_| React::HangUp)
    }

    /// Takes connections and says nothing.
    pub fn silent() -> Fake {
        Fake::run(None, |_| React::Bytes(Vec::new()))
    }

    fn run(greeting: Option<Vec<u8>>, react: impl Fn(&Request) -> React + Send + 'static) -> Fake {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("control");
        let listener = UnixListener::bind(&path).expect("bind");
        let (tell, asked) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("accept"), greeting.as_deref(), &react, &tell);
            }
        });
        Fake {
            path,
            asked,
            _dir: dir,
        }
    }

    /// The requests so far; all of them have been answered when the client is done.
    pub fn requests(&self) -> Vec<Request> {
        self.asked.try_iter().collect()
    }
}

/// One connection, until either side hangs up.
fn serve(
    stream: UnixStream,
    greeting: Option<&[u8]>,
    react: &impl Fn(&Request) -> React,
    tell: &mpsc::Sender<Request>,
) {
    let mut writer = stream.try_clone().expect("clone");
    if let Some(words) = greeting {
        let _ = writer.write_all(words);
    }
    for request in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Request = serde_json::from_str(&request).expect("a request");
        let _ = tell.send(request.clone());
        let (bytes, hang_up) = match react(&request) {
            React::Answer(services) => (line(&response(&request, services)), false),
            React::Respond(answer) => (
                line(&Response {
                    id: request.id,
                    ..answer
                }),
                false,
            ),
            React::Bytes(bytes) => (bytes, false),
            React::BytesThenHangUp(bytes) => (bytes, true),
            React::HangUp => (Vec::new(), true),
        };
        if writer.write_all(&bytes).is_err() || hang_up {
            return;
        }
    }
}

pub fn line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("JSON");
    bytes.push(b'\n');
    bytes
}

pub fn request(verb: Verb, names: &[&str]) -> Request {
    let names = names.iter().map(|name| name.to_string()).collect();
    Request {
        v: VERSION,
        id: 0,
        verb,
        names,
        wait: true,
        timeout_ms: None,
        lines: None,
        binary: None,
    }
}

pub fn response(request: &Request, services: Vec<Service>) -> Response {
    let ok = services
        .iter()
        .filter_map(|service| service.outcome.as_ref())
        .all(|outcome| outcome.ok);
    Response {
        v: VERSION,
        id: request.id,
        ok,
        error: None,
        notice: None,
        services,
    }
}

/// An answer to nothing but a mistake.
pub fn refusal(code: &str, message: &str) -> Response {
    Response {
        v: VERSION,
        id: 0,
        ok: false,
        error: Some(trouble(code, message)),
        notice: None,
        services: Vec::new(),
    }
}

pub fn trouble(code: &str, message: &str) -> Trouble {
    Trouble {
        code: code.into(),
        message: message.into(),
    }
}

pub fn reached() -> Option<Outcome> {
    Some(Outcome {
        ok: true,
        trouble: None,
    })
}

pub fn failed(code: &str, message: &str) -> Option<Outcome> {
    Some(Outcome {
        ok: false,
        trouble: Some(trouble(code, message)),
    })
}

/// Up, ready, nothing special about it.
pub fn service(name: &str) -> Service {
    Service {
        name: name.into(),
        state: State::Up,
        want: Want::Up,
        pid: Some(123),
        since: 1_795_168_800.0,
        seconds: 0.004,
        restarts: 0,
        last_exit: None,
        ready: true,
        paused: false,
        got_term: false,
        normally_down: false,
        description: None,
        next_start: None,
        problem: None,
        log_dir: None,
        leftovers: Vec::new(),
        living_on: Vec::new(),
        outcome: None,
        why: None,
    }
}

/// Not running, and that is wanted.
pub fn down(name: &str) -> Service {
    Service {
        state: State::Down,
        want: Want::Down,
        pid: None,
        ready: false,
        ..service(name)
    }
}

pub fn last_exit(code: i32) -> LastExit {
    LastExit {
        code: Some(code),
        signal: None,
        core: false,
        at: 1_795_168_799.0,
        ran: 0.2,
        pid: 41,
        oom: None,
        asked: false,
    }
}
