//! The only unsafe code: system calls that nix lacks, and the child's side of a fork.
//!
//! Every wrapper speaks owned descriptors, typed pids and `io::Result`; each unsafe block names the
//! contract it relies on. Nothing here decides, retries or logs. Called by `os` and the keeper.
#![allow(unsafe_code)]

mod memory;
mod signals;

pub use memory::{give_back_memory, keep_heap_small, let_go_of_program};
use nix::unistd::Pid;
pub use signals::{Signals, changed_signals, default_faults};
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Takes over a descriptor that the kernel or our parent gave us as a bare number.
///
/// None when the number is not an open descriptor.
pub fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD reads a flag and has no other effect; a bad number is EBADF.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the number is open (just asked) and, by this function's purpose, owned by nobody
    // else: it comes from a received message or was inherited at exec.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// pidfd_open(2), Linux 5.3; close-on-exec by itself.
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed; the kernel returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just created by the kernel for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// pidfd_send_signal(2), Linux 5.1: hits the process that the pidfd was opened for or nobody.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the null siginfo asks the kernel to fill in what kill(2) would; no memory is passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether a number means any process, thread, process group or session, as seen from here. F_SETOWN
/// asks for just that: since Linux 4.14 it refuses a number of which the kernel knows nothing (f_setown
/// in fs/fcntl.c). Otherwise it sets who gets SIGIO from `file`, of which nobody should want that.
pub fn is_number_in_use(file: BorrowedFd<'_>, number: Pid) -> bool {
    // SAFETY: an integer is passed, no memory.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, number.as_raw()) };
    done == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Whether the other end of a unix socket has not read all that was sent (SIOCOUTQ, unix(7)).
pub fn unread(socket: BorrowedFd<'_>) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int to the live local that is pointed to.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    done == 0 && bytes > 0
}

/// Bytes that can be read from a pipe now (FIONREAD, pipe(7)).
pub fn readable(pipe: BorrowedFd<'_>) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int to the live local that is pointed to.
    let done = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    match done {
        0 => usize::try_from(bytes).unwrap_or(0),
        _ => 0,
    }
}

/// A part of a file in memory, shared with it: what is stored there outlives this process.
#[derive(Debug)]
struct Mapping {
    start: ptr::NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// `at` is a multiple of the page size. An error when the file ends before.
    fn new(file: BorrowedFd<'_>, at: u64, bytes: usize) -> io::Result<Mapping> {
        let end = u64::try_from(bytes).ok().and_then(|b| at.checked_add(b));
        let size = nix::sys::stat::fstat(file)?.st_size;
        let inside = end.is_some_and(|end| u64::try_from(size).is_ok_and(|size| end <= size));
        let at = libc::off_t::try_from(at).map_err(io::Error::other)?;
        if !inside || bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the kernel chooses a free range of addresses; nothing of ours lies there.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                at,
            )
        };
        let start = ptr::NonNull::new(start.cast()).filter(|_| start != libc::MAP_FAILED);
        let start = start.ok_or_else(io::Error::last_os_error)?;
        Ok(Mapping { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that mmap gave us, and whoever borrowed from it is gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: plain memory that belongs to no thread; what may be done with it is up to the two types
// around it.
unsafe impl Send for Mapping {}
// SAFETY: as above; they give out atomic words, or bytes by the borrow checker's rules.
unsafe impl Sync for Mapping {}

/// Shared memory as words that may be read and written at any time, by other processes too.
#[derive(Debug)]
pub struct SharedWords(Mapping);

impl SharedWords {
    /// Errors: the file is too short, or there is no address space left.
    pub fn map(file: BorrowedFd<'_>, at: u64, words: usize) -> io::Result<SharedWords> {
        Mapping::new(file, at, words.saturating_mul(size_of::<AtomicU64>())).map(SharedWords)
    }

    pub fn words(&self) -> &[AtomicU64] {
        let words = self.0.bytes / size_of::<AtomicU64>();
        // SAFETY: the range is mapped and a page's beginning is aligned for words; every access is
        // atomic, so that writers elsewhere are no data race. The caller's rule is that the file is
        // never made shorter.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr().cast(), words) }
    }
}

/// Shared memory as bytes, for one owner at a time.
#[derive(Debug)]
pub struct SharedBytes(Mapping);

impl SharedBytes {
    /// Nobody else may touch this part of the file as long as it is mapped, and the file is never
    /// made shorter. Errors: the file is too short, or there is no address space left.
    pub fn map(file: BorrowedFd<'_>, at: u64, bytes: usize) -> io::Result<SharedBytes> {
        Mapping::new(file, at, bytes).map(SharedBytes)
    }
}

impl std::ops::Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is mapped; by the rule of `map` nobody writes to it but through us.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.bytes) }
    }
}

