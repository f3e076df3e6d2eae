//! What the keeper says to people: lines on stderr, if they can be written at once.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;

/// A line on stderr if it can be written without waiting; a blocked terminal must not stop us.
pub fn say(line: &str) {
    write_line(&format!("outlast-keeper: {line}\n"));
}

pub fn write_line(line: &str) {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO) == Ok(1) {
        let _ = nix::unistd::write(&stderr, line.as_bytes());
    }
}
