//! Descriptors over sockets, inherited ones, and the other end of a pipe.

use crate::sys;
pub use crate::sys::{SharedBytes, SharedWords};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Most descriptors that one message carries.
pub const FDS_PER_MESSAGE_MAX: usize = 4;

/// Takes over a descriptor that our parent placed for us, and marks it close-on-exec.
/// None when the number is not open.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    let fd = sys::adopt(number)?;
    let _ = nix::fcntl::fcntl(
        &fd,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    );
    Some(fd)
}

/// One datagram with descriptors, never waiting. EAGAIN when the other side does not read.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let numbers: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        flags,
        None,
    )
    .map(drop)
}

/// What one datagram brought.
pub struct Received {
    /// Zero when the other side has closed.
    pub bytes: usize,
    pub fds: Vec<OwnedFd>,
    /// The datagram did not fit.
    pub cut: bool,
    /// Descriptors that came with it found no room; all of them are lost.
    pub short: bool,
}

/// One datagram, never waiting; its descriptors are close-on-exec.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<Received> {
    let mut space = cmsg_space!([RawFd; FDS_PER_MESSAGE_MAX]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    // No error: the record is there, and who sent it may wait for an answer.
    let short = message.flags.contains(MsgFlags::MSG_CTRUNC);
    if !short {
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                fds.extend(numbers.into_iter().filter_map(sys::adopt));
            }
        }
    }
    let cut = message.flags.contains(MsgFlags::MSG_TRUNC);
    Ok(Received {
        bytes: message.bytes,
        fds,
        cut,
        short,
    })
}

/// A descriptor of our own in tokio's event loop; an error outside of one.
pub fn in_event_loop(fd: OwnedFd) -> std::io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    sys::in_event_loop(fd)
}

/// Opens what a descriptor stands for once more, with flags of its own: a pipe's other end, or
/// the same end without sharing O_NONBLOCK. Needs /proc.
pub fn reopen(fd: impl AsFd, flags: OFlag) -> nix::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// A pipe as one descriptor that holds both ends, so that neither its reader's nor its writer's
/// death ends it.
pub fn pipe_held() -> nix::Result<OwnedFd> {
    let (reader, _writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    reopen(&reader, OFlag::O_RDWR)
}

/// Bytes that can be read from a pipe now.
pub fn readable(pipe: impl AsFd) -> usize {
    sys::readable(pipe.as_fd())
}

/// Whether the other end of a unix socket has not read all that was sent.
pub fn unread(socket: impl AsFd) -> bool {
    sys::unread(socket.as_fd())
}

/// Raises the limit of open files as far as it goes, and returns what it was.
pub fn raise_nofile(wanted: u64) -> (u64, u64) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return (1024, 4096);
    };
    if hard < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted) == Ok(()) {
        return (soft, hard);
    }
    let goal = hard.min(wanted.max(soft));
    let _: Result<(), Errno> = setrlimit(Resource::RLIMIT_NOFILE, goal, hard);
    (soft, hard)
}

/// How many open files we are allowed now.
pub fn most() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

/// Whether it leads nowhere: process 1 that was started without a console has /dev/null in its place,
/// or `/` where there is none.
pub fn stands_in(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(
        |found| match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => true,
            SFlag::S_IFCHR => found.st_rdev == makedev(1, 3),
            _ => false,
        },
    )
}
