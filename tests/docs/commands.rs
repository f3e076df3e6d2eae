//! The program against what is written about it: README.md's command lines and the manual pages.

use super::readme::code_lines;
use crate::tidy::tree;
use std::collections::BTreeSet;
use std::process::{Command, Output};

fn outlast(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outlast"))
        .args(arguments)
        .output()
        .unwrap()
}

/// What `outlast WORDS --help` prints; none when there is no such command.
fn help(words: &[&str]) -> Option<String> {
    let output = outlast(&[words, &["--help"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && text.contains("Usage:")).then_some(text)
}

/// The names below `Commands:`.
fn commands() -> BTreeSet<String> {
    let help = help(&[]).expect("outlast --help");
    let rows = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let rows = rows.take_while(|line| line.starts_with("  "));
    // Deeper lines go on with the text of the row above.
    let rows = rows.filter(|line| !line.starts_with("   "));
    rows.filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Words that start with a dash, without the values that some have.
fn options<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    words
        .filter(|word| word.starts_with('-') && *word != "--")
        .map(|word| word.split('=').next().unwrap_or(word))
        .collect()
}

/// `outlast ...` and `cargo run ... -- ...`, down to the words after the program's name.
fn arguments(line: &str) -> Option<&str> {
    let line = line.trim_start_matches("$ ").trim_start_matches("sudo ");
    let rest = match line.strip_prefix("cargo run") {
        Some(rest) => rest.split_once(" -- ")?.1,
        None => line.strip_prefix("outlast ")?,
    };
    rest.split(['|', '#', '&', ';', '>']).next()
}

/// The subcommand: the first word that is neither an option nor the value of `--socket`.
fn verb<'a>(words: &[&'a str]) -> Option<&'a str> {
    let value = |at: usize| at > 0 && words[at - 1] == "--socket";
    let mut plain = words
        .iter()
        .enumerate()
        .filter(|(at, word)| !word.starts_with('-') && !value(*at));
    plain.next().map(|(_, word)| *word)
}

fn complaint(line: &str) -> Option<String> {
    let words: Vec<&str> = arguments(line)?.split_whitespace().collect();
    let Some(verb) = verb(&words) else {
        return Some(format!("`{line}`: no command"));
    };
    let Some(help) = help(&[verb]) else {
        return Some(format!("`{line}`: no command `{verb}`"));
    };
    let unknown = options(words.iter().copied())
        .into_iter()
        .find(|option| !mentions(&help, option));
    unknown.map(|option| format!("`{line}`: `{verb}` has no option {option}"))
}

/// As a word of its own: `--log` is not in `--log-root`.
fn mentions(text: &str, option: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '-')
        .any(|word| word == option)
}

/// A page with roff's escapes taken out.
fn page(path: &str) -> String {
    tree::read(path)
        .replace("\\-", "-")
        .replace("\\fB", "")
        .replace("\\fI", "")
        .replace("\\fR", "")
}

#[test]
fn every_command_line_of_the_readmes_is_understood() {
    let mut complaints = Vec::new();
    for path in [
        "README.md",
        "services.example/README.md",
        "services.example/.daemons/README.md",
    ] {
        complaints.extend(
            code_lines(&tree::read(path))
                .iter()
                .filter_map(|line| complaint(line)),
        );
    }
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn every_command_named_in_the_readmes_text_is_there() {
    for path in ["README.md", "services.example/README.md"] {
        let text = tree::read(path);
        let spans = text.split('`').skip(1).step_by(2);
        for span in spans.filter(|span| !span.contains(['\n', '[']) && span.starts_with("outlast "))
        {
            assert_eq!(complaint(span), None, "{path}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_found() {
    assert!(complaint("outlast no-such-command").is_some());
    assert!(complaint("outlast status --no-such-option").is_some());
    assert!(complaint("cargo run --release -- no-such-command x").is_some());
    assert_eq!(complaint("outlast --socket /x status --json # all"), None);
    assert_eq!(complaint("ls -l"), None);
}

#[test]
fn the_manual_page_names_every_command_and_option() {
    let manual = page("man/outlast.1");
    let mut missing = Vec::new();
    for command in commands() {
        let help = help(&[&command]).unwrap();
        let dashed = help.split(|c: char| !c.is_alphanumeric() && c != '-');
        let long = dashed.filter(|word| word.starts_with("--") && word.len() > 2);
        let named = long.filter(|option| !mentions(&manual, option));
        missing.extend(named.map(|option| format!("{command} {option}")));
        if !mentions(&manual, &command) {
            missing.push(command);
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "not in man/outlast.1");
    assert!(commands().contains("supervise"), "{:?}", commands());
}

#[test]
fn every_page_is_there_and_is_one() {
    for path in [
        "man/outlast.1",
        "man/outlast-protocol.7",
        "man/outlast-init.8",
        "man/outlast-runit.7",
        "man/service.toml.5",
    ] {
        let page = tree::read(path);
        assert!(
            page.lines().any(|line| line.starts_with(".TH ")),
            "{path}: no .TH line"
        );
        assert!(
            page.lines().any(|line| line.starts_with(".SH NAME")),
            "{path}: no NAME"
        );
    }
}
