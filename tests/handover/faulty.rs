//! An outlast with a fault, for tests of `outlast upgrade`: it is examined and holds as any other,
//! but its supervisor is not fit. Which fault it has is told by the file's name, so a test copies
//! it: `mute` never says a word, `dying` ends at once, `babbling` talks nonsense without end, `garbled`
//! can't say whether it is fit, `blind` can't read the book. As process 1 it boots as any other.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use outlast::ipc::wire::RECORD_BYTES_MAX;
use outlast::os::fds;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let binary = std::env::current_exe().unwrap_or_default();
    let fault = binary.file_name().and_then(|name| name.to_str());
    let part = args.first().and_then(|part| part.to_str());
    let rest = args.get(1..).unwrap_or_default();
    match (part, fault) {
        (Some("outlast-super"), Some("mute")) => loop {
            std::thread::park();
        },
        (Some("outlast-super"), Some("dying")) => std::process::abort(),
        (Some("outlast-super"), Some("babbling")) => babble(),
        (Some("outlast-super"), _) => ExitCode::from(outlast::supervisor::main(rest)),
        (Some("outlast-check"), Some("garbled")) => {
            println!("fine");
            ExitCode::SUCCESS
        }
        (Some("outlast-check"), _) => ExitCode::from(outlast::supervisor::fitness::main(rest)),
        (Some("outlast-scribe"), _) => {
            ExitCode::from(u8::try_from(outlast::scribe::run(rest)).unwrap_or(1))
        }
        (Some("outlast-launch"), _) => outlast::launch::carry::main(),
        (Some("outlast-keeper"), Some("blind"))
            if rest.first().is_some_and(|word| word == "resume") =>
        {
            // As one does that has not understood the book: back to the old binary's file.
            let Some((book, old)) = rest.get(1).zip(rest.get(2)) else {
                return ExitCode::FAILURE;
            };
            let path = format!("/proc/self/fd/{}", old.to_string_lossy());
            let error = Command::new(path)
                .arg0("outlast-keeper")
                .arg("return")
                .args([book, old])
                .args(rest.get(3..).unwrap_or_default())
                .exec();
            eprintln!("no way back: {error}");
            ExitCode::FAILURE
        }
        (Some("outlast-keeper"), _) => ExitCode::from(outlast::keeper::main(rest)),
        (Some("outlast-stage"), _) => ExitCode::from(outlast::boot::main(rest)),
        _ if rest == ["init"] => outlast::cli::main(args),
        _ => ExitCode::FAILURE,
    }
}

/// Nonsense of all lengths, as fast as the keeper takes it, for as long as it does.
fn babble() -> ExitCode {
    let Some(keeper) = fds::inherited(3) else {
        return ExitCode::FAILURE;
    };
    let mut ready = [PollFd::new(keeper.as_fd(), PollFlags::POLLOUT)];
    for length in (1..=RECORD_BYTES_MAX).cycle() {
        match fds::send(keeper.as_fd(), &vec![u8::MAX; length], &[]) {
            Ok(()) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => drop(poll(&mut ready, PollTimeout::NONE)),
            Err(_) => break,
        }
    }
    ExitCode::FAILURE
}
