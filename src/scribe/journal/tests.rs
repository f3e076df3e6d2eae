//! A scribe dies at every moment that there is; its successor goes on; every line is there once.
//!
//! The writer is the real one but for its thread: a slot with a log, a pipe, the journal. It is
//! abandoned at the n-th moment (`log/trip`), as SIGKILL would, and so are as many successors as
//! the test wants.

use super::super::lane::{Buffer, Tools};
use super::super::mail::{Inbox, mailbox};
use super::super::slot::Slot;
use super::*;
use crate::log::Stamp;
use crate::log::dir;
use crate::log::engine::{Desk, End};
use crate::log::settings::Settings;
use crate::log::trip::Fate;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use proptest::prelude::*;
use std::collections::{BTreeSet, BinaryHeap};
use std::fs;
use std::path::Path;

const ID: u32 = 7;

/// What the keeper holds, and the disk.
struct World {
    dir: tempfile::TempDir,
    journal: OwnedFd,
    transit: OwnedFd,
    pipe: OwnedFd,
    settings: Settings,
    /// A scribe has the time to open a log before something comes.
    opens: bool,
}

/// In memory if possible: thousands of files are made, and each rotated one is brought to its disk.
fn place() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).unwrap()
}

impl World {
    fn new(size: u64, stamp: Stamp) -> World {
        World {
            dir: place(),
            journal: memfd_create(c"journal", MFdFlags::MFD_CLOEXEC).unwrap(),
            transit: fds::pipe_held().unwrap(),
            pipe: fds::reopen(fds::pipe_held().unwrap(), OFlag::O_RDWR | OFlag::O_NONBLOCK)
                .unwrap(),
            settings: Settings {
                stamp,
                size,
                keep: 0,
                ..Settings::default()
            },
            opens: true,
        }
    }

    fn write(&self, bytes: &[u8]) {
        assert_eq!(nix::unistd::write(&self.pipe, bytes), Ok(bytes.len()));
    }

    fn scribe(&self) -> (Slot, Tools, Inbox<super::super::link::Report>) {
        let (reports, inbox) = mailbox().unwrap();
        let journal = self.journal.try_clone().unwrap();
        let journal = Journal::open(journal, self.transit.try_clone().unwrap()).unwrap();
        let tools = Tools {
            number: 3,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap(),
            reports,
            desk: Desk::default(),
            buffer: Buffer::Shared(journal.staging(3).unwrap()),
            journal: Some(journal),
            timers: BinaryHeap::new(),
            full: false,
            linked: false,
            echo: None,
        };
        let pipe = fds::reopen(&self.pipe, OFlag::O_RDONLY | OFlag::O_NONBLOCK).unwrap();
        let name = "test".into();
        let slot = Slot::new(ID, name, self.path(), self.settings.clone(), pipe, &tools);
        (slot, tools, inbox)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A scribe that reads and writes what there is and dies after so many moments, or in order.
    fn live(&self, moments: u32, end: Option<End>) -> Fate {
        trip::run(moments, || {
            let (mut slot, mut tools, _inbox) = self.scribe();
            if self.opens || slot.is_unfinished() {
                slot.open(&mut tools);
            }
            slot.readable(&mut tools);
            if let Some(end) = end {
                assert!(slot.empty(end, &mut tools));
                slot.close(end == End::Open);
            }
        })
    }

    /// All that was ever written, without stamps.
    fn text(&self) -> Vec<u8> {
        let mut olds = dir::list(self.path()).unwrap();
        olds.sort_unstable();
        let mut files: Vec<String> = olds.iter().map(|old| old.name()).collect();
        files.push("current".into());
        let read = |name: &String| fs::read(self.path().join(name)).unwrap_or_default();
        files.iter().flat_map(read).collect()
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        let text = self.text();
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let bare = lines.map(|line| match self.settings.stamp {
            Stamp::None => line.to_vec(),
            _ => crate::log::stamp::parse(line)
                .unwrap_or_else(|| panic!("no stamp: {}", String::from_utf8_lossy(line)))
                .1
                .to_vec(),
        });
        bare.collect()
    }
}

/// Lines of many lengths, the last one without a newline.
fn story() -> Vec<u8> {
    let mut text = Vec::new();
    for number in 0..40usize {
        let filling = number * number * 7 % 900;
        text.extend(format!("line {number} {}\n", "x".repeat(filling)).into_bytes());
    }
    text.extend(b"in hand");
    text
}

fn all_lines(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    let text = parts.concat();
    text.split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

/// Dies at each moment of the way in turn, and once more at the same moment of the successor's.
fn die_everywhere(size: u64, stamp: Stamp, deaths: u32) -> BTreeSet<&'static str> {
    let mut moments = BTreeSet::new();
    for opens in [true, false] {
        moments.extend(die_at_each(size, stamp, deaths, opens));
    }
    moments
}

fn die_at_each(size: u64, stamp: Stamp, deaths: u32, opens: bool) -> BTreeSet<&'static str> {
    let mut moments = BTreeSet::new();
    for moment in 0.. {
        let mut world = World::new(size, stamp);
        world.opens = opens;
        let (first, second) = (story(), b" no more\nlast\nopen".to_vec());
        world.write(&first);
        let mut fate = Fate::Lives;
        for _ in 0..deaths {
            fate = world.live(moment, None);
            if let Fate::DiedAt(at) = fate {
                moments.insert(at);
            }
        }
        world.write(&second);
        world.live(moment, None);
        world.live(u32::MAX, Some(End::Line));
        let expected = all_lines(&[&first, &second, b"\n"]);
        let found = world.lines();
        assert_eq!(
            found.len(),
            expected.len(),
            "moment {moment}, size {size}, opens {opens}: {fate:?}"
        );
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(
                String::from_utf8_lossy(found),
                String::from_utf8_lossy(expected),
                "moment {moment}, size {size}, opens {opens}: {fate:?}"
            );
        }
        if fate == Fate::Lives {
            return moments;
        }
    }
    moments
}