impl std::ops::DerefMut for SharedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for reading, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.bytes) }
    }
}

/// Rust's start-up code ignores SIGPIPE, and what is ignored stays so over exec: a service would
/// then write into broken pipes for ever. To be called before an exec that is not [`spawn`]'s.
pub fn default_sigpipe() {
    // SAFETY: SIG_DFL installs no handler, so nothing of ours can run inside a signal.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// What the program was started with, noted before Rust's start-up code opens /dev/null in place of
/// standard descriptors that were closed, and ignores SIGPIPE: bits 0 to 2 for the descriptors that
/// were closed, [`SIGPIPE_WAS_IGNORED`] for the signal.
static AT_START: AtomicU8 = AtomicU8::new(0);
const SIGPIPE_WAS_IGNORED: u8 = 8;

#[used]
// SAFETY: the section holds pointers to functions that the C start-up code calls once, before main
// and while there is one thread; `note_start` is such a function and never unwinds.
#[unsafe(link_section = ".init_array")]
static NOTE_START: extern "C" fn() = note_start;

extern "C" fn note_start() {
    let mut noted = 0;
    for fd in 0..3 {
        // SAFETY: F_GETFD reads a flag and has no other effect; a bad number is EBADF.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            noted |= 1 << fd;
        }
    }
    // SAFETY: sigaction is plain integers, pointers that may be null and a mask: all-zero is a value.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action only the old one is written, to a live local.
    unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), &mut before) };
    if before.sa_sigaction == libc::SIG_IGN {
        noted |= SIGPIPE_WAS_IGNORED;
    }
    AT_START.store(noted, Ordering::Relaxed);
    // Rust's start-up code ends a process whose closed descriptors it can't fill from /dev/null; a
    // machine without /dev would end with its process 1. The lowest free number is what open takes.
    // A container's first process is left to that code where it can.
    for _ in (0..3).filter(|fd| noted & (1 << fd) != 0) {
        // SAFETY: getpid has no arguments and can't fail; open gets a NUL-terminated path.
        unsafe {
            if libc::getpid() == 1 && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) < 0 {
                libc::open(c"/".as_ptr(), libc::O_RDONLY);
            }
        }
    }
}

/// Closes those of descriptors 0 to 2 that were closed when the program was started, and gives
/// SIGPIPE back the meaning that it had: for a program whose whole purpose is to exec another one.
pub fn as_started() {
    let noted = AT_START.load(Ordering::Relaxed);
    for fd in (0..3).filter(|fd| noted & (1 << fd) != 0) {
        // SAFETY: it is the /dev/null of Rust's start-up code, which nobody has a handle to but
        // the standard streams; those take a closed one for an empty one.
        unsafe { libc::close(fd) };
    }
    if noted & SIGPIPE_WAS_IGNORED == 0 {
        default_sigpipe();
    }
}

/// The environment as it is, malformed and doubled entries included (environ(7)).
pub fn environment() -> Vec<CString> {
    // SAFETY: this is how environ(7) declares it.
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    let mut found = Vec::new();
    // SAFETY: environ is null or a null-terminated array of NUL-terminated strings; nothing of
    // ours writes to it, so it is as the kernel made it.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            found.push(CStr::from_ptr(*entry).to_owned());
            entry = entry.add(1);
        }
    }
    found
}

/// nice(2): adds to the nice value.
pub fn nice(added: i32) -> io::Result<()> {
    // SAFETY: __errno_location is this thread's own errno; -1 is a level as well as an error, so
    // errno is what tells them apart (nice(2)).
    unsafe {
        *libc::__errno_location() = 0;
        if libc::nice(added) == -1 && *libc::__errno_location() != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Makes a terminal the controlling one of this session, whose leader we are (TIOCSCTTY, tty(4)).
pub fn control(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the argument is a number, not a pointer.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Switches the loopback interface on (netdevice(7)); the kernel gives it its addresses.
pub fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: ifreq is characters and a union of plain data: all-zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *place = libc::c_char::from_ne_bytes([*byte]);
    }
    // SAFETY: both calls read and write the live local that they get, which is of the type that
    // they expect; the flags are what SIOCGIFFLAGS has put into the union.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The path that execve(2) was given when this program was started (getauxval(3)).
pub fn executed_as() -> Option<&'static OsStr> {
    // SAFETY: no memory is passed; the kernel's word or 0 comes back.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if path.is_null() {
        return None;
    }
    // SAFETY: AT_EXECFN points to a NUL-terminated string that the kernel has put above the stack;
    // it stays there as long as the process does, and nobody writes to it.
    Some(OsStr::from_bytes(
        unsafe { CStr::from_ptr(path) }.to_bytes(),
    ))
}

