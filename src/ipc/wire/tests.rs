//! Records come back as they went, and no byte sequence does harm.

use super::*;
use proptest::prelude::*;

fn key() -> impl Strategy<Value = Key> {
    (any::<u32>(), 0..4u8).prop_map(|(id, role)| Key { id, role })
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        Just(What::Run),
        (any::<i32>(), any::<i32>()).prop_map(|(code, status)| What::Finish(code, status)),
        Just(What::Check),
        Just(What::Control(b't')),
        Just(What::Launch),
        prop::sample::select(&[None, Some(Format::Text), Some(Format::Json)][..])
            .prop_map(|echo| What::Scribe { echo }),
    ]
}

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![
        Just(Stream::Keep),
        Just(Stream::Null),
        any::<u32>().prop_map(Stream::PipeOut),
        any::<u32>().prop_map(Stream::PipeIn),
        any::<u32>().prop_map(Stream::PipeBoth),
    ]
}

proptest! {
    #[test]
    fn a_spawn_comes_back_as_it_went(
        key in key(), what in what(), streams in [stream(), stream(), stream()],
        session: bool, directory: bool, extra: bool,
    ) {
        let record = ToKeeper::Spawn(Spawn { key, what, session, streams, directory, extra });
        prop_assert_eq!(ToKeeper::decode(&record.encode()), Some(record));
    }

    #[test]
    fn an_adoption_comes_back_as_it_went(key in key(), pid: i32) {
        let record = ToKeeper::Adopt { key, pid };
        prop_assert_eq!(ToKeeper::decode(&record.encode()), Some(record));
    }

    #[test]
    fn an_ending_comes_back_as_it_went_both_ways(code: u8, until_ns: u64) {
        let ending = Ending { code, until_ns };
        let record = ToKeeper::Ending(ending);
        prop_assert_eq!(ToKeeper::decode(&record.encode()), Some(record));
        let record = FromKeeper::Ending(ending);
        prop_assert_eq!(FromKeeper::decode(&record.encode()), Some(record));
    }

    #[test]
    fn a_stop_comes_back_as_it_went(key in key()) {
        let record = FromKeeper::Stopped { key };
        prop_assert_eq!(FromKeeper::decode(&record.encode()), Some(record));
    }

    #[test]
    fn any_bytes_decode_to_something_or_nothing_and_fit_a_record(bytes: Vec<u8>) {
        if let Some(record) = ToKeeper::decode(&bytes) {
            prop_assert!(record.encode().len() <= RECORD_BYTES_MAX);
        }
        if let Some(record) = FromKeeper::decode(&bytes) {
            prop_assert!(record.encode().len() <= RECORD_BYTES_MAX);
        }
    }

    #[test]
    fn bytes_behind_a_record_are_ignored(key in key(), pid: i32, tail: Vec<u8>) {
        let record = ToKeeper::Acknowledge { key, pid };
        let mut bytes = record.encode();
        bytes.extend(tail);
        prop_assert_eq!(ToKeeper::decode(&bytes), Some(record));
    }

    #[test]
    fn a_cut_record_is_refused(key in key(), pid: i32, status: i32, ended_ns: u64, at: prop::sample::Index) {
        let record = FromKeeper::Exited { key, pid, status, ended_ns, usage: Usage::default() };
        let bytes = record.encode();
        prop_assert_eq!(FromKeeper::decode(&bytes[..at.index(bytes.len())]), None);
        prop_assert_eq!(FromKeeper::decode(&bytes), Some(record));
    }
}

#[test]
fn the_largest_entry_fits_a_record() {
    let held = Held {
        standing: Standing::Alive,
        pid: i32::MAX,
        forked_ns: u64::MAX,
    };
    let blob = vec![0; BLOB_BYTES_MAX];
    let entry = FromKeeper::Entry {
        id: 1,
        slots: 3,
        held: [held; ROLES],
        blob,
    };
    assert!(entry.encode().len() <= RECORD_BYTES_MAX);
    assert_eq!(FromKeeper::decode(&entry.encode()), Some(entry));
}

#[test]
fn a_control_letter_can_not_leave_its_directory() {
    for letter in [b'/', b'.', 0, 200] {
        let key = Key { id: 1, role: 3 };
        let streams = [Stream::Keep; 3];
        let what = What::Control(letter);
        let spawn = Spawn {
            key,
            what,
            session: true,
            streams,
            directory: true,
            extra: false,
        };
        assert_eq!(ToKeeper::decode(&ToKeeper::Spawn(spawn).encode()), None);
    }
}