#[test]
fn a_scribe_may_die_at_any_moment_of_its_way() {
    let mut moments = die_everywhere(0, Stamp::Iso, 1);
    moments.extend(die_everywhere(4096, Stamp::Iso, 1));
    let expected = [
        "file-begun",
        "file-opened",
        "file-renamed",
        "file-written",
        "growth-told",
        "half-written",
        "mark-set",
        "mark-unset",
        "piece-brought-in",
        "piece-counted",
        "piece-moved",
        "piece-noted",
        "piece-timed",
        "piece-written",
    ];
    assert_eq!(moments.into_iter().collect::<Vec<_>>(), expected);
}

/// Nor by one that is told to end before the log can be opened again.
#[test]
fn a_line_in_hand_is_not_let_go_of_by_one_that_could_not_go_on_with_it() {
    let mut world = World::new(0, Stamp::None);
    world.write(b"first\nin hand");
    world.live(u32::MAX, None);
    let (current, aside) = (world.path().join("current"), world.path().join("aside"));
    fs::rename(&current, &aside).unwrap();
    fs::create_dir(&current).unwrap();
    world.opens = false;
    let (mut slot, mut tools, _inbox) = world.scribe();
    assert!(!slot.empty(End::Open, &mut tools));
    assert_eq!(slot.close(true).1, 0);
    fs::remove_dir(&current).unwrap();
    fs::rename(&aside, &current).unwrap();
    world.write(b" no more\n");
    world.live(u32::MAX, Some(End::Line));
    assert_eq!(world.text(), b"first\nin hand no more\n");
}

#[test]
fn its_successors_may_die_as_well() {
    die_everywhere(2000, Stamp::Iso, 2);
    die_everywhere(2000, Stamp::Tai64n, 5);
}

#[test]
fn a_line_that_goes_through_several_files_may_be_interrupted_in_each() {
    for moment in 0.. {
        let world = World::new(1000, Stamp::None);
        let line: String = ('a'..='z').cycle().take(9_876).collect();
        let text = format!("{line}\nnext\n{line}");
        world.write(text.as_bytes());
        let fate = world.live(moment, None);
        world.live(moment, None);
        world.live(u32::MAX, Some(End::Line));
        assert_eq!(
            String::from_utf8(world.text()).unwrap(),
            text + "\n",
            "{moment}: {fate:?}"
        );
        if fate == Fate::Lives {
            return;
        }
    }
}

#[test]
fn what_was_begun_keeps_its_time() {
    let world = World::new(0, Stamp::Iso);
    world.write(b"one\ntw");
    world.live(u32::MAX, None);
    let first = world.text();
    world.write(b"o\nthree\n");
    world.live(u32::MAX, None);
    let text = world.text();
    assert!(text.starts_with(&first));
    let stamps: Vec<&[u8]> = text
        .split(|byte| *byte == b'\n')
        .map(|line| line.get(..26).unwrap_or(line))
        .collect();
    assert_eq!(stamps[0], stamps[1], "two was begun with one");
    assert!(stamps[1] <= stamps[2]);
}