/// What a reaped process used (getrusage(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub user_us: u64,
    pub system_us: u64,
    pub peak_kib: u64,
}

/// wait4(2) without waiting: the raw status and usage when the child has ended, None while it
/// lives. ECHILD is an error.
pub fn reap(pid: Pid) -> io::Result<Option<(i32, Usage)>> {
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which all-zero is a value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals of the types that wait4 fills.
    let done = unsafe { libc::wait4(pid.as_raw(), &mut status, libc::WNOHANG, &mut used) };
    match done {
        0 => Ok(None),
        error if error < 0 => Err(io::Error::last_os_error()),
        _ => Ok(Some((
            status,
            Usage {
                user_us: microseconds(used.ru_utime),
                system_us: microseconds(used.ru_stime),
                peak_kib: u64::try_from(used.ru_maxrss).unwrap_or(0),
            },
        ))),
    }
}

fn microseconds(time: libc::timeval) -> u64 {
    let whole = u64::try_from(time.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000);
    whole.saturating_add(u64::try_from(time.tv_usec).unwrap_or(0))
}

/// A process to be made, everything prepared: between fork and exec nothing may allocate.
pub struct Child<'a> {
    pub program: &'a CStr,
    pub argv: &'a [CString],
    pub environment: &'a Environment,
    /// Become a session leader.
    pub session: bool,
    /// Signals that we ignore stay ignored, SIGPIPE and those that a parent handles excepted.
    pub keep_ignored: bool,
    /// Signals that are not as by default in this process.
    pub changed: Signals,
    pub directory: Option<BorrowedFd<'a>>,
    /// For stdin, stdout, stderr; None keeps ours.
    pub standard: [Option<BorrowedFd<'a>>; 3],
    /// Placed as descriptor 3, kept over the exec.
    pub extra: Option<BorrowedFd<'a>>,
    /// Where a failed step is reported: placed as descriptor 4 and kept over the exec when
    /// `keep_report`, else closed by it.
    pub report: BorrowedFd<'a>,
    pub keep_report: bool,
    /// The limit of open files that the child gets back.
    pub nofile: (u64, u64),
    /// What is written to its oom_score_adj; nothing when empty.
    pub oom: &'a [u8],
    /// Numbers of the steps for the report, in the order session, directory, descriptors, exec.
    pub steps: [u8; 4],
    /// None: the child gets a copy of our whole table of open files.
    pub shares: Option<Shares<'a>>,
}

/// Until it has copied our table's lowest numbers, and added `bit` to an eventfd, none may change.
pub struct Shares<'a> {
    /// The first number that it does not need.
    pub below: u32,
    pub settled: BorrowedFd<'a>,
    pub bit: u64,
}

/// The environment as execve(2) wants it; made once, since the keeper's never changes.
pub struct Environment {
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Environment {
    pub fn of_this_process() -> Environment {
        use std::os::unix::ffi::OsStringExt;
        let mut strings = Vec::new();
        for (name, value) in std::env::vars_os() {
            let mut text = name.into_vec();
            text.push(b'=');
            text.extend(value.into_vec());
            // A NUL can't come from the kernel's own environment block.
            if let Ok(text) = CString::new(text) {
                strings.push(text);
            }
        }
        let mut pointers: Vec<_> = strings.iter().map(|text| text.as_ptr()).collect();
        pointers.push(ptr::null());
        Environment {
            _strings: strings,
            pointers,
        }
    }
}

/// Forks and execs. The pid comes back as soon as the fork is done; how the exec went is told
/// through `report`: closed without a byte when it worked, else step, errno (see `os::step`).
pub fn spawn(child: &Child<'_>) -> io::Result<Pid> {
    let mut argv: Vec<*const libc::c_char> = child.argv.iter().map(|text| text.as_ptr()).collect();
    argv.push(ptr::null());
    let parent = Pid::this();
    let all = [u64::MAX; 16];
    let mut before = [0u64; 16];
    // All signals are held back over the fork: a handler of ours that ran in the child before
    // its exec would write into the pipe we share with it.
    // SAFETY: sigset_t is at most 128 bytes on Linux; both arrays are that large and outlive the
    // calls.
    unsafe {
        libc::sigprocmask(
            libc::SIG_SETMASK,
            all.as_ptr().cast(),
            before.as_mut_ptr().cast(),
        );
    }
    // SAFETY: this process has one thread (the keeper's rule), so the child is a whole copy; it
    // only makes async-signal-safe calls before exec or _exit. Given no stack, clone(2) copies ours as
    // fork(2) does; what fork(3) sets right for the library is needed by none of those calls.
    let pid = unsafe {
        match child.shares {
            None => libc::fork(),
            Some(_) => {
                let (flags, none) = (libc::CLONE_FILES | libc::SIGCHLD, 0usize);
                libc::syscall(libc::SYS_clone, flags, none, none, none, none) as libc::pid_t
            }
        }
    };
    if pid == 0 {
        // SAFETY: we are the fresh child; argv and the environment are null-terminated arrays of
        // pointers into strings that live on in this copy of the address space.
        unsafe { in_child(child, &argv, parent) }
    }
    let error = io::Error::last_os_error();
    // SAFETY: restores the mask saved above.
    unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, before.as_ptr().cast(), ptr::null_mut());
    }
    if pid < 0 {
        Err(error)
    } else {
        Ok(Pid::from_raw(pid))
    }
}

