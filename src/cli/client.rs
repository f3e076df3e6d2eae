//! The client's end of the control socket: blocking, one connection, one request at a time.
//!
//! No async runtime here: a command lives for a millisecond, and starting one would be most of it.
//! It never repeats a request by itself, because a lost answer doesn't tell whether the command
//! was carried out; `order` knows which ones may be. Called by orders, sources and supervise.

use super::exit::Exit;
use crate::ipc::control::{Hello, NAMES_MAX, REQUEST_BYTES_MAX, Request, Response, VERSION};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A living supervisor says hello at once; one that is silent for so long is stopped or hung.
pub const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// How much longer than the request's own time-out an answer may take.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// After so long a silence we knock once more: who comes to the socket is a reason for the keeper to
/// ask whether the supervisor still serves, and one that does not is replaced.
const KNOCK: Duration = Duration::from_secs(5);

/// Longest answer in bytes: far above 100,000 services, far below all memory.
pub const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One read takes a good part of the answer about 1,000 services.
const READ_BYTES: usize = 64 * 1024;

pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    hello: Option<Hello>,
    last_id: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Broken {
    /// Nobody listens there.
    NoSupervisor {
        path: PathBuf,
        cause: io::Error,
    },
    NotAllowed {
        path: PathBuf,
        words: String,
    },
    /// Whoever listens is no supervisor that we understand.
    Stranger {
        path: PathBuf,
        words: String,
    },
    /// The connection broke, or the answer did not come in time, after the request was sent.
    NoAnswer {
        path: PathBuf,
        pid: Option<i32>,
        /// It has gone; another may have taken its place.
        gone: bool,
        cause: String,
    },
    /// The request can't be sent.
    TooLong {
        words: String,
    },
}

impl Client {
    pub fn connect(path: &Path) -> Result<Client, Broken> {
        let stream = UnixStream::connect(path).map_err(|cause| match cause.kind() {
            io::ErrorKind::PermissionDenied => Broken::NotAllowed {
                path: path.to_path_buf(),
                words: "the socket is not ours to use; only root and the supervisor's own user may"
                    .into(),
            },
            _ => Broken::NoSupervisor {
                path: path.to_path_buf(),
                cause,
            },
        })?;
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        Ok(Client {
            path: path.to_path_buf(),
            stream,
            hello: None,
            last_id: 0,
        })
    }

    /// Sends the request under an id of its own and waits for its answer. The first request goes
    /// out without waiting for the hello: it names its version, so that no supervisor can take it
    /// for something else.
    pub fn ask(&mut self, mut request: Request) -> Result<Response, Broken> {
        self.last_id += 1;
        request.id = self.last_id;
        let line = encode(&request)?;
        // A supervisor that turns us away closes early; what it said is read all the same.
        let sent = self.stream.get_ref().write_all(&line);
        if self.hello.is_none() {
            self.read_hello(HELLO_PATIENCE)?;
        }
        sent.map_err(|cause| self.gone(plain(&cause)))?;
        let patience = request
            .timeout_ms
            .map(|ms| Duration::from_millis(ms) + ANSWER_MARGIN);
        loop {
            let line = self.read_line(patience)?;
            let response: Response = serde_json::from_slice(&line).map_err(|error| {
                self.stranger(format!("its answer is not to be understood ({error})"))
            })?;
            if response.id == request.id || response.id == 0 {
                return Ok(response);
            }
        }
    }

    /// The supervisor's greeting; read once, kept for later.
    pub fn read_hello(&mut self, patience: Duration) -> Result<&Hello, Broken> {
        let line = self.read_line(Some(patience))?;
        let hello = match serde_json::from_slice::<Hello>(&line) {
            Ok(hello) if hello.outlast == VERSION => hello,
            Ok(hello) => {
                return Err(self.stranger(format!(
                    "it is outlast {} with control protocol {}, and this program speaks protocol \
                     {VERSION}: use the outlast program that belongs to it",
                    super::words::safe(&hello.version),
                    hello.outlast
                )));
            }
            Err(_) => return Err(self.turned_away(&line)),
        };
        Ok(self.hello.insert(hello))
    }

