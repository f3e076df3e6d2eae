//! Random input, options and configs: the files must be Debian's.

use super::super::twin::{Whose, programs};
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Cases of one run: each starts two processes.
const CASES: u32 = 40;

/// What svlogd said and left: suffix, mode and content of each log file, the oldest first.
type Left = (Option<i32>, Vec<u8>, Vec<(String, u32, Vec<u8>)>);

fn left(svlogd: &Path, options: &[String], config: &[u8], input: &[u8]) -> Left {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("config"), config).unwrap();
    let mut child = Command::new(svlogd)
        .args(options)
        .arg("d")
        .current_dir(place.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A usage error closes the pipe before all is in it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let out = child.wait_with_output().unwrap();
    let mut names: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let shown = |name: String| {
        let path = dir.join(&name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        let name = name.rsplit('.').next().unwrap().to_owned();
        (name, mode, fs::read(&path).unwrap())
    };
    let files = names.into_iter().map(shown).collect();
    (out.status.code(), out.stderr, files)
}

fn config_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "s[0-9]{2,4}k?",
        "n[0-9]{0,2}",
        // No `+` in patterns: what Debian's does with one at a line's end depends on stale bytes.
        "[-+eE][ab*x ]{0,5}",
        "p[a-z: ]{0,4}",
        "[#abz][ -~]{0,5}",
        Just(String::new()),
    ]
}

fn options() -> impl Strategy<Value = Vec<String>> {
    let limits = (1usize..60, 1usize..100).prop_map(|(line, more)| {
        vec![
            format!("-l{line}"),
            "-b".to_owned(),
            (line + more).to_string(),
        ]
    });
    let replaced = prop_oneof![
        Just(vec![]),
        Just(vec!["-r_".to_owned()]),
        "[a-z]{1,3}".prop_map(|set| vec!["-R".to_owned(), set]),
    ];
    (prop_oneof![Just(vec![]), limits], replaced).prop_map(|(mut all, more)| {
        all.extend(more);
        all
    })
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "[abx ]{0,12}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>().prop_filter("ends", |byte| *byte != b'\n'), 0..200),
        1 => (0usize..2500).prop_map(|bytes| vec![b'a'; bytes]),
    ];
    proptest::collection::vec(line, 0..60).prop_map(|lines| {
        let mut text = lines.join(&b'\n');
        text.push(b'\n');
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]
    #[test]
    fn random_input_gives_debians_files(
        options in options(),
        config in proptest::collection::vec(config_line(), 0..6),
        newline in any::<bool>(),
        input in input(),
    ) {
        let (Some(runit), Some(ours)) = (programs(Whose::Runit), programs(Whose::Ours)) else {
            return Ok(());
        };
        let mut config = config.join("\n");
        if newline {
            config.push('\n');
        }
        let theirs = left(&runit.join("svlogd"), &options, config.as_bytes(), &input);
        let ours = left(&ours.join("svlogd"), &options, config.as_bytes(), &input);
        prop_assert_eq!(theirs, ours);
    }
}
