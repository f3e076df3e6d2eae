//! The control socket's door: who comes in, how much they may say, and that nobody is waited for.
//!
//! A task a connection reads requests and writes answers; what they ask for is decided in the main
//! loop (`requests`). Peer credentials decide: root and the supervisor's own user may.

use crate::ipc::control::{
    CONNECTIONS_MAX, Hello, ID_MAX, REQUEST_BYTES_MAX, Request, Response, Trouble, UNANSWERED_MAX,
    UNREAD_SECONDS_MAX, VERSION,
};
use crate::os::kill_point;
use nix::unistd::{Uid, geteuid};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

mod refused;

use refused::Refused;

/// Between two tries to open a socket that could not be opened.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// When nobody could be let in for so long, mostly for want of descriptors, a successor with fresh
/// ones may do better.
const SHUT_MAX: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(UNREAD_SECONDS_MAX);

/// A request and the way back.
pub struct Ask {
    pub request: Request,
    pub answer: mpsc::UnboundedSender<Response>,
}

/// Why the socket could not be opened.
#[derive(Debug)]
pub enum DoorError {
    /// A living supervisor answers there.
    Taken,
    Io {
        what: &'static str,
        error: io::Error,
    },
}

/// A listening socket that a predecessor left with the keeper.
pub struct Left {
    pub socket: OwnedFd,
    /// Of its path, when it was bound.
    pub identity: (u64, u64),
}

pub enum Opened {
    /// Clients that came while there was nobody are waiting there.
    Inherited(UnixListener),
    Fresh(UnixListener),
}

