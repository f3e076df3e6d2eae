//! What an earlier outlast leaves, today's must be able to take.
//!
//! `book-N` is the book of a real keeper, recorded when version N was current; it is never made
//! anew. A format that changes gets another file beside it.

mod older;

use outlast::ipc::wire::SCRIBE;
use outlast::ipc::wire::ledger::{Ledger, Outcome, Stage, VERSION};
use outlast::machine::fleet::Fleet;
use outlast::machine::snapshot::Snapshot;
use outlast::machine::view::Phase;
use outlast::machine::vocab::{Pid, Role, ServiceId, Tick};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

fn recorded(version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/handover/book-{version}"))
}

#[test]
fn the_book_of_every_earlier_version_is_read_with_all_that_it_says() {
    for version in 1..=VERSION {
        let bytes = std::fs::read(recorded(version)).expect("a recorded book");
        let ledger = Ledger::decode(&bytes).unwrap_or_else(|| panic!("version {version}"));
        assert_eq!(ledger.keeper.outcome, Outcome::None);
        assert_eq!(ledger.keeper.starts, 1);
        assert!(ledger.door.is_some() && ledger.keeper.ending.is_none());
        let mut fleet = Fleet::new(1);
        let mut phases = BTreeMap::new();
        for entry in ledger.entries.iter().filter(|entry| entry.id != SCRIBE) {
            let blob: serde_json::Value = serde_json::from_slice(&entry.blob).expect("JSON");
            let snapshot: Snapshot = serde_json::from_value(blob["z"].clone()).expect("a state");
            let alive: Vec<(Role, Pid)> = entry
                .processes
                .iter()
                .inspect(|process| assert!(matches!(process.stage, Stage::Alive)))
                .map(|process| (Role::Run, Pid(process.pid)))
                .collect();
            let of = blob["m"].as_u64().map(|main| ServiceId(main as u32));
            let id = ServiceId(entry.id);
            fleet.restore(Tick(4_590_700_000_000), id, of, &snapshot, &alive);
            let view = fleet.view(id).expect("restored");
            let name = fleet.name(id).expect("a name").to_owned();
            phases.insert(name, (view.phase, view.pid));
        }
        let wanted = [
            ("broken", (Phase::Broken, None)),
            ("crashing", (Phase::Backoff, None)),
            ("once", (Phase::Down, None)),
            ("stopped", (Phase::Down, None)),
            ("web", (Phase::Up, Some(Pid(29_113)))),
            ("web/log", (Phase::Up, Some(Pid(29_114)))),
        ];
        let wanted = wanted.map(|(name, stands)| (name.to_owned(), stands));
        assert_eq!(phases, wanted.into());
    }
}

#[test]
fn the_program_finds_itself_fit_for_the_book_of_every_earlier_version() {
    for version in 1..=VERSION {
        let dir = tempfile::tempdir().expect("dir");
        let output = Command::new(env!("CARGO_BIN_EXE_outlast"))
            .arg0("outlast-check")
            .arg(dir.path())
            .stdin(File::open(recorded(version)).expect("a recorded book"))
            .output()
            .expect("outlast-check");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["book"], true, "{report}");
        assert_eq!(report["unread"], serde_json::json!([]), "{report}");
    }
}