#[test]
fn what_is_on_disk_is_left_as_it_is_so_that_followers_see_no_line_twice() {
    for moment in 0.. {
        let world = World::new(0, Stamp::Iso);
        world.write(&story());
        let fate = world.live(moment, None);
        let before = world.text();
        world.live(u32::MAX, None);
        assert!(world.text().starts_with(&before), "{moment}: {fate:?}");
        if fate == Fate::Lives {
            return;
        }
    }
}

#[test]
fn what_others_have_added_meanwhile_stays() {
    let world = World::new(0, Stamp::None);
    world.write(b"one\n");
    world.live(u32::MAX, None);
    fs::write(world.path().join("current"), "one\nadded by hand\n").unwrap();
    world.write(b"two\n");
    world.live(u32::MAX, None);
    assert_eq!(world.text(), b"one\nadded by hand\ntwo\n");
}

#[test]
fn a_stuck_log_keeps_its_piece_and_the_lane_is_free() {
    let world = World::new(0, Stamp::None);
    world.write(b"one\ntw");
    let held = dir::open(world.path(), &crate::log::settings::SCRIBE, Duration::ZERO).unwrap();
    for _ in 0..3 {
        world.live(u32::MAX, None);
    }
    drop(held);
    world.write(b"o\n");
    world.live(u32::MAX, None);
    assert_eq!(world.text(), b"one\ntwo\n");
}

#[test]
fn an_end_in_order_leaves_nothing_behind() {
    let world = World::new(0, Stamp::None);
    world.write(b"one\nha");
    world.live(u32::MAX, Some(End::Open));
    let (slot, tools, _inbox) = world.scribe();
    assert!(!slot.is_unfinished());
    let journal = tools.journal.as_ref().unwrap();
    assert_eq!(get(journal.head(Head::Used)), 1, "its place is taken again");
    drop((slot, tools));
    world.write(b"lf\n");
    world.live(u32::MAX, None);
    assert_eq!(world.text(), b"one\nhalf\n");
}

#[test]
fn another_service_under_the_same_number_inherits_nothing() {
    let mut world = World::new(0, Stamp::None);
    world.write(b"half");
    world.live(u32::MAX, None);
    world.pipe = fds::reopen(fds::pipe_held().unwrap(), OFlag::O_RDWR | OFlag::O_NONBLOCK).unwrap();
    world.write(b"whole\n");
    world.live(u32::MAX, None);
    assert_eq!(world.text(), b"whole\n");
}

#[test]
fn a_journal_of_another_layout_is_begun_anew() {
    let world = World::new(0, Stamp::None);
    world.write(b"half");
    world.live(u32::MAX, None);
    let file = File::from(world.journal.try_clone().unwrap());
    file.write_all_at(b"another!", 0).unwrap();
    world.write(b"whole\n");
    world.live(u32::MAX, None);
    assert_eq!(world.text(), b"whole\n");
}

#[test]
fn every_log_finds_a_place_as_long_as_there_is_one() {
    let world = World::new(0, Stamp::None);
    let (_slot, tools, _inbox) = world.scribe();
    let journal = tools.journal.as_ref().unwrap();
    let first = u64::try_from(SLOTS).unwrap();
    for pipe in 1..first {
        assert!(journal.claim(8, pipe).is_some(), "{pipe}");
    }
    assert!(journal.claim(8, first).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever is written in whatever pieces, and whenever scribes die.
    #[test]
    fn whatever_comes_is_there_once_and_in_order(
        pieces in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => any::<u8>()], 0..3000),
            1..12,
        ),
        deaths in proptest::collection::vec(0u32..60, 0..40),
        size in prop_oneof![Just(0u64), 100u64..300, 300u64..9000],
    ) {
        let world = World::new(size, Stamp::None);
        let mut deaths = deaths.into_iter();
        for piece in &pieces {
            if !piece.is_empty() {
                world.write(piece);
            }
            for moment in deaths.by_ref().take(4) {
                world.live(moment, None);
            }
        }
        world.live(u32::MAX, Some(End::Open));
        prop_assert_eq!(world.text(), pieces.concat());
    }
}
