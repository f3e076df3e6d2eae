//! What a process does about signals, and what its children are to do.
#![allow(unsafe_code)]

use std::mem;
use std::ptr;

/// A set of signals, one bit each; the lowest is signal 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signals(u64);

/// Those that are ignored or have a handler in this process.
pub fn changed_signals() -> Signals {
    let mut changed = 0;
    for signal in 1..=64 {
        // SAFETY: the kernel writes one sigaction to the live local; all zeros are a valid one.
        let now = unsafe {
            let mut now: libc::sigaction = mem::zeroed();
            let done = libc::sigaction(signal, ptr::null(), &raw mut now);
            (done == 0).then_some(now)
        };
        // Two numbers are the C library's own.
        if now.is_some_and(|now| now.sa_sigaction != libc::SIG_DFL) {
            changed |= 1u64 << (signal - 1);
        }
    }
    Signals(changed)
}

impl Signals {
    /// For a child between fork and exec: these are as by default again, but for those that it inherits
    /// ignored where `keep_ignored` says so. An exec would take handlers back, but too late: one of ours
    /// that ran in the child would write into the pipe we share with it.
    ///
    /// # Safety
    /// To be called in the child only, whose signals are all blocked.
    pub(super) unsafe fn reset(self, keep_ignored: bool) {
        for signal in (1..=64).filter(|signal| self.0 & (1u64 << (signal - 1)) != 0) {
            // SAFETY: async-signal-safe calls; the kernel writes to a live local, and SIG_DFL is no
            // handler that could run.
            unsafe {
                let mut now: libc::sigaction = mem::zeroed();
                let ours = matches!(signal, libc::SIGPIPE | libc::SIGCHLD | libc::SIGTERM);
                if keep_ignored
                    && !ours
                    && libc::sigaction(signal, ptr::null(), &raw mut now) == 0
                    && now.sa_sigaction == libc::SIG_IGN
                {
                    continue;
                }
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// Takes back what Rust's start-up code does with SIGSEGV and SIGBUS. The kernel keeps from process 1
/// what somebody sends it and it has no handler for; with these it would die of them (signal(7)).
pub fn default_faults() {
    // SAFETY: SIG_DFL installs no handler, so nothing of ours can run inside a signal.
    unsafe {
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_are_ignored_or_handled_are_known() {
        let bit = |signal: i32| Signals(1 << (signal - 1));
        let has = |set: Signals, one: Signals| set.0 & one.0 != 0;
        // Rust's start-up code ignores SIGPIPE.
        assert!(has(changed_signals(), bit(libc::SIGPIPE)));
        assert!(!has(changed_signals(), bit(libc::SIGRTMAX())));
        let flag = std::sync::Arc::default();
        let id = signal_hook::flag::register(libc::SIGRTMAX(), flag).expect("a handler");
        assert!(has(changed_signals(), bit(libc::SIGRTMAX())));
        signal_hook::low_level::unregister(id);
    }
}
