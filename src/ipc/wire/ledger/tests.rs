//! A book comes back as it was left, an older one too, and no bytes do harm.

use super::*;
use proptest::prelude::*;

fn fault() -> impl Strategy<Value = Fault> {
    (
        any::<u8>(),
        any::<i32>(),
        prop::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(|(step, errno, detail)| Fault {
            step,
            errno,
            detail,
        })
}

fn stage() -> impl Strategy<Value = Stage> {
    prop_oneof![
        (5..100).prop_map(Stage::Starting),
        Just(Stage::Alive),
        fault().prop_map(Stage::Failing),
        fault().prop_map(Stage::Failed),
        (any::<i32>(), any::<u64>(), any::<[u64; 3]>()).prop_map(|(status, ended_ns, used)| {
            Stage::Ended {
                status,
                ended_ns,
                usage: Usage {
                    user_us: used[0],
                    system_us: used[1],
                    peak_kib: used[2],
                },
            }
        }),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    let adopted = prop::option::of(5..i32::MAX);
    (0..4u8, 1..i32::MAX, any::<u64>(), stage(), adopted).prop_map(
        |(role, pid, forked_ns, stage, adopted)| Process {
            role,
            pid,
            forked_ns,
            stage,
            adopted,
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let slot = || prop::option::of(5..i32::MAX);
    let blob = prop::collection::vec(any::<u8>(), 0..BLOB_BYTES_MAX);
    let processes = prop::collection::vec(process(), 0..4);
    (any::<u32>(), [slot(), slot()], processes, blob).prop_map(|(id, slots, processes, blob)| {
        Entry {
            id,
            slots,
            processes,
            blob,
        }
    })
}

fn ledger() -> impl Strategy<Value = Ledger> {
    let entries = prop::collection::vec(entry(), 0..20);
    let crashes = prop::collection::vec(any::<u64>(), 0..CRASHES_MAX);
    let ending = prop::option::of((any::<u8>(), any::<u64>()));
    (any::<u64>(), ending, crashes, entries).prop_map(
        |(untold_signals, ending, crashes, entries)| Ledger {
            keeper: Keeper {
                untold_signals,
                ending: ending.map(|(code, until_ns)| Ending { code, until_ns }),
                nofile: (1024, 4096),
                oom: b"0\n".to_vec(),
                starts: 7,
                delay_ns: 100,
                crashes,
                outcome: Outcome::Refused(13),
                calm_until_ns: untold_signals.rotate_left(7),
            },
            door: Some(Door {
                fd: 9,
                dev: 1,
                ino: 2,
            }),
            entries,
        },
    )
}

/// The records behind the head, lengths included.
fn records(book: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader(&book[16..]);
    std::iter::from_fn(|| reader.bytes()).collect()
}

fn bound(head: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let mut all = head.to_vec();
    for record in records {
        put(&mut all, Writer(record.clone()));
    }
    all
}

proptest! {
    #[test]
    fn a_book_comes_back_as_it_was_left(ledger in ledger()) {
        prop_assert_eq!(Ledger::decode(&ledger.encode()), Some(ledger));
    }

    #[test]
    fn a_book_cut_anywhere_is_refused_whole(ledger in ledger(), at: prop::sample::Index) {
        let bytes = ledger.encode();
        prop_assert_eq!(Ledger::decode(&bytes[..at.index(bytes.len())]), None);
    }

    #[test]
    fn any_bytes_are_a_book_or_none(mut bytes: Vec<u8>, headed: bool) {
        if headed {
            bytes.splice(0..0, Ledger::default().encode()[..16].iter().copied());
        }
        let _ = Ledger::decode(&bytes);
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over(ledger in ledger(), more: Vec<u8>, tag in 5..=255u8) {
        let bytes = ledger.encode();
        let mut all = records(&bytes);
        let last = all.len() - 1;
        all[..last].iter_mut().for_each(|record| record.extend(&more));
        let unknown: Vec<u8> = [tag].into_iter().chain(more.iter().copied()).collect();
        all.insert(last, unknown);
        let mut head = bytes[..16].to_vec();
        head[12..14].copy_from_slice(&(VERSION + 7).to_le_bytes());
        prop_assert_eq!(Ledger::decode(&bound(&head, &all)), Some(ledger));
    }
}

#[test]
fn a_book_that_says_it_can_not_be_read_by_us_is_not() {
    let mut bytes = Ledger::default().encode();
    bytes[14..16].copy_from_slice(&(VERSION + 1).to_le_bytes());
    assert_eq!(Ledger::decode(&bytes), None);
}

#[test]
fn a_process_whose_stage_is_unknown_is_no_reason_to_forget_it() {
    let mut ledger = Ledger::default();
    ledger.entries.push(Entry {
        id: 1,
        slots: [None; SLOTS],
        processes: vec![Process {
            role: 0,
            pid: 4711,
            forked_ns: 1,
            stage: Stage::Alive,
            adopted: None,
        }],
        blob: Vec::new(),
    });
    let mut bytes = ledger.encode();
    assert!(Ledger::decode(&bytes).is_some());
    // The stage is the last byte but one before the record that ends the book.
    let at = bytes.len() - 7 - 2;
    assert_eq!(bytes[at], 2);
    bytes[at] = 99;
    assert_eq!(Ledger::decode(&bytes), None);
}

/// Found by fuzzing: such a book read otherwise once it was handed on.
#[test]
fn more_than_can_be_handed_on_is_cut_or_refused_when_it_is_read() {
    let long = [b'o'; DETAIL_BYTES_MAX + 1];
    let writer = Writer(Vec::new()).u64(0).u8(0).u64(1).u64(2);
    let mut writer = writer.bytes(&long, usize::MAX).u32(0).u64(0).u8(20);
    for at in 0..20 {
        writer = writer.u64(at);
    }
    let Writer(bytes) = writer.u8(0).i32(0);
    let keeper = Keeper::read(&mut Reader(&bytes)).unwrap();
    assert_eq!(keeper.oom, &long[1..]);
    assert_eq!(keeper.crashes, (0..16).collect::<Vec<u64>>());
    assert_eq!((keeper.ending, keeper.calm_until_ns), (None, 0), "not told");
    let entry = |blob: usize, processes: u8| {
        let writer = Writer(Vec::new()).u32(1).bytes(&vec![7; blob], usize::MAX);
        let mut writer = writer.u8(0).u8(processes);
        for _ in 0..processes {
            let Writer(alive) = Writer(Vec::new()).u8(0).i32(5).u64(1).u8(2).u8(0);
            writer = writer.bytes(&alive, usize::MAX);
        }
        let Writer(bytes) = writer;
        Entry::read(&mut Reader(&bytes))
    };
    assert!(entry(BLOB_BYTES_MAX, 4).is_some());
    assert_eq!(entry(BLOB_BYTES_MAX + 1, 0), None);
    assert_eq!(entry(0, 5), None);
}
