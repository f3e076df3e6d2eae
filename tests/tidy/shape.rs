//! How the text must look: a header on every room, names that say something, files that a person
//! can read in one go.

use super::rust;
use super::{complains, no_complaints, tree};

/// Words that name a drawer, not a thing.
const DRAWERS: [&str; 7] = [
    "util", "utils", "common", "manager", "helper", "helpers", "misc",
];

/// Lines of a file, its tests included.
const LINES_MAX: usize = 600;

/// Longer files, each with the reason why it is not two.
const LONGER: [(&str, &str); 0] = [];

fn header(path: &str, source: &str) -> Option<String> {
    // A room's tests have the header of the room.
    let headed = tree::is_test(path) || source.starts_with("//! ");
    (!headed).then(|| {
        format!("{path}:1: no `//!` header: what it is for, what it must never do, who calls it")
    })
}

/// Names of files, folders, modules and types.
fn drawers(path: &str, source: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for part in path.split('/') {
        let stem = part.strip_suffix(".rs").unwrap_or(part);
        complaints.extend(drawer(stem).map(|word| format!("{path}: `{word}` in a file's name")));
    }
    let code = rust::code(source);
    let names = code.windows(2).filter(|words| {
        let defines = ["mod", "struct", "enum", "trait", "type"];
        words[0].is_word() && defines.contains(&words[0].text.as_str()) && words[1].is_word()
    });
    for name in names.map(|words| &words[1]) {
        let found = drawer(&name.text);
        complaints.extend(found.map(|word| {
            format!(
                "{path}:{}: `{word}` in `{}`; name the thing itself",
                name.line, name.text
            )
        }));
    }
    complaints
}

fn drawer(name: &str) -> Option<&'static str> {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            words.push('_');
        }
        words.extend(c.to_lowercase());
    }
    DRAWERS
        .into_iter()
        .find(|drawer| words.split('_').any(|word| word == *drawer))
}

fn length(path: &str, source: &str, longer: &[(&str, &str)]) -> Option<String> {
    let lines = source.lines().count();
    let excused = longer
        .iter()
        .any(|(known, reason)| *known == path && !reason.is_empty());
    (lines > LINES_MAX && !excused).then(|| {
        format!(
            "{path}: {lines} lines; split it by meaning, or argue for it in tests/tidy/shape.rs"
        )
    })
}

#[test]
fn every_room_says_what_it_is_for() {
    let sources = tree::files_below("src");
    no_complaints(
        sources
            .iter()
            .filter_map(|path| header(path, &tree::read(path)))
            .collect(),
    );
}

#[test]
fn no_name_is_a_drawer() {
    let mut complaints = Vec::new();
    for path in tree::rust_files() {
        complaints.extend(drawers(&path, &tree::read(&path)));
    }
    no_complaints(complaints);
}

#[test]
fn no_file_outgrows_its_reader() {
    let mut complaints = Vec::new();
    for path in tree::rust_files() {
        complaints.extend(length(&path, &tree::read(&path), &LONGER));
    }
    for (path, _) in LONGER {
        if tree::read(path).lines().count() <= LINES_MAX {
            complaints.push(format!("{path} is short again; take it out of LONGER"));
        }
    }
    no_complaints(complaints);
}

#[cfg(test)]
mod samples {
    use super::*;

    #[test]
    fn a_file_without_a_header_is_found() {
        assert!(header("src/a.rs", "use b;").is_some());
        assert!(header("src/a.rs", "//! For b.\n").is_none());
    }

    #[test]
    fn drawers_are_found_by_their_names() {
        complains(&drawers("src/os/util.rs", ""), "`util`");
        complains(&drawers("src/os/a.rs", "struct LogManager;"), "`manager`");
        complains(&drawers("src/os/a.rs", "enum SpawnHelper {}"), "`helper`");
        complains(&drawers("src/os/a.rs", "mod misc {}"), "`misc`");
        let good = "fn utility() {} struct Commonplace; // helper\n";
        assert_eq!(drawers("src/os/a.rs", good), Vec::<String>::new());
    }

    #[test]
    fn long_files_are_found_unless_argued_for() {
        let long = "\n".repeat(LINES_MAX + 1);
        assert!(length("src/a.rs", &long, &[]).is_some());
        assert!(length("src/a.rs", &long, &[("src/a.rs", "one table")]).is_none());
        assert!(length("src/a.rs", &long, &[("src/a.rs", "")]).is_some());
    }
}