/// The predecessor's socket as long as its path leads to it, else a new one. Must be called in the
/// event loop.
pub fn open(path: &Path, left: Option<Left>) -> Result<Opened, DoorError> {
    let Some(left) = left else {
        return bind(path).map(Opened::Fresh);
    };
    if identity(path) != Some(left.identity) {
        match bind(path) {
            Ok(listener) => return Ok(Opened::Fresh(listener)),
            Err(error) => tracing::error!(
                "{} is not our socket any more, and can't be replaced: {error}",
                path.display()
            ),
        }
    }
    let inherit = |socket: OwnedFd| {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    inherit(left.socket)
        .map(Opened::Inherited)
        .map_err(|error| DoorError::Io {
            what: "take it over",
            error,
        })
}

/// Tries again until the socket can be bound, then serves it.
pub async fn open_late(
    path: PathBuf,
    asks: mpsc::UnboundedSender<Ask>,
    notices: watch::Receiver<Option<Trouble>>,
) -> io::Result<()> {
    loop {
        tokio::time::sleep(TRY_AGAIN).await;
        if let Ok(listener) = bind(&path) {
            tracing::warn!("the control socket {} is open now", path.display());
            return serve(listener, asks, notices).await;
        }
    }
}

/// Binds the socket, in place of one that nobody answers on any more.
fn bind(path: &Path) -> Result<UnixListener, DoorError> {
    let failed = |what| move |error| DoorError::Io { what, error };
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(failed("make its directory"))?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(DoorError::Taken),
        // So it is too with a file that is no socket at all.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if !std::fs::metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
                let error = io::Error::other("what stands there is no socket");
                return Err(failed("replace it")(error));
            }
            std::fs::remove_file(path).map_err(failed("remove the old one"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look whether it is in use")(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed("bind it"))?;
    // Others may connect, to be told that they may not; credentials decide, not the mode.
    let open_to_all = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(path, open_to_all).map_err(failed("set its mode"))?;
    Ok(listener)
}

impl std::fmt::Display for DoorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DoorError::Taken => write!(f, "a supervisor already answers there"),
            DoorError::Io { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

/// The socket's identity, so that at the end only our own is removed.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path)
        .ok()
        .map(|found| (found.dev(), found.ino()))
}

/// Accepts as long as somebody takes the requests; then ends when all answers are written. An error
/// when nobody can be let in any more.
pub async fn serve(
    listener: UnixListener,
    asks: mpsc::UnboundedSender<Ask>,
    notices: watch::Receiver<Option<Trouble>>,
) -> io::Result<()> {
    serve_at_most(CONNECTIONS_MAX, listener, asks, notices).await
}

async fn serve_at_most(
    max: usize,
    listener: UnixListener,
    asks: mpsc::UnboundedSender<Ask>,
    notices: watch::Receiver<Option<Trouble>>,
) -> io::Result<()> {
    let mut shut_since: Option<Instant> = None;
    let mut connections = JoinSet::new();
    // It wakes who has waited longest first.
    let make_room = Arc::new(Notify::new());
    let mut refused = Refused::default();
    loop {
        let accepted = tokio::select! {
            () = at(refused.due()) => {
                for told in refused.count(Instant::now()) {
                    tracing::warn!("{told}");
                }
                continue;
            }
            accepted = listener.accept(), if connections.len() < max => accepted,
            Some(_) = connections.join_next() => continue,
            () = asks.closed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                shut_since = None;
                if let Ok(peer) = stream.peer_cred()
                    && !may(peer.uid())
                    && let Some(told) = refused.came(peer.uid(), Instant::now())
                {
                    tracing::warn!("{told}");
                }
                // A connection that breaks is the client's affair.
                let (asks, make_room) = (asks.clone(), Arc::clone(&make_room));
                let notices = notices.clone();
                let served = async move {
                    drop(connection(stream, asks, &notices, &make_room).await);
                };
                connections.spawn(served);
            }
            Err(error) => {
                let since = *shut_since.get_or_insert_with(|| {
                    tracing::warn!("the control socket could not accept a client: {error}");
                    Instant::now()
                });
                if since.elapsed() > SHUT_MAX {
                    return Err(error);
                }
                // Mostly for want of descriptors: accept(2) would fail again at once, for ever. Only
                // this task pauses; connections that are open are served meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
        if connections.len() >= max {
            make_room.notify_one();
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn may(uid: u32) -> bool {
    uid == 0 || Uid::from_raw(uid) == geteuid()
}

async fn connection(
    stream: UnixStream,
    asks: mpsc::UnboundedSender<Ask>,
    notices: &watch::Receiver<Option<Trouble>>,
    make_room: &Notify,
) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let (read, mut write) = stream.into_split();
    if !may(peer.uid()) {
        let message = format!(
            "user id {} may not control this supervisor; only root and user id {} may",
            peer.uid(),
            geteuid()
        );
        return write_all(&mut write, &refusal(0, "not-allowed", message)).await;
    }
    let hello = Hello {
        outlast: VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: nix::unistd::getpid().as_raw(),
    };
    write_line(&mut write, &serde_json::to_vec(&hello)?).await?;
    let (answer, mut answers) = mpsc::unbounded_channel();
    let places = Semaphore::new(UNANSWERED_MAX);
    let reading = read_requests(read, asks, answer, &places, make_room);
    let writing = async {
        while let Some(mut response) = answers.recv().await {
            response.notice.clone_from(&notices.borrow());
            write_all(&mut write, &response).await?;
            kill_point("answer-written");
            if response.id != 0 {
                places.add_permits(1);
            }
        }
        Ok(())
    };
    // The writer ends when the reader has gone and the last answer is written; a client that can't
    // be written to is not read from any more either.
    tokio::try_join!(reading, writing).map(drop)
}

/// Until a connection with nothing under way is the one to make room for others.
async fn waits_for_nothing(places: &Semaphore, make_room: &Notify) {
    let all = u32::try_from(UNANSWERED_MAX).unwrap_or(u32::MAX);
    if places.acquire_many(all).await.is_ok() {
        make_room.notified().await;
    }
}

async fn read_requests(
    mut read: OwnedReadHalf,
    asks: mpsc::UnboundedSender<Ask>,
    answer: mpsc::UnboundedSender<Response>,
    places: &Semaphore,
    make_room: &Notify,
) -> io::Result<()> {
    let mut line = Vec::new();
    let mut chunk = vec![0u8; 4096];
    loop {
        let count = tokio::select! {
            count = read.read(&mut chunk) => count?,
            () = asks.closed() => return Ok(()),
            () = waits_for_nothing(places, make_room) => return Ok(()),
        };
        if count == 0 {
            // Cut off, for all that is known: so it is not carried out, and whoever still listens hears
            // of it.
            if !line.trim_ascii().is_empty() {
                let message = "the last line is not ended, and nothing was done about it: a request \
                               ends with a newline";
                let _ = answer.send(refusal(0, "bad-request", message.into()));
            }
            return Ok(());
        }
        for part in chunk
            .get(..count)
            .unwrap_or_default()
            .split_inclusive(|byte| *byte == b'\n')
        {
            line.extend_from_slice(part);
            if line.len() > REQUEST_BYTES_MAX {
                let message = format!("a request may have {REQUEST_BYTES_MAX} bytes at most");
                let _ = answer.send(refusal(0, "too-long", message));
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                continue;
            }
            match understand(&line) {
                Ok(None) => {}
                Ok(Some(request)) => {
                    // One more may be under way; given back with its answer.
                    let Ok(place) = places.acquire().await else {
                        return Ok(());
                    };
                    place.forget();
                    if asks
                        .send(Ask {
                            request,
                            answer: answer.clone(),
                        })
                        .is_err()
                    {
                        return Ok(());
                    }
                }
                Err(message) => {
                    let _ = answer.send(refusal(0, "bad-request", message));
                }
            }
            line.clear();
        }
    }
}

/// None for an empty line.
fn understand(line: &[u8]) -> Result<Option<Request>, String> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    // The library would take an array for an object whose fields come in order.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err("not a request: it must be a JSON object; see outlast-protocol(7)".into());
    }
    match serde_json::from_slice::<Request>(line) {
        Ok(request) if request.v != VERSION => Err(format!(
            "this supervisor speaks version {VERSION}, not {}",
            request.v
        )),
        Ok(request) if !(1..=ID_MAX).contains(&request.id) => {
            Err(format!("id must be a number from 1 to 2^53 ({ID_MAX})"))
        }
        Ok(request) => Ok(Some(request)),
        Err(error) => Err(format!("not a request: {error}; see outlast-protocol(7)")),
    }
}

pub fn refusal(id: u64, code: &str, message: String) -> Response {
    let error = Some(Trouble {
        code: code.into(),
        message,
    });
    Response {
        v: VERSION,
        id,
        ok: false,
        error,
        notice: None,
        services: Vec::new(),
    }
}

async fn write_all(write: &mut OwnedWriteHalf, response: &Response) -> io::Result<()> {
    write_line(write, &serde_json::to_vec(response)?).await
}

async fn write_line(write: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    let mut line = Vec::with_capacity(bytes.len() + 1);
    line.extend_from_slice(bytes);
    line.push(b'\n');
    match tokio::time::timeout(PATIENCE, write.write_all(&line)).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_line_is_a_request_or_refused_with_words(line: Vec<u8>) {
            if let Err(words) = understand(&line) {
                prop_assert!(!words.is_empty());
            }
        }
    }

    /// Connects and reads the hello, so that the connection is known to be served.
    async fn client(path: &Path) -> UnixStream {
        let mut stream = UnixStream::connect(path).await.expect("connected");
        let mut hello = [0u8; 4096];
        assert!(stream.read(&mut hello).await.expect("a hello") > 0);
        stream
    }

    #[tokio::test]
    async fn who_is_silent_for_longest_makes_room_when_all_places_are_taken() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("socket");
        let (tell, mut asks) = mpsc::unbounded_channel();
        let (_, notices) = watch::channel(None);
        let door = tokio::spawn(serve_at_most(3, bind(&path).expect("open"), tell, notices));
        let mut busy = client(&path).await;
        busy.write_all(b"{\"v\":1,\"id\":1,\"verb\":\"stop\",\"names\":[\"web\"]}\n")
            .await
            .expect("asked");
        let ask = asks.recv().await.expect("an ask");
        let mut silent = client(&path).await;
        let _third = client(&path).await;
        let _fourth = client(&path).await;
        assert_eq!(silent.read(&mut [0u8; 8]).await.expect("an end"), 0);
        // One that waits for an answer was there longer, and still gets it.
        ask.answer
            .send(refusal(1, "ended", "it is over".into()))
            .expect("listened to");
        assert!(busy.read(&mut [0u8; 4096]).await.expect("an answer") > 0);
        drop((ask, asks));
        door.abort();
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_the_socket_is_kept() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("socket");
        std::fs::write(&path, "precious").expect("write");
        let refused = bind(&path).map(drop).expect_err("refused").to_string();
        assert!(refused.contains("no socket"), "{refused}");
        assert_eq!(std::fs::read(&path).expect("read"), b"precious");
        std::fs::remove_file(&path).expect("remove");
        // One that nobody answers on is ours to replace.
        drop(bind(&path).expect("made"));
        assert!(path.exists() && bind(&path).is_ok());
    }

    #[tokio::test]
    async fn a_last_request_that_is_not_ended_is_refused_and_not_dropped_in_silence() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("socket");
        let (tell, mut asks) = mpsc::unbounded_channel();
        let (_, notices) = watch::channel(None);
        let door = tokio::spawn(serve_at_most(3, bind(&path).expect("open"), tell, notices));
        for (sent, refused) in [
            (&br#"{"v":1,"id":1,"verb":"status"}"#[..], true),
            (b" \n ", false),
        ] {
            let mut client = client(&path).await;
            client.write_all(sent).await.expect("sent");
            client.shutdown().await.expect("shut down");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("an end");
            let told = answer.contains("bad-request") && answer.contains("newline");
            assert_eq!(told, refused, "{answer:?}");
            assert_eq!(answer.is_empty(), !refused);
        }
        assert!(asks.try_recv().is_err(), "nothing was asked");
        drop(asks);
        door.abort();
    }

    #[test]
    fn an_id_is_one_that_every_clients_numbers_hold() {
        let with = |id: u64| format!(r#"{{"v":1,"id":{id},"verb":"list"}}"#);
        for (id, fits) in [(0, false), (1, true), (ID_MAX, true), (ID_MAX + 1, false)] {
            assert_eq!(understand(with(id).as_bytes()).is_ok(), fits, "{id}");
        }
    }

    #[test]
    fn an_array_is_no_request() {
        let line = br#"[1,3,"list",[],true,null,null]"#;
        assert!(understand(line).is_err());
    }

    #[test]
    fn a_request_of_another_version_is_told_which_is_spoken() {
        let words = understand(br#"{"v":2,"id":1,"verb":"status"}"#).expect_err("version 2");
        assert!(words.contains("version 1"), "{words}");
    }

    #[test]
    fn an_unknown_verb_and_an_unknown_field_are_refused() {
        for line in [
            r#"{"v":1,"id":1,"verb":"eval"}"#,
            r#"{"v":1,"id":1,"verb":"list","x":1}"#,
        ] {
            assert!(understand(line.as_bytes()).is_err(), "{line}");
        }
    }
}
