//! Each crate has a reason and rooms it stays in. The comment above its line in Cargo.toml says
//! both, `# reason: rooms`, and is the list that is checked here.

use super::rust;
use super::{complains, no_complaints, tree};
use std::collections::{BTreeMap, BTreeSet};

/// The rooms that there can be (house rules); a typing error in a comment must not open a door.
const ROOMS: [&str; 15] = [
    "main",
    "sys",
    "os",
    "machine",
    "svdir",
    "launch",
    "log",
    "ipc",
    "keeper",
    "boot",
    "scribe",
    "supervisor",
    "cli",
    "applets",
    "lib",
];

#[derive(Debug, Default)]
struct Manifest {
    /// Crate as written in `use`, and its rooms.
    rooms: BTreeMap<String, BTreeSet<String>>,
    complaints: Vec<String>,
}

fn manifest(text: &str) -> Manifest {
    let (mut section, mut comment, mut manifest) = ("", "", Manifest::default());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            comment = "";
        } else if let Some(name) = line.strip_prefix('[') {
            (section, comment) = (name.trim_end_matches(']'), "");
        } else if let Some(text) = line.strip_prefix('#') {
            comment = text;
        } else if let Some((name, _)) = line.split_once('=')
            && section.ends_with("dependencies")
        {
            let at = format!("Cargo.toml:{}: {}", number + 1, name.trim());
            manifest.dependency(&at, name.trim(), section, comment);
        }
    }
    manifest
}

impl Manifest {
    fn dependency(&mut self, at: &str, name: &str, section: &str, comment: &str) {
        if comment.trim().is_empty() {
            self.complaints.push(format!("{at} has no reason above it"));
        } else if section == "dependencies" {
            let rooms = rooms(comment);
            if rooms.is_empty() {
                self.complaints
                    .push(format!("{at} names no rooms; write `# reason: room, room`"));
            }
            for room in rooms.iter().filter(|room| !ROOMS.contains(&room.as_str())) {
                self.complaints
                    .push(format!("{at} names `{room}`, which is no room"));
            }
            self.rooms.insert(name.replace('-', "_"), rooms);
        }
    }
}

/// What stands behind the last colon, without `(remarks)` and `only`.
fn rooms(comment: &str) -> BTreeSet<String> {
    let Some((_, list)) = comment.rsplit_once(':') else {
        return BTreeSet::new();
    };
    let rooms = list
        .split(',')
        .filter_map(|room| room.split_whitespace().next());
    rooms.map(str::to_owned).collect()
}

fn uses(path: &str, source: &str, manifest: &Manifest) -> Vec<String> {
    let Some(room) = tree::room(path).filter(|_| !tree::is_test(path)) else {
        return Vec::new();
    };
    let crates = manifest.rooms.keys().cloned().collect();
    let mut complaints = BTreeSet::new();
    for (line, named) in rust::paths(&rust::shipped(source), &crates) {
        let name = &named[0];
        let allowed = &manifest.rooms[name];
        if !allowed.contains(room) {
            complaints.insert(format!(
                "{path}:{line}: `{name}` is not meant for `{room}`; Cargo.toml allows {allowed:?}"
            ));
        }
    }
    complaints.into_iter().collect()
}

/// Crates that no room names, although Cargo.toml has them.
fn unused(sources: &[(String, String)], manifest: &Manifest) -> Vec<String> {
    let crates: BTreeSet<String> = manifest.rooms.keys().cloned().collect();
    let mut left = crates.clone();
    for (_, source) in sources.iter().filter(|(path, _)| !tree::is_test(path)) {
        for (_, named) in rust::paths(&rust::shipped(source), &crates) {
            left.remove(&named[0]);
        }
    }
    left.into_iter()
        .map(|name| format!("Cargo.toml: no room uses `{name}`; take it out"))
        .collect()
}

#[test]
fn every_crate_is_used() {
    let paths = tree::files_below("src").into_iter();
    let sources: Vec<_> = paths
        .map(|path| (path.clone(), tree::read(&path)))
        .collect();
    no_complaints(unused(&sources, &manifest(&tree::read("Cargo.toml"))));
}

#[test]
fn every_crate_has_a_reason_and_stays_in_its_rooms() {
    let manifest = manifest(&tree::read("Cargo.toml"));
    assert!(manifest.rooms.contains_key("tokio"), "{manifest:?}");
    let mut complaints = manifest.complaints.clone();
    for path in tree::files_below("src") {
        complaints.extend(uses(&path, &tree::read(&path), &manifest));
    }
    no_complaints(complaints);
}

#[cfg(test)]
mod samples {
    use super::*;

    const GOOD: &str = "
[dependencies]
# the event loop: supervisor, scribe (its timers only)
tokio = \"1\"
tokio-more = \"1\"
# the rest: sys only

[dev-dependencies]
# random input
proptest = \"1\"
";

    #[test]
    fn reasons_and_rooms_are_read() {
        let manifest = manifest(GOOD);
        assert_eq!(manifest.complaints, Vec::<String>::new());
        let rooms = ["scribe", "supervisor"].map(str::to_owned).into();
        assert_eq!(manifest.rooms.get("tokio_more"), Some(&rooms));
    }

    #[test]
    fn a_crate_without_reason_or_room_is_found() {
        complains(
            &manifest("[dependencies]\na = \"1\"").complaints,
            "no reason",
        );
        complains(
            &manifest("[dependencies]\n# why\na = \"1\"").complaints,
            "names no rooms",
        );
        complains(
            &manifest("[dependencies]\n# why: attic\na = \"1\"").complaints,
            "no room",
        );
        complains(
            &manifest("[dev-dependencies]\n# why\n\na = \"1\"").complaints,
            "no reason",
        );
    }

    #[test]
    fn a_crate_that_nobody_uses_is_found() {
        let source = |text: &str| vec![("src/scribe/mod.rs".to_owned(), text.to_owned())];
        let manifest = manifest(GOOD);
        complains(
            &unused(&source("use tokio::net;"), &manifest),
            "no room uses `tokio_more`",
        );
        let both = "use tokio::net; fn a() { tokio_more::b() }";
        assert_eq!(unused(&source(both), &manifest), Vec::<String>::new());
        let test_only = "use tokio::net; #[cfg(test)] mod tests { use tokio_more::b; }";
        complains(&unused(&source(test_only), &manifest), "tokio_more");
    }

    #[test]
    fn a_crate_outside_its_rooms_is_found() {
        let manifest = manifest(GOOD);
        complains(
            &uses("src/keeper/mod.rs", "use tokio::net;", &manifest),
            "not meant for `keeper`",
        );
        complains(
            &uses("src/log/mod.rs", "fn a() { tokio::spawn(b) }", &manifest),
            "`log`",
        );
        assert_eq!(
            uses("src/scribe/mod.rs", "use tokio::net;", &manifest),
            Vec::<String>::new()
        );
        assert_eq!(
            uses("src/log/mod.rs", "use super::tokio::net;", &manifest),
            Vec::<String>::new()
        );
    }
}
