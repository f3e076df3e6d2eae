//! `upgrade`: asks the supervisor to become another binary, then its successor how that went.

use super::client::{Broken, Client, plain};
use super::exit::Exit;
use super::screen::Screen;
use super::words::safe;
use crate::ipc::control::{Request, Response, VERSION, Verb};
use crate::os::paths;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the new binary may take to read everything, and the successor to answer.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two attempts to reach the successor; mostly the first one waits in its queue.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpgradeOrder {
    /// None means the program that was called.
    pub binary: Option<PathBuf>,
    pub socket: Option<PathBuf>,
}

pub fn carry_out(order: &UpgradeOrder, screen: &mut Screen) -> io::Result<Exit> {
    let binary = match found(order.binary.as_deref()) {
        Ok(binary) => binary,
        Err(words) => {
            screen.complain(words)?;
            return Ok(Exit::NotReached);
        }
    };
    let path = match paths::control_socket(order.socket.as_deref()) {
        Ok(path) => path,
        Err(refusal) => {
            screen.complain(refusal)?;
            return Ok(Exit::NoSupervisor);
        }
    };
    let taken = ask(&path, Some(&binary)).and_then(|(response, _)| match response.error {
        Some(_) => Ok((response, String::new())),
        None => how_it_went(&path),
    });
    match taken {
        Ok((response, version)) => {
            if let Some(trouble) = &response.error {
                screen.complain(safe(&trouble.message))?;
            } else {
                let version = safe(&version);
                writeln!(screen.out, "upgraded to outlast {version} ({binary})")?;
            }
            Ok(Exit::of_answer(&response))
        }
        Err(broken) => {
            screen.complain(&broken)?;
            if let Broken::NoAnswer { .. } = broken {
                screen.complain("whether it was upgraded is unknown; look: outlast status")?;
            }
            Ok(broken.exit())
        }
    }
}

/// The absolute path of the binary.
fn found(named: Option<&Path>) -> Result<String, String> {
    let found = match named {
        Some(path) => path.canonicalize(),
        None => std::env::current_exe(),
    };
    let path = found.map_err(|error| {
        let named = named.unwrap_or(Path::new("/proc/self/exe")).display();
        format!("{named}: {}", plain(&error))
    })?;
    let text = path.into_os_string().into_string();
    text.map_err(|path| format!("{path:?} is not UTF-8; rename it"))
}

/// The answer, and the version of who answered.
fn ask(path: &Path, binary: Option<&str>) -> Result<(Response, String), Broken> {
    let mut client = Client::connect(path)?;
    let response = client.ask(Request {
        v: VERSION,
        id: 0,
        verb: Verb::Upgrade,
        names: Vec::new(),
        wait: true,
        timeout_ms: u64::try_from(PATIENCE.as_millis()).ok(),
        lines: None,
        binary: binary.map(str::to_owned),
    })?;
    Ok((response, client.version().unwrap_or_default().to_owned()))
}

/// Of the successor. The old supervisor may still take a connection, which then breaks.
fn how_it_went(path: &Path) -> Result<(Response, String), Broken> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask(path, None) {
            Err(Broken::NoAnswer { .. }) if Instant::now() < until => {
                std::thread::park_timeout(PAUSE);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, Fake, React};
    use super::super::screen::Look;
    use super::*;
    use crate::ipc::control::Trouble;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn said(server: &Fake, binary: &str) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen {
            out: &mut out,
            err: &mut err,
            look: Look::default(),
        };
        let order = UpgradeOrder {
            binary: Some(binary.into()),
            socket: Some(server.path.clone()),
        };
        let exit = carry_out(&order, &mut screen).expect("printed");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (exit, text(out), text(err))
    }

    #[test]
    fn the_successor_is_asked_until_it_answers() {
        let asked = AtomicUsize::new(0);
        let server = Fake::answering(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            1 => React::HangUp,
            _ => React::Answer(Vec::new()),
        });
        let (exit, out, err) = said(&server, "/bin/sh");
        assert_eq!((exit, err.as_str()), (Exit::Success, ""));
        assert!(out.starts_with("upgraded to outlast 0.0.0 (/"), "{out}");
        let requests = server.requests();
        assert!(requests[0].binary.is_some());
        assert_eq!((requests.len(), &requests[2].binary), (3, &None));
    }

    #[test]
    fn a_refusal_is_told_and_nobody_is_asked_how_it_went() {
        let server = Fake::answering(|request| {
            let mut response = fake::response(request, Vec::new());
            response.ok = false;
            response.error = Some(Trouble {
                code: "unfit".into(),
                message: "not upgraded: it is no outlast".into(),
            });
            React::Respond(response)
        });
        let (exit, out, err) = said(&server, "/bin/sh");
        assert_eq!((exit, out.as_str()), (Exit::NotReached, ""));
        assert!(err.contains("it is no outlast"), "{err}");
        assert_eq!(server.requests().len(), 1);
    }

    #[test]
    fn a_binary_that_is_not_there_is_told_before_anybody_is_asked() {
        let server = Fake::answering(|_| React::HangUp);
        let (exit, _, err) = said(&server, "/no/such/outlast");
        assert_eq!(exit, Exit::NotReached);
        assert!(err.contains("/no/such/outlast: No such file"), "{err}");
        assert!(server.requests().is_empty());
    }
}
