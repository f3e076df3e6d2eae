//! What runit's programs say when a system call fails: their own words, not strerror(3)'s. Scripts
//! and people grep for them.

use nix::errno::Errno;
use std::io::Write;

/// The cause, as runit words it.
pub fn cause(errno: Errno) -> &'static str {
    match errno {
        Errno::EINTR => "interrupted system call",
        Errno::ENOMEM => "out of memory",
        Errno::ETXTBSY => "text busy",
        Errno::EIO => "input/output error",
        Errno::EEXIST => "file already exists",
        Errno::ETIMEDOUT => "timed out",
        Errno::EINPROGRESS => "operation in progress",
        Errno::EAGAIN => "temporary failure",
        Errno::EPIPE => "broken pipe",
        Errno::EPERM => "permission denied",
        Errno::EACCES => "access denied",
        Errno::ENXIO => "device not configured",
        Errno::EPROTO => "protocol error",
        Errno::EISDIR => "is a directory",
        Errno::ENOTDIR => "not a directory",
        Errno::ENOENT => "file does not exist",
        Errno::ENOSPC => "out of disk space",
        Errno::EROFS => "read-only file system",
        Errno::ENOEXEC => "exec format error",
        Errno::ELOOP => "symbolic link loop",
        Errno::EBADF => "file descriptor not open",
        Errno::ECHILD => "no child processes",
        Errno::EFAULT => "bad address",
        Errno::EBUSY => "device busy",
        Errno::EXDEV => "cross-device link",
        Errno::EINVAL => "invalid argument",
        Errno::ENFILE => "system cannot open more files",
        Errno::ENOTTY => "not a tty",
        Errno::EFBIG => "file too big",
        Errno::ESPIPE => "unseekable descriptor",
        Errno::EMLINK => "too many links",
        Errno::ESRCH => "no such process",
        Errno::E2BIG => "argument list too long",
        Errno::ENAMETOOLONG => "file name too long",
        Errno::ENOTEMPTY => "directory not empty",
        Errno::EUSERS => "too many users",
        Errno::EDQUOT => "disk quota exceeded",
        Errno::ESTALE => "stale NFS file handle",
        Errno::ENOLCK => "no locks available",
        Errno::ENOSYS => "system call not available",
        Errno::ECONNREFUSED => "connection refused",
        Errno::EHOSTUNREACH => "host unreachable",
        Errno::ENETUNREACH => "network unreachable",
        Errno::EMSGSIZE => "message too long",
        Errno::EOPNOTSUPP => "operation not supported",
        Errno::ENOTBLK => "not a block device",
        Errno::EDOM => "input out of range",
        Errno::ERANGE => "output out of range",
        Errno::EADDRINUSE => "address already used",
        Errno::EADDRNOTAVAIL => "address not available",
        Errno::ENOBUFS => "out of buffer space",
        Errno::EHOSTDOWN => "host down",
        Errno::ENETDOWN => "network down",
        Errno::ENOTCONN => "not connected",
        Errno::ENOTSOCK => "not a socket",
        Errno::EDESTADDRREQ => "destination address required",
        _ => "unknown error",
    }
}

/// One line on stderr by one write(2), so that lines of several programs don't mix.
pub fn complain(parts: &[&[u8]]) {
    let mut line = parts.concat();
    line.push(b'\n');
    // There is nobody to tell.
    let _ = std::io::stderr().write_all(&line);
}
