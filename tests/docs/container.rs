//! The container of the README is the one beside the examples, and its times fit together.

use crate::tidy::tree;

const FOLDER: &str = "services.example/.container";

fn block(language: &str) -> String {
    let readme = tree::read("README.md");
    let (_, rest) = readme
        .split_once(&format!("```{language}\n"))
        .expect(language);
    rest.split("```").next().unwrap_or_default().to_owned()
}

#[test]
fn the_readme_shows_the_files_as_they_are() {
    for (language, file) in [("dockerfile", "Containerfile"), ("yaml", "pod.yaml")] {
        assert_eq!(block(language), tree::read(&format!("{FOLDER}/{file}")));
    }
}

/// The number behind a word, whatever stands between them.
fn number_after(text: &str, word: &str) -> u32 {
    let (_, rest) = text.split_once(word).expect(word);
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().expect(word)
}

#[test]
fn engines_wait_for_longer_than_the_stop_may_take() {
    let pod = block("yaml");
    let pod = pod
        .split_once("spec:")
        .expect("a spec")
        .1
        .replace("# More than --stop", "");
    assert!(
        number_after(&pod, "terminationGracePeriodSeconds")
            > number_after(&pod, "\"--stop-timeout\"")
    );
    // What podman and docker wait.
    assert!(number_after(&block("dockerfile"), "\"--stop-timeout\"") < 10);
    let probe = pod.split_once("readinessProbe").expect("a probe").1;
    assert!(number_after(probe, "timeoutSeconds") > number_after(probe, "\"--timeout\""));
}