    /// The program's version, as it said hello.
    pub fn version(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.version.as_str())
    }

    /// The supervisor's process id, as it said hello.
    pub fn pid(&self) -> Option<i32> {
        self.hello.as_ref().map(|hello| hello.pid)
    }

    /// The process that made the socket, as the kernel knows it (SO_PEERCRED in unix(7)).
    pub fn listener(&self) -> Option<i32> {
        let credentials = getsockopt(self.stream.get_ref(), PeerCredentials);
        credentials.ok().map(|credentials| credentials.pid())
    }

    /// One line without its newline.
    fn read_line(&mut self, patience: Option<Duration>) -> Result<Vec<u8>, Broken> {
        let mut line = Vec::new();
        let begun = Instant::now();
        let read = loop {
            let left = patience.map(|patience| patience.saturating_sub(begun.elapsed()));
            let wait = left.map_or(KNOCK, |left| left.clamp(Duration::from_millis(1), KNOCK));
            self.set_patience(wait)?;
            let read = (&mut self.stream)
                .take((ANSWER_BYTES_MAX).saturating_sub(line.len() as u64))
                .read_until(b'\n', &mut line);
            match read {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && left.is_none_or(|left| left > wait) =>
                {
                    drop(UnixStream::connect(&self.path));
                }
                Ok(_) => break Ok(line.len()),
                Err(error) => break Err(error),
            }
        };
        match read {
            Ok(_) if line.ends_with(b"\n") => {
                line.pop();
                Ok(line)
            }
            Ok(bytes) if bytes as u64 == ANSWER_BYTES_MAX => Err(self.stranger(format!(
                "its answer is longer than {ANSWER_BYTES_MAX} bytes"
            ))),
            Ok(_) => Err(self.gone("it closed the connection".into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let seconds = super::words::span(patience.unwrap_or_default().as_secs_f64());
                Err(self.no_answer(format!("it has said nothing for {seconds}")))
            }
            Err(error) => Err(self.gone(plain(&error))),
        }
    }

    /// Instead of a hello: a refusal in a response, or something that isn't outlast.
    fn turned_away(&self, line: &[u8]) -> Broken {
        match serde_json::from_slice::<Response>(line).map(|response| response.error) {
            Ok(Some(trouble)) if Exit::of_trouble(&trouble) == Exit::NotAllowed => {
                Broken::NotAllowed {
                    path: self.path.clone(),
                    words: trouble.message,
                }
            }
            Ok(Some(trouble)) => self.stranger(trouble.message),
            Ok(None) | Err(_) => self.stranger("it is not outlast's control socket".into()),
        }
    }

    /// A zero time-out is refused by the system.
    fn set_patience(&self, patience: Duration) -> Result<(), Broken> {
        let set = self.stream.get_ref().set_read_timeout(Some(patience));
        set.map_err(|cause| self.no_answer(cause.to_string()))
    }

    fn no_answer(&self, cause: String) -> Broken {
        Broken::NoAnswer {
            path: self.path.clone(),
            pid: self.pid(),
            gone: false,
            cause,
        }
    }

    fn gone(&self, cause: String) -> Broken {
        Broken::NoAnswer {
            path: self.path.clone(),
            pid: self.pid(),
            gone: true,
            cause,
        }
    }

    fn stranger(&self, words: String) -> Broken {
        Broken::Stranger {
            path: self.path.clone(),
            words,
        }
    }
}

