//! What the documents promise must be so: the README's commands, the examples, the script that
//! continuous integration runs.

mod commands;
mod container;
mod definitions;
mod examples;
mod readme;

use crate::tidy::tree;

/// The last line of what a fresh clone is told to run is the last line of continuous integration.
#[test]
fn continuous_integration_runs_the_test_command_of_the_readme() {
    let readme = tree::read("README.md");
    let command = readme::first_screen(&readme)
        .into_iter()
        .find(|line| line.contains("test"))
        .expect("the first screen has no test command");
    let script = tree::read(".ci/run");
    let last = script.lines().rev().find(|line| !line.trim().is_empty());
    assert!(
        script.lines().any(|line| line == command),
        "`{command}` is no line of .ci/run"
    );
    assert_eq!(
        last,
        Some(command.as_str()),
        "and its report must come last"
    );
}

#[test]
fn continuous_integration_is_a_strict_script() {
    let script = tree::read(".ci/run");
    assert!(script.starts_with("#!/usr/bin/env bash\n"));
    assert!(script.contains("\nset -euo pipefail\n"));
    for wanted in [
        "cargo fmt --check",
        "cargo clippy --all-targets -- -D warnings",
    ] {
        assert!(
            script.lines().any(|line| line == wanted),
            "`{wanted}` is no line of .ci/run"
        );
    }
}
