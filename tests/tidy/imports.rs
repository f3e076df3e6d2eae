//! Who may import whom. The table stands in src/lib.rs as documentation and is read from there, so
//! that there is one table; what it says about the machine stands here as well, since a machine
//! that learns of clocks or files can no longer be simulated.

use super::rust::{self, Token};
use super::{complains, no_complaints, tree};
use std::collections::{BTreeMap, BTreeSet};

/// What each room may name: whole rooms (`os`) or parts of one (`machine::spec`).
type Table = BTreeMap<String, BTreeSet<String>>;

/// The pieces of std that touch nothing.
const STD_OF_THE_MACHINE: [&str; 7] = [
    "collections",
    "fmt",
    "num",
    "mem",
    "rc",
    "cmp",
    "time::Duration",
];

/// src/main.rs only asks which program was called, and hands over.
const MAIN: [&str; 7] = [
    "applets",
    "boot",
    "cli",
    "keeper",
    "launch",
    "scribe",
    "supervisor",
];

fn table(lib: &str) -> Table {
    let mut table = Table::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! ")) {
        let Some((rooms, allowed)) = line.split_once("->") else {
            continue;
        };
        let allowed: BTreeSet<_> = names(allowed).collect();
        for room in names(rooms) {
            table.entry(room).or_default().extend(allowed.clone());
        }
    }
    table
}

/// The names of a list; prose (`nothing of ours`) names nothing.
fn names(list: &str) -> impl Iterator<Item = String> + '_ {
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.contains(' '))
        .map(str::to_owned)
}

fn check(path: &str, source: &str, table: &Table) -> Vec<String> {
    let Some(room) = tree::room(path).filter(|_| !tree::is_test(path)) else {
        return Vec::new();
    };
    let allowed = match room {
        "lib" => return Vec::new(),
        "main" => MAIN.iter().map(|&name| name.to_owned()).collect(),
        _ => match table.get(room) {
            Some(allowed) => allowed.clone(),
            None => {
                return vec![format!(
                    "{path}: room `{room}` is not in the table of src/lib.rs"
                )];
            }
        },
    };
    let code = rust::shipped(source);
    let mut complaints = Vec::new();
    for (line, named) in rooms_named(path, &code) {
        let part = named.iter().take(2).cloned().collect::<Vec<_>>().join("::");
        let whole = named.first().cloned().unwrap_or_default();
        if whole != room && !allowed.contains(&whole) && !allowed.contains(&part) {
            complaints.push(format!(
                "{path}:{line}: `{room}` may not import `{part}`; the table in src/lib.rs allows {allowed:?}"
            ));
        }
    }
    if room == "machine" {
        complaints.extend(impure(path, &code));
    }
    complaints
}

/// Paths into our own rooms, without the `crate` or `outlast` or `super`s before them.
fn rooms_named(path: &str, code: &[Token]) -> Vec<(usize, Vec<String>)> {
    let heads = ["crate", "outlast", "super"].map(str::to_owned).into();
    let depth = depth(path);
    let mut found = Vec::new();
    for (line, named) in rust::paths(code, &heads) {
        let up = named.iter().take_while(|part| *part == "super").count();
        let below = match up {
            0 => 1,
            _ if up >= depth => up,
            _ => continue,
        };
        found.push((line, named[below..].to_vec()));
    }
    found
}

/// How many `super` lead from this file's module to the crate.
fn depth(path: &str) -> usize {
    let parts = path.split('/').count() - 1;
    if path.ends_with("/mod.rs") || path.ends_with("lib.rs") || path.ends_with("main.rs") {
        parts - 1
    } else {
        parts
    }
}

fn impure(path: &str, code: &[Token]) -> Vec<String> {
    let heads = ["std", "core", "alloc"].map(str::to_owned).into();
    let mut complaints = Vec::new();
    for (line, named) in rust::paths(code, &heads) {
        let one = named.get(1).cloned().unwrap_or_default();
        let two = named
            .iter()
            .skip(1)
            .take(2)
            .cloned()
            .collect::<Vec<_>>()
            .join("::");
        if !STD_OF_THE_MACHINE.contains(&one.as_str())
            && !STD_OF_THE_MACHINE.contains(&two.as_str())
        {
            complaints.push(format!(
                "{path}:{line}: the machine may not use std::{two}: it must run without a system, in a simulation"
            ));
        }
    }
    complaints
}

#[test]
fn rooms_import_only_downwards() {
    let table = table(&tree::read("src/lib.rs"));
    let mut complaints = Vec::new();
    for path in tree::rust_files() {
        complaints.extend(check(&path, &tree::read(&path), &table));
    }
    no_complaints(complaints);
}

#[test]
fn the_table_keeps_the_keeper_and_the_machine_poor() {
    let table = table(&tree::read("src/lib.rs"));
    assert_eq!(table.get("machine"), Some(&BTreeSet::new()));
    let keeper = ["ipc::wire", "os", "sys"].map(str::to_owned).into();
    assert_eq!(table.get("keeper"), Some(&keeper));
}

#[cfg(test)]
mod samples {
    use super::*;

    const LIB: &str = "
//! applets, cli      -> supervisor, os
//! keeper            -> ipc::wire, os, sys
//! machine           -> nothing of ours
";

    fn found(path: &str, source: &str) -> Vec<String> {
        check(path, source, &table(LIB))
    }

    #[test]
    fn an_import_that_the_table_lacks_is_found() {
        complains(
            &found("src/keeper/book.rs", "use crate::log::Stamp;"),
            "`log::Stamp`",
        );
        complains(
            &found("src/keeper/book.rs", "fn a() { crate::ipc::control::b() }"),
            "ipc::control",
        );
        complains(
            &found("src/keeper/mod.rs", "use super::{os, svdir::load};"),
            "svdir::load",
        );
        complains(
            &found("src/cli/show/table.rs", "use super::super::super::log::x;"),
            "log::x",
        );
        complains(
            &found("src/main.rs", "fn main() { outlast::machine::vocab::a() }"),
            "machine::vocab",
        );
        complains(&found("src/attic.rs", ""), "not in the table");
    }

    #[test]
    fn allowed_imports_and_those_within_a_room_pass() {
        let good = "use crate::{ipc::wire::{A, B}, os, keeper::book}; use super::stages;";
        assert_eq!(found("src/keeper/run.rs", good), Vec::<String>::new());
        let test_only = "#[cfg(test)] mod tests { use crate::log::Stamp; }";
        assert_eq!(found("src/keeper/run.rs", test_only), Vec::<String>::new());
    }

    #[test]
    fn a_machine_that_touches_the_system_is_found() {
        complains(
            &found(
                "src/machine/fleet.rs",
                "use std::time::{Duration, Instant};",
            ),
            "time::Instant",
        );
        complains(
            &found("src/machine/fleet.rs", "fn a() { std::process::abort() }"),
            "process::abort",
        );
        let pure =
            "use std::collections::BTreeMap; use std::time::Duration; use super::spec::Spec;";
        assert_eq!(found("src/machine/fleet.rs", pure), Vec::<String>::new());
    }
}
