//! Whether a binary is fit to take over: said by itself, before anything is changed.
//!
//! The new binary is started as `outlast-check DIR` with a copy of the keeper's book on its stdin.
//! It reads the book, the supervisor's state in it and every definition, and tells on stdout what
//! it could not read. It changes nothing. Both sides are here: [`main`] is the new binary's,
//! [`examine`] is that of a thread of the supervisor that runs.

use super::standing::Blob;
use crate::ipc::wire::SCRIBE;
use crate::ipc::wire::ledger::Ledger;
use crate::svdir::load::load;
use crate::svdir::scan::scan;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// argv[0] by which main.rs knows this part.
const CHECK: &str = "outlast-check";
/// What it may take; a thousand definitions are read in a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most bytes of the report.
const REPORT_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    version: String,
    book: bool,
    /// Numbers of services whose state can't be read.
    unread: Vec<u32>,
    /// Definitions that are wrong, and why.
    unfit: BTreeMap<String, String>,
}

/// The new binary's side; the exit code.
pub fn main(args: &[OsString]) -> u8 {
    let Some(dir) = args.first() else {
        eprintln!("outlast-check: only a supervisor starts me; run: outlast upgrade");
        return 2;
    };
    let mut book = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut book);
    let report = report(&book, Path::new(dir));
    let text = serde_json::to_vec(&report).unwrap_or_default();
    match read.and_then(|_| io::stdout().write_all(&text)) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn report(book: &[u8], dir: &Path) -> Report {
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").into(),
        ..Report::default()
    };
    if let Some(ledger) = Ledger::decode(book) {
        report.book = true;
        let unread = |blob: &[u8]| serde_json::from_slice::<Blob>(blob).is_err();
        let entries = ledger.entries.iter().filter(|entry| entry.id != SCRIBE);
        report.unread = entries
            .filter(|entry| unread(&entry.blob))
            .map(|entry| entry.id)
            .collect();
    }
    for found in scan(dir).map(|scan| scan.found).unwrap_or_default() {
        if let Err(findings) = load(&dir.join(&found.name), &found.name) {
            report.unfit.insert(found.name, findings.headline);
        }
    }
    report
}

/// Opens the binary and lets it say whether it is fit. Waits; an error is in words.
pub fn examine(binary: &Path, book: OwnedFd, dir: &Path) -> Result<OwnedFd, String> {
    let shown = binary.display();
    let file = File::open(binary).map_err(|error| format!("cannot open {shown}: {error}"))?;
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(format!("{shown} is no file"));
    }
    let mut child = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .arg0(CHECK)
        .arg(dir)
        .stdin(File::from(book))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot execute {shown}: {error}"))?;
    let said = listen(&mut child);
    let _ = child.kill();
    let _ = child.wait();
    let said = said.map_err(|error| format!("{shown} does not say whether it is fit: {error}"))?;
    let report = serde_json::from_slice::<Report>(&said)
        .map_err(|_| format!("{shown} is no outlast that can take over"))?;
    judge(&report, dir).map_err(|words| format!("{shown} (outlast {}) {words}", report.version))?;
    Ok(file.into())
}

fn listen(child: &mut Child) -> io::Result<Vec<u8>> {
    let Some(mut stdout) = child.stdout.take() else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let until = Instant::now() + PATIENCE;
    let (mut said, mut chunk) = (Vec::new(), vec![0u8; 64 * 1024]);
    while said.len() <= REPORT_BYTES_MAX {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match stdout.read(&mut chunk)? {
            0 => return Ok(said),
            count => said.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
    Err(io::Error::other("it says too much"))
}

fn judge(report: &Report, dir: &Path) -> Result<(), String> {
    if !report.book {
        return Err("cannot read the keeper's book".into());
    }
    if !report.unread.is_empty() {
        let count = report.unread.len();
        return Err(format!("cannot read the state of {count} services"));
    }
    // What is wrong for us as well is no reason.
    let worse = |(name, _): &(&String, &String)| load(&dir.join(name), name).is_ok();
    match report.unfit.iter().find(worse) {
        Some((name, headline)) => Err(format!("would not take {name}: {headline}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::wire::SLOTS;
    use crate::ipc::wire::ledger::Entry;

    fn book(blob: &[u8]) -> Vec<u8> {
        let mut ledger = Ledger::default();
        let of = |id, blob: &[u8]| Entry {
            id,
            slots: [None; SLOTS],
            processes: Vec::new(),
            blob: blob.to_vec(),
        };
        ledger.entries = vec![of(1, blob), of(SCRIBE, b"")];
        ledger.encode()
    }

    #[test]
    fn whoever_can_read_everything_is_fit() {
        let dir = tempfile::tempdir().expect("dir");
        let report = report(&book(br#"{"n":"web","z":{"n":"web"}}"#), dir.path());
        assert_eq!(judge(&report, dir.path()), Ok(()));
    }

    #[test]
    fn a_book_or_a_state_that_can_not_be_read_is_a_reason_to_refuse() {
        let dir = tempfile::tempdir().expect("dir");
        let words = judge(&report(b"no book", dir.path()), dir.path());
        assert!(words.expect_err("refused").contains("the keeper's book"));
        let words = judge(&report(&book(b"{}"), dir.path()), dir.path());
        assert!(words.expect_err("refused").contains("the state of 1"));
    }

    #[test]
    fn a_definition_that_only_the_new_binary_finds_wrong_is_a_reason_to_refuse() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::create_dir(dir.path().join("web")).expect("web");
        std::fs::create_dir(dir.path().join("odd")).expect("odd");
        std::fs::write(dir.path().join("odd/service.toml"), "what = 1\n").expect("written");
        let mut report = report(&book(br#"{"n":"web","z":{"n":"web"}}"#), dir.path());
        assert!(report.unfit.contains_key("odd"), "{report:?}");
        assert_eq!(judge(&report, dir.path()), Ok(()));
        report.unfit.insert("web".into(), "no such key".into());
        let words = judge(&report, dir.path()).expect_err("refused");
        assert_eq!(words, "would not take web: no such key");
    }
}
