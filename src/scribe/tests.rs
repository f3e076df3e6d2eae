use super::link;
use super::slot::Slot;
use crate::ipc::scribe::{Asked, Attach, DATAGRAM_BYTES_MAX, FromScribe, ToScribe};
use crate::log::Stamp;
use crate::os::fds;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A scribe in a thread, and us as its supervisor.
struct Supervisor {
    socket: OwnedFd,
    scribe: JoinHandle<nix::Result<()>>,
    token: u64,
}

impl Supervisor {
    fn start() -> Supervisor {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let scribe = std::thread::spawn(move || link::serve(theirs, None, None));
        Supervisor {
            socket,
            scribe,
            token: 0,
        }
    }

    fn say(&self, message: &ToScribe) {
        self.say_with(message, &[]);
    }

    fn say_with(&self, message: &ToScribe, fds: &[&OwnedFd]) {
        let bytes = serde_json::to_vec(message).unwrap();
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        while fds::send(self.socket.as_fd(), &bytes, &fds).is_err() {
            let mut wait = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
            poll(&mut wait, PollTimeout::NONE).unwrap();
        }
    }

    fn hear(&self) -> FromScribe {
        let mut wait = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut wait, PollTimeout::NONE).unwrap();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let received = fds::receive(self.socket.as_fd(), &mut buffer).unwrap();
        assert_ne!(received.bytes, 0, "the scribe is gone");
        serde_json::from_slice(&buffer[..received.bytes]).unwrap()
    }

    /// A service's pipe, attached; both ends as the keeper holds them.
    fn attach(&self, id: u32, dir: &Path) -> (OwnedFd, File) {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        self.attach_as(id, dir, Stamp::None, &reader);
        (reader, writer.into())
    }

    fn attach_as(&self, id: u32, dir: &Path, stamp: Stamp, reader: &OwnedFd) {
        let attach = Attach {
            id,
            name: format!("service-{id}"),
            dir: dir.to_str().unwrap().to_owned(),
            stamp,
            size: 1_000_000,
            keep: 10,
        };
        self.say_with(&ToScribe::Attach(attach), &[reader]);
    }

    /// The last lines; also a way to know that all said before has been done.
    fn tail(&mut self, id: u32, current: bool) -> Vec<String> {
        self.token += 1;
        let token = self.token;
        self.say(&ToScribe::Tail {
            token,
            id,
            asked: Asked {
                lines: 100,
                current,
                from_ns: 0,
                to_ns: 0,
            },
        });
        loop {
            match self.hear() {
                FromScribe::Tail {
                    token: of, lines, ..
                } if of == token => return lines,
                FromScribe::Tail { .. }
                | FromScribe::Here
                | FromScribe::Ended { .. }
                | FromScribe::Detached { .. }
                | FromScribe::Trouble { .. }
                | FromScribe::Mended { .. } => {}
            }
        }
    }

    /// Until the log has a lane: before that, an answer is empty.
    fn wait_for(&mut self, id: u32, line: &str) {
        let begun = std::time::Instant::now();
        while !self.tail(id, true).iter().any(|found| found == line) {
            assert!(begun.elapsed() < PATIENCE, "{line:?} did not come");
        }
    }

    fn finish(self) {
        self.say(&ToScribe::Finish { within_ms: 0 });
        self.scribe.join().unwrap().unwrap();
    }

    fn die(self) {
        drop(self.socket);
        self.scribe.join().unwrap().unwrap();
    }
}

fn current(dir: &Path) -> String {
    fs::read_to_string(dir.join("current")).unwrap()
}

#[test]
fn the_last_line_of_a_run_is_there_without_a_newline_too() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("root/web");
    let mut supervisor = Supervisor::start();
    let (_reader, mut writer) = supervisor.attach(1, &dir);
    supervisor.say(&ToScribe::RunStarts { id: 1 });
    writer.write_all(b"one\ntwo").unwrap();
    supervisor.say(&ToScribe::RunEnded { id: 1 });
    supervisor.wait_for(1, "two");
    assert_eq!(current(&dir), "one\ntwo\n");
    supervisor.finish();
}

