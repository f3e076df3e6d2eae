//! Requests as a supervisor would send them, out of order, cut, and changed here and there.

use super::*;
use crate::ipc::wire::{Ending, Key, Stream};
use proptest::prelude::*;

/// Few services, so that requests meet each other.
fn key() -> impl Strategy<Value = Key> {
    (0..3u32, 0..4u8).prop_map(|(id, role)| Key { id, role })
}

fn spawn() -> impl Strategy<Value = Spawn> {
    let stream = || {
        prop_oneof![
            Just(Stream::Null),
            (0..3u32).prop_map(Stream::PipeOut),
            (0..3u32).prop_map(Stream::PipeIn),
        ]
    };
    let what = prop_oneof![
        Just(What::Run),
        Just(What::Finish(3, 0)),
        Just(What::Check),
        Just(What::Control(b't')),
    ];
    let streams = [stream(), stream(), stream()];
    (key(), what, streams, any::<[bool; 3]>()).prop_map(|(key, what, streams, flags)| Spawn {
        key,
        what,
        streams,
        session: flags[0],
        directory: flags[1],
        extra: flags[2],
    })
}

fn request() -> impl Strategy<Value = ToKeeper> {
    let (id, slot) = (0..3u32, 0..2u8);
    prop_oneof![
        4 => spawn().prop_map(ToKeeper::Spawn),
        1 => any::<u16>().prop_map(|version| ToKeeper::Hello { version }),
        2 => (key(), any::<u8>()).prop_map(|(key, signal)| ToKeeper::Signal { key, signal }),
        1 => (id.clone(), slot.clone()).prop_map(|(id, slot)| ToKeeper::Store { id, slot }),
        1 => (id.clone(), slot.clone()).prop_map(|(id, slot)| ToKeeper::Fetch { id, slot }),
        1 => (id.clone(), slot).prop_map(|(id, slot)| ToKeeper::Drop { id, slot }),
        1 => (id.clone(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(id, bytes)| ToKeeper::Blob { id, bytes }),
        2 => (key(), any::<i32>()).prop_map(|(key, pid)| ToKeeper::Acknowledge { key, pid }),
        1 => id.prop_map(|id| ToKeeper::Forget { id }),
        1 => (key(), any::<i32>()).prop_map(|(key, pid)| ToKeeper::Adopt { key, pid }),
        1 => (any::<u8>(), any::<u64>())
            .prop_map(|(code, until_ns)| ToKeeper::Ending(Ending { code, until_ns })),
        1 => any::<u8>().prop_map(|code| ToKeeper::Done { code }),
        1 => Just(ToKeeper::Here),
        1 => Just(ToKeeper::Copy),
        1 => Just(ToKeeper::Upgrade),
    ]
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => request().prop_map(|request| request.encode()),
        2 => (request(), any::<(prop::sample::Index, u8)>()).prop_map(|(request, (at, byte))| {
            let mut bytes = request.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        1 => (request(), any::<prop::sample::Index>()).prop_map(|(request, at)| {
            let mut bytes = request.encode();
            bytes.truncate(at.index(bytes.len()));
            bytes
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..80),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn the_keeper_survives_any_requests(records in proptest::collection::vec(record(), 0..30)) {
        let mut bytes = Vec::new();
        for record in records {
            bytes.push(u8::try_from(record.len()).expect("short"));
            bytes.extend(record);
        }
        prop_assert_eq!(any_records(&bytes), Ok(()));
    }
}
