//! Tests run, all of them, and wait for events: a test that is skipped proves nothing, and one that
//! sleeps is slow on a fast machine and wrong on a slow one.

use super::rust::{self, Token};
use super::{complains, no_complaints, tree};

/// Files whose tests may sleep, each with the reason.
const SLEEPERS: [(&str, &str); 0] = [];

fn check(path: &str, source: &str, sleepers: &[(&str, &str)]) -> Vec<String> {
    let of_tests = tree::is_test(path);
    let code = if of_tests {
        rust::code(source)
    } else {
        rust::tested(source)
    };
    let mut complaints = Vec::new();
    for at in 0..code.len() {
        if rust::begins(&code[at..], &["#", "[", "ignore"]) {
            complaints.push(format!(
                "{path}:{}: an ignored test; print `skipped: needs ...` and return instead",
                code[at].line
            ));
        }
        let excused = sleepers
            .iter()
            .any(|(known, reason)| *known == path && !reason.is_empty());
        if sleeps(&code[at..]) && !excused {
            complaints.push(format!(
                "{path}:{}: a test that sleeps; wait for the event, or argue in tests/tidy/patience.rs",
                code[at].line
            ));
        }
    }
    complaints
}

fn sleeps(code: &[Token]) -> bool {
    ["sleep", "sleep_until", "usleep", "nanosleep"]
        .iter()
        .any(|word| rust::begins(code, &[word, "("]))
}

#[test]
fn no_test_is_ignored_and_none_sleeps() {
    let mut complaints = Vec::new();
    for path in tree::rust_files()
        .iter()
        .filter(|path| !path.starts_with("benches/"))
    {
        complaints.extend(check(path, &tree::read(path), &SLEEPERS));
    }
    no_complaints(complaints);
}

#[cfg(test)]
mod samples {
    use super::*;

    #[test]
    fn ignored_and_sleeping_tests_are_found() {
        complains(
            &check("tests/a.rs", "#[test]\n#[ignore]\nfn b() {}", &[]),
            "ignored",
        );
        complains(
            &check("tests/a.rs", "#[ignore = \"slow\"] fn b() {}", &[]),
            "ignored",
        );
        complains(
            &check("tests/a.rs", "fn b() { thread::sleep(c) }", &[]),
            "sleeps",
        );
        let inside = "fn sleep() {} #[cfg(test)] mod tests { fn b() { tokio::time::sleep(c); } }";
        complains(&check("src/a.rs", inside, &[]), "sleeps");
        complains(
            &check("src/a/tests.rs", "fn b() { sleep(c) }", &[]),
            "sleeps",
        );
    }

    #[test]
    fn sleeping_outside_tests_or_with_a_reason_passes() {
        let source = "fn b() { Command::new(\"sleep\"); thread::sleep(c) }";
        assert_eq!(check("src/a.rs", source, &[]), Vec::<String>::new());
        assert_eq!(
            check("tests/a.rs", source, &[("tests/a.rs", "why")]),
            Vec::<String>::new()
        );
    }
}