#[test]
fn each_run_has_its_own_lines_however_short_it_was() {
    let place = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::start();
    let (_reader, mut writer) = supervisor.attach(1, place.path());
    supervisor.say(&ToScribe::RunStarts { id: 1 });
    writer.write_all(b"first\n").unwrap();
    supervisor.wait_for(1, "first");
    supervisor.say(&ToScribe::RunEnded { id: 1 });
    for n in 0..300 {
        // What the finish script says is in nobody's run.
        writer
            .write_all(format!("finish {n}\n").as_bytes())
            .unwrap();
        if n % 2 == 0 {
            while !current(place.path()).contains(&format!("finish {n}\n")) {
                std::thread::yield_now();
            }
        }
        supervisor.say(&ToScribe::RunStarts { id: 1 });
        if n % 3 > 0 {
            writer.write_all(format!("run {n}").as_bytes()).unwrap();
        }
        supervisor.say(&ToScribe::RunEnded { id: 1 });
        let lines = supervisor.tail(1, false);
        let mine: Vec<_> = lines
            .iter()
            .filter(|line| line.starts_with("run"))
            .collect();
        match n % 3 {
            0 => assert_eq!(mine, [""; 0]),
            _ => assert_eq!(mine, [&format!("run {n}")]),
        }
        if n % 2 == 0 {
            assert_eq!(lines.len(), mine.len(), "{lines:?}");
        }
    }
    supervisor.finish();
}

#[test]
fn trouble_is_told_once_and_its_end_too_and_nothing_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let in_the_way = place.path().join("root");
    fs::write(&in_the_way, "").unwrap();
    let dir = in_the_way.join("web");
    let supervisor = Supervisor::start();
    let (_reader, mut writer) = supervisor.attach(7, &dir);
    let FromScribe::Trouble { id: 7, message, .. } = supervisor.hear() else {
        panic!("no trouble told");
    };
    assert!(
        message.contains("root/web") && message.contains("ENOTDIR"),
        "{message}"
    );
    writer.write_all(b"one\n").unwrap();
    fs::remove_file(&in_the_way).unwrap();
    assert_eq!(supervisor.hear(), FromScribe::Mended { id: 7 });
    supervisor.finish();
    assert_eq!(current(&dir), "one\n");
}

#[test]
fn a_directory_that_another_process_holds_is_waited_for() {
    use crate::log::{dir, settings::SCRIBE};
    let place = tempfile::tempdir().unwrap();
    let held = dir::open(place.path(), &SCRIBE, Duration::ZERO).unwrap();
    let supervisor = Supervisor::start();
    let (_reader, mut writer) = supervisor.attach(7, place.path());
    writer.write_all(b"one\n").unwrap();
    let FromScribe::Trouble { id: 7, message, .. } = supervisor.hear() else {
        panic!("no trouble told");
    };
    assert!(
        message.contains(&format!("(pid {})", std::process::id())),
        "{message}"
    );
    assert_eq!(current(place.path()), "");
    drop(held);
    assert_eq!(supervisor.hear(), FromScribe::Mended { id: 7 });
    supervisor.finish();
    assert_eq!(current(place.path()), "one\n");
}

#[test]
fn a_log_in_trouble_that_has_nothing_to_write_delays_no_end() {
    let place = tempfile::tempdir().unwrap();
    let in_the_way = place.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let supervisor = Supervisor::start();
    let _pipe = supervisor.attach(1, &in_the_way);
    assert!(matches!(supervisor.hear(), FromScribe::Trouble { .. }));
    let begun = std::time::Instant::now();
    supervisor.finish();
    assert!(begun.elapsed() < link::LEAVE_WITHIN / 2);
}

#[test]
fn what_is_in_the_pipes_is_written_at_the_finish() {
    let place = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::start();
    let mut pipes = Vec::new();
    for id in 0..50 {
        let dir = place.path().join(id.to_string());
        let (reader, mut writer) = supervisor.attach(id, &dir);
        writer.write_all(b"whole\nhalf").unwrap();
        pipes.push((reader, writer, dir));
    }
    supervisor.finish();
    for (_, _, dir) in &pipes {
        assert_eq!(current(dir), "whole\nhalf\n");
    }
}

#[test]
fn a_line_goes_on_where_a_lost_supervisors_scribe_left_it() {
    let place = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::start();
    let (reader, mut writer) = supervisor.attach(1, place.path());
    writer.write_all(b"one\nha").unwrap();
    supervisor.die();
    assert_eq!(current(place.path()), "one\nha");
    writer.write_all(b"lf\nthree\n").unwrap();
    let supervisor = Supervisor::start();
    supervisor.attach_as(1, place.path(), Stamp::Iso, &reader);
    supervisor.finish();
    let text = current(place.path());
    let (before, last) = text.split_at("one\nhalf\n".len());
    assert_eq!(before, "one\nhalf\n");
    assert!(last.ends_with(" three\n"), "{last}");
}

