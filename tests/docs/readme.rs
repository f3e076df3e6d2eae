//! README.md: its commands are there and its links lead somewhere.

use crate::tidy::tree;
use std::process::Command;

/// How much of the README a newcomer sees without scrolling.
const FIRST_SCREEN_LINES: usize = 40;

/// Lines of the indented or fenced code of the first screen.
pub fn first_screen(readme: &str) -> Vec<String> {
    let top: Vec<&str> = readme.lines().take(FIRST_SCREEN_LINES).collect();
    code_lines(&top.join("\n"))
}

/// Every line of code: indented by four, or between fences of no language or of a shell.
pub fn code_lines(text: &str) -> Vec<String> {
    let (mut found, mut fence) = (Vec::new(), None);
    for line in text.lines() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(language)) => fence = Some(matches!(language, "" | "sh" | "console")),
            (Some(_), Some(_)) => fence = None,
            (Some(shell), None) if shell => found.push(line.to_owned()),
            (None, None) => found.extend(line.strip_prefix("    ").map(str::to_owned)),
            (Some(_), None) => {}
        }
    }
    found
}

/// `[text](target)` within the tree.
fn links(text: &str) -> Vec<String> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let inside = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    inside
        .map(|target| target.split('#').next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_first_screen_has_the_two_commands() {
    let lines = first_screen(&tree::read("README.md"));
    for wanted in [
        "cargo run --release -- supervise services.example",
        "cargo test",
    ] {
        assert!(
            lines.iter().any(|line| line == wanted),
            "`{wanted}` is not in {lines:?}"
        );
    }
}

#[test]
fn every_cargo_command_is_one() {
    for path in documents() {
        for line in code_lines(&tree::read(&path)) {
            let Some(rest) = line.strip_prefix("cargo ") else {
                continue;
            };
            // cargo-fuzz and its toolchain need not be here; its targets are.
            if let Some(fuzz) = rest.strip_prefix("+nightly fuzz ") {
                let name = fuzz
                    .strip_prefix("run ")
                    .and_then(|it| it.split(' ').next());
                let target =
                    name.map(|name| tree::root().join(format!("fuzz/fuzz_targets/{name}.rs")));
                assert!(target.is_none_or(|it| it.exists()), "{path}: `{line}`");
                continue;
            }
            let verb = rest.split_whitespace().next().unwrap_or_default();
            let known = Command::new(env!("CARGO"))
                .args([verb, "--help"])
                .output()
                .unwrap();
            assert!(
                known.status.success(),
                "{path}: `{line}`: cargo has no `{verb}`"
            );
            if let Some((_, name)) = rest.split_once("--bench ") {
                let target = format!(
                    "[[bench]]\nname = \"{}\"",
                    name.split(' ').next().unwrap_or_default()
                );
                assert!(
                    tree::read("Cargo.toml").contains(&target),
                    "{path}: no bench `{name}`"
                );
            }
        }
    }
}

#[test]
fn every_link_within_the_tree_leads_somewhere() {
    for path in documents() {
        let folder = tree::root().join(&path).parent().unwrap().to_owned();
        for link in links(&tree::read(&path)) {
            assert!(
                folder.join(&link).exists(),
                "{path}: link to {link}, which is not there"
            );
        }
    }
}

fn documents() -> Vec<String> {
    tree::files_below(".")
        .into_iter()
        .filter(|path| path.ends_with(".md"))
        .collect()
}

#[test]
fn code_and_links_are_found_in_a_sample() {
    let sample = "text\n\n    cargo a\n\n```toml\nno = 1\n```\n```sh\noutlast b\n```\n[c](d.md#e)";
    assert_eq!(code_lines(sample), ["cargo a", "outlast b"]);
    assert_eq!(links(sample), ["d.md"]);
}
