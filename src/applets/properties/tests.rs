//! The properties on random input, much of it nearly right.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn in_memory() -> tempfile::TempDir {
    // svlogd syncs at each rotation.
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

fn config_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[sntN][0-9]{0,5}[kmhx]?",
        "[-+eE][ab*+x ]{0,6}",
        "[uU][0-9]{1,3}(\\.[0-9]{1,4}){0,4}(:[0-9]{0,6})?",
        "[p!][a-z: ]{0,4}",
        "[ -~]{0,6}",
    ]
}

fn bytes_of(set: &'static [u8], most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(select(set), 0..most)
}

proptest! {
    #[test]
    fn patterns_are_answered_as_by_the_model(
        pattern in bytes_of(b"ab*+", 9),
        line in bytes_of(b"ab*+", 9),
        any in vec(any::<u8>(), 0..60),
    ) {
        svlogd::pattern(&[&pattern[..], &line[..]].join(&0));
        svlogd::pattern(&any);
    }

    #[test]
    fn each_line_of_a_config_speaks_for_itself(
        lines in vec(config_line(), 0..12),
        any in vec(any::<u8>(), 0..60),
    ) {
        svlogd::config(lines.join("\n").as_bytes());
        svlogd::config(&any);
    }

    #[test]
    fn labels_are_written_and_read_alike(
        label in "[0-9a-fA-F]{24}",
        near in "(40000000[0-9a-f]{16}|@40000000[0-9a-f]{16} x|[0-9-]{10}[T_][0-9:]{8}\\.[0-9]{5} )",
        any in vec(any::<u8>(), 0..40),
    ) {
        tai64n(label.as_bytes());
        tai64n(near.as_bytes());
        tai64n(&any);
    }

    #[test]
    fn a_status_file_is_what_it_says(
        since in (1u64 << 62)..(1 << 62) + (1 << 33),
        rest in vec(any::<u8>(), 0..12),
        flags in vec(select(b"\0\x01\x02\x03ud".as_slice()), 0..5),
        any in vec(any::<u8>(), 0..30),
    ) {
        status_file(&[&since.to_be_bytes()[..], &[0x10], &rest, &flags].concat());
        status_file(&any);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn what_svlogd_reads_is_on_disk(
        options in any::<u8>(),
        lines in vec(config_line(), 0..6),
        input in vec(
            prop_oneof![
                6 => "[abx ]{0,12}\n".prop_map(String::into_bytes),
                3 => vec(any::<u8>(), 0..40),
                1 => (0usize..3000).prop_map(|bytes| vec![b'a'; bytes]),
                3 => (1u8..4).prop_map(|then| vec![then]),
            ],
            0..60,
        ),
    ) {
        let place = in_memory();
        let mut bytes = vec![options];
        bytes.extend_from_slice(lines.join("\n").as_bytes());
        bytes.push(0);
        bytes.extend(input.concat());
        svlogd::input(place.path(), &bytes);
    }
}
