//! Whether there is room for the threads that a supervisor makes as it starts.

use std::sync::{Arc, Mutex};
use std::{io, thread};

/// Two that write our own lines, and the one that waits for disks.
const THREADS: usize = 3;

/// As many as will be wanted: of the crates that make them one panics when it can't.
pub fn can_be_made() -> Result<(), String> {
    let wanted = Arc::new(Mutex::new(()));
    let all_there = wanted.lock();
    let mut threads = Vec::new();
    let mut made = Ok(());
    for _ in 0..THREADS {
        let wait = Arc::clone(&wanted);
        let thread = thread::Builder::new().spawn(move || drop(wait.lock()));
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => made = Err(error),
        }
    }
    drop(all_there);
    for thread in threads {
        let _ = thread.join();
    }
    made.map_err(|error: io::Error| {
        format!(
            "cannot make a thread: {error}; the limit of processes is used up (ulimit -u, or pids.max \
             of the cgroup)"
        )
    })
}