/// The request as one line. Checked here so that the words name the way out, which the
/// supervisor's refusal of a long line couldn't.
fn encode(request: &Request) -> Result<Vec<u8>, Broken> {
    if request.names.len() > NAMES_MAX {
        return Err(Broken::TooLong {
            words: format!(
                "{} names, at most {NAMES_MAX} in one command",
                request.names.len()
            ),
        });
    }
    let mut line = serde_json::to_vec(request).map_err(|error| Broken::TooLong {
        words: format!("cannot be written as JSON: {error}"),
    })?;
    line.push(b'\n');
    match line.len() > REQUEST_BYTES_MAX {
        true => Err(Broken::TooLong {
            words: format!(
                "{} bytes, at most {REQUEST_BYTES_MAX} in one command",
                line.len()
            ),
        }),
        false => Ok(line),
    }
}

impl Broken {
    pub fn exit(&self) -> Exit {
        match self {
            Broken::NoSupervisor { .. } | Broken::Stranger { .. } | Broken::NoAnswer { .. } => {
                Exit::NoSupervisor
            }
            Broken::NotAllowed { .. } => Exit::NotAllowed,
            Broken::TooLong { .. } => Exit::Usage,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::NoSupervisor { path, cause } => write!(
                f,
                "no supervisor answers at {} ({}): start one with 'outlast supervise DIR', \
                 or name its socket with --socket",
                path.display(),
                cause_words(cause)
            ),
            Broken::NotAllowed { path, words } => {
                write!(
                    f,
                    "not allowed at {}: {}",
                    path.display(),
                    super::words::safe(words)
                )
            }
            Broken::Stranger { path, words } => {
                write!(
                    f,
                    "cannot talk to {}: {}",
                    path.display(),
                    super::words::safe(words)
                )
            }
            Broken::NoAnswer {
                path, pid, cause, ..
            } => {
                write!(f, "no answer from the supervisor at {}", path.display())?;
                if let Some(pid) = pid {
                    write!(f, " (pid {pid})")?;
                }
                write!(f, ": {cause}")
            }
            Broken::TooLong { words } => {
                write!(
                    f,
                    "the request is too long: {words}; use a pattern such as 'web-*'"
                )
            }
        }
    }
}

/// An I/O error in lower case and without Rust's "(os error 111)".
pub fn cause_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket".into(),
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        _ => plain(error),
    }
}