/// The child's side: prepared system calls only.
///
/// # Safety
/// To be called in the child right after fork, with `argv` null-terminated.
unsafe fn in_child(child: &Child<'_>, argv: &[*const libc::c_char], parent: Pid) -> ! {
    let [session, directory, descriptors, exec] = child.steps;
    let report = child.report.as_raw_fd();
    // SAFETY: every call below is async-signal-safe and gets numbers or pointers to live memory;
    // all signals are blocked until the mask is cleared, when no handler is left.
    unsafe {
        if let Some(shares) = &child.shares {
            let (all, flag) = (u32::MAX, libc::CLOSE_RANGE_UNSHARE);
            let own = libc::syscall(libc::SYS_close_range, shares.below, all, flag);
            // Before Linux 5.9 there is no such call; then a whole copy does.
            if own < 0 && libc::unshare(libc::CLONE_FILES) < 0 {
                fail(report, descriptors);
            }
            let bit = shares.bit.to_ne_bytes();
            libc::write(shares.settled.as_raw_fd(), bit.as_ptr().cast(), bit.len());
        }
        // Until its exec it is nothing that a successor of a killed keeper could find, so it ends
        // with the keeper (PR_SET_PDEATHSIG(2const)); it may have gone before that call.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent.as_raw() {
            libc::_exit(111);
        }
        child.changed.reset(child.keep_ignored);
        if child.session && libc::setsid() < 0 {
            fail(report, session);
        }
        if let Some(fd) = child.directory
            && libc::fchdir(fd.as_raw_fd()) < 0
        {
            fail(report, directory);
        }
        let limit = libc::rlimit {
            rlim_cur: child.nofile.0,
            rlim_max: child.nofile.1,
        };
        // A refusal leaves the child with more files than it had; no reason not to start it.
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        // For want of /proc the child keeps ours; no reason not to start it either.
        if !child.oom.is_empty() {
            let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
            if file >= 0 {
                libc::write(file, child.oom.as_ptr().cast(), child.oom.len());
                libc::close(file);
            }
        }
        // The keeper opens nothing below 5, so no target here is another one's source.
        for (target, source) in (0..).zip(child.standard) {
            if let Some(source) = source
                && libc::dup2(source.as_raw_fd(), target) < 0
            {
                fail(report, descriptors);
            }
        }
        if let Some(source) = child.extra
            && libc::dup2(source.as_raw_fd(), 3) < 0
        {
            fail(report, descriptors);
        }
        if child.keep_report && libc::dup2(report, 4) < 0 {
            fail(report, descriptors);
        }
        let none = [0u64; 16];
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr().cast(), ptr::null_mut());
        // The last thing, since it would be kept over the exec: by now its output tells whose it is.
        libc::prctl(libc::PR_SET_PDEATHSIG, 0);
        libc::execve(
            child.program.as_ptr(),
            argv.as_ptr(),
            child.environment.pointers.as_ptr(),
        );
        fail(report, exec)
    }
}

/// Reports the step with errno and ends, with the code that runit's children end with.
///
/// # Safety
/// To be called in the child only.
unsafe fn fail(report: RawFd, step: u8) -> ! {
    // SAFETY: __errno_location is this thread's own errno; write gets a live buffer and its
    // length; _exit runs no handlers of the parent.
    unsafe {
        let errno = (*libc::__errno_location()).to_ne_bytes();
        let record = [step, errno[0], errno[1], errno[2], errno[3]];
        libc::write(report, record.as_ptr().cast(), record.len());
        libc::_exit(111)
    }
}

/// A descriptor of our own in tokio's event loop.
///
/// Errors: outside a runtime, or when the kernel can't poll such a descriptor.
pub fn in_event_loop(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: register asks that the value keep its descriptor open and its own until it is
    // dropped from the AsyncFd; an OwnedFd does.
    Ok(unsafe { tokio::io::unix::AsyncFd::register(fd)? })
}