#[test]
fn a_detached_log_is_written_out_and_let_go() {
    let place = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::start();
    let (reader, mut writer) = supervisor.attach(1, place.path());
    writer.write_all(b"one\ntwo").unwrap();
    supervisor.say(&ToScribe::Detach { id: 1 });
    // Its lock is free when another log of the same directory can be written.
    supervisor.attach_as(2, place.path(), Stamp::None, &reader);
    while fs::read(place.path().join("current")).unwrap_or_default() != b"one\ntwo\n" {
        std::thread::yield_now();
    }
    writer.write_all(b"three\n").unwrap();
    supervisor.wait_for(2, "three");
    assert_eq!(current(place.path()), "one\ntwo\nthree\n");
    supervisor.finish();
}

#[test]
fn attaching_again_changes_the_settings_or_the_directory() {
    let place = tempfile::tempdir().unwrap();
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    let mut supervisor = Supervisor::start();
    let (reader, mut writer) = supervisor.attach(1, &a);
    writer.write_all(b"one\n").unwrap();
    supervisor.wait_for(1, "one");
    supervisor.attach_as(1, &a, Stamp::Human, &reader);
    supervisor.attach_as(1, &b, Stamp::None, &reader);
    while !b.join("current").exists() {
        supervisor.tail(1, true);
    }
    writer.write_all(b"two\n").unwrap();
    supervisor.wait_for(1, "two");
    assert_eq!((current(&a), current(&b)), ("one\n".into(), "two\n".into()));
    supervisor.finish();
}

#[test]
fn a_service_that_floods_does_not_keep_another_from_being_heard() {
    let place = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::start();
    let (loud_reader, mut loud) = supervisor.attach(1, &place.path().join("loud"));
    let (_reader, mut quiet) = supervisor.attach(2, &place.path().join("quiet"));
    let flood = std::thread::spawn(move || {
        let text = "x".repeat(119) + "\n";
        let block = text.repeat(500);
        while loud.write_all(block.as_bytes()).is_ok() {}
    });
    for n in 0..20 {
        writeln!(quiet, "{n}").unwrap();
        supervisor.wait_for(2, &n.to_string());
    }
    supervisor.say(&ToScribe::Detach { id: 1 });
    supervisor.tail(2, true);
    drop(loud_reader);
    flood.join().unwrap();
    supervisor.finish();
}

#[test]
fn a_pipe_without_writers_is_let_be() {
    let place = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::start();
    let (reader, mut writer) = supervisor.attach(1, place.path());
    writer.write_all(b"bye").unwrap();
    drop(writer);
    drop(reader);
    supervisor.wait_for(1, "bye");
    supervisor.finish();
}

#[test]
fn nonsense_on_the_link_is_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::start();
    for nonsense in [
        &b"{"[..],
        b"\xff\x00",
        &[b'x'; 80_000],
        br#"{"do":"dance"}"#,
    ] {
        let _ = fds::send(supervisor.socket.as_fd(), nonsense, &[]);
    }
    supervisor.say(&ToScribe::RunStarts { id: 99 });
    assert_eq!(supervisor.tail(99, false), [""; 0]);
    let (_reader, mut writer) = supervisor.attach(1, place.path());
    writer.write_all(b"fine\n").unwrap();
    supervisor.wait_for(1, "fine");
    supervisor.finish();
}

/// A directory whose lane hangs in open(2) until somebody writes to the FIFO: a processor is to
/// take up what its predecessor left, and that is no file.
fn hanging_log(dir: &Path) -> std::path::PathBuf {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("config"), "!cat\n").unwrap();
    let fifo = dir.join("@400000006b001a2c1dcd6500.u");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    fifo
}

#[test]
fn a_disk_that_hangs_delays_no_log_on_another() {
    let place = tempfile::tempdir().unwrap();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: no second file system");
        return;
    };
    let mut supervisor = Supervisor::start();
    let fifo = hanging_log(other.path());
    let (_hanging, mut into_hanging) = supervisor.attach(1, other.path());
    into_hanging.write_all(b"later\n").unwrap();
    while !other.path().join("current").exists() {
        std::thread::yield_now();
    }
    let (_reader, mut writer) = supervisor.attach(2, place.path());
    for n in 0..20 {
        writeln!(writer, "{n}").unwrap();
        supervisor.wait_for(2, &n.to_string());
    }
    assert_eq!(fs::metadata(other.path().join("current")).unwrap().len(), 0);
    fs::write(&fifo, "").unwrap();
    supervisor.wait_for(1, "later");
    supervisor.finish();
}