/// As strerror(3) says it.
pub fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, Fake, React};
    use super::*;
    use crate::ipc::control::Verb;

    fn status() -> Request {
        fake::request(Verb::Status, &[])
    }

    #[test]
    fn an_answer_reaches_its_request_and_the_pid_is_known() {
        let server = Fake::answering(|_| React::Answer(vec![fake::service("web")]));
        let mut client = Client::connect(&server.path).expect("connects");
        let answer = client.ask(status()).expect("an answer");
        assert_eq!(answer.services[0].name, "web");
        assert_eq!(client.pid(), Some(fake::PID));
        // ... and a second one over the same connection.
        assert!(client.ask(status()).expect("an answer").ok);
    }

    #[test]
    fn answers_to_other_requests_are_passed_over() {
        let server = Fake::answering(|request| {
            let mut other = fake::response(request, vec![fake::service("other")]);
            other.id += 77;
            let ours = fake::response(request, vec![fake::service("ours")]);
            React::Bytes([fake::line(&other), fake::line(&ours)].concat())
        });
        let mut client = Client::connect(&server.path).expect("connects");
        assert_eq!(
            client.ask(status()).expect("an answer").services[0].name,
            "ours"
        );
    }

    #[test]
    fn nobody_there_is_told_with_the_way_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        let broken = Client::connect(&dir.path().join("control"))
            .err()
            .expect("nobody");
        assert_eq!(broken.exit(), Exit::NoSupervisor);
        let words = broken.to_string();
        assert!(words.starts_with("no supervisor answers at /"), "{words}");
        assert!(
            words.contains("(no such socket)") && words.contains("--socket"),
            "{words}"
        );

        let stale = dir.path().join("stale");
        drop(std::os::unix::net::UnixListener::bind(&stale).expect("bind"));
        let words = Client::connect(&stale).err().expect("nobody").to_string();
        assert!(words.contains("(connection refused)"), "{words}");
    }

    #[test]
    fn a_connection_that_breaks_before_the_answer_is_told_as_such() {
        let server = Fake::answering(|_| React::HangUp);
        let broken = Client::connect(&server.path)
            .expect("connects")
            .ask(status());
        let broken = broken.expect_err("no answer");
        assert_eq!(broken.exit(), Exit::NoSupervisor);
        let words = broken.to_string();
        assert!(words.contains("it closed the connection"), "{words}");
        assert!(words.contains(&format!("pid {}", fake::PID)), "{words}");
    }

    #[test]
    fn an_answer_cut_in_the_middle_is_no_answer() {
        let server = Fake::answering(|request| {
            let mut bytes = fake::line(&fake::response(request, vec![fake::service("web")]));
            bytes.truncate(bytes.len() / 2);
            React::BytesThenHangUp(bytes)
        });
        let broken = Client::connect(&server.path)
            .expect("connects")
            .ask(status());
        assert!(matches!(broken, Err(Broken::NoAnswer { .. })));
    }

    #[test]
    fn a_supervisor_of_another_protocol_is_not_taken_at_its_word() {
        let server = Fake::greeting(r#"{"outlast":9,"version":"7.0","pid":5}"#);
        let broken = Client::connect(&server.path)
            .expect("connects")
            .ask(status());
        let words = broken.expect_err("a stranger").to_string();
        assert!(
            words.contains("protocol 9") && words.contains("outlast 7.0"),
            "{words}"
        );
    }

    #[test]
    fn a_refusal_instead_of_a_hello_is_not_allowed() {
        let server = Fake::greeting(
            r#"{"v":1,"id":0,"ok":false,"error":{"code":"not-allowed","message":"uid 7 may not"}}"#,
        );
        let broken = Client::connect(&server.path)
            .expect("connects")
            .ask(status());
        let broken = broken.expect_err("turned away");
        assert_eq!(broken.exit(), Exit::NotAllowed);
        assert!(broken.to_string().contains("uid 7 may not"));
    }

    #[test]
    fn something_that_is_not_outlast_is_called_so() {
        let server = Fake::greeting("SSH-2.0-\x1b[31mOpenSSH");
        let broken = Client::connect(&server.path)
            .expect("connects")
            .ask(status());
        let words = broken.expect_err("a stranger").to_string();
        assert!(words.contains("not outlast's control socket"), "{words}");
    }

    #[test]
    fn a_silent_supervisor_is_given_up_after_the_time_out() {
        let server = Fake::silent();
        let mut client = Client::connect(&server.path).expect("connects");
        let broken = client
            .read_hello(Duration::from_millis(5))
            .expect_err("silence");
        assert!(
            broken
                .to_string()
                .contains("it has said nothing for 0.005 s"),
            "{broken}"
        );
    }

    #[test]
    fn more_than_one_request_can_carry_is_refused_before_it_is_sent() {
        let server = Fake::answering(|_| React::HangUp);
        let mut client = Client::connect(&server.path).expect("connects");
        let many = vec!["a".to_string(); NAMES_MAX + 1];
        let broken = client
            .ask(Request {
                names: many,
                ..status()
            })
            .expect_err("too many");
        assert_eq!(broken.exit(), Exit::Usage);
        let long = vec!["a".repeat(REQUEST_BYTES_MAX)];
        let broken = client
            .ask(Request {
                names: long,
                ..status()
            })
            .expect_err("too long");
        assert!(broken.to_string().contains("pattern"), "{broken}");
    }

    #[test]
    fn an_answer_about_ten_thousand_services_comes_through_whole() {
        let server = Fake::answering(|_| {
            React::Answer(
                (0..10_000)
                    .map(|n| fake::service(&format!("s{n}")))
                    .collect(),
            )
        });
        let answer = Client::connect(&server.path)
            .expect("connects")
            .ask(status())
            .expect("all");
        assert_eq!(answer.services.len(), 10_000);
        assert_eq!(answer.services[9_999].name, "s9999");
    }
}
