//! Every service.toml that we show is one that we take: the examples' and the README's.

use super::examples::definitions;
use crate::tidy::tree;
use outlast::svdir::load::load;
use std::fs;
use std::path::Path;

/// Fenced blocks of TOML.
fn toml_blocks(text: &str) -> Vec<&str> {
    let blocks = text.split("```toml\n").skip(1);
    blocks
        .filter_map(|rest| rest.split("\n```").next())
        .collect()
}

/// A service directory with this service.toml alone.
fn written(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("service.toml"), text).unwrap();
    directory
}

fn findings(directory: &Path, name: &str) -> Vec<String> {
    match load(directory, name) {
        Ok(definition) => definition.warnings,
        Err(findings) => vec![findings.text],
    }
}

#[test]
fn every_example_loads_without_a_finding() {
    let mut complaints = Vec::new();
    for path in definitions() {
        let directory = tree::root().join(path.trim_end_matches("/service.toml"));
        complaints.extend(findings(&directory, &path));
    }
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn the_service_toml_of_the_readme_loads_without_a_finding() {
    let readme = tree::read("README.md");
    let blocks = toml_blocks(&readme);
    assert!(!blocks.is_empty());
    for block in blocks {
        assert_eq!(
            findings(written(block).path(), "readme"),
            Vec::<String>::new()
        );
    }
}

#[test]
fn a_wrong_service_toml_is_found() {
    let wrong = written("exec = \"/bin/true\"\nrestart = \"sometimes\"\n");
    assert_ne!(findings(wrong.path(), "sample"), Vec::<String>::new());
}
