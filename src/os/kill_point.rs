//! Places where a test has this process killed, as by kill -9, by the place's name.
//!
//! They are in builds with debug assertions only, which is what `cargo test` builds and runs; in a
//! release [`kill_point`] is empty and its names are not in the binary. A cargo feature would have
//! to be switched on by everybody who runs the tests, and could be left on in a build for others;
//! debug assertions are off wherever speed is wanted.
//!
//! A test names a directory in `OUTLAST_KILL_POINTS` and puts a file of the place's name there. The
//! first process that comes to the place removes the file and dies. A file with something in it
//! stays, and whoever comes there dies, until the test takes it away; with the word `hang` in it
//! they stop there and do nothing more.

#[cfg(debug_assertions)]
pub fn kill_point(name: &str) {
    kill_point_after(name, || {});
}

/// One before which a part of something is done that is otherwise done whole or not at all.
#[cfg(debug_assertions)]
pub fn kill_point_after(name: &str, part: impl FnOnce()) {
    use nix::sys::signal::{Signal, kill};
    use std::path::PathBuf;
    use std::sync::OnceLock;

    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| Some(std::env::var_os("OUTLAST_KILL_POINTS")?.into()));
    let Some(file) = directory.as_ref().map(|it| it.join(name)) else {
        return;
    };
    match std::fs::read(&file).as_deref() {
        Err(_) => return,
        Ok(b"") if std::fs::remove_file(&file).is_err() => return,
        Ok(b"hang") => loop {
            std::thread::park();
        },
        Ok(_) => {}
    }
    part();
    let _ = kill(nix::unistd::getpid(), Signal::SIGKILL);
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn kill_point(_name: &str) {}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn kill_point_after(_name: &str, _part: impl FnOnce()) {}