#[test]
fn an_idle_log_is_small() {
    // Besides: its name, its directory's name, and a place in two tables.
    let bytes = size_of::<Slot>();
    assert!(bytes <= 448, "{bytes}");
}

#[test]
fn a_log_that_is_let_go_of_does_not_wait_for_a_processor_for_long() {
    for command in ["!exit 3", "!sleep 1000"] {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("config"), format!("s10\n{command}\n")).unwrap();
        let mut scribe = Supervisor::start();
        let (_reader, mut writer) = scribe.attach(1, place.path());
        writer.write_all(b"one one\ntwo two\n").unwrap();
        scribe.wait_for(1, "two two");
        writer.write_all(b"three three\nfour four\n").unwrap();
        scribe.say(&ToScribe::Detach { id: 1 });
        while scribe.hear() != (FromScribe::Detached { id: 1 }) {}
        let current = fs::read_to_string(place.path().join("current")).unwrap();
        assert_eq!(current, "two two\nthree three\nfour four\n", "{command}");
        scribe.finish();
    }
}

#[test]
fn what_has_no_newline_yet_is_shown_as_such() {
    let place = tempfile::tempdir().unwrap();
    let mut scribe = Supervisor::start();
    let (_reader, mut writer) = scribe.attach(1, place.path());
    scribe.say(&ToScribe::RunStarts { id: 1 });
    writer.write_all(b"ready\nname: ").unwrap();
    scribe.wait_for(1, "name: ");
    let asked = Asked {
        lines: 1,
        current: true,
        from_ns: 0,
        to_ns: 0,
    };
    let (token, id) = (7_000, 1);
    scribe.say(&ToScribe::Tail { token, id, asked });
    let answer = scribe.hear();
    let FromScribe::Tail {
        lines, unfinished, ..
    } = answer
    else {
        panic!("{answer:?}");
    };
    assert_eq!((lines, unfinished), (vec!["name: ".to_owned()], true));
    let current = fs::read_to_string(place.path().join("current")).unwrap();
    assert_eq!(current, "ready\n", "it is still to come");
    scribe.say(&ToScribe::RunEnded { id: 1 });
    while scribe.hear() != (FromScribe::Ended { id: 1 }) {}
    assert_eq!(scribe.tail(1, false), ["ready", "name: "]);
    scribe.finish();
}

#[test]
fn a_scribe_that_was_not_told_of_a_run_knows_its_lines_by_their_time() {
    let place = tempfile::tempdir().unwrap();
    let lines = ["10:00:00", "10:00:05", "10:00:06", "10:00:07"];
    let text = lines.map(|time| format!("2026-11-20T{time}.00000 at {time}\n"));
    fs::write(place.path().join("current"), text.concat()).unwrap();
    let scribe = Supervisor::start();
    let (reader, _writer) = nix::unistd::pipe().unwrap();
    scribe.attach_as(1, place.path(), Stamp::Iso, &reader);
    // 2026-11-20T10:00:00Z
    let at = |second: u64| (1_795_168_800 + second) * 1_000_000_000;
    for (current, from, to, expected) in [
        (true, 0, None, &lines[..]),
        (true, 5, None, &lines[1..]),
        (false, 5, Some(6), &lines[1..3]),
        (true, 8, None, &[]),
    ] {
        let asked = Asked {
            lines: 10,
            current,
            from_ns: at(from),
            to_ns: to.map_or(0, at),
        };
        let (token, id) = (from, 1);
        // Until the log has a lane an answer is empty.
        let begun = std::time::Instant::now();
        loop {
            scribe.say(&ToScribe::Tail { token, id, asked });
            let FromScribe::Tail { lines, file, .. } = scribe.hear() else {
                continue;
            };
            let expected: Vec<String> = expected
                .iter()
                .map(|time| format!("2026-11-20T{time}.00000 at {time}"))
                .collect();
            if lines == expected {
                assert_eq!(file.is_some(), !lines.is_empty(), "nothing is not known");
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{lines:?}");
        }
    }
    scribe.finish();
}
